"""Requests through a scheduler: steps by hand, conservation, the closed form, measured requests, traces."""

import csv
import functools
import itertools
import json
import math
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from perfmodel.inference.cache_tiers import Tier
from perfmodel.inference.scheduler import (
    NO_SPECULATION,
    Engine,
    Outcome,
    Policy,
    Speculation,
    TraceRequest,
)
from perfmodel.inference.simulation import SchedulerOptions, Server, server_of, simulate
from perfmodel.inference.step_predictor import StepPredictor
from perfmodel.inference.step_times import StepTimes, price_steps
from perfmodel.inference.trace import Trace
from perfmodel.inference.traffic import ClosedLoop, Lengths, OpenLoop, at_a_rate, closed_workload
from perfmodel.library.files import ROOT
from perfmodel.library.fitted import FITTED
from perfmodel.library.framework import find_version
from perfmodel.units import as_scalar
from tests.command import predict_changes, run

# A decode step takes 10 ms, and each new token of a prompt 1 ms more: sums are done in the head.
BOTH = [[[[0.01 + 1e-3 * q] * 2 for q in (0, 1000)]] * 2] * 2
TIMES = StepTimes(
    *([1.0, 2.0], [0.0, 1.0], [0.0, 1000.0], [0.0, 1.0]),
    *([[0.01, 0.01]] * 2, [[0.0, 0.0], [1.0, 1.0]], BOTH),
)
POLICY = Policy(8, 100, True, False, 0.0, 1e6, 0.0, 0.0)


def served(requests: list[TraceRequest], policy: Policy = POLICY) -> Outcome:
    return Engine(TIMES, policy, OpenLoop(iter(requests))).run()


def test_a_request_takes_its_prompt_and_a_step_for_each_further_token():
    found = served([TraceRequest(0.0, 50, 5)])
    assert found.ttft[0] == pytest.approx(0.05)
    assert found.tpot[0] == pytest.approx(0.01)
    assert found.end_to_end[0] == pytest.approx(0.09)
    assert (found.steps, found.preemptions) == (5, 0)


def test_a_long_prompt_is_cut_to_the_budget_that_decoding_leaves():
    # After the first prompt (50 ms) 99 and then 51 tokens ride on steps of 10 ms.
    found = served([TraceRequest(0.0, 50, 9), TraceRequest(0.01, 150, 2)])
    assert found.ttft[1] == pytest.approx(0.05 - 0.01 + 0.109 + 0.061)


def test_prompts_in_steps_of_their_own_stop_those_that_decode():
    found = served(
        [TraceRequest(0.0, 50, 9), TraceRequest(0.055, 90, 2)],
        POLICY._replace(separate_prefill=True),
    )
    assert found.ttft[1] == pytest.approx(0.06 - 0.055 + 0.09)
    assert found.end_to_end[0] == pytest.approx(0.05 + 8 * 0.01 + 0.09)


def test_prompts_that_are_not_cut_wait_for_a_step_that_has_the_budget():
    uncut = POLICY._replace(chunked_prefill=False)
    found = served(
        [TraceRequest(0.0, 60, 1), TraceRequest(0.0, 60, 1), TraceRequest(0.0, 101, 1)], uncut
    )
    assert found.ttft[:2].tolist() == pytest.approx([0.06, 0.12])
    assert math.isnan(found.ttft[2])
    assert sum(found.refusals.values()) == 1


def test_requests_run_up_to_the_limit_and_wait_in_order():
    found = served([TraceRequest(0.0, 10, 11)] * 3, POLICY._replace(max_num_seqs=1))
    assert np.diff(found.queueing) == pytest.approx([0.11, 0.11])


def test_who_was_let_in_last_is_put_out_and_still_gives_all_tokens():
    tight = POLICY._replace(kv_capacity=100)
    found = served([TraceRequest(0.0, 40, 30), TraceRequest(0.0, 40, 30)], tight)
    assert found.preemptions > 0
    assert found.end_to_end[1] > found.end_to_end[0]
    assert found.answered == 2


