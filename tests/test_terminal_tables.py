"""What commands print: tables of 100 characters, and numbers in JSON."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from command import run

from perfmodel.interface.kernel_rows import table_of_kernels
from perfmodel.interface.sweep_tables import table_of_winners, winners
from perfmodel.interface.tables import width_of
from perfmodel.interface.terminal import as_value

POINTS = {
    "chip": ["h100-sxm", "h100-sxm", "b200-sxm", "b200-sxm"],
    "n_chips": [8.0] * 4,
    "model": ["llama-3.1-70b"] * 4,
    "framework": ["vllm"] * 4,
    "isl": [1000.0] * 4,
    "osl": [100.0] * 4,
    "concurrency": [1.0, 64.0, 1.0, 64.0],
    "tp": [8.0, 4.0, 8.0, 8.0],
    "dp": [1.0, 2.0, 1.0, 1.0],
    "output_tokens_per_s_per_user": [100.0, 40.0, 200.0, 500.0],
    "output_tokens_per_s_per_chip": [10.0, 300.0, 20.0, 900.0],
    "usd_per_million_output_tokens": [20.0, 1.0, 10.0, 0.1],
    "joules_per_output_token": [9.0, 3.0, None, 0.1],
    "fits": [True, True, True, False],
}


@pytest.mark.parametrize(
    "text, value",
    [("1,234", 1234), ("0.5", 0.5), ("1e-3", 0.001), ("989 TFLOP/s", "989 TFLOP/s"), ("", "")],
)
def test_a_number_by_itself_is_a_number(text: str, value: float | str):
    assert as_value(text) == value and type(as_value(text)) is type(value)


@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_a_sweep_shows_its_best_points_that_fit(tmp_path: Path, end: str):
    out, table = tmp_path / f"points.{end}", pa.table(POINTS)
    pyarrow.parquet.write_table(table, out) if end == "parquet" else pyarrow.csv.write_csv(
        table, out
    )
    found = {row["best"]: row for row in winners(out)}
    assert found["fastest"]["chip"] == "b200-sxm" and found["fastest"]["isl"] == 1000
    best = found["cheapest"]
    assert best == found["most tokens/s per chip"] | {"best": "cheapest"}
    assert (best["concurrency"], best["tp"], best["dp"]) == (64.0, 4.0, 2.0)
    assert found["least energy"]["joules_per_output_token"] == 3.0
    shown = table_of_winners([*found.values()])
    assert width_of(shown) <= 100 and "tp 4, dp 2" in str(shown.rows)
    assert "model" not in shown.names and "chip" in shown.names


def test_kernels_are_printed_with_their_sizes_and_range(tmp_path: Path):
    out = tmp_path / "out.csv"
    out.write_text(
        "op,chip,dtype,m,n,k,predicted_us,low_us,high_us,bound,basis,error\n"
        "gemm,h100,bf16,32,4096,4096,14.684,13.5,16.55,memory,fitted,\n"
        "gemn,h100,bf16,32,4096,4096,,,,,,unknown op\n"
    )
    table = table_of_kernels(out)
    assert width_of(table) <= 100
    assert table.rows[0][1:] == (
        *("gemm", "h100", "bf16", "m 32, n 4096, k 4096"),
        *("14.68", "13.5 to 16.55", "memory"),
    )
    assert table.rows[1][-3:] == ("", "", "error")


def test_lists_of_chips_and_models_are_numbers_in_json():
    chips = {row["chip"]: row for row in json.loads(run("chips", "--json")[1])}
    assert chips["h100-sxm"]["bf16_flop_per_s"] == pytest.approx(989e12, rel=1e-3)
    assert chips["wse-3"]["main_bytes"] is None or chips["wse-3"]["main_bytes"] > 0
    models = json.loads(run("models", "--json")[1])
    (found,) = (row for row in models if row["name"] == "llama-3.1-8b")
    assert found["parameters"] == 8_030_261_248
