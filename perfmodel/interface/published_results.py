"""Published results beside predictions: throughput and single-stream speeds, which ship with the program."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from perfmodel.calibration.leave_one_out import leave_out
from perfmodel.calibration.metrics import HIGH, LOW
from perfmodel.calibration.serving_metrics import errors
from perfmodel.files import cells_of, read_csv, with_columns
from perfmodel.interface.serving import predict_cells
from perfmodel.library.chip import chip_files, find_chip
from perfmodel.library.files import ROOT

PUBLISHED = {"throughput": "throughput.csv", "single-stream": "speeds.csv"}
"""Sets and their files."""

METRICS: dict[str, Callable[[dict[str, float]], float]] = {
    "output_tokens_per_s": lambda row: row["output_tokens_per_s_per_chip"] * row["n_chips"],
    "total_tokens_per_s": lambda row: row["total_tokens_per_s"],
    "output_tokens_per_s_per_user": lambda row: row["output_tokens_per_s_per_user"],
}
"""What a published value is of, from the columns of a prediction."""


WORDS = ("chip", "model", "framework", "mode")
"""What a row is of."""


class Row(NamedTuple):
    """A published value, of `WORDS`, beside its prediction; `nan` where there is none, and why in `error`.

    - `inside`: 1 where it lies in the stated range, 0 where not; `nan` where there is none.
    - `basis`: how the chip runs kernels, and what its prediction rests on; empty where the value is known to
      measure something else: drafted tokens whose acceptance is not known, or a chip of `SLOW_STARTS`.
    """

    set: str
    group: str
    words: tuple[str, ...]
    published: float
    predicted: float
    error: str
    inside: float = float("nan")
    basis: str = ""

    @property
    def factor(self) -> float:
        """Published over predicted time: predicted over published speed."""
        return self.predicted / self.published


def predict_published(
    name: str, calibration: Path, progress: Callable[..., None]
) -> tuple[list[Row], pa.Table]:
    table = read_csv(ROOT / "published" / PUBLISHED[name])
    cells = cells_of(table)
    predicted = predict_cells(cells, len(table), calibration, progress)
    rows = [
        _row(name, *(at(columns, i) for columns in (cells, predicted))) for i in range(len(table))
    ]
    return rows, with_columns(table, predicted)


def at(columns: dict[str, list[str]], place: int) -> dict[str, str]:
    return {name: column[place] for name, column in columns.items()}


def _row(name: str, cells: dict[str, str], predicted: dict[str, str]) -> Row:
    """A row that does not fit, or cannot be predicted, has no prediction."""
    value = float("nan")
    if predicted["fits"] == "true":
        numbers = {key: float(text) for key, text in predicted.items() if _is_number(text)}
        value = METRICS[cells["metric"]](numbers)
    words, given = tuple(cells[key] for key in WORDS), float(cells["value"])
    inside = float("nan")
    if np.isfinite(value):  # throughput is as far off as the time of a token
        times = (float(predicted[f"tpot_ms{end}"]) for end in ("_low", "", "_high"))
        low, middle, high = times
        inside = float(low / middle <= value / given <= high / middle)
    spoiled = _guesses(cells) or find_chip(cells["chip"]) in SLOW_STARTS
    basis = "" if spoiled else _basis(cells, predicted)
    return Row(name, cells["group"], words, given, value, predicted["error"], inside, basis)


SLOW_STARTS = ("max-1550",)
"""Chips of whose published throughput 9 to 18 s of each request are no token's (docs/serving.md)."""


def _basis(cells: dict[str, str], predicted: dict[str, str]) -> str:
    execution = chip_files()[find_chip(cells["chip"])].execution
    return f"{execution}, {predicted['basis']}" if predicted["basis"] else ""


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


TOGETHER = (("MLPerf", "TensorRT-LLM"), ("MLPerf", "TensorRT-LLM", "Argonne"))
"""Groups of published throughput that also have a line together: HBM machines tuned to be fast, and with
those of 2024 that were not."""


def groups(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Errors of a set together, by group, by chip of a group, and by chip, model, framework and mode."""
    keys: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        own = [(row.set,), (row.set, row.group), (row.set, row.group, row.words[0])]
        own += [(row.set, " and ".join(g)) for g in TOGETHER if row.group.startswith(g)]
        own += [(row.set, f"by {what}", word) for what, word in zip(WORDS, row.words, strict=True)]
        own += [("by basis", row.basis)] if row.basis else []
        for key in own:
            keys.setdefault(key, []).append(row)
    return [_group(key, found) for key, found in sorted(keys.items())]


def _group(key: tuple[str, ...], rows: Sequence[Row]) -> dict[str, Any]:
    known = [row for row in rows if np.isfinite(row.predicted)]
    off = errors([row.predicted for row in known], [row.published for row in known])
    ratio = np.log([row.predicted / row.published for row in known])
    figures = (np.median(off), np.mean(off), np.median(ratio)) if known else (None, None, None)
    names = ("median", "mape", "bias")
    shares = {
        n: None if x is None else round(float(x), 4) for n, x in zip(names, figures, strict=True)
    }
    once = {(row.words, row.published): row for row in known}  # a value that is there twice, once
    return {
        "group": " / ".join(key),
        "n": len(known),
        "unpredicted": len(rows) - len(known),
        "median_once": _median_off(once.values()),
        "coverage90": _share([row.inside for row in known]),
        "factors90": _factors(known),
    } | shares


def _factors(rows: Sequence[Row]) -> list[float] | None:
    """Factors on a predicted time between which 90 % of the published ones lie.

    Chips weigh by the root of their rows: a chip's rows share what it is off by.
    """
    if not rows:
        return None
    counts = Counter(row.words[0] for row in rows)
    weights = np.array([counts[row.words[0]] ** -0.5 for row in rows])
    factors = np.array([row.factor for row in rows])
    order = np.argsort(factors)
    below = np.cumsum(weights[order]) - weights[order] / 2
    ends = np.exp(np.interp([LOW, HIGH], below / weights.sum(), np.log(factors[order])))
    return [float(f"{end:.4g}") for end in ends]


def _median_off(rows: Iterable[Row]) -> float | None:
    off = [abs(row.predicted / row.published - 1) for row in rows]
    return round(float(np.median(off)), 4) if off else None


def _share(inside: Sequence[float]) -> float | None:
    """Of published values that lie in their stated range; `None` where no range is stated."""
    stated = [one for one in inside if np.isfinite(one)]
    return round(float(np.mean(stated)), 4) if stated else None


def left_out(name: str, table: pa.Table, calibration: Path) -> list[dict[str, Any]]:
    """Single streams on scheduled and dataflow machines without speculation, each from the others."""
    if name != "single-stream":
        return []
    cells = cells_of(table)
    rows = [at(cells, i) for i in range(len(table))]
    rows = [row for row in rows if row["fits"] == "true" and not _guesses(row)]
    rows = [row for row in rows if chip_files()[row["chip"]].execution != "launched"]
    left = leave_out(rows, [float(row["value"]) for row in rows], calibration)
    return [one._asdict() | {"error": round(one.error, 4)} for one in left]


def _guesses(row: dict[str, str]) -> bool:
    return bool(row["speculative_tokens"]) or row["note"].startswith("speculative")
