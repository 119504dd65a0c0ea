"""What `predict serving` writes is read back with the same numbers."""

from pathlib import Path

import pytest
from command import predict

from perfmodel.inference.serving_predictions import OUTPUTS

ROW = {"chip": "h100-sxm", "n_chips": "1", "model": "llama-3.2-1b", "isl": "1000", "osl": "500"}
USERS = ROW | {"concurrency": "16"}

ROWS = {
    "users": USERS,
    "a quote": USERS | {"usd_per_chip_hour": "2.5"},
    "requests at a rate": ROW | {"requests_per_s": "10"},
    "more requests than are answered": ROW | {"requests_per_s": "100000"},
    "two models": USERS
    | {"large_model": "llama-3.1-8b", "large_n_chips": "1", "large_share": "0.3"},
}


@pytest.mark.slow
def test_rows_are_read_back_with_the_numbers_that_were_written(tmp_path: Path):
    first = predict("serving", tmp_path, [*ROWS.values()])
    again = predict("serving", tmp_path, first)
    for name, row, other in zip(ROWS, first, again, strict=True):
        assert row["error"] == other["error"], name
        assert float(row["concurrency"] or 0) == pytest.approx(float(other["concurrency"] or 0))
        for column in OUTPUTS:
            assert other[column] == row[column], (name, column)
    errors = [name for name, row in zip(ROWS, first, strict=True) if row["error"]]
    assert errors == ["more requests than are answered"]
    rate = first[list(ROWS).index("requests at a rate")]
    assert float(rate["concurrency"]) > float(rate["running"]) * 0.99  # users are still said
