"""Reports: one page that needs nothing beside it, says what it assumes, and names its sources."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from command import run

from perfmodel.errors import InputError
from perfmodel.interface.pages.page import (
    MAX_ROWS,
    Page,
    Picture,
    as_html,
    check_report,
    sources_of,
)
from perfmodel.interface.plots import bars
from perfmodel.interface.tables import Table

GEMM = {"op": "gemm", "chip": "h100", "dtype": "bf16", "m": "32", "n": "4096", "k": "4096"}
CHART = bars.breakdown([("a", [1.0, 0, 0, 2, 0, 0])], "Time")


def page(**changes: object) -> str:
    """A page of one table and one picture, as text."""
    parts = [Table("Rows", ["a", "b"], [("1", "2")], "a note"), Picture(CHART, "caption")]
    fields = {"title": "Title", "summary": ["It is so."], "parts": parts} | changes
    return as_html(Page(**fields))  # pyright: ignore[reportArgumentType]


def alone(text: str) -> bool:
    """Whether a page loads nothing, and runs nothing but what sorts its tables."""
    outside = re.search(r"""(src|href|url)\s*[=(]\s*["']?https?:""", text)
    (script,) = re.findall("<script>(.*?)</script>", text, re.DOTALL)
    told = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return not outside and text.count("<script") == 1 and f"script-src 'sha256-{told}'" in text


def test_a_page_holds_its_tables_and_pictures_and_needs_nothing_else():
    text = page(assumptions=["That."], sources={"h100": "Datasheet"}, command=["perfmodel", "x y"])
    assert alone(text) and "<svg" in text
    for words in (
        "<td>2</td>",
        "a note",
        "caption",
        "That.",
        "Datasheet",
        "perfmodel &#39;x y&#39;",
    ):
        assert words in text
    assert re.search(r"Versions: python 3\.\d+\.\d+, perfmodel \d", text)


def test_what_users_write_is_shown_and_never_run():
    bad = "<script>alert(1)</script>"
    table = Table(bad, [bad], [(bad,)], bad)
    text = page(title=bad, summary=[bad], parts=[table], sources={bad: bad}, command=[bad])
    assert alone(text) and text.count("&lt;script&gt;") >= 8


def test_a_long_table_is_cut_and_says_so():
    text = page(parts=[Table("Rows", ["a"], [("1",)] * (MAX_ROWS + 7))])
    assert text.count("<td>") == MAX_ROWS and "7 more rows are not shown" in text


def test_a_long_cell_is_opened_and_a_short_one_stands():
    text = page(parts=[Table("Rows", ["a", "error"], [("1", "does not fit " * 20), ("2", "no")])])
    assert "<td>no</td>" in text and text.count("<details>") == 1
    said = re.search("<summary>(.*?)</summary>", text)
    assert said is not None and len(said[1]) <= 60 and said[1].endswith("...")


def test_a_page_names_the_source_of_every_fact_of_a_chip():
    text = page(sources=sources_of(["h100"], ["llama-3.1-8b"]))
    assert "Facts of h100-sxm" in text and "Facts of llama" not in text
    assert text.index('<th scope="col">trust</th>') < text.index("<td>datasheet</td>")


def test_a_page_has_a_dark_side_and_one_for_print():
    text = page()
    assert "prefers-color-scheme:dark" in text and "@media print" in text
    assert "position:sticky" in text and 'role="region"' in text


def test_another_ending_or_no_folder_is_refused_before_any_work(tmp_path: Path):
    with pytest.raises(InputError, match=r"a report is \.html"):
        check_report(tmp_path / "x.pdf")
    with pytest.raises(InputError, match="there is no folder"):
        check_report(tmp_path / "none" / "x.html")


def test_sources_of_unknown_names_are_left_out():
    found = sources_of(["h100", "nothing"], ["llama-3.1-8b"])
    assert set(found) == {"h100-sxm", "llama-3.1-8b"}
    assert "NVIDIA" in found["h100-sxm"]


def test_a_kernel_is_explained_on_a_page(tmp_path: Path):
    words = [f"{name}={value}" for name, value in GEMM.items()]
    status, _, err = run("explain", *words, "--report", tmp_path / "x.html", "--json")
    assert (status, err) == (0, "")
    text = (tmp_path / "x.html").read_text()
    assert alone(text) and "gemm on h100-sxm" in text and "NVIDIA H100" in text


@pytest.mark.slow
def test_predicted_kernels_have_a_page_and_measured_ones_are_beside(tmp_path: Path):
    header = ",".join([*GEMM, "latency_us", "memo"])
    rows = [",".join([*GEMM.values(), "12.5", "a <b>"]), ",".join([*GEMM.values(), "", "c"])]
    wrong = ",".join([*(GEMM | {"op": "gem"}).values(), "1", "d"])
    (tmp_path / "in.csv").write_text("\n".join([header, *rows, wrong]) + "\n")
    words = ("predict", "kernels", tmp_path / "in.csv", "--out", tmp_path / "out.csv")
    status, out, _ = run(*words, "--report", tmp_path / "x.html")
    assert status == 0 and "The report is" in out
    text = (tmp_path / "x.html").read_text()
    assert (
        alone(text)
        and "2 of 3 kernels" in text
        and "Median error" in text
        and "a &lt;b&gt;" in text
    )


def test_a_report_that_cannot_be_written_stops_before_the_work(tmp_path: Path):
    words = ("predict", "kernels", tmp_path / "none.csv", "--out", tmp_path / "out.csv")
    status, _, err = run(*words, "--report", tmp_path / "x.txt")
    assert status == 2 and "a report is .html" in err


def test_published_speeds_have_a_page(tmp_path: Path):
    from perfmodel.calibration.serving_metrics import Comparison, metrics_of_published
    from perfmodel.interface.pages.reproduce import reproduce_page, tables_of

    rows = [Comparison("single-stream", "g", ("h100", "llama-3.1-8b", "", ""), 100.0, 90.0, "")]
    report = {"published": metrics_of_published(rows), "left_out": [], "serving": []}
    text = as_html(reproduce_page(report, rows))
    assert alone(text) and "10.0 %" in text and "TTFT is the mean" in text
    (table,) = tables_of(report)
    assert table.names[-1] == "in range" and {len(row) for row in table.rows} == {len(table.names)}


def test_a_sweep_has_a_page_of_its_best_points(tmp_path: Path):
    """Of three points that fit, one is beaten in speed and price by another of its machine."""
    import pyarrow as pa
    import pyarrow.csv

    from perfmodel.interface.pages.sweep import _front, sweep_page

    table = pa.table(
        {
            "chip": ["h100-sxm"] * 4,
            "n_chips": [8.0] * 4,
            "model": ["llama-3.1-8b"] * 4,
            "concurrency": [1.0, 2.0, 3.0, 4.0],
            "output_tokens_per_s_per_user": [100.0, 50.0, 40.0, 500.0],
            "usd_per_million_output_tokens": [2.0, 1.0, 1.5, 0.1],
            "joules_per_output_token": [3.0, 2.0, 1.0, 0.1],
            "bound": ["memory"] * 4,
            "fits": ["true", "true", "true", "false"],
        }
    )
    tables = [table, table.append_column("output_tokens_per_s_per_chip", [[9.0, 5.0, 8.0, 1.0]])]
    assert _front(tables[1].slice(0, 3), "output_tokens_per_s_per_chip") == [(100.0, 9.0, 1.0)]
    assert _front(table.slice(0, 3)) == [(100.0, 2.0, 1.0), (50.0, 1.0, 2.0)]
    pyarrow.csv.write_csv(table, tmp_path / "out.csv")
    text = as_html(sweep_page(tmp_path / "grid.toml", tmp_path / "out.csv"))
    assert alone(text) and "3 of 4 points" in text and "The cheapest" in text
    assert "8 x h100-sxm, llama-3.1-8b" in text and text.count("<svg") == 1
    pyarrow.csv.write_csv(tables[1], tmp_path / "out.csv")
    text = as_html(sweep_page(tmp_path / "grid.toml", tmp_path / "out.csv"))
    assert text.count("<svg") == 2 and "The most tokens/s per chip" in text


def test_a_page_of_chips_alone_has_no_empty_tables():
    from perfmodel.interface.pages.validate import validate_page

    chip = {"chip": "WSE-3", "quantity": "die_area_mm2", "kind": "wafer"}
    chip |= {"predicted": 41_630.0, "known": 46_225.0}
    text = as_html(validate_page({"kernels": [], "technology": [chip]}, [], []))
    assert alone(text) and "46,225" in text and "-10 %" in text
    assert "random forest" not in text and "perfmodel chips NAME" in text


@pytest.mark.slow
def test_a_step_and_its_service_are_explained_on_pages(tmp_path: Path):
    served = {"chip": "h100", "model": "llama-3.2-1b", "isl": "512", "osl": "64", "n_chips": "1"}
    served["concurrency"] = "4"
    words = [f"{name}={value}" for name, value in served.items()]
    status, *_ = run("explain", *words, "--report", tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text()
    assert status == 0 and alone(text) and text.count("<svg") == 4
    (tmp_path / "in.csv").write_text(f"{','.join(served)}\n{','.join(served.values())}\n")
    words = ["predict", "serving", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv")]
    status, *_ = run(*words, "--report", tmp_path / "y.html")
    text = (tmp_path / "y.html").read_text()
    assert status == 0 and alone(text) and "<svg" in text and "USD" in text
