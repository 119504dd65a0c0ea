"""`perfmodel calibrate --anchor`: measured serving runs scale the predictions of their stack."""

import csv
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
from command import predict, run

from perfmodel.calibration.anchors import anchor_runs, fit_stack, half_width
from perfmodel.errors import InputError
from perfmodel.inference.evaluate import resolve_row
from perfmodel.inference.explanation import step_cost
from perfmodel.inference.step import decode_step
from perfmodel.library.fitted import FITTED
from perfmodel.library.fitted_check import check_fitted
from perfmodel.units import as_scalar

ROW = {
    **{"chip": "gaudi3", "n_chips": "8", "model": "llama-3.1-8b", "framework": "vllm"},
    **{
        "isl": "1024",
        "osl": "256",
        "concurrency": "16",
        "tp": "8",
        "pp": "1",
        "ep": "1",
        "dp": "1",
    },
}
"""A stack whose chip no kernel was measured on."""

OTHER_RANKS = ROW | {"tp": "4", "dp": "2"}
OTHERS = [ROW | {"precision": "fp8"}, ROW | {"framework": "sglang"}, ROW | {"chip": "mi300x"}]
"""Of other stacks: another format, framework, chip."""

SLOWER = 1.3
"""Measured over predicted time."""


def times(row: dict[str, str]) -> np.ndarray:
    """TPOT and TTFT of a row, in ms."""
    return np.array([float(row["tpot_ms"]), float(row["ttft_ms"])])


def widths(row: dict[str, str]) -> np.ndarray:
    """High over low ends, of TPOT and of TTFT."""
    return np.array(
        [float(row[f"{n}_ms_high"]) / float(row[f"{n}_ms_low"]) for n in ("tpot", "ttft")]
    )


def as_measured(
    row: dict[str, str], tpot: float = SLOWER, ttft: float | None = None
) -> dict[str, str]:
    """A predicted row as one that was measured so many times slower."""
    later, first = times(row)
    measured = {"measured_tpot_ms": f"{later * tpot:.6g}"}
    return row | measured | ({} if ttft is None else {"measured_ttft_ms": f"{first * ttft:.6g}"})


def anchor(folder: Path, rows: Sequence[dict[str, str]], *options: object) -> tuple[int, str, str]:
    """Fit anchors to rows; the folder is `folder / "fitted"`."""
    with (folder / "runs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, list(dict.fromkeys(n for row in rows for n in row)), restval=""
        )
        writer.writeheader()
        writer.writerows(rows)
    return run("calibrate", "--anchor", folder / "runs.csv", "--out", folder / "fitted", *options)


