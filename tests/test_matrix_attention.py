"""The part of the matrix whose rows have a cache; see `test_matrix.py`."""

from pathlib import Path

import pytest
from answers import check_share
from matrix import ATTENDING


@pytest.mark.long
def test_cells_of_the_day_are_answered_for_attention(tmp_path: Path):
    check_share(tmp_path, ATTENDING)
