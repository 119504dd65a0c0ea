"""Published results and measured serving runs beside predictions, and beside what baselines say of them.

Published throughput and single-stream speeds ship with the program; measured serving runs come with the
`data` extra. Rows that a fit has seen, that are held out, and that are known to measure something else are
told apart.
"""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from perfmodel.calibration.baselines.aiconfigurator import aiconfigurator_tpots
from perfmodel.calibration.baselines.llm_viewer import llm_viewer_tpot
from perfmodel.calibration.baselines.roofline import baseline_tpots, roofline_tpot
from perfmodel.calibration.data.inferencex import OPEN, Part, Run, columns, read_runs
from perfmodel.calibration.leave_one_out import leave_one_out
from perfmodel.calibration.serving_metrics import (
    WORDS,
    Comparison,
    ScoredRun,
    metrics_of_published,
    metrics_of_runs,
)
from perfmodel.files import cells_of, read_csv, with_columns
from perfmodel.inference.serving_predictions import DEFINITIONS, predict_cells
from perfmodel.library.chip import chip_files, find_chip
from perfmodel.library.files import ROOT, word_of

# Published throughput and single-stream speeds, which ship with the program

PUBLISHED = {"throughput": "throughput.csv", "single-stream": "speeds.csv"}
"""Sets and their files."""

METRICS: dict[str, Callable[[dict[str, float]], float]] = {
    "output_tokens_per_s": lambda row: row["output_tokens_per_s_per_chip"] * row["n_chips"],
    "total_tokens_per_s": lambda row: row["total_tokens_per_s"],
    "output_tokens_per_s_per_user": lambda row: row["output_tokens_per_s_per_user"],
}
"""What a published value is of, from the columns of a prediction."""

SLOW_STARTS = ("max-1550",)
"""Chips of whose published throughput 9 to 18 s of each request are no token's (docs/serving.md)."""


def predict_published(
    name: str, calibration: Path, progress: Callable[..., None]
) -> tuple[list[Comparison], pa.Table]:
    """The rows of a set, and their table with what is predicted."""
    table = read_csv(ROOT / "published" / PUBLISHED[name])
    cells = cells_of(table)
    predicted = predict_cells(cells, len(table), calibration, progress)
    pairs = [(at(cells, i), at(predicted, i)) for i in range(len(table))]
    return [_published_row(name, *pair) for pair in pairs], with_columns(table, predicted)


def at(columns: dict[str, list[str]], place: int) -> dict[str, str]:
    return {name: column[place] for name, column in columns.items()}


def _published_row(name: str, cells: dict[str, str], predicted: dict[str, str]) -> Comparison:
    """A row that does not fit, or cannot be predicted, has no prediction."""
    given, value, inside = float(cells["value"]), float("nan"), float("nan")
    if predicted["fits"] == "true":
        value = METRICS[cells["metric"]](_numbers(predicted))
        # Throughput is as far off as the time of a token.
        low, middle, high = (float(predicted[f"tpot_ms{end}"]) for end in ("_low", "", "_high"))
        inside = float(low / middle <= value / given <= high / middle)
    words, error = tuple(cells[key] for key in WORDS), predicted["error"]
    basis = _basis(cells, predicted)
    return Comparison(name, cells["group"], words, given, value, error, inside, basis)


def _numbers(cells: dict[str, str]) -> dict[str, float]:
    found = {}
    for name, text in cells.items():
        with contextlib.suppress(ValueError):
            found[name] = float(text)
    return found


def _basis(cells: dict[str, str], predicted: dict[str, str]) -> str:
    """Empty for drafted tokens whose acceptance is not known, and chips of `SLOW_STARTS`."""
    chip = find_chip(cells["chip"])
    if _speculates(cells) or chip in SLOW_STARTS or not predicted["basis"]:
        return ""
    return f"{chip_files()[chip].execution}, {predicted['basis']}"


def _speculates(row: dict[str, str]) -> bool:
    return bool(row["speculative_tokens"]) or row["note"].startswith("speculative")


