"""Measured serving runs beside predictions: how far off TPOT and TTFT are, and what deployment is chosen."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from perfmodel.calibration.baselines.aiconfigurator import aiconfigurator_tpots
from perfmodel.calibration.baselines.llm_viewer import llm_viewer_tpot
from perfmodel.calibration.baselines.roofline import baseline_tpots, roofline_tpot
from perfmodel.calibration.data.inferencex import OPEN, Part, Run, has_equal_lengths, read_runs
from perfmodel.calibration.decision_metrics import decisions_of
from perfmodel.calibration.decisions import CONFIDENCES
from perfmodel.calibration.decisions_anchored import anchored_predictions
from perfmodel.calibration.serving_metrics import (
    WORDS,
    Comparison,
    ScoredRun,
    metrics_of_equal_lengths,
    metrics_of_runs,
)
from perfmodel.errors import InputError
from perfmodel.files import rows_of
from perfmodel.inference.serving_predictions import predict_cells

SERVING, DECISIONS, CLOSED, EQUAL_LENGTHS = "serving", "decisions", "closed", "equal-lengths"


class RunSet(NamedTuple):
    """A set of runs: those of some parts; with `equal_lengths`, of them the sound ones with such."""

    parts: tuple[Part, ...]
    equal_lengths: bool = False


RUN_SETS = {
    SERVING: RunSet(OPEN),
    DECISIONS: RunSet(OPEN),
    EQUAL_LENGTHS: RunSet((*OPEN, "closed"), equal_lengths=True),
    CLOSED: RunSet(("closed",)),
    "disaggregated": RunSet(("disaggregated",)),
}
"""By name. Forms of users in step were chosen with the runs of equal lengths."""


class PredictedRuns(NamedTuple):
    """Runs with the columns that were predicted of each."""

    runs: list[Run]
    predicted: list[dict[str, str]]


def predict_runs(
    asked: RunSet, source: str, calibration: Path, progress: Callable[..., None]
) -> PredictedRuns:
    """The runs of a set whose plan is known.

    **Raises:**

    - `InputError`: when the runs are not there, or none is of the set.
    """
    runs = [run for run in read_runs(source, asked.parts) if run.cells]
    if asked.equal_lengths:
        runs = [run for run in runs if has_equal_lengths(run) and not run.fault]
    if not runs:
        raise InputError(
            f"{source} has no such runs; name another set, or another source by --data."
        )
    cells = {name: [run.cells[name] for run in runs] for name in runs[0].cells}
    return PredictedRuns(runs, rows_of(predict_cells(cells, len(runs), calibration, progress)))


class MeasuredResults(NamedTuple):
    """Of a set of runs: metrics and the part of the report they are of, its rows, and tables by set."""

    part: str
    metrics: list[dict[str, Any]]
    rows: list[Comparison]
    tables: dict[str, pa.Table]


def measured_results(name: str, given: PredictedRuns, calibration: Path) -> MeasuredResults:
    """How far off a set of runs is; or what the choices are worth that rest on it."""
    if name == DECISIONS:
        scored = score_runs(given, {})
        metrics, table = decisions_of(*given, aiconfigurator_tpots(given.runs))
        metrics += _anchored_decisions(given, calibration)
        return MeasuredResults(name, metrics, _rows(name, scored), {name: table})
    if name == EQUAL_LENGTHS:
        scored = [one for one in score_runs(given, {}) if one.all_running]
        return MeasuredResults(
            "equal_lengths", metrics_of_equal_lengths(scored), _rows(name, scored), {}
        )
    scored = score_runs(given, _baselines(given.runs, calibration))
    metrics = metrics_of_runs(scored, name, every=name == CLOSED)
    return MeasuredResults(SERVING, metrics, _rows(name, scored), {})


ANCHORED = "all, one measured run per deployment"
"""The group of decisions that rest on anchors."""


def _anchored_decisions(given: PredictedRuns, calibration: Path) -> list[dict[str, Any]]:
    """Metrics of all decisions by predictions that one run of each deployment scales."""
    rows = anchored_predictions(given.runs, given.predicted, calibration)
    unknown = [float("nan")] * len(rows)
    metrics, _ = decisions_of(given.runs, rows, unknown)
    own = (one for one in metrics if one["group"] == "all" and one["by"] in CONFIDENCES)
    return [one | {"group": ANCHORED} for one in own]


def score_runs(given: PredictedRuns, baselines: Mapping[str, Sequence[float]]) -> list[ScoredRun]:
    """The runs that fit by the model's account, with what was predicted, and TPOT by some baselines."""
    scored = []
    for i, (run, row) in enumerate(zip(*given, strict=True)):
        if row["fits"] == "true":
            ttft, tpot = (float(row[key]) / 1e3 for key in ("ttft_ms", "tpot_ms"))
            all_running = float(row["running"]) >= float(row["concurrency"])
            others = {baseline: tpots[i] for baseline, tpots in baselines.items()}
            scored.append(ScoredRun(run, ttft, tpot, all_running, others))
    return scored


def _baselines(runs: Sequence[Run], calibration: Path) -> dict[str, list[float]]:
    """TPOT of each run by each of `BASELINES`."""
    return {
        "roofline": baseline_tpots(roofline_tpot, runs, calibration),
        "operators": baseline_tpots(llm_viewer_tpot, runs, calibration),
        "configurator": aiconfigurator_tpots(runs),
    }


def _rows(name: str, scored: Sequence[ScoredRun]) -> list[Comparison]:
    return [_row(name, one) for one in scored]


def _row(name: str, one: ScoredRun) -> Comparison:
    part = "known to measure something else" if one.run.fault else one.run.part
    words = tuple(one.run.cells[key] for key in WORDS)
    return Comparison(name, f"TPOT, {part}", words, one.run.tpot, one.tpot, "")
