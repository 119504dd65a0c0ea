"""Every kind of row that `predict kernels` claims to answer is answered: by a number, or by one sentence.

The whole takes half an hour of a core. What a cell costs is a compiled function, so the default run takes a
few by the day, as many of each operation. `PERFMODEL_MATRIX_SEED` repeats a day.
"""

import csv
import datetime
import math
import os
import random
from collections.abc import Sequence
from pathlib import Path

import jax
import pytest
from command import run
from matrix import Cell, cells, machines, rows

from perfmodel.breakdown import BOUNDS
from perfmodel.kernels.catalogue import OPERATIONS
from perfmodel.library.chip import chip_files

OPS = tuple(OPERATIONS)

EACH_DAY = 4
"""Cells of each operation in the default run: 15 s or so of one core."""

AT_ONCE = 500
"""Cells of one table, so that what was compiled for it can be let go of."""


def seed() -> int:
    """Of the day, or as given."""
    return int(os.environ.get("PERFMODEL_MATRIX_SEED", datetime.date.today().toordinal()))


def answered(folder: Path, chosen: Sequence[Cell]) -> list[dict[str, str]]:
    """The rows of some cells as the command answers them, all of them."""
    asked = [row for cell in chosen for row in rows(cell)]
    names = list(dict.fromkeys(name for row in asked for name in row))
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(asked)
    status, _, err = run("predict", "kernels", folder / "rows.csv", "--out", folder / "out.csv")
    assert (status, err) == (0, "")
    with (folder / "out.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(asked)
    return found


def fault(row: dict[str, str]) -> str:
    """What is wrong with an answer; empty where nothing is."""
    numbers = [row[name] for name in ("low_us", "predicted_us", "high_us")]
    if row["error"]:
        said = row["error"]
        sentence = said.endswith(".") and ". " not in said and "\n" not in said
        return "" if sentence and not any((*numbers, row["bound"])) else "no single sentence"
    if not all(numbers):
        return "neither number nor error"
    low, predicted, high = map(float, numbers)
    sound = 0 < low <= predicted <= high < math.inf and row["bound"] in BOUNDS
    return "" if sound else "no number between its ends"


def check(folder: Path, chosen: Sequence[Cell]) -> None:
    found = answered(folder, chosen)
    wrong = [f"{text}: {row}" for row in found if (text := fault(row))]
    assert not wrong, "\n".join([f"PERFMODEL_MATRIX_SEED={seed()}", *wrong[:20]])


def test_every_chip_is_in_the_matrix_and_takes_its_turn():
    assert sorted(chip for alike in machines() for chip in alike) == sorted(chip_files())
    assert {cell.chip for op in OPS for cell in cells(op)} == set(chip_files())


def test_cells_of_the_day_are_answered(tmp_path: Path):
    print(f"PERFMODEL_MATRIX_SEED={seed()}")
    day = random.Random(seed())
    check(tmp_path, [cell for op in OPS for cell in day.sample(cells(op), EACH_DAY)])


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS)
def test_the_whole_matrix_is_answered(op: str, tmp_path: Path):
    """Without compiling: a form is needed once, and takes ten times as long to compile."""
    whole = cells(op)
    with jax.disable_jit():
        for start in range(0, len(whole), AT_ONCE):
            check(tmp_path, whole[start : start + AT_ONCE])
