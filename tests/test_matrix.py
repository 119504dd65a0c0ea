"""Every kind of row that `predict kernels` claims to answer is answered: by a number, or by one sentence.

The whole takes half an hour of a core; the default run takes a tenth by the day, half of it here and that of
attention in a file of its own, which another process may run. `PERFMODEL_MATRIX_SEED` repeats a day.
"""

import random
from pathlib import Path

import jax
import pytest
from answers import check, check_share, seed
from matrix import ATTENDING, OPS, SHARES, cells, machines, share

from perfmodel.library.chip import chip_files

EACH_DAY = 1
"""Cells of each operation that the default run compiles as users do: 4 s or so of one core."""

AT_ONCE = 500
"""Cells of one table, so that what was compiled for it can be let go of."""


def test_every_chip_is_in_the_matrix_and_takes_its_turn():
    assert sorted(chip for alike in machines() for chip in alike) == sorted(chip_files())
    assert {cell.chip for op in OPS for cell in cells(op)} == set(chip_files())


def test_as_many_days_as_there_are_shares_see_every_cell_once():
    days = range(7 * SHARES, 8 * SHARES)
    for op in OPS:
        assert sorted(cell for day in days for cell in share(op, day)) == sorted(cells(op))


@pytest.mark.long
def test_cells_of_the_day_are_answered_without_attention(tmp_path: Path):
    check_share(tmp_path, [op for op in OPS if op not in ATTENDING])


@pytest.mark.long
def test_compiled_cells_of_the_day_are_answered(tmp_path: Path):
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
