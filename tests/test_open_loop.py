"""Requests that come at a rate: batches, queues, and what a machine cannot answer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perfmodel.inference.closed_loop import Steps
from perfmodel.inference.open_loop import mg1_wait, mmc_wait, rate_at, serve_open_loop, shares
from perfmodel.inference.service import of_replicas, running_sequences, serve
from perfmodel.inference.serving_predictions import predict_cells
from perfmodel.library.chip import load_chip
from perfmodel.library.fitted import FITTED
from perfmodel.library.model import load_model
from perfmodel.units import as_scalar
from perfmodel.workload.model import traced
from perfmodel.workload.plan import Plan
from perfmodel.workload.request import Request

CHIP, PLAN, MODEL = load_chip("h100-sxm"), Plan(), traced(load_model("llama-3.2-1b"))


def _request(rate: float, **change: float) -> Request:
    sizes = {"concurrency": 1e9, "isl": 1000.0, "osl": 500.0, "batch_size": 1.0} | change
    return Request(**sizes, requests_per_s=rate)


served = jax.jit(lambda request: serve_open_loop(CHIP, PLAN, MODEL, request))
closed = jax.jit(lambda request: serve(CHIP, PLAN, MODEL, request))


def test_the_rate_of_a_batch_is_the_one_worked_by_hand():
    steps = Steps(*map(as_scalar, (11.0, 0.01, 0.2, 0.05, 0.05)))
    # Ten others, each of 500 steps of 10 ms and of ten prompts of 50 ms meanwhile.
    rate = 10 / (500 * 0.01 + 10 * 0.05)
    assert float(rate_at(steps, _request(0.0))) == pytest.approx(rate)
    # So TPOT is that of a time of which the prompts leave 1 - rate x 50 ms, and there are ten others.
    _, tpot = shares(steps, _request(rate))
    assert float(tpot) == pytest.approx(0.01 / (1 - rate * 0.05))
    assert rate * 500 * float(tpot) == pytest.approx(10)


def test_queues_are_those_of_the_books():
    # Half busy with prompts of 0.1 s: half of one is waited for, on average.
    assert float(mg1_wait(as_scalar(5.0), as_scalar(0.1))) == pytest.approx(0.05)
    # One place, half taken: the queue of one server, exactly.
    alone = mmc_wait(as_scalar(0.5), as_scalar(1.0), as_scalar(5.0))
    assert float(alone) == pytest.approx(float(mg1_wait(as_scalar(5.0), as_scalar(0.1))))
    many = [float(mmc_wait(as_scalar(0.5 * n), as_scalar(n), as_scalar(5.0))) for n in (1.0, 64.0)]
    assert many[1] < 1e-2 * many[0]


def test_the_wait_for_one_of_three_places_is_sakasegawa_s():
    # u = 0.5, each taken 1.5 / 5 s: 0.3 / 3 x 0.5^(sqrt(8) - 1) / 0.5 / 2 = 0.028155 s.
    found = mmc_wait(as_scalar(1.5), as_scalar(3.0), as_scalar(5.0))
    assert float(found) == pytest.approx(0.1 * 0.5 ** (8**0.5 - 1) / 0.5 / 2)
    # More than all places are priced as 0.999 of them, and none as few.
    full = mmc_wait(as_scalar(6.0), as_scalar(3.0), as_scalar(5.0))
    assert float(full) == pytest.approx(0.4 * 0.999 ** (8**0.5 - 1) / 0.001 / 2, rel=1e-3)
    assert float(mmc_wait(as_scalar(0.0), as_scalar(3.0), as_scalar(0.0))) == 0.0


def test_a_queue_of_prompts_that_fill_all_time_stays_finite():
    # 0.999 of the time: 0.999 x 0.1 / 2 / 0.001 s.
    assert float(mg1_wait(as_scalar(50.0), as_scalar(0.1))) == pytest.approx(49.95, rel=1e-3)


def test_the_share_of_time_in_which_anything_runs_is_that_of_the_others():
    # Ten others beside itself: ten elevenths of what comes meets a step under way.
    steps = Steps(*map(as_scalar, (11.0, 0.01, 0.2, 0.05, 0.05)))
    assert float(shares(steps, _request(1.0))[0]) == pytest.approx(10 / 11)
    alone = steps._replace(batch=as_scalar(1.0))
    assert float(shares(alone, _request(1.0))[0]) == 0.0


@pytest.mark.long
def test_few_requests_are_served_as_one_user_is():
    alone = closed(_request(0.0, concurrency=1.0))
    rare = served(_request(1e-3))
    assert float(rare.tpot) == pytest.approx(float(alone.tpot), rel=0.02)
    assert float(rare.ttft) == pytest.approx(float(alone.ttft), rel=0.02)


@pytest.mark.long
def test_both_loops_agree_where_as_many_are_open():
    open_loop = served(_request(20.0))
    users = float(open_loop.concurrency)
    loop = closed(_request(0.0, concurrency=users))
    assert users / float(loop.total) == pytest.approx(20.0, rel=0.1)
    assert float(open_loop.tpot) == pytest.approx(float(loop.tpot), rel=0.1)


@pytest.mark.long
def test_more_requests_make_everyone_wait_and_too_many_cannot_be_answered():
    most = float(served(_request(1.0)).max_requests_per_s)
    found = [served(_request(share * most)) for share in (0.2, 0.5, 0.8, 0.95)]
    assert np.all(np.diff([float(one.ttft) for one in found]) > 0)
    assert np.all(np.diff([float(one.tpot) for one in found]) > 0)
    assert np.isfinite([float(served(_request(2 * most)).ttft)]).all()


def test_as_many_may_run_as_the_kv_cache_has_capacity_for():
    found = served(_request(20.0))
    assert float(found.max_running) == float(running_sequences(CHIP, PLAN, MODEL, _request(20.0)))
    assert float(found.running) < float(found.max_running) < np.inf
    assert float(of_replicas(found, 2.0).max_running) == 2 * float(found.max_running)
    assert float(closed(_request(0.0, concurrency=8.0)).max_running) == np.inf


@pytest.mark.slow
def test_every_input_of_an_open_loop_has_a_slope():
    def time(request: Request):
        one = serve_open_loop(CHIP, PLAN, MODEL, request)
        return jnp.log(one.ttft) + jnp.log(one.tpot)

    slope = jax.jit(jax.grad(time))(
        dataclasses.replace(_request(20.0), prefix_tokens=as_scalar(100.0))
    )
    for name in ("requests_per_s", "isl", "osl", "prefix_tokens"):
        value = float(getattr(slope, name))
        assert np.isfinite(value) and value != 0, name


CELLS = {"chip": "h100", "model": "llama-3.2-1b", "isl": "1000", "osl": "500", "n_chips": "1"}


def _predicted(**change: str) -> dict[str, str]:
    cells = {name: [cell] for name, cell in (CELLS | change).items()}
    return {name: column[0] for name, column in predict_cells(cells, 1, FITTED).items()}


@pytest.mark.long
def test_a_row_at_a_rate_says_how_many_are_open():
    found = _predicted(requests_per_s="10")
    seconds = (float(found["ttft_ms"]) + 499 * float(found["tpot_ms"])) / 1e3
    assert float(found["concurrency"]) == pytest.approx(10 * seconds, rel=1e-3)
    assert float(found["output_tokens_per_s_per_chip"]) == pytest.approx(5000, rel=1e-3)
    # The other convention: all of the time over all tokens.
    assert float(found["tpot_with_first_ms"]) == pytest.approx(seconds * 1e3 / 500, rel=1e-3)


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"requests_per_s": "1e6"}, "the queue would grow without end; give fewer"),
        ({"requests_per_s": "1", "concurrency": "8"}, "both given"),
        ({"requests_per_s": "1", "mode": "static_batch"}, "for mode serving"),
        ({}, "or requests_per_s"),
        ({"requests_per_s": "0"}, "greater than zero"),
    ],
)
def test_a_rate_that_cannot_be_is_refused_in_one_sentence(change: dict[str, str], said: str):
    assert said in _predicted(**change)["error"]
