"""Kernels of the machine at hand: timed, written, taken up again, and fitted."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command import COMMAND, run

from perfmodel.calibration.data.jax_kernels import (
    COLUMNS,
    FUNCTIONS,
    JAX_TYPES,
    SPECS,
    build,
    kernel_shapes,
    smallest,
)
from perfmodel.calibration.data.measure import (
    MeasureResult,
    _earlier,
    _goes_on,
    _noisy,
    call,
    outcome,
    seconds_of,
)
from perfmodel.calibration.data.sources import read_source
from perfmodel.kernels.elementwise import KINDS
from perfmodel.library.files import stems

SERVER = stems("chips")["epyc-9754"]
QUICK = ["--ops", "gemm,elementwise", "--seconds", 60, "--rows", 2]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows of two operations, of kernels compiled as users do."""
    out = tmp_path_factory.mktemp("measured") / "rows.csv"
    words = map(str, ["measure", "--out", out, "--chip", "mine", *QUICK])
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    found = subprocess.run([*COMMAND, *words], capture_output=True, text=True, env=plain)
    assert found.returncode == 0 and "4 rows" in (said := found.stdout)
    assert "has no chip mine" in said and "--chip-file mine.toml" in said
    return out


@pytest.mark.long
def test_rows_say_what_was_run_and_how_long_it_took(measured: Path):
    rows = _earlier(measured)
    assert [row["op"] for row in rows] == ["gemm", "elementwise"] * 2
    for row in rows:
        assert float(row["latency_us"]) > 0 and float(row["overhead_us"]) > 0
        assert int(row["repeats"]) >= 5 and float(row["spread"]) >= 0
        assert row["measured_with"].startswith("jax")


@pytest.mark.long
def test_what_was_measured_is_what_calibrate_reads(measured: Path, monkeypatch: pytest.MonkeyPatch):
    # A machine that does other work at the same time may take any time for a kernel.
    monkeypatch.setattr("perfmodel.calibration.data.sources.MAX_OF_PREDICTION", 1e9)
    chip = measured.with_name("mine.toml")
    chip.write_text(SERVER.read_text())
    found = read_source(str(measured), [], [], ["elementwise"], chip).tables
    assert [(one.key.op, one.key.chip, one.key.framework) for one in found] == [
        ("elementwise", "mine", "")
    ]


@pytest.mark.long
def test_a_run_that_is_taken_up_again_keeps_its_rows_and_measures_the_rest(measured: Path):
    before = _earlier(measured)
    words = ["--chip", "mine", *QUICK, "--rows", 3]
    status, said, _ = run("measure", "--out", measured, *words, "--resume")
    assert status == 0 and _earlier(measured)[:4] == before
    assert len(_earlier(measured)) > 4 and "rows" in said


def test_fewer_rows_than_asked_for_are_said_to_be_so(tmp_path: Path):
    out = tmp_path / "rows.csv"
    said = outcome(MeasureResult("mine", 19, 19, 32, []), out)
    assert "19 rows" in said and "32 were asked for; more --seconds, with --resume" in said
    assert "were asked" not in outcome(
        MeasureResult("mine", 31, 31, 32, ["one that cannot run"]), out
    )