def test_a_policy_that_reserves_the_whole_output_puts_nobody_out():
    tight = POLICY._replace(kv_capacity=100, admitted_output=1.0)
    found = served([TraceRequest(0.0, 40, 30), TraceRequest(0.0, 40, 30)], tight)
    assert found.preemptions == 0
    assert found.queueing[1] == pytest.approx(found.end_to_end[0])


def test_one_step_ahead_a_request_is_seen_a_step_later():
    ahead = POLICY._replace(schedules_ahead=True)
    requests = [TraceRequest(0.0, 50, 9), TraceRequest(0.055, 90, 2)]
    # It comes in the first decode step, when the second is scheduled already.
    assert served(requests).ttft[1] == pytest.approx(0.06 - 0.055 + 0.1)
    assert served(requests, ahead).ttft[1] == pytest.approx(0.07 - 0.055 + 0.1)
    # A place is free a step after the answer that held it; an engine that stands still sees all at once.
    three = [TraceRequest(0.0, 10, 11), TraceRequest(0.0, 10, 41), TraceRequest(0.0, 10, 2)]
    for policy, seen in ((POLICY, 0.12), (ahead, 0.13)):
        assert served(three, policy._replace(max_num_seqs=2)).queueing[2] == pytest.approx(seen)
    apart = [TraceRequest(0.0, 10, 1), TraceRequest(0.5, 10, 1)]
    assert served(apart, ahead).ttft.tolist() == pytest.approx([0.01, 0.01])


def test_a_longer_prompt_is_in_the_queue_later():
    by_token = POLICY._replace(delay=0.02, delay_per_token=1e-3)
    assert served([TraceRequest(0.0, 50, 5)], by_token).ttft[0] == pytest.approx(0.07 + 0.05)
    # The second is sent later and ready first: it takes a step alone, and the first waits for it.
    found = served([TraceRequest(0.0, 90, 1), TraceRequest(0.01, 50, 1)], by_token)
    assert found.ttft.tolist() == pytest.approx([0.13 + 0.09, 0.07 + 0.05])
    assert found.arrival.tolist() == [0.0, 0.01]


def test_a_request_waits_until_the_queue_is_read():
    third = POLICY._replace(read_interval=3)
    # After the prompt (50 ms) the queue is read after decode steps 3, 6 and 9.
    found = served([TraceRequest(0.0, 50, 20), TraceRequest(0.055, 90, 2)], third)
    assert found.ttft[1] == pytest.approx(0.08 - 0.055 + 0.1)
    # After a step with prompts, and where nothing runs, at once.
    both = [TraceRequest(0.0, 50, 20), TraceRequest(0.01, 80, 1), TraceRequest(0.075, 80, 1)]
    found = served(both, third)
    assert found.ttft[1] == pytest.approx(0.05 - 0.01 + 0.09)
    assert found.ttft[2] == pytest.approx(0.14 - 0.075 + 0.09)
    apart = [TraceRequest(0.0, 10, 1), TraceRequest(0.5, 10, 1)]
    assert served(apart, third).ttft.tolist() == pytest.approx([0.01, 0.01])


@pytest.mark.long
def test_a_server_takes_the_delay_of_tokens_and_the_interval_of_reading_as_the_closed_form():
    cells = {"chip": "h100-sxm", "model": "llama-3.1-8b", "framework": "sglang", "n_chips": "1"}
    policy = server_of(cells | {"read_interval": "30"}, SchedulerOptions(), FITTED).policy
    host = StepPredictor("h100-sxm", "llama-3.1-8b", framework="sglang").chip.efficiency.host
    assert policy.read_interval == 30
    delay = policy.delay_of(TraceRequest(0.0, 4096, 1))
    assert delay == pytest.approx(float(host.before_prompt(as_scalar(4096))), rel=1e-6)
    told = server("sglang").serving(closed_workload(16, 160, Lengths(1024, 1024), 0)).policy
    delay = told.delay_of(TraceRequest(0.0, 1024, 1))
    assert delay == pytest.approx(float(host.before_next_prompt(as_scalar(1024))), rel=1e-6)


