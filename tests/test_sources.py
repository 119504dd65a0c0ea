"""Rows that cannot be: found, named, and never fitted; and what is left out of the packaged tables."""

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pytest

from perfmodel.calibration.calibrate import Options, calibrate, warnings_of
from perfmodel.calibration.data.aiconfigurator import (
    FACTS,
    OTHER_KERNEL,
    locate,
    rule_of,
    tables,
)
from perfmodel.calibration.data.doubtful import BEYOND_PEAK, CONTRADICTED, NOISY
from perfmodel.calibration.data.measurements import LeftOut, Measurements, plan_of
from perfmodel.calibration.data.sources import (
    LOCKED,
    NOT_POSITIVE,
    TOO_FAST,
    TOO_SLOW,
    UNREADABLE,
    lower_bound,
    read_source,
)
from perfmodel.calibration.fit import predict
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv, write_csv
from perfmodel.kernels.kernel_table import Key
from perfmodel.library.chip import load_chip
from perfmodel.units import as_values

KEY = Key("gemm", "h100-sxm", "", "bf16")
PLAN = plan_of(KEY, "hopper")
ROWS = 40


def sizes() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {name: np.round(2 ** draw.uniform(4, 13, ROWS)) for name in ("m", "n", "k")}


def expected() -> np.ndarray:
    """What the model says, in us."""
    chip, columns = load_chip("h100-sxm", PLAN), jax.tree.map(as_values, sizes())
    return np.asarray(predict("gemm", chip, PLAN, columns), float) * 1e6


def file(folder: Path, cells: list[str], **others: Any) -> str:
    words = {"op": ["gemm"] * ROWS, "chip": ["h100"] * ROWS, "dtype": ["bf16"] * ROWS}
    write_csv(folder / "rows.csv", pa.table(words | sizes() | others | {"latency_us": cells}))
    return str(folder / "rows.csv")


def texts(times: np.ndarray) -> list[str]:
    return [f"{time:.6g}" for time in times]


BAD = {
    "0": NOT_POSITIVE,
    "-3": NOT_POSITIVE,
    "": NOT_POSITIVE,
    "fast": NOT_POSITIVE,
    "nan": NOT_POSITIVE,
    "inf": NOT_POSITIVE,
    "1_0": NOT_POSITIVE,
    "1e-4": TOO_FAST,
    "1e9": TOO_SLOW,
}


@pytest.mark.parametrize("cell, rule", BAD.items())
def test_a_single_absurd_time_is_left_out_and_named(tmp_path: Path, cell: str, rule: str):
    cells = texts(expected())
    cells[6] = cell
    found, left_out = read_source(file(tmp_path, cells), [], [], [])
    ((key, rows, why, place, said),) = left_out
    assert (key, rows, why, place) == (KEY, 1, rule, 7)
    assert "latency_us is" in said and "allowed" in said
    assert sum(len(one.time) for one in found) == ROWS - 1


def test_a_time_beyond_the_peak_of_the_matrix_units_is_left_out(tmp_path: Path):
    """4096 x 4096 x 4096 at 989 TFLOP/s takes 139 us; 100 is beyond, 120 may be a higher clock."""
    cells, side = texts(expected()), {name: sizes()[name].astype(str) for name in ("m", "n", "k")}
    for name in side:
        side[name][4:6] = "4096", "4100"
    cells[4:6] = "100", "120"
    _, left_out = read_source(file(tmp_path, cells, **side), [], [], [])
    ((_, _, why, place, said),) = left_out
    assert (why, place) == (BEYOND_PEAK, 5) and "latency_us is 100" in said and "allows 139" in said


def test_a_row_that_is_noisier_than_its_effect_is_left_out(tmp_path: Path):
    """Medians of 5 calls with a spread of 50 %: sure to 21 %, which 5 % of effect is below, and 50 not."""
    times = expected()
    times[1:4] *= 1.05, 1.5, 1.05
    more = {"spread": ["0.001"] * ROWS, "repeats": ["5"] * ROWS}
    more["spread"][1:3] = "0.5", "0.5"
    _, left_out = read_source(file(tmp_path, texts(times), **more), [], [], [])
    ((_, _, why, place, said),) = left_out
    assert (why, place) == (NOISY, 2) and "standard error of 20.8 %" in said and "repeats" in said


def test_rows_of_a_shape_that_contradict_each_other_are_left_out(tmp_path: Path):
    """Of three the one that is far off; of two both."""
    times, side = expected(), {name: sizes()[name].astype(str) for name in ("m", "n", "k")}
    for name in side:
        side[name][:3], side[name][3:5] = side[name][0], side[name][3]
    times[:5] = times[0], 1.1 * times[0], 3 * times[0], times[3], 2 * times[3]
    _, left_out = read_source(file(tmp_path, texts(times), **side), [], [], [])
    assert [(one.rule, one.place) for one in left_out] == [(CONTRADICTED, n) for n in (3, 4, 5)]
    assert "the median of its shape's rows is" in left_out[0].found


def test_a_row_that_cannot_be_read_is_left_out(tmp_path: Path):
    dtypes = ["bf16"] * ROWS
    dtypes[2] = "bf17"
    found, left_out = read_source(file(tmp_path, texts(expected()), dtype=dtypes), [], [], [])
    assert [(one.rule, one.place) for one in left_out] == [(UNREADABLE, 3)]
    assert "unknown dtype 'bf17'" in left_out[0].found and len(found[0].time) == ROWS - 1


