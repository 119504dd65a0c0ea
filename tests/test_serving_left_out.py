"""Serving runs of a model, chip, framework or vendor that is left out of the fits."""

from pathlib import Path

import numpy as np
import pytest
from command import predict, run

from perfmodel.calibration.data.inferencex import Run
from perfmodel.calibration.fit import to_free
from perfmodel.calibration.serving import fit_host, groups_of, initial_host
from perfmodel.calibration.serving_left_out import (
    LeftOut,
    folder_without,
    hosts_of_some,
    read_left_out,
    score_left_out,
    write_left_out,
)
from perfmodel.errors import InputError
from perfmodel.library.files import read_toml
from perfmodel.library.fitted import FITTED, hosts_of

LOADS = [(1024, 4), (1024, 32), (4096, 8), (4096, 64)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Runs of two models whose steps take 20 % longer than is predicted."""
    shared = {"chip": "h100-sxm", "n_chips": "1", "precision": "bf16", "framework": "vllm"}
    shared |= {"tp": "1", "pp": "1", "ep": "1", "dp": "1", "osl": "256"}
    rows = [
        shared | {"model": model, "isl": f"{isl}", "concurrency": f"{users}"}
        for model in ("llama-3.1-8b", "qwen3-8b")
        for isl, users in LOADS
    ]
    found = predict("serving", tmp_path_factory.mktemp("runs"), rows)
    times = [(float(row["ttft_ms"]) / 1e3, 1.2e-3 * float(row["tpot_ms"])) for row in found]
    return [Run(row, *time, "fit", True, "", ()) for row, time in zip(rows, times, strict=True)]


@pytest.mark.slow
def test_a_host_of_all_runs_is_that_of_the_fit(runs: list[Run]):
    groups = groups_of(runs, FITTED)
    (found,) = hosts_of_some(groups, np.ones((1, len(runs)), bool))
    expected = fit_host(groups, initial_host()).host
    assert np.allclose(to_free(found), to_free(expected), atol=1e-3)


@pytest.mark.long
def test_a_model_is_predicted_by_a_host_of_the_other(runs: list[Run], tmp_path: Path):
    records = score_left_out(runs, ["model"], FITTED, lambda *_: None)
    assert [one["group"] for one in records] == [
        "one model left out at a time",
        "model llama-3.1-8b left out",
        "model qwen3-8b left out",
    ]
    assert [one["n"] for one in records] == [8, 4, 4]
    assert records[0]["tpot_median"] < 0.1 and 0 <= records[0]["coverage90"] <= 1
    write_left_out(tmp_path / "left_out.csv", records)
    read = read_left_out(tmp_path / "left_out.csv")
    assert [one["tpot_median"] for one in read] == [one["tpot_median"] for one in records]


def test_a_chip_that_is_left_out_has_no_fits_and_the_model_no_runs(runs: list[Run]):
    with folder_without(LeftOut("chip", "h100-sxm", runs[:4], initial_host()), FITTED) as folder:
        assert not (folder / "h100-sxm.toml").exists() and (folder / "l40s.toml").exists()
    with folder_without(LeftOut("model", "qwen3-8b", runs[4:], initial_host()), FITTED) as folder:
        section = hosts_of("serving", folder)["vllm"]["bf16"]
        assert (
            section["step_us"] == pytest.approx(300)
            and "qwen3-8b" not in section["report"]["models"]
        )
    assert (FITTED / "h100-sxm.toml").exists() and read_toml(FITTED / "serving.toml")


@pytest.mark.long
def test_nothing_left_to_fit_is_said(runs: list[Run]):
    with pytest.raises(InputError, match="nothing is left to fit"):
        score_left_out(runs[:4], ["model"], FITTED, lambda *_: None)


def test_sets_that_there_are_not_and_runs_without_a_set_are_refused(tmp_path: Path):
    status, _, err = run("validate", "--sets", "nothing")
    assert status == 2 and "unknown set 'nothing'" in err
    status, _, err = run("validate", "--runs", tmp_path / "runs.csv")
    assert status == 2 and "--sets serving" in err