def test_steps_with_drafts_give_as_many_tokens_as_hold():
    half = Speculation(2.0, 0.5)
    # One token with probability 1/2, two with 1/4, three with 1/4.
    assert half.tokens_per_step == pytest.approx(1.75)
    assert half.variance == pytest.approx((1 + 4 / 2 + 9 / 2) / 2 - 1.75**2)
    random = np.random.default_rng(0)
    steps = [half.steps_for(700, random) for _ in range(2000)]
    assert np.mean(steps) == pytest.approx(400, rel=0.01)
    assert np.var(steps) == pytest.approx(700 * half.variance / 1.75**3, rel=0.1)
    assert (Speculation(3.0, 1.0).steps_for(100, random), NO_SPECULATION.steps_for(7, random)) == (
        25,
        7,
    )


def test_a_request_with_drafts_that_hold_takes_a_step_for_each_few_tokens():
    sure = POLICY._replace(speculation=Speculation(1.0, 1.0))
    found = served([TraceRequest(0.0, 50, 9)], sure)
    assert found.end_to_end[0] == pytest.approx(0.05 + 4 * 0.01)
    # What is checked takes of the budget: beside one that decodes 98 tokens are left.
    both = served([TraceRequest(0.0, 50, 99), TraceRequest(0.01, 98, 1)], sure)
    assert both.ttft[1] == pytest.approx(0.05 - 0.01 + 0.01 + 0.098)


def test_shared_blocks_are_computed_once_and_forgotten_by_last_use():
    ids = (1, 2)
    later = [TraceRequest(0.0, 1024, 2, ids), TraceRequest(9.0, 1100, 2, (*ids, 3))]
    assert served(later).cached.tolist() == [0, 1024]
    between = [later[0], TraceRequest(5.0, 1900, 2), later[1]]
    assert served(between, POLICY._replace(kv_capacity=2000)).cached.tolist() == [0, 0, 0]


HOST, SSD = Tier("host_kv", 1024, 51_200), Tier("ssd_kv", 1e6, 5_120)


def test_evicted_blocks_come_back_from_the_tier_below_at_its_bandwidth():
    ids = (1, 2)
    between = [
        TraceRequest(0.0, 1024, 2, ids),
        TraceRequest(5.0, 1900, 2),
        TraceRequest(9.0, 1100, 2, (*ids, 3)),
    ]
    tight = POLICY._replace(kv_capacity=2000)
    found = served(between, tight._replace(tiers=(HOST,)))
    assert found.cached.tolist() == [0, 0, 1024]
    assert found.loaded == {"host_kv": 1024}
    assert found.ttft[2] == pytest.approx(1024 / 51_200 + 0.076)
    # What host memory has no capacity for comes back from the SSD, each at its bandwidth.
    half = tight._replace(tiers=(HOST._replace(tokens=600), SSD))
    found = served(between, half)
    assert found.loaded == {"host_kv": 512, "ssd_kv": 512}
    assert found.ttft[2] == pytest.approx(512 / 5_120 + 0.076)
    # Without an SSD the first block alone is of use; the last of a prompt are evicted first.
    found = served(between, half._replace(tiers=half.tiers[:1]))
    assert (found.cached[2], found.loaded) == (512, {"host_kv": 512})


def test_others_go_on_while_blocks_come_back():
    requests = [
        TraceRequest(0.0, 1024, 2, (1, 2)),
        TraceRequest(2.0, 1900, 2),
        TraceRequest(8.0, 50, 41),
        TraceRequest(8.06, 1100, 2, (1, 2, 3)),
    ]
    policy = POLICY._replace(kv_capacity=2000, tiers=(SSD,))
    found = served(requests, policy)
    # Its blocks take 0.2 s, in which the other decodes at 10 ms; then its rest rides on one step.
    assert found.ttft[3] == pytest.approx(0.2 + 0.086, abs=0.011)
    assert found.tpot[2] == pytest.approx((40 * 0.01 + 0.076) / 40, rel=0.01)


