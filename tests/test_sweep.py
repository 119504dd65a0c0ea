"""Sweeps: every point is what a row would be, parts survive a kill, and a wrong grid is refused."""

import fcntl
from pathlib import Path

import jax
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from command import run

from perfmodel.errors import InputError
from perfmodel.inference import sweep as module
from perfmodel.inference.evaluate import mapped, mapped_once
from perfmodel.inference.serving_predictions import predict_cells
from perfmodel.inference.sweep import sweep
from perfmodel.inference.sweep_points import FEW_POINTS, Pricer, size_and_price
from perfmodel.library.fitted import FITTED

GRID = """
model = "llama-3.2-1b"
chip = ["h100", "h200"]
mode = ["serving", "static_batch", "single_stream", "offline"]
n_chips = 8
tp = ["", 2, 3]
isl = [1000, 4000]
osl = 100
prefix_tokens = [0, 2000]
burst = [true, false]
concurrency = {low = 1, high = 1024, points = 2, spacing = "log"}
"""
POINTS = 2 * 4 * 3 * 2 * 2 * 2 * 2
WORDS = ("model", "chip", "mode", "burst", "cost_basis", "basis", "bound", "error")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """The rows of a sweep of `GRID`."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "grid.toml").write_text(GRID)
    status, out, err = run("sweep", folder / "grid.toml", "--out", folder / "points.parquet")
    assert (status, err) == (0, "") and out.startswith(f"{POINTS} rows in")
    assert [path.name for path in folder.iterdir() if "points" in path.name] == ["points.parquet"]
    return pyarrow.parquet.read_table(folder / "points.parquet").to_pylist()


def test_points_that_cannot_be_priced_cost_no_others(monkeypatch: pytest.MonkeyPatch, tmp_path):
    def priced(self, segments):
        if any(one.resolved.deployment.stem == "h100-sxm" for one in segments):
            raise InputError("this cannot be priced.")
        return [{"tpot_ms": np.ones(one.points.size)} for one in segments]

    monkeypatch.setattr(Pricer, "_priced", priced)
    (tmp_path / "grid.toml").write_text(GRID)
    assert run("sweep", tmp_path / "grid.toml", "--out", tmp_path / "points.parquet")[0] == 0
    found = pyarrow.parquet.read_table(tmp_path / "points.parquet").to_pylist()
    sound = [row for row in found if row["tp"] != 3]
    assert {row["error"] for row in sound if row["chip"] == "h100"} == {"this cannot be priced."}
    assert {row["tpot_ms"] for row in sound if row["chip"] == "h200"} == {1.0}


@pytest.mark.long
def test_every_point_is_what_the_row_of_a_table_is(found: list[dict]):
    given = ("model", "chip", "mode", "n_chips", "burst")
    given += ("isl", "osl", "prefix_tokens", "concurrency")
    cells = {name: [f"{row[name]}" for row in found] for name in given}
    cells["tp"] = [tp for _ in range(2 * 4) for tp in ("", "2", "3") for _ in range(POINTS // 24)]
    rows = predict_cells(cells, len(found), FITTED)
    for name, column in rows.items():
        for mine, theirs in zip([row[name] for row in found], column, strict=True):
            if mine and "tp is 3" in str(mine):
                continue  # with two faults, each names one
            if name in WORDS or not theirs or theirs in ("true", "false"):
                word = "" if mine is None else str(mine).lower() if name == "fits" else str(mine)
                assert word == theirs, name
            else:  # six digits are written
                assert mine == pytest.approx(float(theirs), rel=1e-5), name


@pytest.mark.long
def test_what_cannot_be_predicted_says_why_and_keeps_its_place(found: list[dict]):
    said = {row["error"] for row in found}
    assert any(
        one and one.startswith("tp is 3, which does not divide the 32 heads") for one in said
    )
    assert "prefix_tokens is 2000, but must be less than the 1000 tokens of isl." in said
    assert len(found) == POINTS and None in said


SMALL = """
model = "llama-3.2-1b"
chip = "h100"
n_chips = 1
isl = {low = 100, high = 4000, points = 40}
osl = 100
concurrency = [1, 4]
[hardware]
"main.bandwidth" = [1, 2]
matrix = [1, 0.5]
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A grid of 320 points, in parts of 128."""
    monkeypatch.setattr(module, "PART_POINTS", 128)
    (tmp_path / "grid.toml").write_text(SMALL)
    return tmp_path / "grid.toml"


@pytest.mark.long
def test_factors_change_the_chip(small: Path):
    out = small.with_name("out.csv")
    sweep(small, out, FITTED, False, lambda done, of: None)
    table = pyarrow.csv.read_csv(out)
    tpot, ttft = (
        np.asarray(table[name]).reshape(40, 2, 2, 2) for name in ("tpot_ms", "ttft_ms")
    )  # isl, concurrency, main.bandwidth, matrix
    assert np.all((tpot[:, :, 1] < tpot[:, :, 0]) & (tpot[:, :, 1] > tpot[:, :, 0] / 2))
    assert np.all(ttft[..., 1] > ttft[..., 0])
    assert table["isl"].to_pylist()[::80] == [100, 1100, 2100, 3100]


def test_a_sweep_that_was_stopped_goes_on_where_it_was(
    small: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, out = small.with_name("whole.csv"), small.with_name("out.csv")
    sweep(small, whole, FITTED, False, lambda done, of: None)

    def stop(done: int, of: int) -> None:
        if done == 256:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(small, out, FITTED, False, stop)
    assert not out.exists()
    priced = []
    table = module.Pricer.table
    monkeypatch.setattr(
        module.Pricer, "table", lambda self, a, b: priced.append(a) or table(self, a, b)
    )
    (small.with_name("out.csv.parts") / "part-00001.parquet").write_bytes(b"PAR1 and no more")
    sweep(small, out, FITTED, True, lambda done, of: None)
    assert priced == [128, 256]
    assert out.read_bytes() == whole.read_bytes()
    assert not out.with_name("out.csv.parts").exists()


def test_parts_of_another_grid_are_not_mixed_in(small: Path):
    out, parts = small.with_name("out.csv"), small.with_name("out.csv.parts")
    parts.mkdir()
    (parts / "_manifest.json").write_text("{}")
    said = run("sweep", small, "--out", out, "--resume")
    assert said[0] == 2 and "parts of another sweep" in said[2]
    assert not out.exists()


def test_two_sweeps_do_not_write_one_file(small: Path):
    out, parts = small.with_name("out.csv"), small.with_name("out.csv.parts")
    parts.mkdir()
    with (parts / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        status, _, said = run("sweep", small, "--out", out)
    assert status == 2 and "another sweep is writing" in said


def test_nothing_is_compiled_again_when_only_values_change(small: Path):
    compiled = []

    def heard(event: str, duration_secs: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration_secs)

    sweep(small, small.with_name("first.csv"), FITTED, False, lambda done, of: None)
    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        small.write_text(SMALL.replace("4000", "5000").replace("[1, 2]", "[0.7, 0.9]"))
        sweep(small, small.with_name("second.csv"), FITTED, False, lambda done, of: None)
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    assert compiled == []


def test_small_grids_are_compiled_fast_and_large_ones_to_run_fast():
    assert size_and_price(60) == (64, mapped_once)
    assert size_and_price(FEW_POINTS) == (512, mapped_once)
    assert size_and_price(FEW_POINTS + 1) == (4096, mapped)


WRONG = {
    "": "chip: it is missing",
    "x = [": "not a readable TOML",
    "chip = 'h1000'\nmodel = 'llama-3.2-1b'\nisl = 1\nosl = 1": "the nearest are h100-sxm",
    SMALL.replace("llama-3.2-1b", "llama"): "unknown model 'llama'",
    SMALL.replace("n_chips", "n_chip"): "no such column; the nearest are n_chips",
    SMALL.replace("isl = {", "isl = {step = 1, "): "step: no such key",
    SMALL.replace("high = 4000", "high = 50"): "low 100 is not below high 50",
    SMALL.replace("high = 4000", "high = nan"): "high",
    SMALL.replace("low = 100", "low = 0").replace("points = 40", 'points = 5, spacing = "log"'): "above",
    SMALL.replace("points = 40", "points = 10_000_000"): "points",
    SMALL.replace("osl = 100", "osl = []"): "osl",
    SMALL.replace("osl = 100", "osl = -1"): "osl is '-1'",
    SMALL.replace("osl = 100", "osl = nan"): "osl is 'nan'",
    SMALL.replace("osl = 100", 'osl = ""'): "osl is missing",
    SMALL.replace("osl = 100", "osl = 2020-01-01"): "osl",
    SMALL.replace("osl = 100", "osl = [[1]]"): "osl",
    SMALL.replace("main.bandwidth", "main.size"): "hardware.main.size: no such number",
    SMALL.replace("matrix =", "matrix.fp8 ="): "hardware.matrix",
    SMALL.replace("[1, 2]", "[0]"): "hardware.main.bandwidth",
    SMALL.replace("40", "50_000").replace("[1, 2]", "{low = 1, high = 2, points = 100_000}"): "2e+10 points",
    "mode = 'disaggregated'\n" + SMALL: "use `perfmodel predict serving`",
    "hardware = 1\n" + SMALL[: SMALL.index("[hardware]")]: "hardware",
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(("content", "said"), WRONG.items())
def test_a_wrong_grid_is_refused(tmp_path: Path, content: str, said: str):
    (tmp_path / "grid.toml").write_text(content)
    status, out, err = run("sweep", tmp_path / "grid.toml", "--out", tmp_path / "out.csv")
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert said in err and "grid.toml" in err
    assert [path.name for path in tmp_path.iterdir()] == ["grid.toml"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no file"), (b"\xff\0\x01", "grid.toml"), (b"", "grid.toml")],
)
def test_a_grid_that_is_no_text_is_refused(tmp_path: Path, content: bytes | None, said: str):
    if content is not None:
        (tmp_path / "grid.toml").write_bytes(content)
    status, out, err = run("sweep", tmp_path / "grid.toml", "--out", tmp_path / "out.csv")
    assert (status, out, err.count("\n")) == (2, "", 1) and said in err


def test_a_folder_is_no_grid(tmp_path: Path):
    status, _, err = run("sweep", tmp_path, "--out", tmp_path / "out.csv")
    assert status == 2 and "there is no file" in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["out", "out.txt", "none/out.csv", ".csv"])
def test_a_place_that_cannot_be_swept_to_is_refused(tmp_path: Path, name: str):
    (tmp_path / "grid.toml").write_text(SMALL)
    assert run("sweep", tmp_path / "grid.toml", "--out", tmp_path / name)[0] == 2
