"""Whether rows of the matrix are answered: by a number, or by one sentence."""

import datetime
import math
import os
from collections.abc import Sequence
from pathlib import Path

import jax
from command import predict
from matrix import Cell, rows, share

from perfmodel.breakdown import BOUNDS


def seed() -> int:
    """Of the day, or as given."""
    return int(os.environ.get("PERFMODEL_MATRIX_SEED", datetime.date.today().toordinal()))


def answered(folder: Path, chosen: Sequence[Cell]) -> list[dict[str, str]]:
    """The rows of some cells as the command answers them, all of them."""
    asked = [row for cell in chosen for row in rows(cell)]
    found = predict("kernels", folder, asked)
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


def check_share(folder: Path, ops: Sequence[str]) -> None:
    """The day's part of some operations' cells, without compiling: it takes as long as a few forms do."""
    print(f"PERFMODEL_MATRIX_SEED={seed()}")
    with jax.disable_jit():
        check(folder, [cell for op in ops for cell in share(op, seed())])