@pytest.mark.parametrize("separate", [False, True])
def test_no_block_is_lost_or_won_between_tiers(separate: bool):
    random = np.random.default_rng(0)
    requests = []
    for i in range(300):
        session, turns = int(random.integers(0, 20)), int(random.integers(1, 4))
        ids = tuple(range(100 * session, 100 * session + turns))
        requests.append(TraceRequest(1.0 * i, 512 * turns + 7, 20, ids, str(session)))
    policy = POLICY._replace(kv_capacity=4000, separate_prefill=separate)
    few, many = (
        Engine(TIMES, policy._replace(tiers=tiers), OpenLoop(iter(requests)))
        for tiers in ((), (HOST._replace(tokens=3000), SSD))
    )
    without, found = few.run(), many.run()
    assert (found.answered, many.used, many.running) == (300, 0, 0)
    assert (many.context_sum, many.output_to_come) == (0, 0)
    assert sum(found.cached) > 1.5 * sum(without.cached)
    assert np.mean(found.ttft) < np.mean(without.ttft)


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (["--host-kv-gb", "10"], "--host-kv-gb-per-s is missing"),
        (["--ssd-kv-gb-per-s", "6"], "--ssd-kv-gb is missing"),
        (["--host-kv-gb", "0", "--host-kv-gb-per-s", "6"], "--host-kv-gb is missing or 0"),
    ],
)
def test_a_tier_needs_its_capacity_and_its_bandwidth(words: list[str], missing: str):
    traffic = ("--isl", "9", "--osl", "9", "--concurrency", "2")
    status, out, err = run("simulate", *traffic, *DEPLOYMENT, *words)
    assert (status, out) == (2, "")
    assert missing in err


@pytest.mark.long
def test_the_command_says_what_comes_from_host_memory(tmp_path: Path):
    turn = '{"timestamp": %s, "input_length": %s, "output_length": 9, "hash_ids": %s}'
    again = turn % (8, 1100, [1, 2])
    path = write_trace(tmp_path, turn % (0, 1030, [1, 2]), turn % (4, 1500, []), again)
    words = ("--kv-capacity-tokens", "1600", "--host-kv-gb", "1", "--host-kv-gb-per-s", "50")
    status, out, _ = run("simulate", path, *DEPLOYMENT, *words, "--json")
    summary = json.loads(out)
    assert status == 0
    assert summary["cache_hit_rate"] == summary["cache_hit_rate_host_kv"] > 0
    # 128 KiB of keys and values for each token of Llama-3.1-8B in bf16.
    assert summary["scheduler"]["host_kv_tokens"] == pytest.approx(1e9 / 131072, rel=1e-6)


def test_a_turn_waits_for_the_answer_before_it():
    turns = [TraceRequest(0.0, 50, 101, (), "a"), TraceRequest(0.1, 50, 1, (), "a")]
    found = served(turns)
    assert found.arrival[1] == pytest.approx(found.end_to_end[0])


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("ahead", [False, True])
def test_every_token_is_computed_whatever_the_traffic(separate: bool, ahead: bool):
    tight = POLICY._replace(kv_capacity=2500, separate_prefill=separate, kv_per_sequence=8)
    tight = tight._replace(schedules_ahead=ahead)
    random = np.random.default_rng(0)
    requests = [
        TraceRequest(float(t), int(random.integers(1, 400)), int(random.integers(1, 400)))
        for t in np.cumsum(random.exponential(0.5, 300))
    ]
    engine = Engine(TIMES, tight, OpenLoop(iter(requests)))
    found = engine.run()
    assert found.answered == 300
    assert (engine.used, engine.running, engine.decodes) == (0, 0, 0)
    assert (engine.context_sum, engine.output_to_come) == (0, 0)
    assert all(t >= 1e-3 * r.isl * 0.999 for t, r in zip(found.ttft, requests, strict=True))
    assert min(x for x in found.tpot if x == x) >= 0.01 * 0.999


