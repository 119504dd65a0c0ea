"""What the protocol must reach: its records averaged line by line, and its records one by one."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from perfmodel.calibration.splits import CLOSED

Record = dict[str, Any]
"""Of the report's `kernels`."""


class Must(NamedTuple):
    """A line of the table of musts: which records it averages, and what their mean error may be at most."""

    name: str
    must: float
    aim: float
    ops: tuple[str, ...]
    split: str = "shape"
    dtypes: tuple[str, ...] = ()
    chips: tuple[str, ...] = ()
    routing: str = ""
    but: tuple[str, ...] = ()

    def holds(self, record: Record) -> bool:
        """Whether a record belongs to the line."""
        return (
            record["op"] in self.ops
            and (record["split"], record["routing"]) == (self.split, self.routing)
            and (not self.dtypes or record["dtype"] in self.dtypes)
            and (not self.chips or record["chip"] in self.chips)
            and record["dtype"] not in self.but
            and _counted(record)
        )


_ATTENTION = ("attention_decode", "attention_prefill")
_COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
_EVERY = ("gemm", *_ATTENTION, "mla_prefill", "mla_decode", "moe", *_COLLECTIVES)
_FOUR = ("a100-sxm-80gb", "h100-sxm", "b200-sxm", "l40s")
_THREE = ("a100-sxm-80gb", "b200-sxm", "l40s")
_LOW = ("fp8", "fp8_block", "nvfp4")
_BLOCK = ("fp8_block",)
_MATRICES = ("gemm", "attention_prefill")
_PCIE = ("l40s", "arc-pro-b60")
_NVLINK = ("a100-sxm-80gb", "h100-sxm", "b200-sxm", "gb200")

MUSTS = (
    Must("gemm bf16: A100 H100 B200 L40S", 0.075, 0.05, ("gemm",), "shape", ("bf16",), _FOUR),
    Must("gemm fp8, fp8_block, nvfp4", 0.065, 0.045, ("gemm",), "shape", _LOW),
    Must("gemm bf16 above the sizes that trained", 0.09, 0.06, ("gemm",), "size", ("bf16",)),
    Must("attention_decode", 0.08, 0.06, ("attention_decode",)),
    Must("attention_prefill", 0.085, 0.06, ("attention_prefill",)),
    Must("mla_prefill", 0.05, 0.04, ("mla_prefill",)),
    Must("mla_decode", 0.07, 0.05, ("mla_decode",)),
    Must("moe balanced: block formats", 0.06, 0.04, ("moe",), "shape", _BLOCK, (), "balanced"),
    Must("moe balanced: others", 0.11, 0.08, ("moe",), "shape", (), (), "balanced", _BLOCK),
    Must("moe balanced: models not fitted", 0.07, 0.05, ("moe",), "model", (), (), "balanced"),
    Must("moe power law", 0.12, 0.10, ("moe",), "shape", (), (), "power law"),
    Must("collectives on NVLink", 0.09, 0.06, _COLLECTIVES, "shape", (), _NVLINK),
    Must("collectives on PCIe", 0.14, 0.10, _COLLECTIVES, "shape", (), _PCIE),
    Must("unseen chip, known architecture", 0.10, 0.07, _EVERY, "chip", (), CLOSED),
    Must("unseen architecture: gemm, prefill", 0.18, 0.12, _MATRICES, "architecture", (), _THREE),
    Must("the same from 32 rows", 0.11, 0.08, _MATRICES, "fewshot", (), _THREE),
    Must(
        "unseen architecture: decode",
        0.30,
        0.18,
        ("attention_decode",),
        "architecture",
        (),
        _THREE,
    ),
    Must("the same from 32 rows", 0.12, 0.08, ("attention_decode",), "fewshot", (), _THREE),
)
"""The lines that the protocol must reach."""


def _counted(record: Record) -> bool:
    """Whether a table is averaged: TRT-LLM's where there is one; all frameworks' attention; NCCL.

    A100 has none of TRT-LLM; its tuned Triton mixtures are reported and not averaged.
    """
    op, chip, framework = record["op"], record["chip"], record["framework"]
    if op in _ATTENTION or framework in ("trtllm", "nccl"):
        return True
    return chip == "arc-pro-b60" or (chip == "a100-sxm-80gb" and op != "moe")


RIVALS = ("roofline_mape", "forest_mape", "floor_mape")
BESIDE = ["roofline", "forest", "frameworks"]
SUMMARY = ["held-out rows", "tables", "reached", "must", "aim", "met", *BESIDE, "coverage"]


def summary(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Each line of the table of musts that has records: averaged over tables, then over kernels."""
    return [
        _line(must, found)
        for must in MUSTS
        if (found := [record for record in records if must.holds(record)])
    ]


def _line(must: Must, found: Sequence[Record]) -> tuple[str, ...]:
    reached = _mean(found, "mape")
    met = "aim" if reached <= must.aim else "must" if reached <= must.must else "no"
    figures = [_percent(x) for x in (reached, must.must, must.aim)]
    rivals = [_percent(_mean(found, name)) for name in RIVALS]
    return (
        must.name,
        str(len(found)),
        *figures,
        met,
        *rivals,
        _percent(_mean(found, "coverage90")),
    )


def _mean(records: Iterable[Record], name: str) -> float:
    """Over the tables of each kernel, then over kernels; `nan` where none has it."""
    by_op: dict[str, list[float]] = {}
    for record in records:
        if record[name] is not None:
            by_op.setdefault(record["op"], []).append(record[name])
    means = [float(np.mean(values)) for values in by_op.values()]
    return float(np.mean(means)) if means else float("nan")


def _percent(share: float | None) -> str:
    return "-" if share is None or np.isnan(share) else f"{100 * share:.1f} %"


TABLE = ["table", "rows", "mean", "median", "p90", "bias", "coverage", *BESIDE]

_FIGURES = ("mape", "median", "p90", "bias", "coverage90", *RIVALS)


def lines(records: Iterable[Record]) -> list[tuple[str, ...]]:
    """One line for each record."""
    return [
        (_label(record), str(record["n"]), *(_percent(record[name]) for name in _FIGURES))
        for record in records
    ]


def _label(record: Record) -> str:
    own = record["cache"] in ("", record["dtype"])
    formats = record["dtype"] if own else f"{record['dtype']}/{record['cache']}"
    words = [record[name] for name in ("split", "op", "chip", "framework")]
    return " ".join([*words, formats, record["routing"]]).rstrip()
