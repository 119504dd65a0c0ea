"""Prefill and decode workers of known times: how they are matched, by hand."""

from typing import Any

import jax.numpy as jnp
import pytest
from command import predict_changes

from perfmodel.breakdown import BOUNDS, JOULES
from perfmodel.hardware.board import Board
from perfmodel.inference.disaggregated import (
    DecodeWorker,
    PrefillWorker,
    match_rates,
    transfer_time,
)
from perfmodel.inference.service import Memory, Service
from perfmodel.units import as_scalar
from perfmodel.workload.request import Request

NOTHING = jnp.zeros(len(JOULES))
BOARD = Board(as_scalar(100.0), as_scalar(50.0), as_scalar(jnp.inf))
TRANSFER = 0.1 + 0.4 / 2.0  # latency, and 0.4 bytes over the slower of ports of 2 and 4


def served(
    users: float = 1.0, workers: tuple[float, float] = (1.0, 1.0), **changes: Any
) -> Service:
    """A prompt of 0.5 s each half second; steps of 10 ms alone and 24 ms of eight; 101 tokens out.

    Prompts take 40 J and full steps 16 J, of the second term that boards draw.
    """
    work = NOTHING.at[1].set(1.0)
    half, slack, burst = (
        as_scalar(x) for x in (0.5, changes.pop("slack", 3.0), changes.pop("burst", 0.0))
    )
    prefill = PrefillWorker(
        prompt=half, spacing=half, work=40 * work, board=BOARD, cache=as_scalar(0.4),
        port=as_scalar(2.0), latency=as_scalar(0.1), slack=as_scalar(7.0),
    )  # fmt: skip
    decode = DecodeWorker(
        most=as_scalar(8.0), full=as_scalar(0.024), single=as_scalar(0.010), work=16 * work,
        board=BOARD, seconds=jnp.zeros(len(BOUNDS)), first_token=as_scalar(0.05), burst=burst,
        port=as_scalar(4.0), slack=slack, memory=Memory(as_scalar(1.0), as_scalar(1.0)),
    )  # fmt: skip
    request = Request(users, 1000.0, 101.0, 1.0, **changes)
    return match_rates(prefill, as_scalar(workers[0]), decode, as_scalar(workers[1]), request)


ALONE = 0.05 + 0.5 + TRANSFER


def test_a_transfer_takes_its_latency_and_its_bytes_over_the_slower_port():
    fast, slow, size, latency = map(as_scalar, (4e9, 2e9, 8e9, 0.25))
    for ports in ((fast, slow), (slow, fast)):
        assert float(transfer_time(size, ports, latency)) == pytest.approx(4.25)


def test_a_single_user_waits_for_host_prompt_and_transfer_and_has_steps_alone():
    found = served()
    assert float(found.tpot) == pytest.approx(0.010, rel=0.01)
    assert float(found.ttft) == pytest.approx(ALONE, rel=0.01)
    assert float(found.total) == pytest.approx(ALONE + 100 * 0.010, rel=0.01)
    assert float(found.running) == pytest.approx(100 * 0.010 / float(found.total), rel=0.02)


def test_many_users_wait_for_prompts_where_these_are_slowest():
    # Two prompts a second: four users take 2 s each at least, and 1.85 s without a queue.
    assert 4 * 0.5 < float(served(4.0, (1.0, 4.0)).total) < 4 * 0.5 + ALONE + 1.0
    crowd = served(100.0, (1.0, 40.0))
    assert float(crowd.total) == pytest.approx(100 * 0.5, rel=1e-3)
    faster = served(100.0, (5.0, 40.0))
    assert float(faster.total) == pytest.approx(100 * 0.1, rel=1e-2)


def test_many_users_wait_for_places_where_decode_steps_are_slowest():
    found = served(80.0, (1000.0, 2.0))
    # Two workers of eight places: a place each for 100 full steps of 24 ms.
    assert float(found.tpot) == pytest.approx(0.024, rel=1e-3)
    assert float(found.total) == pytest.approx(80 / 16 * 100 * 0.024, rel=1e-2)
    assert float(found.running) == pytest.approx(16, rel=1e-2)


def test_drafts_that_hold_make_tokens_of_a_step_two():
    plain, drafted = served(), served(speculative_tokens=1.0, acceptance=1.0)
    assert float(plain.tpot) == pytest.approx(2 * float(drafted.tpot), rel=1e-3)


def test_a_burst_at_the_start_is_spread_over_the_requests_of_a_user():
    none, few = served(8.0, burst=0.8), served(8.0, burst=0.8, requests_per_user=10.0)
    assert float(few.ttft - none.ttft) == pytest.approx(0.8 * 0.5 * 8 / 2 / 10, rel=1e-3)
    assert float(few.total) == pytest.approx(float(none.total))


def test_boards_draw_idle_power_work_and_what_an_engine_takes_while_it_runs():
    found = served(80.0, (1000.0, 1.0))
    seconds = float(found.total) / (80 * 101)  # from one token of all to the next
    work = (40 + 100 * 16 / 8) / 101
    prompts = 0.5 / (seconds * 101)  # running at once on all prefill workers
    first, second = map(float, found.by_pool)
    assert first == pytest.approx(
        40 / 101 + 1000 * 100 * seconds + 50 * prompts * seconds, rel=0.01
    )
    assert second == pytest.approx(work - 40 / 101 + (100 + 50) * seconds, rel=0.01)
    assert float(found.held) == 1


@pytest.mark.parametrize(("slack", "least"), [(3.0, 3.0), (9.0, 7.0)])
def test_the_tighter_pool_says_what_is_free(slack: float, least: float):
    assert float(served(slack=slack).slack) == least


CELLS = {"mode": "disaggregated", "model": "llama-3.1-8b", "framework": "vllm", "isl": "4096"}
CELLS |= {"prefill_chip": "h100-sxm", "decode_chip": "h200-sxm", "prefill_workers": "1"}
CELLS |= {"prefill_tp": "1", "decode_tp": "1", "decode_workers": "1", "osl": "64"}


@pytest.mark.long
def test_a_prefix_that_is_there_is_not_computed_again():
    whole, half, most = predict_changes(
        CELLS | {"concurrency": "1"}, *({"prefix_tokens": n} for n in ("0", "2048", "4000"))
    )
    times = [float(row["ttft_ms"]) for row in (whole, half, most)]
    # The second half is read with more text before it than the first.
    first, second = times[1] - times[2], times[0] - times[1]
    assert 0 < 0.8 * first < second < 1.1 * first * 2048 / 1952
    assert float(half["tpot_ms"]) == pytest.approx(float(whole["tpot_ms"]), rel=1e-3)