@pytest.mark.parametrize("separate", [False, True])
def test_no_cache_is_lost_or_won_where_tokens_are_drafted(separate: bool):
    policy = POLICY._replace(kv_capacity=2500, separate_prefill=separate, schedules_ahead=True)
    policy = policy._replace(speculation=Speculation(3.0, 0.7))
    random = np.random.default_rng(0)
    lengths = random.integers(1, 400, (300, 2))
    requests = [TraceRequest(0.2 * i, int(a), int(b)) for i, (a, b) in enumerate(lengths)]
    engine = Engine(TIMES, policy, OpenLoop(iter(requests)))
    found = engine.run()
    assert (found.answered, engine.running, engine.decodes) == (300, 0, 0)
    assert found.preemptions > 0
    left = (engine.used, engine.context_sum, engine.output_to_come)
    assert left == pytest.approx((0, 0, 0), abs=1e-6)


# Step times


@functools.cache
def server(framework: str = "vllm", chip: str = "h100-sxm", tokens: int | None = None) -> Server:
    cells = {"chip": chip, "model": "llama-3.1-8b", "framework": framework, "n_chips": "1"}
    kv = 41408 if chip == "rtx-4090" else None
    return server_of(cells, SchedulerOptions(None, tokens, None, None, kv), FITTED)


@pytest.mark.long
def test_the_grid_gives_the_steps_that_the_model_prices():
    one = StepPredictor("h100-sxm", "llama-3.1-8b", framework="vllm")
    times = price_steps(one.chip, one.plan, one.model, 256, 8192)
    random, errors = np.random.default_rng(1), []
    for _ in range(40):
        n, k = int(random.integers(1, 200)), int(random.integers(1, 3))
        c, q = int(random.integers(200, 6000)), int(random.integers(64, 2500))
        exact = one([1] * n + [q] * k, [c - 1] * n + [0] * k)
        errors.append(times.mixed_seconds(n, c, k * q, q / 2) / exact - 1)
    # Tiles and waves are whole numbers, between which the grid is straight.
    assert abs(np.mean(errors)) < 0.02
    assert np.percentile(np.abs(errors), 90) < 0.08


def test_a_server_of_one_sequence_answers_one_after_the_other():
    cells = {"chip": "h100-sxm", "model": "llama-3.1-8b", "framework": "vllm", "n_chips": "1"}
    one = server_of(cells, SchedulerOptions(max_num_seqs=1), FITTED)
    requests = [TraceRequest(0.0, 100, 5)] * 3
    found = simulate(one, lambda i, n: OpenLoop(iter(requests)))
    assert found.answered == 3 and np.all(np.diff(found.queueing) > 4 * found.tpot[0])


def test_ten_thousand_requests_take_seconds():
    began = time.process_time()
    rate = at_a_rate(10, 10_000, Lengths(1000, 1000), 0)
    found = simulate(server(), lambda i, n: OpenLoop(rate))
    assert found.answered == 10_000
    assert time.process_time() - began < 10


# The closed form


FRAMEWORKS = {"vllm": 0.3, "trtllm": 0.2, "sglang": 0.3}
"""How far the closed form's TTFT lies above the simulation's at most, whose burst is fitted to runs."""


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_closed_loop_of_spread_lengths_is_the_closed_form(framework: str):
    users, ratio = (1, 16, 64), 0.9
    cells = {"chip": "h100-sxm", "model": "llama-3.1-8b", "framework": framework, "n_chips": "1"}
    cells |= {"tp": "1", "isl": "1024", "osl": "1024", "length_ratio": str(ratio)}
    rows = predict_changes(cells, *({"concurrency": str(c)} for c in users))
    for c, row in zip(users, rows, strict=True):
        loop = ClosedLoop(c, 10 * c, Lengths.below(1024, 1024, ratio), 0)
        found = simulate(server(framework), lambda i, n, loop=loop: loop)
        assert float(row["tpot_ms"]) == pytest.approx(1e3 * np.nanmean(found.tpot), rel=0.07)
        over = float(row["ttft_ms"]) / (1e3 * np.nanmean(found.ttft)) - 1
        assert -0.15 < over < FRAMEWORKS[framework]