def test_a_file_of_another_kind_is_not_taken_up(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    status, _, err = run("measure", "--out", tmp_path / "rows.csv", *QUICK, "--resume")
    assert status == 2 and "not written by `perfmodel measure`" in err
    assert (tmp_path / "rows.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize(
    "words, said",
    [
        (["--ops", "moe"], "unknown op to measure 'moe'"),
        (["--dtype", "nvfp4"], "unknown dtype to measure 'nvfp4'"),
        (["--ops", "elementwise", "--dtype", "int8"], "elementwise in bf16, fp16"),
        (["--ops", ","], "give --ops"),
        (["--dtype", ","], "give --dtype"),
        (["--out", "none/rows.csv"], "there is no folder"),
        (["--out", "."], "is a folder"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    tmp_path: Path, monkeypatch, words: list, said: str
):
    monkeypatch.chdir(tmp_path)
    status, out, err = run("measure", "--out", "rows.csv", *words)
    assert (status, out, err.count("\n")) == (2, "", 1) and said in err
    assert not list(tmp_path.iterdir())


def test_a_format_that_jax_cannot_run_here_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(JAX_TYPES, "fp8", "no such type")
    status, _, err = run(
        "measure", "--out", tmp_path / "rows.csv", "--ops", "gemm", "--dtype", "fp8"
    )
    assert status == 2 and "JAX cannot run gemm in fp8 on" in err


def test_what_was_measured_is_written_when_the_run_is_stopped(tmp_path: Path, monkeypatch):
    def timed(run) -> np.ndarray:
        if len(seen) > 3:
            raise KeyboardInterrupt
        seen.append(run)
        return np.full(5, 1e-3)

    seen: list = []
    monkeypatch.setattr("perfmodel.calibration.data.measure.seconds_of", timed)
    status, _, _ = run("measure", "--out", tmp_path / "rows.csv", *QUICK)
    # A product, a sum, an empty call; then one row, and Ctrl-C.
    assert status == 130 and len(_earlier(tmp_path / "rows.csv")) == 1


@pytest.mark.parametrize("op", SPECS)
def test_shapes_are_the_same_for_a_seed_powers_of_two_and_odd_by_turns(op: str):
    def first(seed: int) -> list:
        shapes = kernel_shapes(op, "bf16", seed, lambda task: True)
        return [sizes for sizes, _ in (next(shapes) for _ in range(40))]

    assert first(0) == first(0) != first(1)
    assert all(set(sizes) <= set(COLUMNS) for sizes in first(0))
    free = SPECS[op].dimensions[0].name
    numbers = [int(sizes[free]) for sizes in first(0)]
    if SPECS[op].dimensions[0].grain:
        assert all(number & (number - 1) == 0 for number in numbers[::2])
        assert all(number % 2 == 1 for number in numbers[1::2])


@pytest.mark.parametrize("op", SPECS)
def test_only_what_fits_is_measured(op: str):
    shapes = kernel_shapes(op, "bf16", 0, lambda task: task.flops < 1e9)
    assert all(task.flops < 1e9 for _, task in (next(shapes) for _ in range(10)))


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_every_kind_of_the_registry_runs(kind: str):
    assert set(FUNCTIONS) == set(KINDS)
    assert (
        len(
            seconds_of(call(build("elementwise", "bf16", smallest("elementwise") | {"kind": kind})))
        )
        >= 5
    )


def test_a_product_of_bytes_is_the_product_of_its_numbers():
    task = build("gemm", "int8", {"m": 4.0, "n": 64.0, "k": 64.0})
    a, b = (operand().astype(np.float32) for operand in task.operands)
    found = np.asarray(call(task)(), np.float32)
    # Activations of eight bits, and a result of eight: a part in a hundred of the largest.
    assert np.allclose(found, a @ b, atol=0.01 * np.abs(a @ b).max())


def test_a_kernel_is_called_until_its_median_is_sure_and_no_longer():
    """Calls that differ by 50 % go on to the end of the time; equal ones stop after it is up once."""
    equal, torn = [0.03] * 5, [0.02, 0.04] * 5
    assert _goes_on([0.01] * 5) and not _goes_on(equal) and _goes_on(torn)
    assert _goes_on([*equal[:3], 0.05]) and not _goes_on(torn * 4) and not _goes_on([1e-3] * 1000)


def test_rows_that_stay_noisy_are_counted_and_said():
    rows = [{"spread": "0.5", "repeats": "5"}, {"spread": "0.001", "repeats": "5"}]
    assert _noisy(rows) == 1
    said = outcome(MeasureResult("mine", 2, 2, 2, [], _noisy(rows)), Path("x.csv"))
    assert "Of 1 the median is not sure to 2 %" in said
    assert "not sure" not in outcome(MeasureResult("mine", 2, 2, 2, []), Path("x.csv"))