class Anchored:
    """Rows predicted before and after, and the folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.asked = [ROW, ROW | {"concurrency": "64"}, OTHER_RANKS, *OTHERS]
        self.before = predict("serving", folder, self.asked)
        assert not any(row["error"] for row in self.before)
        bad = self.before[0] | {"chip": "nochip", "measured_tpot_ms": "3"}
        status, _, self.said = anchor(folder, [bad, as_measured(self.before[0], SLOWER, SLOWER)])
        assert status == 0
        self.after = predict("serving", folder, self.asked, "--calibration", folder / "fitted")


@pytest.fixture(scope="module")
def anchored(tmp_path_factory: pytest.TempPathFactory) -> Anchored:
    return Anchored(tmp_path_factory.mktemp("anchored"))


@pytest.mark.long
def test_a_measured_run_brings_its_stack_nearer(anchored: Anchored):
    for before, after in zip(anchored.before[:3], anchored.after[:3], strict=True):
        assert before["basis"] == "prior" and after["basis"] == "measured"
        ratio = times(after) / times(before)
        assert (ratio > 1.02).all() and (ratio < SLOWER).all()
        assert (widths(after) < widths(before)).all()
    assert times(anchored.after[0])[0] == pytest.approx(
        SLOWER * times(anchored.before[0])[0], rel=0.05
    )


@pytest.mark.long
def test_other_ranks_are_less_sure(anchored: Anchored):
    same, other = anchored.after[0], anchored.after[2]
    assert (widths(other)[0] > widths(same)[0]).all()
    ratios = [times(anchored.after[i])[0] / times(anchored.before[i])[0] for i in (0, 2)]
    assert ratios[1] < ratios[0]


@pytest.mark.long
def test_other_stacks_are_as_they_were(anchored: Anchored):
    assert anchored.after[3:] == anchored.before[3:]


@pytest.mark.long
def test_a_bad_row_costs_only_itself(anchored: Anchored):
    assert anchored.said.count("\n") == 1
    assert anchored.said.startswith("perfmodel: row 1 is left out: unknown chip 'nochip'")


@pytest.mark.long
def test_work_costs_what_it_did_and_static_power_follows_time(anchored: Anchored):
    cells = {**ROW, "concurrency": "16"}
    plain, scaled = (step_cost(cells, f).cost for f in (FITTED, anchored.folder / "fitted"))
    factor = float(scaled.time / plain.time)
    assert 1.1 < factor < SLOWER
    joules = np.asarray(scaled.breakdown.joules / np.maximum(plain.breakdown.joules, 1e-30))
    used = np.asarray(plain.breakdown.joules) > 0
    assert joules[:-1][used[:-1]] == pytest.approx(1.0)
    assert joules[-1] == pytest.approx(factor) if used[-1] else True
    assert np.sum(scaled.kernels.time) == pytest.approx(float(scaled.time), rel=1e-5)


@pytest.mark.slow
def test_a_step_has_a_gradient_to_the_factor(anchored: Anchored):
    given = resolve_row(0, ROW, anchored.folder / "fitted").deployment
    plan = eqx.tree_at(lambda p: p.tp, given.plan, as_scalar(8.0))
    start = given.chip.efficiency.anchor
    assert start is not None

    def time(steps: Any) -> Any:
        chip = eqx.tree_at(lambda c: c.efficiency.anchor.steps, given.chip, steps)
        return decode_step(chip, plan, given.model, as_scalar(16.0), as_scalar(1024.0)).time

    value, slope = jax.value_and_grad(time)(start.steps)
    assert float(slope * start.steps / value) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.long
def test_sweep_and_explain_take_the_same_times(anchored: Anchored):
    fitted, out = anchored.folder / "fitted", anchored.folder / "sweep.csv"
    words = "\n".join(
        f'{name} = ["{value}"]'
        for name, value in ROW.items()
        if name in ("chip", "model", "framework")
    )
    numbers = "\n".join(f"{name} = [{value}]" for name, value in ROW.items() if value.isdigit())
    (anchored.folder / "grid.toml").write_text(f"{words}\n{numbers}\n")
    status, _, err = run(
        "sweep", anchored.folder / "grid.toml", "--out", out, "--calibration", fitted
    )
    assert (status, err) == (0, "")
    with out.open(newline="", encoding="utf-8") as file:
        (swept,) = csv.DictReader(file)
    asked = anchored.after[0]
    assert swept["basis"] == "measured"
    assert times(swept) == pytest.approx(times(asked), rel=1e-4)
    assert widths(swept) == pytest.approx(widths(asked), rel=1e-4)


@pytest.mark.long
def test_more_runs_make_it_surer(tmp_path: Path, anchored: Anchored):
    loads = [ROW | {"concurrency": str(users)} for users in (4, 16, 64)]
    measured = [as_measured(row) for row in predict("serving", tmp_path, loads)]
    status, out, err = anchor(tmp_path, measured, "--json")
    assert (status, err) == (0, "")
    (stack,) = json.loads(out)["stacks"]
    assert (stack["runs"], stack["tpot_runs"], stack["ttft_runs"]) == (3, 3, 0)
    (own,) = stack["deployments"]
    single = tomllib.loads((anchored.folder / "fitted" / "anchors.toml").read_text())["stack"][0]
    assert own["tpot"][1] < single["deployment"][0]["high"]
    assert own["ttft"] == stack["before"]["ttft"] and own["prompts"] == 1
    assert 1.25 < own["steps"] < SLOWER


@pytest.mark.slow
def test_stacks_of_an_earlier_fit_are_kept(tmp_path: Path, anchored: Anchored):
    other = as_measured(anchored.before[3], 0.8)
    status, _, err = anchor(tmp_path, [other], "--prior", anchored.folder / "fitted")
    assert (status, err) == (0, "")
    names = {path.name for path in FITTED.glob("*.toml")} | {"anchors.toml"}
    assert {path.name for path in (tmp_path / "fitted").glob("*.toml")} == names
    after = predict("serving", tmp_path, [ROW, OTHERS[0]], "--calibration", tmp_path / "fitted")
    assert [row["basis"] for row in after] == ["measured", "measured"]
    assert times(after[0]) == pytest.approx(times(anchored.after[0]))


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"measured_tpot_ms": ""}, "are empty"),
        ({"measured_tpot_ms": "0"}, "greater than zero"),
        ({"measured_tpot_ms": "-3"}, "greater than zero"),
        ({"measured_tpot_ms": "fast"}, "not a number"),
        ({"measured_tpot_ms": "0.009"}, "is it in ms"),
        ({"chip": "nochip"}, "unknown chip"),
        ({"model": "llama-3.1-405b", "n_chips": "1", "tp": "1"}, "does not fit"),
        ({"concurrency": "", "requests_per_s": "2"}, "open loop"),
        ({"mode": "disaggregated"}, "two pools"),
        ({"tp": "", "dp": "", "pp": ""}, "give tp, pp, ep, dp"),
    ],
)
def test_a_run_that_cannot_be_compared_is_refused_in_one_sentence(
    tmp_path: Path, change: dict[str, str], said: str
):
    status, out, err = anchor(tmp_path, [ROW | {"measured_tpot_ms": "9"} | change])
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert said in err and "row 1 is left out" in err
    assert not (tmp_path / "fitted").exists()


def test_a_file_without_measured_columns_is_refused(tmp_path: Path):
    status, _, err = anchor(tmp_path, [ROW])
    assert status == 2 and "has neither measured_tpot_ms nor measured_ttft_ms" in err


@pytest.mark.parametrize("words", [[], ["--data", "rows.csv", "--anchor", "runs.csv"]])
def test_kernel_times_or_runs_are_given(tmp_path: Path, words: list[str]):
    status, _, err = run("calibrate", "--out", tmp_path / "x", *words)
    assert status == 2 and "--data and --anchor are both" in err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[stack]\nchip = 1\n", "list of tables"),
        ('[[stack]]\nchip = "h100-sxm"\n', "lacks the word 'framework'"),
        ("[[other]]\nx = 1\n", "allowed are stack"),
    ],
)
def test_a_wrong_file_of_anchors_is_said(tmp_path: Path, content: str, said: str):
    (tmp_path / "anchors.toml").write_text(content)
    with pytest.raises(InputError, match=said):
        check_fitted(tmp_path)


@pytest.mark.long
def test_one_outlier_moves_little(tmp_path: Path):
    loads = [ROW | {"concurrency": str(users)} for users in (4, 8, 16, 32, 64)]
    rows = [as_measured(row, 1.2) for row in predict("serving", tmp_path, loads)]
    rows[2] = as_measured(rows[2], 5.0)
    found = fit_stack(anchor_runs(rows, FITTED).runs)
    (own,) = found.deployments.values()
    assert 1.15 < own.factors[0] < 1.4
    assert half_width(own.tpot) < half_width(found.scale.tpot)


@pytest.mark.slow
def test_one_run_of_each_deployment_predicts_the_others(tmp_path: Path):
    pytest.importorskip("aiconfigurator_core", reason="the measured runs are of the extra `data`")
    from perfmodel.calibration.anchor_accuracy import open_runs, rows_of_runs
    from perfmodel.calibration.metrics import grouped
    from perfmodel.calibration.serving_metrics import distance_from_anchor

    asked = {"chip": "h200_sxm", "framework": "vllm"}
    seen = [r for r in open_runs() if r.part == "heldout" and asked.items() <= r.cells.items()]
    assert len({run.cells["model"] for run in seen}) == 2
    groups = [
        sorted(own, key=distance_from_anchor)
        for own in grouped((run.config, run) for run in seen).values()
    ]
    status, _, _ = anchor(tmp_path, rows_of_runs(own[0] for own in groups))
    assert status == 0
    rest = rows_of_runs(run for own in groups for run in own[1:])
    plain = predict("serving", tmp_path, rest)
    scaled = predict("serving", tmp_path, rest, "--calibration", tmp_path / "fitted")
    pairs = [(p, s) for p, s in zip(plain, scaled, strict=True) if s["basis"] == "measured"]
    assert len(pairs) > 80
    before, after = (np.median([_error(pair[i]) for pair in pairs]) for i in (0, 1))
    assert before > 0.1 and after < 0.6 * before
    assert np.mean([_inside(scaled) for _, scaled in pairs]) > 0.8


def _error(row: dict[str, str]) -> float:
    return abs(float(row["tpot_ms"]) / float(row["measured_tpot_ms"]) - 1)


def _inside(row: dict[str, str]) -> bool:
    low, high = (float(row[f"tpot_ms_{end}"]) for end in ("low", "high"))
    return low <= float(row["measured_tpot_ms"]) <= high