IN_STEP = {"vllm": (0.75, 1.1), "trtllm": (0.95, 1.2), "sglang": (0.98, 1.03)}
"""How far the closed form's TTFT may be from the simulation's where users stay in step. vLLM's is below: the
closed form takes whole prompts into a step, and parts of steps while an answer travels.
"""


@pytest.mark.long
@pytest.mark.parametrize("framework", IN_STEP)
def test_users_who_stay_in_step_wait_as_in_the_closed_form(framework: str):
    cells = {"chip": "h100-sxm", "model": "llama-3.1-8b", "framework": framework, "n_chips": "1"}
    users = (4, 16, 64)
    cells |= {"tp": "1", "isl": "1024", "osl": "1024"}
    rows = predict_changes(cells, *({"concurrency": str(c)} for c in users))
    for c, row in zip(users, rows, strict=True):
        workload = closed_workload(c, 10 * c, Lengths(1024, 1024), 0)
        found = simulate(server(framework).serving(workload), workload.of_replica)
        low, high = IN_STEP[framework]
        assert low < float(row["ttft_ms"]) / (1e3 * np.nanmean(found.ttft)) < high
        assert float(row["tpot_ms"]) == pytest.approx(1e3 * np.nanmean(found.tpot), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["vllm", "sglang"])
def test_drafted_tokens_make_steps_as_in_the_closed_form(framework: str):
    cells = {"chip": "h100-sxm", "model": "llama-3.1-8b", "framework": framework, "n_chips": "1"}
    cells |= {"speculative_tokens": "3", "acceptance": "0.7"}
    load = {"tp": "1", "isl": "1024", "osl": "512", "length_ratio": "0.9", "concurrency": "16"}
    (row,) = predict_changes(cells | load, {})
    workload = closed_workload(16, 160, Lengths.below(1024, 512, 0.9), 0)
    drafting = server_of(cells, SchedulerOptions(), FITTED)
    found = simulate(drafting, workload.of_replica)
    assert float(row["tpot_ms"]) == pytest.approx(1e3 * np.nanmean(found.tpot), rel=0.05)


def test_equal_lengths_keep_users_in_step():
    mean = {}
    for ratio in (1.0, 0.9):
        workload = closed_workload(32, 320, Lengths.below(1024, 1024, ratio), 0)
        mean[ratio] = np.nanmean(simulate(server("sglang"), workload.of_replica).ttft)
    assert mean[1.0] > 1.5 * mean[0.9]


def test_tokens_of_a_step_have_one_default_for_both_forms():
    told = closed_workload(16, 160, Lengths(1024, 1024), 0)
    assert server("vllm").serving(told).policy.max_num_batched_tokens == 1024 + 16 + 1500
    assert server("sglang").serving(told).policy.max_num_batched_tokens == 8192
    given = server("vllm", tokens=4096).serving(told)
    assert given.policy.max_num_batched_tokens == 4096
    spread = closed_workload(16, 160, Lengths(1024, 1024, 0.1), 0)
    assert server("vllm").serving(spread) == server("vllm")
    version = find_version("sglang")
    for memory in (24e9, 48e9, 80e9, 192e9):
        budget = version.scheduler.budget(memory / 1e9, "hopper").max_num_batched_tokens
        assert float(version.batched_tokens(1024, 16, memory)) == budget


