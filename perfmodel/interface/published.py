"""Published results beside predictions: throughput and single-stream speeds, which ship with the program."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from perfmodel.calibration.grades import errors
from perfmodel.calibration.leave_out import leave_out
from perfmodel.files import cells_of, read_csv, with_columns
from perfmodel.interface.serving import predict_cells
from perfmodel.library.chip import chip_files
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
    """

    set: str
    group: str
    words: tuple[str, ...]
    published: float
    predicted: float
    error: str
    inside: float = float("nan")


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
    if np.isfinite(value) and cells["metric"] == "output_tokens_per_s_per_user":
        low, high = (1e3 / float(predicted[f"tpot_ms_{end}"]) for end in ("high", "low"))
        inside = float(low <= given <= high)
    return Row(name, cells["group"], words, given, value, predicted["error"], inside)


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
    } | shares


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
