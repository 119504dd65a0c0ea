"""Power of boards that serve: by hand, within their limits, as files say it, and as runs say it."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import run
from silicon import number

from perfmodel.breakdown import JOULES
from perfmodel.calibration.board_runs import FACTORS, BoardRun
from perfmodel.calibration.power import Boards, chips_of, fit_boards, power_of, work_of
from perfmodel.errors import InputError
from perfmodel.hardware.board import (
    PlainJoules,
    board,
    board_joules,
    board_of,
    held_share,
    matrix_power,
    work_joules,
)
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import BoardPower
from perfmodel.inference.step import decode_step, prefill
from perfmodel.inference.wall_power import joules_at_wall
from perfmodel.library.board import board_constants, check_power, load_board, read_power
from perfmodel.library.chip import load_chip
from perfmodel.library.files import read_toml
from perfmodel.library.fitted import FITTED
from perfmodel.library.model import load_model
from perfmodel.units import as_values
from perfmodel.workload.model import traced
from perfmodel.workload.plan import Plan

H100 = load_chip("h100-sxm")
NOTHING = jnp.zeros(len(JOULES))


def _of(**joules: float) -> jax.Array:
    return jnp.array([joules.get(name, 0.0) for name in JOULES])


def _total(joules: jax.Array, chip: Chip = H100, seconds: float = 1.0) -> float:
    return float(jnp.sum(board_joules(board_of(chip, number(1.0)), joules, number(seconds))))


def test_each_plain_joule_becomes_as_many_as_its_factor_says():
    fitted = H100.efficiency.board
    plain = PlainJoules(_of(main=2.0, vector=1.0), _of(main=3.0, matrix=1.0, network=1.0, idle=9.0))
    work = dict(zip(JOULES, work_joules(H100, plain, number(0.0)), strict=True))
    assert float(work["main"]) == pytest.approx(float(2 * fitted.memory + 3 * fitted.weights))
    assert float(work["matrix"]) == pytest.approx(float(fitted.matrix))
    assert float(work["network"]) == pytest.approx(float(fitted.link))
    assert float(work["idle"]) == 0.0


def test_prompts_that_fill_the_cores_add_the_power_of_the_cores():
    # 989 TFLOP/s at 0.207 pJ: 205 W, times the fitted factor.
    assert float(matrix_power(H100)) == pytest.approx(989e12 * 0.207e-12, rel=1e-2)
    work = work_joules(H100, PlainJoules(NOTHING, NOTHING), number(2.0))
    each = float(H100.efficiency.board.cores * matrix_power(H100))
    assert float(jnp.sum(work)) == pytest.approx(2 * each)


def test_a_board_without_work_draws_idle_power_and_its_clocks():
    share = float(H100.efficiency.board.active_idle)
    assert _total(NOTHING) == pytest.approx(140 + share * (700 - 140), rel=1e-3)
    one = board_of(H100, number(1.0))
    asleep = board_joules(one, NOTHING, number(1.0), awake=0.0)
    assert float(jnp.sum(asleep)) == pytest.approx(140, rel=1e-3)


@pytest.mark.parametrize("joules", [1e-6, 1.0, 100.0, 300.0, 1e3, 1e5, 1e9])
def test_no_board_draws_less_than_idle_or_more_than_its_limit(joules: float):
    power = _total(_of(main=joules))
    assert 140 <= power <= 700 * (1 + 1e-5)
    assert joules > 300 or power == pytest.approx(_total(NOTHING) + joules, rel=0.02)


def test_a_board_without_a_known_limit_draws_all_that_its_work_takes():
    one = board(number(100.0), number(float("inf")), number(0.2))
    assert float(one.active) == pytest.approx(0.2 * 450, rel=1e-3)
    assert float(held_share(number(1e6), one.room)) == 1.0


def test_power_has_finite_slopes_everywhere(precision: str):
    def power(idle: jax.Array, limit: jax.Array, work: jax.Array) -> jax.Array:
        one = board(idle, limit, number(0.2))
        return jnp.sum(board_joules(one, work * _of(main=1.0), number(1.0)))

    for limit in (50.0, 100.0, 700.0, float("inf")):
        for work in (0.0, 1e-30, 1.0, 500.0, 1e12):
            slopes = jax.grad(power, (0, 2))(number(100.0), number(limit), number(work))
            assert all(jnp.isfinite(slope) for slope in slopes), (limit, work)
            assert limit < 700 or work > 500 or slopes[1] > 0, (limit, work)


@pytest.mark.slow
def test_a_prompt_draws_more_than_a_decode_step_and_both_stay_within_limits():
    model, plan = traced(load_model("llama-3.1-8b")), Plan(framework="vllm")
    step = decode_step(H100, plan, model, number(8.0), number(1024.0))
    prompt = prefill(H100, plan, model, number(1.0), number(4096.0), number(4096.0))
    powers = [float(jnp.asarray(one.energy) / one.time) for one in (step, prompt)]
    assert 200 < powers[0] < powers[1] <= 700


def test_joules_at_the_wall_hold_conversion_and_what_stands_around():
    joules, rate = np.array([1.0, 1.0]), np.array([100.0, np.inf])
    found = joules_at_wall("h100-sxm", joules, rate)
    # Supplies lose 6 %; 0.27 W of host and fans stand around each W of 700.
    assert found[0] == pytest.approx(1.06 + 0.27 * 700 / 100, rel=1e-6)
    assert np.isnan(found[1])


# Files


def test_a_chip_takes_its_own_measured_boards_and_another_those_of_all():
    shared = board_constants(FITTED, "launched").values
    own, other = load_board("h100-sxm", "launched", FITTED), load_board("l4", "launched", FITTED)
    factor = read_power(FITTED).chips["h100-sxm"].factor
    assert float(own.active_idle) == pytest.approx(factor * float(shared.active_idle), rel=1e-4)
    assert float(other.active_idle) == pytest.approx(float(shared.active_idle))
    assert float(own.weights) == float(other.weights)


def test_a_folder_without_a_file_takes_the_shipped_one(tmp_path: Path):
    assert read_power(tmp_path) == read_power(FITTED)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "[launched.cores]",
            "[launched.cors]",
            "launched has an unknown parameter, cors|launched lacks cores",
        ),
        (
            "[launched.cores]\nvalue = ",
            "[launched.cores]\nvalue = 9",
            "allowed are numbers from 0 to 20",
        ),
        ("[dataflow.link]\nvalue = ", "[dataflow.link]\nvalue = -", "greater than 0"),
    ],
)
def test_a_wrong_file_is_said_in_one_sentence(tmp_path: Path, old: str, new: str, said: str):
    text = (FITTED / "power.toml").read_text()
    assert old in text
    (tmp_path / "power.toml").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=said):
        check_power(read_toml(tmp_path / "power.toml"))
    status, _, error = run("predict", "serving", "--chip", "l4", "--calibration", tmp_path)
    assert status == 2 and "power.toml" in error


# Fits


def _runs(
    boards: Boards, chips: tuple[str, ...], models: int = 4, loads: int = 8
) -> list[BoardRun]:
    """Runs whose boards draw what `boards` say."""
    made, random = [], np.random.default_rng(0)
    for chip in chips:
        for i in range(models * loads):
            work = np.where(
                np.array(FACTORS) == "active_idle", 0.0, random.uniform(0, 0.4, len(FACTORS))
            )
            names = (chip, f"model {i // loads}", "launched", 140.0, 700.0)
            made.append(BoardRun(i, *names, work, 100.0, 120.0, 0.0))
    which = [chips_of(made).index(run.chip) for run in made]
    active = boards.shared.active_idle * boards.factors[np.array(which)]
    power = power_of(boards.shared, active, made, work_of(made))
    return [run._replace(power=float(p)) for run, p in zip(made, power, strict=True)]


SHARED = BoardPower(*map(number, (0.2, 3.0, 1.4, 1.3, 2.0, 3.0, 1.4, 1.5)))
TRUE = Boards(SHARED, as_values([1.2, 0.8]), number(0.1))


@pytest.mark.long
def test_a_fit_finds_what_boards_were_made_with():
    runs = _runs(TRUE, ("b200-sxm", "h100-sxm"))
    (fit,) = fit_boards(runs, read_power(FITTED), afresh=True)
    found = fit.found.values
    assert isinstance(found, Boards)
    assert float(found.shared.weights) == pytest.approx(3.0, rel=0.15)
    assert float(found.factors[0] / found.factors[1]) == pytest.approx(1.5, rel=0.1)
    known = np.array([one.power for one in runs])
    assert np.median(np.abs(fit.inside / known - 1)) < 0.01
    assert np.median(np.abs(fit.without_model / known - 1)) < 0.01


@pytest.mark.long
def test_a_run_that_measures_something_else_moves_a_fit_little():
    runs = _runs(TRUE, ("b200-sxm", "h100-sxm"))
    wrong = [runs[0]._replace(power=10 * runs[0].power), *runs[1:]]
    fits = [fit_boards(each, read_power(FITTED), afresh=True)[0] for each in (runs, wrong)]
    right, moved = (fit.inside[1:] for fit in fits)
    assert np.max(np.abs(moved / right - 1)) < 0.03


ROWS = """chip,n_chips,model,precision,framework,tp,isl,osl,concurrency,measured_output_tokens_per_s,{column}
h100-sxm,1,llama-3.1-8b,bf16,vllm,1,256,512,8,800,{value}
h100-sxm,1,llama-3.1-8b,bf16,vllm,1,256,512,64,4500,{value}
h100-sxm,1,llama-3.1-8b,bf16,vllm,1,256,512,0,4500,{value}
h100-sxm,1,llama-3.1-8b,bf16,vllm,1,256,512,8,4500,
"""


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("boards")
    rows = folder / "rows.csv"
    rows.write_text(ROWS.format(column="measured_power_w", value="650"))
    status, out, error = run(
        "calibrate", "--ops", "power", "--data", rows, "--out", folder / "own", "--json"
    )
    assert status == 0, error
    return folder / "own", json.loads(out)


@pytest.mark.slow
def test_calibrate_moves_ones_own_boards_towards_what_they_draw(calibrated: tuple[Path, dict]):
    folder, said = calibrated
    before = load_board("h100-sxm", "launched", FITTED)
    after = load_board("h100-sxm", "launched", folder)
    assert float(after.active_idle) > float(before.active_idle)
    assert said["errors"][0]["runs"] == 2
    assert (
        read_power(folder).chips["h100-sxm"].runs == read_power(FITTED).chips["h100-sxm"].runs + 2
    )
    assert load_board("b200-sxm", "launched", folder).cores > 0


@pytest.mark.slow
def test_one_wrong_row_is_left_out_with_a_sentence(calibrated: tuple[Path, dict]):
    left_out = calibrated[1]["left_out"]
    assert len(left_out) == 2
    assert "row 3 is left out: concurrency is '0'" in left_out[0]
    assert "measured_power_w and measured_joules_per_output_token are empty" in left_out[1]


def test_rows_without_a_measured_power_are_refused(tmp_path: Path):
    rows = tmp_path / "rows.csv"
    rows.write_text(ROWS.format(column="measured_tpot_ms", value="9"))
    status, _, error = run("calibrate", "--ops", "power", "--data", rows, "--out", tmp_path / "own")
    assert (
        status == 2 and "has neither measured_power_w nor measured_joules_per_output_token" in error
    )
