"""Fits, the protocol and the contest on a cluster: what one process gives, whichever task is done first."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from command import COMMAND, run

from perfmodel.calibration import calibrate as calibrating
from perfmodel.calibration import run_protocol as validating
from perfmodel.calibration.data.aiconfigurator import PACKAGE
from perfmodel.calibration.data.inferencex import TABLE
from perfmodel.calibration.data.measurements import Measurements
from perfmodel.calibration.sections import arranged, write_section
from perfmodel.files import write_csv
from perfmodel.kernels.kernel_table import Key
from perfmodel.library.files import read_toml
from perfmodel.library.fitted import FITTED

CHIPS, FORMATS, ROWS = ("h100-sxm", "l40s"), ("bf16", "fp8"), 60

needs_package = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="aiconfigurator-core is not installed"
)


pytestmark = pytest.mark.slow


def rows_of(chip: str, dtype: str, seed: int) -> pa.Table:
    """Matrix products whose times are a law with some noise."""
    draw = np.random.default_rng(seed)
    sizes = {name: np.round(2 ** draw.uniform(5, 12, ROWS)) for name in ("m", "n", "k")}
    time = 5 + 2e-6 * np.prod(list(sizes.values()), axis=0) / 300
    words = {"op": ["gemm"] * ROWS, "chip": [chip] * ROWS, "dtype": [dtype] * ROWS}
    return pa.table(
        words | sizes | {"latency_us": time * np.exp(0.05 * draw.standard_normal(ROWS))}
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of four sections, on two chips."""
    parts = [rows_of(c, d, 2 * i + j) for i, c in enumerate(CHIPS) for j, d in enumerate(FORMATS)]
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    write_csv(path, pa.concat_tables(parts))
    return path


@pytest.fixture(scope="module")
def fitted(measured: Path) -> Path:
    """The folder that one process fits."""
    out = measured.with_name("fitted")
    assert run("calibrate", "--data", measured, "--out", out, "--json")[0] == 0
    return out


def files_of(folder: Path) -> dict[str, bytes]:
    """What is in all files of a folder, by their paths in it."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def alone(*words: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own: Ray forks, which JAX warns of."""
    given = [*COMMAND, *map(str, words)]
    return subprocess.run(given, capture_output=True, text=True, check=False, timeout=600)


def backwards(*_: object) -> contextlib.AbstractContextManager:
    """A cluster whose last task is done first."""

    def all_of(function: Callable, tasks: Iterator) -> list[tuple[int, object]]:
        return [*enumerate(map(function, tasks))][::-1]

    return contextlib.nullcontext(all_of)


# Fits


@pytest.mark.slow
def test_a_cluster_fits_the_bytes_that_one_process_fits(
    measured: Path, fitted: Path, tmp_path: Path
):
    found = alone("calibrate", "--data", measured, "--out", tmp_path, "--cluster", "local")
    assert (found.returncode, found.stderr.count("\n")) == (0, 2)  # both chips lack other kernels
    assert "gemm l40s smooth fp8" in found.stdout
    assert files_of(tmp_path) == files_of(fitted)