@pytest.mark.parametrize(
    ("framework", "memory", "architecture", "sequences", "tokens"),
    [
        ("vllm", 80.0, "hopper", 1024, 8192),
        ("vllm", 80.0, "ampere", 256, 2048),
        ("vllm", 48.0, "ada", 256, 2048),
        ("vllm", 768.0, "cpu", 128, 2048),
        ("vllm", 95.0, "tpu", 256, 256),
        ("vllm", 16.0, "tpu", 256, 512),
        ("sglang", 24.0, "ada", 2048, 2048),
        ("sglang", 192.0, "blackwell", 2048, 16384),
        ("trtllm", 80.0, "hopper", 2048, 8192),
        ("", 80.0, "hopper", 1024, 8192),
    ],
)
def test_a_server_that_is_told_nothing_takes_its_default(
    framework: str, memory: float, architecture: str, sequences: int, tokens: int
):
    found = find_version(framework).scheduler.budget(memory, architecture)
    assert (found.max_num_seqs, found.max_num_batched_tokens) == (sequences, tokens)


# Measured requests


@pytest.mark.long
def test_measured_requests_of_a_server_that_is_full():
    path = ROOT / "published" / "requests.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    trace = Trace(path)
    found = simulate(server("vllm", "rtx-4090"), lambda i, n: OpenLoop(trace.requests()))
    for name, values in (("ttft", found.ttft), ("tpot", found.tpot)):
        measured = np.percentile([float(row[f"measured_{name}_ms"]) for row in rows], (50, 90, 99))
        errors = 1e3 * np.percentile(values, (50, 90, 99)) / measured - 1
        # The card's steps are a sixth too slow: its constants are those of a card with ECC and less power.
        assert np.all(np.abs(errors) < 0.225), errors
        # What the scheduler makes of them is right; which requests are put out moves p90 by 1 %.
        assert np.ptp(errors) < 0.09


# Traces and the command


TRACE = '{"timestamp": %s, "input_length": %s, "output_length": %s}'
DEPLOYMENT = (
    "--chip",
    "h100-sxm",
    "--n-chips",
    "1",
    "--model",
    "llama-3.1-8b",
    "--framework",
    "vllm",
)


def write_trace(folder: Path, *lines: str) -> Path:
    path = folder / "trace.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_bad_line_is_named_and_costs_no_other(tmp_path: Path):
    good = [TRACE % (i, 100, 10) for i in range(5)]
    bad = [
        TRACE % (-1, 100, 10),
        TRACE % (1, 0, 10),
        TRACE % (1, 1e12, 10),
        TRACE % (1e300, 100, 10),
        '{"timestamp": 1, "input_length": 5}',
        "{broken",
        "x" * (1 << 21),
        TRACE % (1, '"many"', 10),
        TRACE % ("true", 5, 10),
    ]
    path = write_trace(tmp_path, *good, *bad, TRACE % (0.5, 7, 10))
    trace = Trace(path)
    found = list(trace.requests())
    assert [one.arrival for one in found] == [0, 0.5, 1, 2, 3, 4]
    assert (trace.left_out, trace.reordered) == (len(bad), 1)
    assert "line 6 has timestamp -1" in trace.complaints[0]
    status, out, err = run("simulate", path, *DEPLOYMENT, "--json")
    assert status == 0
    assert json.loads(out)["answered"] == 6
    assert "9 lines are left out" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n1,2,3\n",
            "looks like the Azure LLM inference trace",
        ),
        ('{"request_throughput": 1, "mean_ttft_ms": 2}\n', "vllm bench serve"),
        ("a,b\n1,2\n", "lacks timestamp, input_length, output_length"),
        ("", "is empty"),
        ("timestamp,input_length,output_length\n-1,2,3\n", "has no line that is a request"),
        ("[1, 2]\n", "no JSON object"),
    ],
)
def test_a_file_that_is_no_trace_is_told_in_a_sentence(text: str, said: str, tmp_path: Path):
    (tmp_path / "other").write_text(text)
    status, out, err = run("simulate", tmp_path / "other", *DEPLOYMENT, "--out", tmp_path / "out")
    assert (status, out) == (2, "")
    assert said in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--isl", "10", "--osl", "10"], "needs --requests-per-s"),
        (["--osl", "10", "--requests-per-s", "1"], "no --isl"),
        (
            ["--isl", "9", "--osl", "9", "--requests-per-s", "1", "--concurrency", "2"],
            "does not go with",
        ),
        (
            ["--isl", "9", "--osl", "9", "--concurrency", "2", "--burstiness", "1"],
            "--arrivals burst",
        ),
        (
            ["--isl", "9", "--osl", "9", "--concurrency", "2", "--length-ratio", "0.4"],
            "more than 0.5",
        ),
        (["no.jsonl"], "No such file"),
        (["no.jsonl", "--isl", "10"], "both given"),
        (["--isl", "9e5", "--osl", "9", "--concurrency", "2"], "can be answered"),
    ],
)
def test_what_does_not_go_together_is_told_in_a_sentence(words: list[str], said: str):
    status, out, err = run("simulate", *words, *DEPLOYMENT)
    assert (status, out) == (2, "")
    assert said in err


