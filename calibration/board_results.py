"""Measured power of boards that serve beside predictions: `perfmodel reproduce --sets energy`.

Of each run joules of an output token are predicted twice: at the measured rate of tokens, so that errors of
speed do not enter, and at the predicted one. Runs that are held out are of models that no fit has seen.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa

from perfmodel.calibration.board_runs import BoardRun, board_runs
from perfmodel.calibration.power import power_of, work_of
from perfmodel.calibration.serving_metrics import WORDS, Comparison
from perfmodel.files import cells_of, read_csv, rows_of, with_columns
from perfmodel.library.board import load_board
from perfmodel.library.files import ROOT
from perfmodel.units import as_values

ENERGY = "energy"
"""The set of runs whose boards were measured."""

PLACE = ROOT / "published" / "board_powers.csv"

SPEEDS = ("measured speed", "predicted speed")
"""At which joules are predicted."""


def predict_energy(
    calibration: Path, progress: Callable[..., None]
) -> tuple[list[Comparison], pa.Table]:
    """The rows of the set, each at both speeds, and their table with what is predicted."""
    table = read_csv(PLACE)
    rows = rows_of(cells_of(table))
    runs = board_runs(rows, calibration, progress).runs
    found = [joules_of(runs, calibration, speed == SPEEDS[1]) for speed in SPEEDS]
    compared: list[Comparison] = []
    columns = {f"joules_at_{speed.replace(' ', '_')}": [""] * len(rows) for speed in SPEEDS}
    for speed, joules, column in zip(SPEEDS, found, columns.values(), strict=True):
        for run, one in zip(runs, joules, strict=True):
            compared.append(_comparison(rows[run.place], speed, run, float(one)))
            column[run.place] = f"{one:.6g}"
    return compared, with_columns(table, columns)


def joules_of(runs: Sequence[BoardRun], folder: Path, predicted: bool) -> np.ndarray:
    """J of one output token of all boards, at the measured rate or the `predicted` one."""
    boards = [load_board(run.chip, run.execution, folder) for run in runs]
    stacked = jax.tree.map(lambda *each: as_values([float(x) for x in each]), *boards)
    work = work_of(runs, predicted)
    power = power_of(stacked, stacked.active_idle, runs, work)
    return np.asarray(power) / [run.predicted_rate if predicted else run.rate for run in runs]


def _comparison(cells: dict[str, str], speed: str, run: BoardRun, joules: float) -> Comparison:
    """J of one board for each token of its deployment."""
    words = tuple(cells[name] for name in WORDS)
    return Comparison(ENERGY, f"{cells['part']}, {speed}", words, run.power / run.rate, joules, "")
