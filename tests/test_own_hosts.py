"""The host fitted to one's own runs: through the commands, on CUDA and on ROCm."""

import csv
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from command import predict, run

from perfmodel.calibration.data.inferencex import Run
from perfmodel.calibration.own_server import NAMES, OwnServers, _coordinates, _evaluate
from perfmodel.calibration.serving import groups_of
from perfmodel.inference.evaluate import resolve_row
from perfmodel.library.fitted import FITTED

LOADS = [(1024, 4), (1024, 32), (4096, 8), (4096, 64)]


def rows_of(chip: str) -> list[dict[str, str]]:
    shared = {"chip": chip, "n_chips": "1", "model": "llama-3.1-8b", "precision": "bf16"}
    shared |= {"framework": "vllm", "tp": "1", "pp": "1", "ep": "1", "dp": "1", "osl": "256"}
    shared |= {"length_ratio": "0.9"}
    return [shared | {"isl": f"{isl}", "concurrency": f"{users}"} for isl, users in LOADS]


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.slow
@pytest.mark.parametrize(("chip", "stem"), [("mi300x", "serving-rocm"), ("h100-sxm", "serving")])
def test_the_host_comes_nearer_to_the_runs_it_is_fitted_to(chip: str, stem: str, tmp_path: Path):
    asked = rows_of(chip)
    before = [float(row["tpot_ms"]) for row in predict("serving", tmp_path, asked)]
    slower = [1.2 * tpot for tpot in before]
    runs = [row | {"measured_tpot_ms": f"{t}"} for row, t in zip(asked, slower, strict=True)]
    write_rows(tmp_path / "runs.csv", runs)
    out = tmp_path / "fitted"
    status, _, err = run(
        "calibrate", "--data", tmp_path / "runs.csv", "--ops", "serving", "--out", out
    )
    assert (status, err) == (0, "")
    section = tomllib.loads((out / f"{stem}.toml").read_text())["host"]["vllm"]["bf16"]
    assert section["report"]["chips"] == [chip]
    assert "tpot" not in section and section["per_sequence_us"] > 0
    after = predict("serving", tmp_path, asked, "--calibration", out)
    for row, measured in zip(after, slower, strict=True):
        assert float(row["tpot_ms"]) == pytest.approx(measured, rel=0.12)
        assert row["basis"] == "measured"


@pytest.mark.long
def test_chips_of_two_software_stacks_are_refused(tmp_path: Path):
    runs = [rows_of(chip)[0] | {"measured_tpot_ms": "9"} for chip in ("mi300x", "h100-sxm")]
    write_rows(tmp_path / "runs.csv", runs)
    status, _, err = run(
        "calibrate", "--data", tmp_path / "runs.csv", "--ops", "serving", "--out", tmp_path / "x"
    )
    assert status == 2 and "ROCm" in err


@pytest.mark.slow
def test_one_bad_row_costs_only_itself(tmp_path: Path):
    good = [row | {"measured_tpot_ms": "12"} for row in rows_of("h100-sxm")]
    bad = [
        good[0] | {"chip": "nochip"},
        good[0] | {"measured_tpot_ms": "-3"},
        good[0] | {"measured_tpot_ms": ""},
        good[0] | {"tp": "3", "n_chips": "3"},
    ]
    write_rows(tmp_path / "runs.csv", [*bad, *good])
    asked = ("calibrate", "--data", tmp_path / "runs.csv", "--ops", "serving")
    status, _, err = run(*asked, "--out", tmp_path / "fitted")
    assert status == 0 and err.count("is left out") == len(bad)
    report = tomllib.loads((tmp_path / "fitted" / "serving.toml").read_text())
    assert report["host"]["vllm"]["bf16"]["report"]["runs"] == len(good)


@pytest.mark.parametrize("content", ["", "chip,model\nh100-sxm,llama-3.1-8b\n"])
def test_a_file_without_runs_is_one_sentence(content: str, tmp_path: Path):
    (tmp_path / "runs.csv").write_text(content)
    asked = ("calibrate", "--data", tmp_path / "runs.csv", "--ops", "serving")
    status, _, err = run(*asked, "--out", tmp_path / "fitted")
    assert status == 2 and err.count("\n") == 1


def calibrated(folder: Path, rows: Sequence[dict[str, str]]) -> dict[str, float]:
    """The host of vLLM after a fit to rows."""
    write_rows(folder / "runs.csv", rows)
    asked = ("calibrate", "--data", folder / "runs.csv", "--ops", "serving")
    status, _, err = run(*asked, "--out", folder / "fitted")
    assert (status, err) == (0, "")
    return tomllib.loads((folder / "fitted" / "serving.toml").read_text())["host"]["vllm"]["bf16"]


SHIPPED = tomllib.loads((FITTED / "serving.toml").read_text())["host"]["vllm"]["bf16"]


def measured_from(
    folder: Path, rows: Sequence[dict[str, str]], slower: float, later: float
) -> list[dict[str, str]]:
    """Rows as if measured: tokens some times slower, first tokens some ms later."""
    return [
        row
        | {"measured_tpot_ms": f"{slower * float(found['tpot_ms'])}"}
        | {"measured_ttft_ms": f"{float(found['ttft_ms']) + later}"}
        for row, found in zip(rows, predict("serving", folder, rows), strict=True)
    ]


