"""Steps of a batch of requests: those of the passes they are priced by, conserved sums, ranks, mistakes."""

import functools
from typing import Any

import jax
import numpy as np
import pytest

import perfmodel as pm
from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.closed_loop import Steps
from perfmodel.inference.service import steps_of
from perfmodel.inference.step import costs, prompt_pass, stage_busy_time
from perfmodel.inference.step_predictor import StepNumbers, StepPredictor
from perfmodel.units import as_scalar

EXACT = 1e-6
"""A few roundings in single precision: both sides are one formula."""


@functools.cache
def predictor(chip: str = "h100-sxm", framework: str = "vllm", **ranks: Any) -> StepPredictor:
    return pm.StepPredictor(
        chip, "llama-3.2-1b", precision="fp8", kv_precision="fp8", framework=framework, **ranks
    )


@functools.cache
def steps() -> Steps:
    """Of 16 users with prompts of 1,000 tokens and outputs of 500, as a service has them."""
    one, request = predictor(), pm.Request(16.0, 1000.0, 500.0, 1.0)
    priced = jax.jit(lambda: steps_of(one.chip, one.plan, one.model, request, as_scalar(16.0)))
    return priced().steps


DECODING = [1] * 16, [1249] * 16
"""In the middle of their outputs: 1,250 tokens with the new one."""


@pytest.mark.long
def test_requests_that_decode_take_a_decode_step_and_a_service_s():
    one = predictor()
    step = jax.jit(pm.decode_step)(one.chip, one.plan, one.model, as_scalar(16), as_scalar(1250))
    assert one(*DECODING) == pytest.approx(float(step.time), rel=EXACT)
    assert one(*DECODING) == pytest.approx(float(steps().step), rel=EXACT)


@pytest.mark.long
def test_a_prompt_takes_a_prefill_and_a_service_s_with_its_cached_prefix():
    one = predictor()
    sizes = (as_scalar(x) for x in (1, 1000, 1600))
    prompt = jax.jit(pm.prefill)(one.chip, one.plan, one.model, *sizes)
    assert one([1000], [600]) == pytest.approx(float(prompt.time), rel=EXACT)
    assert one([1000], [0]) == pytest.approx(float(steps().prompt), rel=EXACT)


@pytest.mark.long
def test_a_prompt_beside_texts_makes_a_step_longer_as_in_a_service():
    one = predictor()
    mixed = one([*DECODING[0], 1000], [*DECODING[1], 0])
    # The difference of two steps, each to a millionth.
    assert mixed - one(*DECODING) == pytest.approx(
        float(steps().prefill_interference), abs=EXACT * mixed
    )
    assert one(*DECODING) < mixed < one(*DECODING) + one([1000], [0])


def test_what_requests_sum_to_is_conserved_as_worked_by_hand():
    # 1000 x 500 + 3000 x (1000 + 1500) = 8e6 pairs of 4,000 tokens: 2,000 each, at 2,000 + 1,000.
    found = predictor().numbers([1, 1000, 1, 3000], [99, 0, 299, 1000])
    assert found.decoding == pytest.approx([2, 200])
    assert found.prompts == pytest.approx([2, 2000, 3000])
    assert predictor()([1, 1], [99, 299]) == predictor()([1, 1], [199, 199])


@pytest.mark.long
def test_many_steps_take_what_each_takes_alone():
    batches = [DECODING, ([700, 300], [0, 50]), ([], []), ([1, 64], [500, 0]), ([1], [10])]
    found = predictor().many(batches)
    assert found == pytest.approx([predictor()(*batch) for batch in batches], rel=EXACT)
    assert found[2] == 0 and (np.delete(found, 2) > 0).all()
    assert predictor().many([]).shape == (0,)


@pytest.mark.long
def test_the_busiest_data_rank_sets_the_time():
    both = predictor(dp=2)
    assert both.parallelism == Parallelism(1, 1, 1, 2)
    text = [1, 1], [500, 500]
    assert both([1, 1, 256], [500, 500, 0]) == both([1, 1, 256, 256], [500, 500, 0, 0])
    assert both([1, 256], [500, 0]) == both([1, 1, 256], [500, 500, 0]) > both(*text)


@pytest.mark.long
def test_on_chips_that_are_not_launched_prompts_keep_the_stages_busy_beside_a_step():
    wafers = predictor("wse-3", "", tp=1, pp=1)
    sizes = (as_scalar(x) for x in (1, 256, 256))
    prompt = prompt_pass(wafers.chip, wafers.plan, wafers.model, *sizes)
    time = jax.jit(lambda: costs(wafers.chip, wafers.plan, wafers.model, [prompt])[0].time)()
    added = wafers([1, 256], [500, 0]) - wafers([1], [500])
    assert added == pytest.approx(float(stage_busy_time(prompt, time)), rel=1e-3)


@pytest.mark.long
def test_seconds_have_a_gradient_to_the_chip_and_to_what_is_asked():
    smooth = predictor(framework="")
    numbers = StepNumbers(np.array([16.0, 8000.0], np.float32), None)

    def seconds(factor, numbers):
        return smooth.seconds(pm.turn(smooth.chip, {"bandwidth": factor}), numbers)

    slopes = jax.jit(jax.grad(seconds, argnums=(0, 1)))(as_scalar(1.0), numbers)
    longer, shorter = (smooth([1] * 16, [7999 + by] * 16) for by in (400, -400))
    # Seconds of single precision over a tenth of the context: 0.1 %; the curve adds as much.
    assert slopes[1].decoding[1] == pytest.approx((longer - shorter) / 800, rel=1e-2)
    assert slopes[0] < 0


def test_it_tells_the_plan_that_it_took():
    assert predictor(n_chips=8).parallelism == Parallelism(8, 1, 1, 1)
    assert predictor(tp=2, dp=2).parallelism == Parallelism(2, 1, 1, 2)
    assert predictor().parallelism.chips == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"chip": "h100-sxmm"}, "h100-sxm"),
        ({"framework": "sglangg"}, "framework"),
        ({"tp": 3}, "tp is 3, which does not divide"),
        ({"n_chips": 8, "tp": 4, "pp": 1}, "n_chips is tp x pp x dp"),
        ({"n_chips": -1}, "allowed are numbers greater than zero"),
        ({"chip": "lpu-v1", "framework": "", "n_chips": 8}, "Give tp and pp of one of them"),
    ],
)
def test_names_and_ranks_that_cannot_be_are_refused(words: dict, said: str):
    with pytest.raises(pm.InputError, match=said):
        predictor(**words)


@pytest.mark.parametrize(
    ("new", "cached", "said"),
    [
        ([1, 1], [5], "of 2 requests and cached_tokens of 1"),
        ([0], [5], "new_tokens holds 0; allowed are numbers from 1"),
        ([1], [-1], "cached_tokens holds -1"),
        ([float("nan")], [1], "new_tokens holds nan"),
    ],
)
def test_tokens_that_cannot_be_are_refused(new: list, cached: list, said: str):
    with pytest.raises(pm.InputError, match=said):
        predictor()(new, cached)
