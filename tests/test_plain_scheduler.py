"""The scheduler that takes steps together does as one that takes each alone, whatever policy and traffic."""

import math

import numpy as np
import pytest
from plain_scheduler import PlainEngine

from perfmodel.inference.scheduler import Engine, Policy, Speculation, TraceRequest
from perfmodel.inference.step_times import StepTimes
from perfmodel.inference.traffic import OpenLoop


def _times(by_context: float) -> StepTimes:
    """Linear in each of four: sequences, their context, new tokens, and what these attend to."""
    one, two = [1.0, 2.0], [0.0, 1000.0]
    decode = [[0.01 + 1e-3 * n + by_context * n * c for c in two] for n in one]
    prompt = [[1e-3 * q * (1 + 1e-3 * a) for a in two] for q in one]
    mixed = [[[[d + q for q in of] for of in prompt] for d in row] for row in decode]
    return StepTimes(one, two, one, two, decode, prompt, mixed)


def _policy(random: np.random.Generator) -> Policy:
    def yes() -> bool:
        return bool(random.integers(2))

    drafts = float(random.integers(0, 3)) if yes() else 0.0
    return Policy(
        max_num_seqs=int(random.integers(2, 9)),
        max_num_batched_tokens=int(random.integers(30, 200)),
        chunked_prefill=yes(),
        separate_prefill=yes(),
        admitted_output=float(random.choice([0.0, 0.4, 1.0])),
        kv_capacity=float(random.integers(150, 500)),
        kv_per_sequence=float(random.choice([0, 8])),
        delay=float(random.choice([0.0, 0.0123])),
        schedules_ahead=yes(),
        speculation=Speculation(drafts, 1.0),
        delay_per_token=float(random.choice([0.0, 1.7e-4])),
        read_interval=int(random.choice([1, 1, 5])),
    )


def _requests(random: np.random.Generator, gap: float) -> list[TraceRequest]:
    arrivals = np.cumsum(random.exponential(gap, 30)) if gap else np.zeros(30)
    return [
        TraceRequest(float(at), int(random.integers(1, 120)), int(random.integers(1, 80)),
                     prefix_tokens=int(random.choice([0, 0, 20])))
        for at in arrivals
    ]  # fmt: skip


SEEDS = range(25)
# Where times grow with the context, when a request is seen is only as exact as the middle step's time.
TRAFFIC = ((0.0, 1e-5), (0.0, 0.0), (0.3, 0.0), (2.0, 0.0))


@pytest.mark.parametrize(("gap", "by_context"), TRAFFIC)
def test_steps_taken_together_are_the_steps_taken_alone(gap: float, by_context: float):
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        policy, requests = _policy(random), _requests(random, gap)
        times = _times(by_context)
        found = Engine(times, policy, OpenLoop(iter(requests))).run()
        plain = PlainEngine(times, policy, requests)
        served = plain.run()
        done = [i for i, x in enumerate(found.end_to_end) if math.isfinite(x)]
        for name, values in {
            "end_to_end": [one.end - one.request.arrival for one in served],
            "ttft": [one.first - one.request.arrival for one in served],
            "queueing": [one.admitted - one.ready for one in served],
            "cached": [one.cached for one in served],
        }.items():
            own = [getattr(found, name)[i] for i in done]
            assert own == pytest.approx(values, rel=1e-6, abs=1e-9), (seed, name, policy)
        assert (found.steps, found.preemptions) == (plain.steps, plain.preemptions), seed


def test_a_request_is_seen_after_the_step_in_which_it_comes_whatever_steps_take():
    # A prompt of 10 tokens takes 10.05 ms; then a step of a context of 11 tokens takes 11 + 11 ms.
    times, policy = _times(1e-3), Policy(8, 100, True, False, 0.0, 1e6, 0.0, 0.0)
    prompt = times.prompt_seconds(10, 5)
    step = times.decode_seconds(1, 11)
    assert step == pytest.approx(0.022)
    for share, steps in ((0.99, 1), (1.01, 2)):
        requests = [TraceRequest(0.0, 10, 9), TraceRequest(prompt + share * step, 20, 1)]
        found = Engine(times, policy, OpenLoop(iter(requests))).run()
        waited = sum(times.decode_seconds(1, 11 + i) for i in range(steps)) - share * step
        assert found.queueing[1] == pytest.approx(waited), share


def test_no_answer_takes_fewer_steps_than_if_every_draft_held():
    random = np.random.default_rng(0)
    for drafts, tokens, least in ((2.0, 3, 1), (2.0, 7, 3), (1.0, 4, 2)):
        steps = [Speculation(drafts, 0.8).steps_for(tokens, random) for _ in range(300)]
        assert min(steps) == least and max(steps) <= tokens