@pytest.mark.parametrize(
    "factor, unit", [(1e-3, "milliseconds"), (1e-6, "seconds"), (1e3, "nanoseconds")]
)
def test_a_file_in_another_unit_stops_the_run(tmp_path: Path, factor: float, unit: str):
    # Every time of the file is off by up to a quarter as well.
    noise = np.exp(np.random.default_rng(0).uniform(-0.25, 0.25, ROWS))
    with pytest.raises(InputError, match=f"in {unit}.*write microseconds"):
        read_source(file(tmp_path, texts(factor * noise * expected())), [], [], [])


def test_a_file_that_is_mostly_wrong_stops_the_run(tmp_path: Path):
    cells = ["0"] * (ROWS // 2 + 1) + texts(expected())[ROWS // 2 + 1 :]
    with pytest.raises(InputError, match="21 of 40 rows are wrong; the first is row 1: latency_us"):
        read_source(file(tmp_path, cells), [], [], [])


def test_a_column_that_is_there_twice_stops_the_run(tmp_path: Path):
    text = Path(file(tmp_path, texts(expected()))).read_text()
    doubled = [f"{line},{line.split(',')[-1]}" for line in text.splitlines()]
    (tmp_path / "rows.csv").write_text("\n".join([doubled[0].title(), *doubled[1:]]) + "\n")
    with pytest.raises(InputError, match="latency_us' twice"):
        read_source(str(tmp_path / "rows.csv"), [], [], [])


def test_sound_times_are_all_kept(tmp_path: Path):
    # Ten times slower or twice faster than expected is strange, and possible up to the peak.
    peak = 2 * np.prod([*sizes().values()], axis=0) / 989e12 * 1e6
    times = np.maximum(expected() * np.resize([0.5, 1.0, 10.0], ROWS), peak)
    assert read_source(file(tmp_path, texts(times)), [], [], []).left_out == []


def test_the_least_time_is_that_of_the_peak_rates():
    columns = {name: np.array([8192.0]) for name in ("m", "n", "k")}
    chip = load_chip("h100-sxm", PLAN)
    found = lower_bound("gemm", chip, PLAN, jax.tree.map(as_values, columns))
    # 2 x 8192^3 FLOPs at 989.4 TFLOP/s: 1.11 ms; tiles that do not fit may add to them.
    hand = 2 * 8192**3 / float(chip.matrix["bf16"])
    assert float(found[0]) == pytest.approx(hand, rel=0.05)


@pytest.mark.slow
def test_what_is_left_out_is_listed_and_counted(tmp_path: Path):
    columns, time = sizes(), expected() * 1e-6
    left_out = [LeftOut(KEY, 1, NOT_POSITIVE, 7, "latency_us is 0"), LeftOut(KEY, 5, OTHER_KERNEL)]
    table = Measurements(KEY, columns, time, "made up")
    calibrate([table], Options(tmp_path), lambda table: None, left_out)
    listed = cells_of(read_csv(tmp_path / "left_out.csv"))
    assert listed["row"] == ["7", ""] and listed["rows"] == ["1", "5"]
    assert listed["rule"] == [NOT_POSITIVE, OTHER_KERNEL] and listed["op"] == ["gemm"] * 2
    run = tomllib.loads((tmp_path / "run.toml").read_text())
    assert run["left_out"] == {NOT_POSITIVE: 1, OTHER_KERNEL: 5}
    silent = warnings_of([table], left_out)[-1]
    assert (
        "h100-sxm has no rows of attention_decode, attention_prefill" in silent
        and "gemm" not in silent
    )


installed = pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None,
    reason="the measurements are not installed on this platform",
)


@installed
def test_every_row_of_a_packaged_table_is_read_or_counted():
    left_out: list[LeftOut] = []
    kept = list(tables(locate("aiconfigurator"), "gemm", "b60", left_out))
    rule = rule_of(FACTS.excluded, "b60", Key("gemm", "arc-pro-b60", "vllm", "fp8"))
    assert [one.key.dtype for one in left_out if one.rule == rule] == ["fp8"]
    assert all(one.rows > 0 for one in left_out) and "fp8" not in {one.key.dtype for one in kept}


@installed
def test_a_rule_says_why_its_tables_are_not_read():
    fp8_block, bf16 = (Key("gemm", "h100-sxm", "vllm", dtype) for dtype in ("fp8_block", "bf16"))
    rule = rule_of(FACTS.excluded, "h100_sxm", fp8_block)
    assert rule.startswith("run without CUDA graphs")
    assert rule_of(FACTS.excluded, "h100_sxm", bf16) == ""


@installed
def test_releases_are_of_the_package_alone(tmp_path: Path):
    with pytest.raises(InputError, match="--releases is of the package"):
        read_source(str(tmp_path / "own.csv"), [], [], [], releases=True)


def test_other_releases_are_read_by_name_but_for_those_that_are_locked():
    found, left_out = read_source("aiconfigurator", ["h200-sxm"], [], ["all_reduce"], releases=True)
    read = {(table.key.framework, table.key.release) for table in found}
    kept = {(one.key.framework, one.key.release) for one in left_out if one.rule == LOCKED}
    assert ("vllm", "0.18.0") in read and ("sglang", "0.5.9") in kept
    assert not read & kept and all(table.version == table.key.release for table in found)