@pytest.mark.long
def test_the_first_tokens_part_is_fitted_to_ttft(tmp_path: Path):
    runs = measured_from(tmp_path, rows_of("h100-sxm"), 1.0, 60.0)
    found = calibrated(tmp_path, runs)
    assert 60e3 * 0.6 < found["first_token_us"] - SHIPPED["first_token_us"] < 60e3 * 1.2
    after = predict("serving", tmp_path, rows_of("h100-sxm"), "--calibration", tmp_path / "fitted")
    for row, run_ in zip(after, runs, strict=True):
        assert float(row["ttft_ms"]) == pytest.approx(float(run_["measured_ttft_ms"]), rel=0.1)


@pytest.mark.long
def test_without_ttft_the_first_token_stays_as_it_was(tmp_path: Path):
    runs = measured_from(tmp_path, rows_of("h100-sxm"), 1.2, 0.0)
    found = calibrated(tmp_path, [{n: x for n, x in r.items() if "ttft" not in n} for r in runs])
    assert (found["first_token_us"], found["burst"]) == (
        SHIPPED["first_token_us"],
        SHIPPED["burst"],
    )


@pytest.mark.slow
def test_one_run_brings_other_loads_nearer_and_moves_less_than_all_the_way(tmp_path: Path):
    asked = rows_of("h100-sxm")
    runs = measured_from(tmp_path, asked, 1.15, 30.0)
    for count in (1, len(runs)):
        folder = tmp_path / str(count)
        folder.mkdir()
        found = calibrated(folder, runs[:count])
        assert 15e3 < found["first_token_us"] - SHIPPED["first_token_us"] < 30e3
        after = predict("serving", folder, asked, "--calibration", folder / "fitted")
        off = [
            float(row["tpot_ms"]) / float(one["measured_tpot_ms"]) - 1
            for row, one in zip(after, runs, strict=True)
        ]
        assert max(map(abs, off)) < 0.1  # before: 13 %


def test_a_model_that_is_off_leaves_the_host_to_others(tmp_path: Path):
    """What goes with all of a step is the model's factor, and other models hardly move."""
    runs = measured_from(tmp_path, rows_of("h100-sxm"), 1.2, 0.0)
    calibrated(tmp_path, runs)
    other = [row | {"model": "qwen2.5-7b"} for row in rows_of("h100-sxm")]
    before = predict("serving", tmp_path, other)
    after = predict("serving", tmp_path, other, "--calibration", tmp_path / "fitted")
    for old, new in zip(before, after, strict=True):
        assert new["basis"] != "measured"
        assert float(new["tpot_ms"]) / float(old["tpot_ms"]) < 1.15
    (stack,) = tomllib.loads((tmp_path / "fitted" / "anchors.toml").read_text())["stack"]
    assert 1.03 < stack["steps"] < 1.2 and stack["tpot_runs"] == len(runs)


def test_json_has_hosts_and_stacks(tmp_path: Path):
    runs = measured_from(tmp_path, rows_of("h100-sxm"), 1.1, 10.0)
    write_rows(tmp_path / "runs.csv", runs)
    words = ("calibrate", "--data", tmp_path / "runs.csv", "--ops", "serving", "--json")
    status, out, err = run(*words, "--out", tmp_path / "fitted")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert found["hosts"][0]["framework"] == "vllm" and found["hosts"][0]["ttft_runs"] == len(runs)
    assert found["hosts"][0]["before"]["step_us"] == pytest.approx(SHIPPED["step_us"], rel=1e-3)
    assert found["stacks"][0]["model"] == "llama-3.1-8b" and found["left_out"] == []


def test_slopes_are_those_of_differences():
    """The fit's derivatives by a host's constants and a stack's factors, against finite differences."""
    rows = [row | {"measured_tpot_ms": "9"} for row in rows_of("h100-sxm")[:2]]
    runs = [Run(row, np.nan, 9e-3, "fit", True, "", ()) for row in rows]
    groups = groups_of(runs, FITTED)
    host = resolve_row(0, rows[0], FITTED).deployment.chip.efficiency.host
    count = len(rows)
    given = OwnServers(groups, [host], np.zeros(count, int), np.zeros(count, int))
    start = np.array([_coordinates(host)])
    unknowns = len(NAMES) + 2
    size = np.where(np.arange(unknowns) == NAMES.index("per_kernel"), 1e-7, 1e-2)
    _, slopes = _evaluate(given, start, np.zeros((count, unknowns)))
    for i, step in enumerate(size):
        ends = [
            _evaluate(given, start, np.tile(sign * step * np.eye(unknowns)[i], (count, 1)))[0]
            for sign in (1, -1)
        ]
        expected = (ends[0] - ends[1]) / (2 * step)
        assert slopes[..., i] == pytest.approx(expected, rel=2e-2, abs=2e-4 / step * 1e-2)


@pytest.mark.long
def test_one_run_that_is_far_off_does_not_make_a_host_that_there_is_not(tmp_path: Path):
    (run_,) = measured_from(tmp_path, rows_of("h100-sxm")[:1], 4.0, 0.0)
    found = calibrated(tmp_path, [run_ | {"measured_ttft_ms": ""}])
    assert found["per_sequence_us"] < 4 * SHIPPED["per_sequence_us"]
    assert found["step_us"] < 2 * SHIPPED["step_us"]
    assert found["per_kernel_us"] < SHIPPED["per_kernel_us"] + 6