def held_out_speeds(name: str, table: pa.Table, calibration: Path) -> list[dict[str, Any]]:
    """Single streams on scheduled and dataflow machines without speculation, each from the others."""
    if name != "single-stream":
        return []
    cells = cells_of(table)
    rows = [at(cells, i) for i in range(len(table))]
    rows = [row for row in rows if row["fits"] == "true" and not _speculates(row)]
    rows = [row for row in rows if chip_files()[row["chip"]].execution != "launched"]
    found = leave_one_out(rows, [float(row["value"]) for row in rows], calibration)
    return [one._asdict() | {"error": round(one.error, 4)} for one in found]


# Measured serving runs, which come with the `data` extra

SERVING, CLOSED = "serving", "closed"

PARTS: dict[str, tuple[Part, ...]] = {
    SERVING: OPEN,
    CLOSED: ("closed",),
    "disaggregated": ("disaggregated",),
}
"""Sets of runs, and their parts. No choice was made with the last two, which are asked for by name: each look
spends them."""


def predict_measured(
    name: str, source: str, calibration: Path, progress: Callable[..., None]
) -> tuple[list[ScoredRun], list[Comparison]]:
    """The runs of a set that fit by the model's account, with what was predicted.

    **Raises:**

    - `InputError`: when the runs are not there.
    """
    runs = [run for run in read_runs(source, PARTS[name]) if run.cells]
    predicted = predict_cells(columns(runs), len(runs), calibration, progress)
    baselines, scored = _baselines(runs, calibration), []
    for i, run in enumerate(runs):
        cells = at(predicted, i)
        if cells["fits"] == "true":
            ttft, tpot = (float(cells[key]) / 1e3 for key in ("ttft_ms", "tpot_ms"))
            all_running = float(cells["running"]) >= float(cells["concurrency"])
            others = {baseline: tpots[i] for baseline, tpots in baselines.items()}
            scored.append(ScoredRun(run, ttft, tpot, all_running, others))
    return scored, [_measured_row(name, one) for one in scored]


def _baselines(runs: Sequence[Run], calibration: Path) -> dict[str, list[float]]:
    """TPOT of each run by each of `BASELINES`."""
    return {
        "roofline": baseline_tpots(roofline_tpot, runs, calibration),
        "operators": baseline_tpots(llm_viewer_tpot, runs, calibration),
        "configurator": aiconfigurator_tpots(runs),
    }


def _measured_row(name: str, one: ScoredRun) -> Comparison:
    part = "known to measure something else" if one.run.fault else one.run.part
    words = tuple(one.run.cells[key] for key in WORDS)
    return Comparison(name, f"TPOT, {part}", words, one.run.tpot, one.tpot, "")


def sets_of(words: Sequence[str]) -> list[str]:
    """The sets that words name.

    **Raises:**

    - `InputError`: for another word, naming those that there are.
    """
    return [word_of(word, (*PUBLISHED, *PARTS), "set") for word in words or [""]]


def reproduce(
    sets: Sequence[str], source: str, calibration: Path, progress: Callable[..., None]
) -> tuple[dict[str, Any], list[Comparison], dict[str, pa.Table]]:
    """Predict every row of some sets.

    **Arguments:**

    - `sets`: of `PUBLISHED` and `PARTS`.
    - `source`: of the serving runs: `aiconfigurator`, or a path to its wheel or checkout.

    **Returns:**

    The report, its rows, and a table of every row by set.

    **Raises:**

    - `InputError`: when the runs are not there.
    """
    report: dict[str, Any] = {"kernels": [], "serving": [], "published": [], "technology": []}
    report |= {"definitions": DEFINITIONS, "left_out": []}
    found: list[Comparison] = []
    tables: dict[str, pa.Table] = {}
    for name in sets:
        if name in PUBLISHED:
            rows, tables[name] = predict_published(name, calibration, progress)
            report["published"] += metrics_of_published(rows)
            report["left_out"] += held_out_speeds(name, tables[name], calibration)
        else:
            scored, rows = predict_measured(name, source, calibration, progress)
            report["serving"] += metrics_of_runs(scored, name, every=name == CLOSED)
        found += rows
    return report, found, tables
