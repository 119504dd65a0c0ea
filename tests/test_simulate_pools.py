"""Pools of prefill and decode workers: steps by hand, conservation, the closed form, the command."""

import json
import math

import numpy as np
import pytest

from perfmodel.inference.disaggregated import prefill_worker
from perfmodel.inference.pool_simulation import PooledServer, any_server_of
from perfmodel.inference.pooled_engines import PooledEngines, Workers
from perfmodel.inference.scheduler import Policy, TraceRequest
from perfmodel.inference.simulation import SchedulerOptions, simulate
from perfmodel.inference.step_times import StepTimes
from perfmodel.inference.traffic import ClosedLoop, Lengths, OpenLoop, closed_workload
from perfmodel.library.fitted import FITTED
from perfmodel.workload.request import Request
from tests.command import predict_changes, run

# A decode step takes 10 ms, and each new token of a prompt 1 ms more: sums are done in the head.
BOTH = [[[[0.01 + 1e-3 * q] * 2 for q in (0, 1000)]] * 2] * 2
TIMES = StepTimes(
    *([1.0, 2.0], [0.0, 1.0], [0.0, 1000.0], [0.0, 1.0]),
    *([[0.01, 0.01]] * 2, [[0.0, 0.0], [1.0, 1.0]], BOTH),
)
POLICY = Policy(8, 100, True, False, 0.0, 1e6, 0.0, 0.0)
CELLS = {
    **{"mode": "disaggregated", "model": "llama-3.1-8b", "framework": "vllm"},
    **{"prefill_chip": "h100-sxm", "decode_chip": "h200-sxm", "prefill_workers": "1"},
    **{"prefill_tp": "1", "decode_tp": "1", "decode_workers": "2"},
}


def engines(
    requests: list[TraceRequest], first: int = 1, second: int = 1, capacity: float = 1e6
) -> PooledEngines:
    prefilled = POLICY._replace(prefilled=True, kv_capacity=capacity)
    workers = Workers(TIMES, POLICY, first), Workers(TIMES, prefilled, second)
    return PooledEngines(*workers, lambda tokens: 1e-4 * tokens, OpenLoop(iter(requests)))


def test_a_request_takes_its_prompt_its_transfer_and_a_step_for_each_further_token():
    found = engines([TraceRequest(0.0, 50, 5), TraceRequest(0.1, 50, 1)]).run()
    assert found.ttft.tolist() == pytest.approx([0.05 + 0.005] * 2)
    assert found.tpot[0] == pytest.approx(0.01)
    assert math.isnan(found.tpot[1])
    assert found.end_to_end[0] == pytest.approx(0.055 + 4 * 0.01)
    assert found.answered == 2


def test_prompts_do_not_hold_up_those_that_decode():
    found = engines([TraceRequest(0.0, 50, 41), *[TraceRequest(0.06, 100, 2)] * 3]).run()
    assert found.tpot[0] == pytest.approx(0.01)
    # Prompts wait for one another on one prefill worker; on three they do not.
    assert found.ttft[3] > found.ttft[1] + 0.19
    apart = engines([TraceRequest(0.06, 100, 2)] * 3, first=3).run()
    assert apart.ttft.tolist() == pytest.approx([0.11] * 3)


def test_a_prompt_goes_to_the_worker_that_has_the_fewest():
    three = [TraceRequest(0.0, 100, 1), TraceRequest(0.0, 40, 1), TraceRequest(0.01, 40, 1)]
    found = engines(three, first=2).run()
    # The third waits behind the first, of 100 ms: both workers have one when it comes.
    assert found.ttft.tolist() == pytest.approx([0.11, 0.044, 0.09 + 0.04 + 0.004])
    assert found.queueing.tolist() == pytest.approx([0.0, 0.0, 0.09])
    # One that comes after 50 ms finds the second idle, and the first still at work.
    later = [*three[:2], three[2]._replace(arrival=0.05)]
    assert engines(later, first=2).run().ttft[2] == pytest.approx(0.044)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_turns_of_a_session_find_their_prompt_on_the_worker_that_had_it(workers: int):
    turns = [
        TraceRequest(5.0 * i, 512 * (i + 1) + 9, 2, tuple(range(i + 1)), "a") for i in range(4)
    ]
    others = [TraceRequest(5.0 * i + 1, 60, 2) for i in range(4)]
    every = sorted([*turns, *others], key=lambda one: one.arrival)
    found = engines(every, first=workers).run()
    own = [c for c, one in zip(found.cached, every, strict=True) if one.session]
    assert own == [0, 512, 1024, 1536]


def test_a_request_waits_for_a_prompt_s_worker_and_for_a_place_to_decode():
    both = [TraceRequest(0.0, 50, 11)] * 2
    one_place = engines(both)
    one_place.decode[0].policy = one_place.decode[0].policy._replace(max_num_seqs=1)
    found = one_place.run()
    # Both prompts take a step of 100 ms; the first decodes from 0.105 to 0.205, then the second.
    assert found.end_to_end.tolist() == pytest.approx([0.205, 0.305])
    assert found.queueing.tolist() == pytest.approx([0.0, 0.1])
    assert found.ttft.tolist() == pytest.approx([0.105, 0.205])
    assert (found.answered, found.steps, found.preemptions) == (2, 1 + 10 + 10, 0)
    assert found.end == pytest.approx(0.305)
    running = found.timeline.means(0.305)[0]
    assert running == pytest.approx((2 * 0.1 + 0.1 + 0.1) / 0.305, rel=1e-6)