def test_sections_keep_their_order_whichever_is_fitted_first(
    measured: Path, fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(calibrating, "workers", backwards)
    status, said, _ = run("calibrate", "--data", measured, "--out", tmp_path, "--json")
    assert status == 0 and files_of(tmp_path) == files_of(fitted)
    tables = [(one["chip"], one["dtype"]) for one in json.loads(said)]
    assert tables == [(chip, dtype) for chip in CHIPS for dtype in FORMATS]


def test_sections_are_filed_in_order_and_others_stay(tmp_path: Path):
    order = [("gemm", "smooth", "bf16"), ("gemm", "vllm", "fp8"), ("moe", "vllm", "bf16")]
    for name, sections in (("there.toml", order), ("back.toml", order[::-1])):
        for names in (("elementwise", "smooth", "bf16"), ("gemm", "smooth", "mxfp4"), *sections):
            write_section(tmp_path / name, names, {"a": 1}, order)
    there, back = ((tmp_path / name).read_bytes() for name in ("there.toml", "back.toml"))
    assert there == back
    assert list(read_toml(tmp_path / "back.toml")) == ["elementwise", "gemm", "moe"]
    assert list(arranged({"b": {}, "x": {}, "a": {}}, [("a",), ("b",)])) == ["a", "x", "b"]


@pytest.mark.parametrize(
    "words", [("--joint",), ("--ops", "serving"), ("--ops", "power"), ("--out", FITTED)]
)
def test_what_no_cluster_fits_is_refused(words: tuple[object, ...], measured: Path, tmp_path: Path):
    out = () if "--out" in words else ("--out", tmp_path)
    status, _, err = run("calibrate", "--data", measured, *out, *words, "--cluster", "local")
    assert status == 2 and err.splitlines()[-1].startswith("perfmodel: ")
    assert "--cluster is for fits to kernel times" in err or "read by the workers" in err


@pytest.mark.slow
def test_fits_go_on_where_the_driver_was_killed(measured: Path, fitted: Path, tmp_path: Path):
    words = ["calibrate", "--data", measured, "--out", tmp_path, "--cluster", "local"]
    with subprocess.Popen([*COMMAND, *map(str, words)], stdout=subprocess.DEVNULL) as process:
        while not list((tmp_path / "residuals").glob("*.csv")):
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert alone(*words, "--resume").returncode == 0
    assert files_of(tmp_path) == files_of(fitted)


# The protocol


def test_a_report_is_in_the_order_of_the_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def read(root: Path, unit, how) -> list[Measurements]:
        columns = {name: np.round(2 ** np.linspace(4, 13, 200)) for name in ("m", "n", "k")}
        time = 5e-6 + 2e-15 * np.prod(list(columns.values()), axis=0)
        return [Measurements(Key("gemm", unit.chip, "trtllm", "bf16"), columns, time, "made up")]

    monkeypatch.setattr(validating, "read", read)
    monkeypatch.setattr(validating, "locate", lambda source: Path())
    words = ["validate", "--chips", "h200,h100", "--ops", "gemm"]
    assert run(*words, "--out", tmp_path / "here")[0] == 0
    monkeypatch.setattr(validating, "workers", backwards)
    assert run(*words, "--out", tmp_path / "there", "--cluster", "local")[0] == 0
    assert files_of(tmp_path / "here") == files_of(tmp_path / "there")
    report = json.loads((tmp_path / "here/validate.json").read_text())
    assert [one["chip"] for one in report["kernels"]] == ["h100-sxm", "h200-sxm"]
    assert report["done"][-1] == "h200-sxm/gemm"


@pytest.mark.parametrize("words", [("--sets", "decisions"), ("--fit-ranges",)])
def test_what_no_cluster_validates_is_refused(words: tuple[str, ...]):
    status, _, err = run("validate", *words, "--cluster", "local")
    assert status == 2 and "--cluster is for --sets kernels" in err and err.count("\n") == 1


def undated(path: Path) -> dict:
    """A report without its dates."""
    report = json.loads(path.read_text())
    for record in report["kernels"]:
        del record["date"]
    return report


@pytest.mark.slow
@needs_package
def test_a_cluster_reports_what_one_process_reports(tmp_path: Path):
    words = "validate", "--chips", "h200,l40s", "--ops", "gemm,attention_decode"
    assert alone(*words, "--json", tmp_path / "here.json").returncode == 0
    there = alone(*words, "--json", tmp_path / "there.json", "--cluster", "local")
    assert (there.returncode, there.stderr) == (0, "")
    assert undated(tmp_path / "here.json") == undated(tmp_path / "there.json")


SERVED = {"model": "llama-3.2-1b", "n_chips": "1", "precision": "bf16", "framework": "vllm"} | {
    "isl": "1024",
    "osl": "128",
    "tp": "1",
}


@pytest.mark.slow
def test_a_cluster_scores_runs_as_one_process_does(tmp_path: Path):
    chips, loads = ("h100-sxm", "h200-sxm"), ("1", "8", "32")
    rows = [SERVED | {"chip": c, "concurrency": n} for c in chips for n in loads]
    times = {"measured_tpot_ms": ["3", "4", "6"] * 2, "measured_ttft_ms": ["20", "40", "90"] * 2}
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    write_csv(tmp_path / "runs.csv", pa.table(columns | times))
    words = ["validate", "--sets", "serving", "--left-out", "chip", "--runs", tmp_path / "runs.csv"]
    empty = "--data", tmp_path / "none"
    (tmp_path / "none/systems/data").mkdir(parents=True)
    (tmp_path / "none/systems" / TABLE).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "none/systems" / TABLE).write_text("model\n")
    here = alone(*words, *empty, "--json", tmp_path / "here.json")
    there = alone(*words, *empty, "--json", tmp_path / "there.json", "--cluster", "local")
    assert (here.returncode, there.returncode) == (0, 0)
    assert (tmp_path / "here.json").read_bytes() == (tmp_path / "there.json").read_bytes()


# The contest


@pytest.mark.slow
def test_a_cluster_makes_the_runs_that_one_process_makes(tmp_path: Path):
    words = [sys.executable, "-m", "benchmarks.search", "--quick", "--problems", "speed"]
    words += ["--seeds", "1"]
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    subprocess.run([*words, "--json", here], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*words, "--json", there, "--cluster", "local"], check=True)
    one, other = (json.loads(path.read_text())["runs"] for path in (here, there))
    assert [run["method"] for run in one] == [run["method"] for run in other]
    for name in ("ours", "Sobol"):  # the others end by seconds
        curves = [
            [[at[0], at[1], at[-1]] for run in runs if run["method"] == name for at in run["curve"]]
            for runs in (one, other)
        ]
        assert curves[0] == curves[1]
