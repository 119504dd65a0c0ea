"""Columns of the serving schema as options: one table, JSON with numbers, and one sentence of a mistake."""

import csv
import json
from pathlib import Path

import pytest
from command import predict, run

from perfmodel.inference.serving_predictions import COLUMNS, OUTPUTS
from perfmodel.interface.cli.column_options import MAX_ROWS, flag, product
from perfmodel.interface.serving_columns import SERVING_COLUMNS, holds_numbers
from perfmodel.interface.serving_tables import WIDTH, measured_errors, records, table_of_rows

ASKED = {
    "chip": "h100-sxm",
    "n_chips": "1",
    "model": "llama-3.2-1b",
    "isl": "1000",
    "osl": "100",
    "concurrency": "16",
}


def words(**change: str) -> list[str]:
    """The options of a prediction."""
    return [word for name, text in (ASKED | change).items() for word in (flag(name), text)]


def test_every_column_that_is_read_has_a_meaning_and_an_example():
    """A new column is added to `perfmodel/interface/serving_columns.py`."""
    assert set(SERVING_COLUMNS) == set(COLUMNS)
    assert all(one.meaning and one.example for one in SERVING_COLUMNS.values())
    assert holds_numbers("isl") and holds_numbers("acceptance") and not holds_numbers("chip")


def test_help_lists_every_column_as_an_option_with_an_example():
    _, out, _ = run("predict", "serving", "--help")
    assert all(f" {flag(name)} " in out for name in SERVING_COLUMNS)
    assert "users with one request open each: 64" in " ".join(out.split())


@pytest.fixture(scope="module")
def asked() -> dict:
    """JSON of options with two values each."""
    status, out, err = run(
        "predict", "serving", *words(concurrency="1,16", usd_per_chip_hour="2,4"), "--json"
    )
    assert (status, err) == (0, "")
    return json.loads(out)


def test_values_between_commas_are_every_combination_in_order(asked: dict):
    rows = asked["rows"]
    assert [(row["concurrency"], row["usd_per_chip_hour"]) for row in rows] == [
        (1, 2),
        (1, 4),
        (16, 2),
        (16, 4),
    ]


def test_json_has_numbers_words_and_null(asked: dict):
    row = asked["rows"][0]
    assert set(asked) == {"rows"}
    assert row["isl"] == 1000 and row["chip"] == "h100-sxm" and row["fits"] == "true"
    assert isinstance(row["tpot_ms"], float) and row["error"] is None
    assert row["cost_basis"] == "quote"


@pytest.mark.long
def test_options_are_predicted_as_a_row_of_a_file_is(asked: dict, tmp_path: Path):
    change = {"concurrency": "1", "usd_per_chip_hour": "4"}
    row = predict("serving", tmp_path, [ASKED | change])[0]
    for name in ("tpot_ms", "ttft_ms", "usd_per_million_output_tokens"):
        assert asked["rows"][1][name] == float(row[name])


def test_options_print_one_table_and_write_where_a_file_is_named(tmp_path: Path):
    out, page = tmp_path / "out.csv", tmp_path / "page.html"
    status, said, err = run("predict", "serving", *words(), "--out", out, "--report", page)
    assert (status, err) == (0, "") and page.exists()
    lines = said.split("\n")
    table = lines[: next(i for i, line in enumerate(lines) if " rows in " in line)]
    assert max(map(len, table)) <= WIDTH
    assert any(line.split() == ["cost_basis", "owner"] for line in table)
    with out.open(newline="") as file:
        assert next(csv.DictReader(file))["chip"] == "h100-sxm"


