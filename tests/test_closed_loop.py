"""Users of a closed loop: in step where lengths are equal, spread where they differ."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command import predict

from perfmodel.hardware.parameters import HostEfficiency
from perfmodel.inference.closed_loop import Steps, closed_loop, waves_of
from perfmodel.units import as_scalar
from perfmodel.workload.request import Request

HOST = HostEfficiency(*map(as_scalar, (0.0, 0.0, 0.0, 0.0, 0.05, 0.0, 1.5, 0.02)))
USERS = Request(*map(as_scalar, (16.0, 1000.0, 500.0, 1.0)), requests_per_user=as_scalar(10.0))
STEPS = Steps(*map(as_scalar, (16.0, 0.01, 0.2, 0.15, 0.15, 2.0, 0.0, 1.0)))


def test_prompts_that_ride_on_steps_come_back_in_waves_as_worked_by_hand():
    # 16 users, two prompts a step: 8 waves of 10 + 2 x 150 ms. While an answer travels for 20 ms and the next
    # step is scheduled, 1 + 1 + 20 / 10 = 4 of them pile up: 4 (1 - 3 / 16) = 3.25 steps.
    waits = closed_loop(STEPS, HOST, USERS)
    later, first = 0.31 * 3.25, 0.31 * 9 / 2 + 0.02
    assert float(waits.ttft) == pytest.approx(later + (first - later) / 10)
    assert float(waits.tpot) == pytest.approx(0.01 + 0.15 * (16 - 2 * 3.25) / 500)
    assert float(waits.total) == pytest.approx(later + 499 * float(waits.tpot))


def test_prompts_with_steps_of_their_own_wait_for_all_waves_in_every_round():
    steps = STEPS._replace(separate_prefill=as_scalar(1.0), prompt=as_scalar(0.3))
    waits = closed_loop(steps, HOST, USERS)
    later, first = 0.3 * 9 / 2 + 0.02 + 0.005, 0.3 * 9 / 2 + 0.02
    assert float(waits.ttft) == pytest.approx(later + (first - later) / 10)
    assert float(waits.tpot) == pytest.approx(0.01 + 0.15 * (16 - 2) / 2 / 500)


def test_one_user_waits_for_its_own_prompt():
    one = Request(*map(as_scalar, (1.0, 1000.0, 500.0, 1.0)), requests_per_user=as_scalar(10.0))
    steps = STEPS._replace(batch=as_scalar(1.0))
    found = waves_of(steps, as_scalar(0.0))
    assert float(found.waves) == float(found.waiting) == 1
    assert float(closed_loop(steps, HOST, one).tpot) == pytest.approx(0.01)


def test_less_than_one_user_of_a_rank_is_one_wave():
    found = waves_of(STEPS._replace(batch=as_scalar(0.5)), as_scalar(0.0))
    assert float(found.together) == float(found.waves) == float(found.waiting) == 1


def test_users_who_wait_for_capacity_are_not_in_step():
    spread = STEPS._replace(prompts_together=as_scalar(0.0))
    more = Request(*map(as_scalar, (32.0, 1000.0, 500.0, 1.0)), requests_per_user=as_scalar(10.0))
    assert closed_loop(STEPS, HOST, more) == closed_loop(spread, HOST, more)


@pytest.mark.parametrize("separate", [0.0, 1.0])
@pytest.mark.parametrize("users", [1.0, 2.0, 3.0, 16.0, 4096.0])
def test_times_of_users_in_step_have_gradients(separate: float, users: float):
    request = Request(
        *map(as_scalar, (users, 1000.0, 500.0, 1.0)), requests_per_user=as_scalar(jnp.inf)
    )

    def ttft(seconds: jax.Array) -> jax.Array:
        step, prompt, *busy = seconds
        steps = Steps(as_scalar(users), step, prompt, busy[0], busy[1], 2.0, separate, 1.0)
        return closed_loop(steps, HOST, request).ttft

    slopes = np.asarray(jax.grad(ttft)(jnp.array([0.01, 0.2, 0.15, 0.15])))
    assert np.isfinite(slopes).all() and slopes[1] + slopes[3] > 0


ROW = {"chip": "h100-sxm", "n_chips": "1", "model": "llama-3.1-8b", "framework": "sglang"}
LOAD = {"isl": "1024", "osl": "256", "concurrency": "64"}


def test_the_columns_say_whether_users_are_in_step_and_how_many_prompts_share_one(tmp_path: Path):
    changes: tuple[dict[str, str], ...] = (
        {},
        {"length_spread": "0.1"},
        {"length_spread": "0"},
        {"max_num_batched_tokens": "8192"},
        {"max_num_batched_tokens": "2048"},
        {"length_ratio": "0.9"},
    )
    rows = predict("serving", tmp_path, [ROW | LOAD | change for change in changes])
    equal, spread, none, default, fewer, shorter = (float(row["ttft_ms"]) for row in rows)
    assert equal > 1.5 * spread
    assert equal == none
    assert equal == default
    assert equal != fewer
    # The longest are the nominal ones: a mean below says that lengths differ.
    assert shorter < 0.7 * equal


def test_a_scheduler_that_reads_requests_at_each_tenth_step_lets_them_wait_for_half_of_ten():
    steps = STEPS._replace(prompts_together=as_scalar(0.0))

    def ttft(interval: float) -> float:
        request = dataclasses.replace(USERS, read_interval=as_scalar(interval))
        return float(closed_loop(steps, HOST, request).ttft)

    busy, tpot = 15 / 16, float(closed_loop(steps, HOST, USERS).tpot)
    assert ttft(0.0) == ttft(1.0)
    assert ttft(10.0) - ttft(1.0) == pytest.approx(busy * 9 * tpot / 2)


def test_a_prompt_s_tokens_delay_its_first_one_or_the_next_prompt():
    # 1,000 tokens of 5 us each.
    host = dataclasses.replace(HOST, per_prompt_token=as_scalar(5e-6))
    late = dataclasses.replace(HOST, turnaround=as_scalar(0.025))
    spread = STEPS._replace(prompts_together=as_scalar(0.0))
    apart, before = (float(closed_loop(spread, each, USERS).ttft) for each in (host, HOST))
    assert apart - before == pytest.approx(0.005)
    together, later = (float(closed_loop(STEPS, each, USERS).ttft) for each in (host, late))
    assert together == pytest.approx(later)


def test_the_column_of_the_read_interval_lengthens_ttft_alone(tmp_path: Path):
    apart = {"length_spread": "0.1"}
    changes: tuple[dict[str, str], ...] = (apart, {"read_interval": "30"} | apart)
    each, thirtieth = predict("serving", tmp_path, [ROW | LOAD | change for change in changes])
    assert each["tpot_ms"] == thirtieth["tpot_ms"]
    more = float(thirtieth["ttft_ms"]) - float(each["ttft_ms"])
    assert 10 < more / float(each["tpot_ms"]) < 14.5