@pytest.mark.slow
def test_two_hundred_thousand_lines_are_read_as_a_stream(tmp_path: Path):
    path = tmp_path / "trace.csv"
    with path.open("w") as file:
        file.write("timestamp,input_length,output_length,hash_ids\n")
        file.writelines(f"{i},{i % 5000 + 1},10,[{i} {i + 1}]\n" for i in range(200_000))
    trace = Trace(path, "ms")
    assert trace.expected_requests() == pytest.approx(200_000, rel=0.5)
    tracemalloc.start()
    count = sum(1 for _ in trace.requests())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (count, trace.left_out) == (200_000, 0)
    assert peak < 20e6


@pytest.mark.long
def test_the_command_writes_requests_a_summary_and_a_picture(tmp_path: Path):
    out, words = (
        tmp_path / "out",
        ("--requests-per-s", "5", "--isl", "500", "--osl", "50", "--requests", "80"),
    )
    status, said, err = run(
        *("simulate", *words, *DEPLOYMENT, "--ttft-ms", "500", "--tpot-ms", "50", "--out", out)
    )
    assert (status, err) == (0, "")
    assert max(map(len, said.splitlines())) <= 100
    with (out / "requests.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ["arrival_s", "queueing_ms", "ttft_ms", "tpot_ms", "end_to_end_ms", "cached_tokens"]
    assert (len(rows), list(rows[0])) == (80, names)
    summary = json.loads((out / "summary.json").read_text())
    for name in names[1:-1]:
        found = np.percentile([float(row[name]) for row in rows], (50, 90, 95, 99))
        assert [summary[name][p] for p in ("p50", "p90", "p95", "p99")] == pytest.approx(
            found, rel=1e-5
        )
    assert {"goodput_share", "kv_use", "preemptions", "basis", "assumptions"} <= set(summary)
    assert (out / "timeline.html").read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in out.iterdir()) == [
        "requests.csv",
        "summary.json",
        "timeline.html",
    ]


def test_replicas_share_the_requests(tmp_path: Path):
    words = ("--requests-per-s", "5", "--isl", "500", "--osl", "50", "--requests", "81", "--json")
    found = run(
        "simulate", *words, *DEPLOYMENT[:2], "--n-chips", "2", *DEPLOYMENT[4:], "--replicas", "2"
    )
    assert json.loads(found[1])["answered"] == 81


def test_the_same_seed_gives_the_same_requests():
    lengths = Lengths.below(100, 100, 0.9)
    first, again = (list(at_a_rate(5, 50, lengths, seed)) for seed in (3, 3))
    assert first == again
    bursts = [one.arrival for one in at_a_rate(5, 20_000, lengths, 0, 0.25)]
    gaps = np.diff(bursts)
    assert np.mean(gaps) == pytest.approx(0.2, rel=0.05)
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(2, rel=0.05)
    assert all(a <= b for a, b in itertools.pairwise(bursts))