def test_a_file_prints_its_first_rows_and_json_has_all(tmp_path: Path):
    rows = [ASKED | {"concurrency": str(i + 1)} for i in range(12)]
    rows[3]["osl"] = "x"
    predict("serving", tmp_path, rows)
    asked = ["predict", "serving", tmp_path / "in.csv", "--out", tmp_path / "out.csv"]
    said = run(*asked)[1]
    assert "Rows 1 to 10 of 12" in said and "12 rows in" in said and "osl is 'x'" in said
    assert max(map(len, said.split(" rows in ")[0].split("\n"))) <= WIDTH
    found = json.loads(run(*asked, "--json")[1])
    assert (found["rows"], found["errors"]) == (12, 1) and found["first_error"].startswith("osl")
    assert found["predictions"][0]["tpot_ms"] > 0 and found["predictions"][3]["tpot_ms"] is None


def test_measured_rows_are_compared(tmp_path: Path):
    found = predict("serving", tmp_path, [ASKED])[0]
    measured = {"measured_tpot_ms": f"{float(found['tpot_ms']) / 1.1}", "measured_ttft_ms": ""}
    predict("serving", tmp_path, [ASKED | measured, ASKED | {"osl": "", "measured_tpot_ms": "3"}])
    asked = ["predict", "serving", tmp_path / "in.csv", "--out", tmp_path / "out.csv"]
    said = run(*asked, "--report", tmp_path / "page.html")[1]
    assert "tpot_ms: median error 10.0 % of 1 measured rows." in said
    assert "ttft_ms: median error" not in said
    assert "tpot_ms: median error 10.0 %" in (tmp_path / "page.html").read_text("utf-8")
    found = json.loads(run(*asked, "--json")[1])
    assert found["median_errors"] == {"tpot_ms": pytest.approx(0.1, rel=1e-3)}
    assert found["predictions"][1]["measured_tpot_ms"] == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "there are no rows; give a CSV file, or columns as options"),
        (["rows.csv"], "--out is missing; give the file for the predictions of rows.csv"),
        (["rows.csv", "--chip", "l4", "--out", "o.csv"], "rows.csv and --chip are both given"),
        (["--n-chip", "8"], "--n-chips"),
        (words(chip="h1000"), "unknown chip 'h1000'; the nearest are h100-sxm"),
        (words(usd_per_chip_hour="-1"), "usd_per_chip_hour is '-1'"),
        (words(isl=",".join(map(str, range(1, MAX_ROWS + 2)))), "allowed are 5,000"),
    ],
)
def test_a_mistake_is_one_sentence(given: list[str], said: str):
    status, out, err = run("predict", "serving", *given)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.long
def test_a_model_that_does_not_fit_is_an_answer():
    given = words(model="llama-3.1-405b", chip="l4", n_chips="1")
    status, out, _ = run("predict", "serving", *given)
    assert status == 0 and "Row 1: llama-3.1-405b does not fit on 1 x l4" in out


def test_the_last_option_varies_fastest():
    assert product({"tp": "1,2", "isl": "8, 9", "dp": ""}) == {
        "tp": ["1", "1", "2", "2"],
        "isl": ["8", "9", "8", "9"],
        "dp": [""] * 4,
    }


@pytest.mark.parametrize(("count", "first"), [(1, "column"), (2, "column"), (30, "row")])
def test_a_table_fits_its_width_whatever_varies(count: int, first: str):
    cells = {name: [f"{name} {i}" for i in range(count)] for name in SERVING_COLUMNS}
    cells |= {name: ["1234567"] * count for name in (*OUTPUTS, "error")}
    table = table_of_rows(cells, 10)
    lines = [
        [line for text in column for line in text.split("\n")]
        for column in zip(table.names, *table.rows, strict=True)
    ]
    assert table.names[0] == first
    assert sum(2 + max(map(len, column)) for column in lines) <= WIDTH


def test_cells_that_are_no_numbers_stay_as_they_are():
    cells = {"isl": ["1e3", "x", ""], "model": ["4", "", "y"], "error": ["", "e", ""]}
    assert [row["isl"] for row in records(cells)] == [1000, "x", None]
    assert [row["model"] for row in records(cells)] == ["4", None, "y"]
    assert not measured_errors(cells)
