"""Measured serving runs beside predictions, and beside what rivals say of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from perfmodel.calibration.baselines.aiconfigurator import aiconfigurator_tpots
from perfmodel.calibration.baselines.llm_viewer import llm_viewer_tpot
from perfmodel.calibration.baselines.roofline import baseline_tpots, roofline_tpot
from perfmodel.calibration.data.inferencex import OPEN, Part, Run, columns, read_runs
from perfmodel.calibration.serving_metrics import Graded, anchored, record
from perfmodel.interface.published_results import WORDS, Row, at
from perfmodel.interface.serving import predict_cells

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
) -> tuple[list[Graded], list[Row]]:
    """The runs of a set that fit by the model's account, with what was predicted.

    **Raises:**

    - `InputError`: when the runs are not there.
    """
    runs = [run for run in read_runs(source, PARTS[name]) if run.cells]
    predicted = predict_cells(columns(runs), len(runs), calibration, progress)
    rivals, graded = _rivals(runs, calibration), []
    for i, run in enumerate(runs):
        cells = at(predicted, i)
        if cells["fits"] == "true":
            ttft, tpot = (float(cells[key]) / 1e3 for key in ("ttft_ms", "tpot_ms"))
            room = float(cells["running"]) >= float(cells["concurrency"])
            others = {rival: tpots[i] for rival, tpots in rivals.items()}
            graded.append(Graded(run, ttft, tpot, room, others))
    rows = [_run_row(name, one) for one in graded]
    return graded, rows


def _rivals(runs: Sequence[Run], calibration: Path) -> dict[str, list[float]]:
    """TPOT of each run by each of `RIVALS`."""
    found = {
        "roofline": baseline_tpots(roofline_tpot, runs, calibration),
        "operators": baseline_tpots(llm_viewer_tpot, runs, calibration),
    }
    return found | {"configurator": aiconfigurator_tpots(runs)}


def _run_row(name: str, one: Graded) -> Row:
    cells = one.run.cells
    part = "known to measure something else" if one.run.spoiled else one.run.part
    words = tuple(cells[key] for key in WORDS)
    return Row(name, f"TPOT, {part}", words, one.run.tpot, one.tpot, "")


def grades(graded: Sequence[Graded], name: str) -> list[dict[str, Any]]:
    """Of the best grade: by part, then by model, chip and framework; and with one measured point each."""
    best = [one for one in graded if one.run.best or name == CLOSED]
    sound = [one for one in best if not one.run.spoiled]
    found = [record(f"{name}, with what measures something else", best)]
    for part in dict.fromkeys(one.run.part for one in sound):
        own = [one for one in sound if one.run.part == part]
        found.append(record(part, own))
        found.append(record(f"{part}, one measured point per configuration", anchored(own)))
        groups: dict[str, list[Graded]] = {}
        for one in own:
            cells = one.run.cells
            words = (cells[key] for key in ("model", "chip", "framework"))
            keys = [" / ".join(words), *(f"by {key} / {cells[key]}" for key in WORDS)]
            for key in keys:
                groups.setdefault(f"{part} / {key}", []).append(one)
        found += [record(key, group) for key, group in sorted(groups.items())]
    return found
