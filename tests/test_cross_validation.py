"""Fits that leave groups of rows out, and fits of all formats as one, on rows made from known parameters."""

import dataclasses
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from command import run

from perfmodel.calibration.calibrate import Options
from perfmodel.calibration.cross_validation import check_columns, parts_of, predict_left_out
from perfmodel.calibration.data.measurements import Measurements, benchmark_chip
from perfmodel.calibration.fit import Table, predict_rows, with_family
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv, write_csv
from perfmodel.kernels.kernel_table import Key
from perfmodel.library.fitted import FITTED

KEY = Key("gemm", "mi355x", "aiter", "fp8_block")
SHAPES = ((1280, 4096), (6144, 256), (7168, 2048), (25600, 5120))
"""n and k of some weights; each is multiplied by these rows:"""
ROWS = (1, 4, 16, 64, 256, 1024)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of parameters that no measurement of AMD's chips is in."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "prior.toml").write_bytes((FITTED / "prior.toml").read_bytes())
    return folder


def products(start: Path, key: Key = KEY) -> Measurements:
    """Products as they would take on a chip whose matrix units and memory reach less than the prior says."""
    sizes = np.array([(m, n, k) for n, k in SHAPES for m in ROWS], float).T
    columns: dict[str, np.ndarray] = {"m": sizes[0], "n": sizes[1], "k": sizes[2]}
    chip, plan = benchmark_chip(key, start)
    slower = dataclasses.replace(chip.efficiency.gemm, sustained=0.3, streaming=0.6)
    rows = Measurements(key, columns, np.ones(len(sizes[0])), "made up")
    return rows._replace(time=predict_rows(with_family(chip, "gemm", slower), plan, rows))


def test_rows_that_agree_are_left_out_together(start: Path):
    parts = parts_of([products(start)], ("n", "k"))
    per_shape = parts.reshape(len(SHAPES), len(ROWS))
    assert (per_shape == per_shape[:, :1]).all()
    # No more groups than parts: each is one.
    assert sorted(per_shape[:, 0]) == [0, 1, 2, 3]


def test_many_groups_are_dealt_out_evenly(start: Path):
    table = products(start)
    columns = {"m": np.arange(40.0) % 20, "n": np.ones(40), "k": np.ones(40)}
    parts = parts_of([table._replace(columns=columns, time=np.ones(40))], ("m",))
    assert np.bincount(parts).tolist() == [4] * 10
    assert (parts[:20] == parts[20:]).all()


@pytest.mark.long
def test_a_group_is_predicted_by_a_fit_that_has_not_seen_it(start: Path):
    table, odd = products(start), np.arange(len(SHAPES) * len(ROWS)) < len(ROWS)
    chip, plan = benchmark_chip(KEY, start)
    # The first shape takes five times as long as the law of the others, which no fit without it can know.
    measured = table._replace(time=np.where(odd, 5, 1) * table.time)
    found = predict_left_out(chip, [Table(plan, measured)], parts_of([measured], ("n", "k")))
    assert np.median((found / measured.time)[odd]) < 0.4


def test_a_column_that_a_kernel_lacks_is_named(start: Path):
    with pytest.raises(
        InputError, match=r"names 'hidden', which gemm does not have; it has m, n, k"
    ):
        check_columns([products(start)], ("n", "hidden"))


def test_the_split_holds_rows_out_where_no_columns_are_given():
    assert Options(Path()).leave_out == ()


@pytest.fixture(scope="module")
def csv(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Products in two formats, in the columns of the kernel schema."""
    tables = [products(start, KEY._replace(dtype=dtype)) for dtype in ("fp8_block", "mxfp4")]
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    names = ("op", "chip", "framework", "dtype")
    words = [{n: [getattr(t.key, n)] * len(t.time) for n in names} for t in tables]
    rows = [
        pa.table(w | t.columns | {"latency_us": t.time * 1e6})
        for w, t in zip(words, tables, strict=True)
    ]
    write_csv(path, pa.concat_tables(rows))
    return path


@pytest.mark.slow
def test_formats_are_fitted_as_one_and_then_each_from_that(csv: Path, start: Path, tmp_path: Path):
    out = tmp_path / "fitted"
    shared = ("calibrate", "--data", csv, "--out", out, "--leave-out", "n,k")
    status, _, said = run(*shared, "--prior", start, "--pool-formats")
    assert status == 0, said
    pooled = tomllib.loads((out / "mi355x.toml").read_text())["gemm"]["aiter"]
    assert pooled.keys() == {"bf16"}
    assert pooled["bf16"]["report"].keys() == {"gemm-fp8_block", "gemm-mxfp4"}
    status, _, said = run(*shared, "--prior", out)
    assert status == 0, said
    fits = tomllib.loads((out / "mi355x.toml").read_text())["gemm"]["aiter"]
    assert fits.keys() == {"bf16", "fp8_block", "mxfp4"} and fits["bf16"] == pooled["bf16"]
    for dtype in ("fp8_block", "mxfp4"):
        report = fits[dtype]["report"][f"gemm-{dtype}"]
        assert (report["rows"], report["train_rows"], report["groups"]) == (24, 24, 4)
        # All rows follow one law of the kernel's own form.
        assert report["median"] < 0.05
        # 24 rows are few: their interval leans on the one before.
        assert fits[dtype]["low"] < 1 - report["median"]
    run_of = tomllib.loads((out / "run.toml").read_text())
    assert run_of["split"] == {"by": "n, k"}
    residuals = cells_of(read_csv(out / "residuals" / "gemm-mi355x-aiter-mxfp4.csv"))
    assert set(residuals["part"]) == {"train", "heldout"}