def test_a_full_decode_worker_makes_requests_wait():
    requests = [TraceRequest(0.0, 40, 30)] * 2
    (few, many) = (engines(requests, capacity=x).run() for x in (75.0, 1e6))
    assert few.ttft[1] == pytest.approx(few.end_to_end[0], abs=0.011)
    assert many.ttft[1] < 0.1
    long = engines([TraceRequest(0.0, 60, 30)], capacity=75.0).run()
    assert (long.answered, sum(long.refusals.values())) == (0, 1)


@pytest.mark.parametrize("ahead", [False, True])
def test_every_token_is_computed_whatever_the_workers(ahead: bool):
    random = np.random.default_rng(0)
    requests = [
        TraceRequest(float(t), int(random.integers(1, 400)), int(random.integers(1, 400)))
        for t in np.cumsum(random.exponential(0.3, 300))
    ]
    pools = engines(requests, 3, 2, 2500)
    for engine in pools.engines:
        engine.policy = engine.policy._replace(schedules_ahead=ahead)
    found = pools.run()
    assert found.answered == 300
    for engine in pools.engines:
        assert (engine.used, engine.running, engine.decodes) == (0, 0, 0)
        assert (engine.context_sum, engine.output_to_come) == (0, 0)
    assert all(t >= 1.1e-3 * r.isl * 0.999 for t, r in zip(found.ttft, requests, strict=True))
    assert min(x for x in found.tpot if x == x) >= 0.01 * 0.999


def pooled(changes: dict[str, str] | None = None) -> PooledServer:
    found = any_server_of(CELLS | (changes or {}), SchedulerOptions(), FITTED)
    assert isinstance(found, PooledServer)
    return found


@pytest.mark.slow
def test_steps_and_transfers_are_those_of_the_closed_form():
    server = pooled()
    chip, plan = (getattr(server.sides[0].resolved.deployment, x) for x in ("chip", "plan"))
    model = server.sides[0].resolved.deployment.model
    worker = prefill_worker(chip, plan, model, Request(1.0, 4096.0, 100.0, 1.0))
    prompt = server.sides[0].times.prompt_seconds(4096, 2048)
    assert prompt == pytest.approx(float(worker.prompt), rel=0.03)
    seconds = float(worker.cache / worker.port + worker.latency)
    assert server.transfer_seconds(4096) == pytest.approx(seconds, rel=1e-5)


@pytest.mark.slow
def test_a_closed_loop_on_pools_is_the_closed_form():
    load = {"isl": "2048", "osl": "256", "length_ratio": "0.9"}
    rows = predict_changes(CELLS | load, *({"concurrency": str(c)} for c in (1, 4, 16)))
    for c, row in zip((1, 4, 16), rows, strict=True):
        loop = ClosedLoop(c, 20 * c, Lengths.below(2048, 256, 0.9), 0)
        found = simulate(pooled(), lambda i, n, loop=loop: loop)
        assert float(row["tpot_ms"]) == pytest.approx(1e3 * np.nanmean(found.tpot), rel=0.07)
        over = float(row["ttft_ms"]) / (1e3 * np.nanmean(found.ttft))
        assert 0.6 < over < 1.25, (c, over)


@pytest.mark.long
def test_equal_lengths_share_workers_evenly():
    workload = closed_workload(8, 80, Lengths(1024, 64), 0)
    found = simulate(pooled().serving(workload), workload.of_replica)
    assert found.answered == 80


@pytest.mark.long
def test_the_command_simulates_pools_and_says_what_it_took():
    words = [word for name, cell in CELLS.items() for word in (f"--{name.replace('_', '-')}", cell)]
    traffic = ("--requests-per-s", "5", "--isl", "500", "--osl", "50", "--requests", "80")
    status, out, err = run("simulate", *traffic, *words, "--json")
    assert (status, err) == (0, "")
    summary = json.loads(out)
    assert (summary["answered"], summary["deployment"]["n_chips"]) == (80, 3)
    assert summary["deployment"]["decode_workers"] == 2
    assert summary["prefill_scheduler"]["delay_ms"] > summary["scheduler"]["delay_ms"] == 0
    assert 0 < summary["kv_use"] < 1
    status, out, _ = run("simulate", *traffic, *words)
    assert status == 0
    assert "on workers of their own" in " ".join(out.split())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decode_chip": ""}, "decode_chip is missing"),
        ({"mode": "static_batch"}, "no requests come one by one"),
        ({"model": "llama-3.1-405b"}, "leave no KV cache"),
    ],
)
def test_pools_that_cannot_be_are_told_in_a_sentence(changes: dict[str, str], said: str):
    cells = CELLS | changes
    words = [w for n, cell in cells.items() if cell for w in (f"--{n.replace('_', '-')}", cell)]
    status, out, err = run("simulate", "--concurrency", "2", "--isl", "9", "--osl", "9", *words)
    assert (status, out) == (2, "")
    assert said in err
