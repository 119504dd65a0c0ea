"""A whole decode step against what is measured, and for every model of the library."""

import dataclasses

import jax
import numpy as np
import pytest

from perfmodel.hardware.chip import restrict
from perfmodel.hardware.parameters import HostEfficiency
from perfmodel.inference.step import (
    decode_pass,
    decode_step,
    host_time,
    mixed_pass,
    prompt_pass,
)
from perfmodel.kernels.backends import backends_of
from perfmodel.library.chip import load_chip
from perfmodel.library.model import load_model, model_files
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.model import Transformer, traced
from perfmodel.workload.plan import Plan

UNLIKE = ("llama-3.1-8b", "deepseek-v3", "gpt-oss-20b", "gemma-2-9b", "qwen3-next-80b-a3b")
"""Grouped and dense; latent and mixed; windows; soft-capped windows; linear attention."""


@jax.jit
def decode(chip, plan, model, batch, context):
    return decode_step(chip, plan, model, as_scalar(batch), as_scalar(context))


MEASURED = 14.5e-3
"""Seconds of a step of Llama 70B on eight H100, with 32 sequences of 4,096 tokens."""


def llama_70b(framework: str) -> float:
    own = backends_of(framework, "hopper", "fp8")
    plan = Plan(tp=8.0, weights="fp8", cache="fp8", framework=framework or None, **own)
    chip, model = load_chip("h100-sxm", plan), traced(load_model("llama-3.1-70b"))
    return float(decode(chip, plan, model, 32.0, 4096.0).time)


@pytest.mark.long
@pytest.mark.parametrize("framework", ["trtllm", "vllm"])
def test_llama_70b_on_eight_h100_takes_what_is_measured(framework: str):
    # A quarter is what frameworks differ by among each other.
    assert llama_70b(framework) == pytest.approx(MEASURED, rel=0.25)


@pytest.mark.long
def test_the_best_schedule_is_faster_than_any_framework_s_but_not_by_much():
    fastest = min(map(llama_70b, ("trtllm", "vllm", "sglang")))
    assert 0.65 * fastest < llama_70b("") < fastest


CUT_INTO_LITTLE = Plan(weights="fp8_block")
"""One H100 in a format whose products start within 0.7 us, while gaps hide 1.9 us of each launch."""


@jax.jit
def _latency_and_host(model: Transformer) -> tuple[Scalar, Scalar]:
    chip = load_chip("h100-sxm", CUT_INTO_LITTLE)
    step = decode_step(chip, CUT_INTO_LITTLE, model, as_scalar(1.0), as_scalar(128.0))
    fixed = host_time(chip.efficiency.host, as_scalar(0.0), as_scalar(1.0), 0.0)
    return step.breakdown.by_term()["latency"], fixed


@pytest.mark.long
def test_the_best_schedule_hides_no_more_of_a_launch_than_there_is():
    latency, fixed = _latency_and_host(traced(load_model("llama-3.2-1b")))
    assert float(latency) > float(fixed) > 0


def test_gaps_of_a_framework_are_taken_as_they_were_fitted():
    host = HostEfficiency(*map(as_scalar, (1e-4, 1e-5, -2e-6, 5e-6, 0.05, 0.0, 1.5, 0.0)))
    assert float(host_time(host, as_scalar(300.0), as_scalar(4.0), 0.0)) == pytest.approx(-4.6e-4)


def test_kernels_of_a_step_with_prompts_are_launched_without_a_graph():
    # 300 kernels, each 5 us later.
    host = HostEfficiency(*map(as_scalar, (1e-4, 1e-5, -2e-6, 5e-6, 0.05, 0.0, 1.5, 0.0)))
    assert float(host_time(host, as_scalar(300.0), as_scalar(4.0), 1.0)) == pytest.approx(1.04e-3)
    chip, plan = load_chip("h100-sxm", CUT_INTO_LITTLE), CUT_INTO_LITTLE
    model, one, tokens = traced(load_model("llama-3.2-1b")), as_scalar(1.0), as_scalar(128.0)
    decoding = one, tokens, as_scalar(0.0)
    passes = (
        decode_pass(chip, plan, model, one, tokens),
        prompt_pass(chip, plan, model, one, tokens, tokens),
        mixed_pass(chip, plan, model, decoding, (one, tokens, tokens)),
    )
    assert [each.prompts for each in passes] == [0.0, 1.0, 1.0]


def priced(name: str) -> None:
    chip = restrict(load_chip("b200-sxm"), ["bf16"])
    model = traced(load_model(name))
    step = decode(chip, Plan(tp=8.0), model, 4.0, 2048.0)
    assert np.isfinite(step.time) and step.time > 0, name
    assert np.all(np.isfinite(step.breakdown.seconds))
    # Even the largest takes less than a second a token: its active weights are read once.
    assert step.time < 1.0
    longer = decode(chip, Plan(tp=8.0), model, 4.0, 65536.0)
    assert longer.time >= step.time * (1 - 1e-5)


@pytest.mark.long
@pytest.mark.parametrize("name", UNLIKE)
def test_models_of_every_structure_can_be_priced(name: str):
    priced(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(model_files()))
def test_every_model_of_the_library_can_be_priced(name: str):
    priced(name)


def test_what_does_not_fit_has_negative_slack_and_a_time():
    chip, model = load_chip("h100-sxm"), traced(load_model("llama-3.1-8b"))
    chip = restrict(chip, ["bf16"])
    small = dataclasses.replace(chip, main=dataclasses.replace(chip.main, capacity=as_scalar(10e9)))
    step = decode(small, Plan(), model, 4.0, 2048.0)
    # 16.06 GB of weights and 1.07 GB of cache in 9.2 GB.
    assert step.placement.slack < -6e9
    assert np.isfinite(step.time)
