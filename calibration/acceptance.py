"""What the protocol must reach, from `calibration/acceptance.toml`, and what its records come to.

Kernels: records averaged line by line, and one by one. Technology: chips that a fit has not seen.
"""

import functools
from collections.abc import Iterable, Sequence

import numpy as np

from perfmodel.calibration.metrics import grouped
from perfmodel.calibration.protocol import Record
from perfmodel.library.files import read_as
from perfmodel.library.fitted import FITTED
from perfmodel.library.schema import Strict
from perfmodel.units import figures, percent

PLACE = FITTED.parent / "acceptance.toml"
"""The file of targets."""


class KernelTarget(Strict):
    """A line of the table: which records it averages, and what their mean error may be at most."""

    name: str
    required: float
    aim: float
    ops: list[str]
    split: str = "shape"
    dtypes: list[str] = []
    chips: list[str] = []
    routing: str = ""
    except_dtypes: list[str] = []

    def includes(self, record: Record) -> bool:
        """Whether a record belongs to the line."""
        return (
            record["op"] in self.ops
            and (record["split"], record["routing"]) == (self.split, self.routing)
            and (not self.dtypes or record["dtype"] in self.dtypes)
            and (not self.chips or record["chip"] in self.chips)
            and record["dtype"] not in self.except_dtypes
            and _is_averaged(record)
        )


class TechnologyTarget(Strict):
    """A line of the table: a quantity, of some kinds of chips, its largest median and worst error."""

    name: str
    quantity: str
    kinds: list[str] = []
    median: float | None = None
    worst: float | None = None
    share_within_20_percent: float | None = None

    def includes(self, record: Record) -> bool:
        """Whether a record belongs to the line."""
        return record["quantity"] == self.quantity and record["kind"] in (
            self.kinds or [record["kind"]]
        )


class Targets(Strict):
    """What must be reached."""

    kernels: list[KernelTarget]
    technology: list[TechnologyTarget]


@functools.cache
def targets() -> Targets:
    """Those that ship with the program."""
    return read_as(Targets, PLACE)


# Kernels

ATTENTION = ("attention_decode", "attention_prefill")


def _is_averaged(record: Record) -> bool:
    """Whether a table is averaged: TRT-LLM's where there is one; all frameworks' attention; NCCL.

    A100 has none of TRT-LLM; its tuned Triton mixtures are reported and not averaged.
    """
    op, chip, framework = record["op"], record["chip"], record["framework"]
    if op in ATTENTION or framework in ("trtllm", "nccl"):
        return True
    return chip == "arc-pro-b60" or (chip == "a100-sxm-80gb" and op != "moe")


BASELINES = ("roofline_mape", "forest_mape", "floor_mape")
BESIDE = ["roofline", "forest", "frameworks"]
SUMMARY = ["held-out rows", "tables", "reached", "must", "aim", "met", *BESIDE, "coverage"]


def summary(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Each line of the table that has records: averaged over tables, then over kernels."""
    lines = ((one, [r for r in records if one.includes(r)]) for one in targets().kernels)
    return [_line(target, found) for target, found in lines if found]


def _line(target: KernelTarget, found: Sequence[Record]) -> tuple[str, ...]:
    reached = _mean(found, "mape")
    met = "aim" if reached <= target.aim else "must" if reached <= target.required else "no"
    shares = (percent(share) for share in (reached, target.required, target.aim))
    beside = (percent(_mean(found, name)) for name in (*BASELINES, "coverage90"))
    return (target.name, str(len(found)), *shares, met, *beside)


def _mean(records: Iterable[Record], name: str) -> float:
    """Over the tables of each kernel, then over kernels; `nan` where none has it."""
    by_op = grouped((one["op"], one[name]) for one in records if one[name] is not None)
    means = [np.mean(values) for values in by_op.values()]
    return float(np.mean(means)) if means else float("nan")


TABLE = ["table", "rows", "mean", "median", "p90", "bias", "coverage", *BESIDE]
SHARES = ("mape", "median", "p90", "bias", "coverage90", *BASELINES)


def lines(records: Iterable[Record]) -> list[tuple[str, ...]]:
    """One line for each record."""
    return [
        (_label(record), str(record["n"]), *(percent(record[name]) for name in SHARES))
        for record in records
    ]


def _label(record: Record) -> str:
    own = record["cache"] in ("", record["dtype"])
    formats = record["dtype"] if own else f"{record['dtype']}/{record['cache']}"
    words = [record[name] for name in ("split", "op", "chip", "framework", "release")]
    return " ".join(filter(None, [*words, formats, record["routing"]]))


# Technology

WITHIN = 0.2
"""The error that a share of dies must stay within."""

TECHNOLOGY_SUMMARY = ["quantity", "chips", "median", "mean", "worst", "within 20 %", "must", "met"]
TECHNOLOGY_TABLE = ["chip", "quantity", "predicted", "known", "error"]


def technology_summary(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """Each line of the table that has records."""
    lines = ((one, [r for r in records if one.includes(r)]) for one in targets().technology)
    return [_technology_line(target, found) for target, found in lines if found]


def _technology_line(target: TechnologyTarget, found: Sequence[Record]) -> tuple[str, ...]:
    errors = np.abs([_error(one) for one in found])
    median, worst, share = np.median(errors), errors.max(), float(np.mean(errors <= WITHIN))
    limits = [(target.median, median, "median "), (target.worst, worst, "worst ")]
    met = all(limit is None or reached <= limit for limit, reached, _ in limits)
    said = [f"{name}{percent(limit)}" for limit, _, name in limits if limit is not None]
    if target.share_within_20_percent is not None:
        met = met and share >= target.share_within_20_percent
        said.append(f"{percent(target.share_within_20_percent)} within 20 %")
    reached = map(percent, (median, errors.mean(), worst, share))
    return target.name, str(len(found)), *reached, ", ".join(said), "yes" if met else "no"


def _error(record: Record) -> float:
    """Relative."""
    return record["predicted"] / record["known"] - 1


def technology_lines(records: Iterable[Record]) -> list[tuple[str, ...]]:
    """One line for each record."""
    return [
        (
            *(one[name] for name in ("chip", "quantity")),
            *(figures(one[name]) for name in ("predicted", "known")),
            f"{100 * _error(one):+.0f} %",
        )
        for one in records
    ]
