"""The host fitted to one's own runs: through the commands, on CUDA and on ROCm."""

import csv
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from command import predict, run

LOADS = [(1024, 4), (1024, 32), (4096, 8), (4096, 64)]


def rows_of(chip: str) -> list[dict[str, str]]:
    shared = {"chip": chip, "n_chips": "1", "model": "llama-3.1-8b", "precision": "bf16"}
    shared |= {"framework": "vllm", "tp": "1", "pp": "1", "ep": "1", "dp": "1", "osl": "256"}
    return [shared | {"isl": f"{isl}", "concurrency": f"{users}"} for isl, users in LOADS]


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


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


def test_chips_of_two_software_stacks_are_refused(tmp_path: Path):
    runs = [rows_of(chip)[0] | {"measured_tpot_ms": "9"} for chip in ("mi300x", "h100-sxm")]
    write_rows(tmp_path / "runs.csv", runs)
    status, _, err = run(
        "calibrate", "--data", tmp_path / "runs.csv", "--ops", "serving", "--out", tmp_path / "x"
    )
    assert status == 2 and "ROCm" in err


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
