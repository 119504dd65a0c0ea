"""Attention and feed-forward layers on chips of their own, with a link between."""

import jax.numpy as jnp
import numpy as np
import pytest
from command import predict_changes

from perfmodel.inference.attention_ffn import (
    Link,
    MicroBatches,
    Side,
    _link_time,
    _step_of_both,
    attention_and_ffn,
    crossings,
)
from perfmodel.inference.pools import resolve_attention_ffn, serve_pooled
from perfmodel.library.chip import load_chip
from perfmodel.library.fitted import FITTED
from perfmodel.library.model import load_model
from perfmodel.units import as_scalar
from perfmodel.workload.model import parameters, traced
from perfmodel.workload.plan import Plan


@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3", "gpt-oss-20b"])
def test_the_halves_have_all_of_the_model_once(name: str):
    model = load_model(name)
    first, second = attention_and_ffn(model)
    assert parameters(first) + parameters(second) == parameters(model)


def test_activations_cross_twice_in_each_layer():
    assert crossings(load_model("llama-3.1-8b")) == 2 * 32


def _turns(through: float, micro: float) -> MicroBatches:
    one = as_scalar(through)
    return MicroBatches(one, one * micro, one, jnp.zeros(6))


@pytest.mark.parametrize(("micro", "step"), [(1.0, 1 + 2 + 0.5), (2.0, 2 * 2.0), (3.0, 3 * 2.0)])
def test_micro_batches_take_turns_and_the_slower_half_sets_the_pace(micro: float, step: float):
    found = _step_of_both(
        [_turns(1.0, micro), _turns(2.0, micro)], as_scalar(0.5), as_scalar(micro)
    )
    assert float(found.step) == pytest.approx(step)
    assert float(found.busy[1]) == pytest.approx(2.0 * micro / step)
    assert float(found.latency) == 3.5


@pytest.mark.parametrize("widths", [(2.0, 8.0), (8.0, 2.0)])
def test_the_narrower_side_limits_what_crosses(widths: tuple[float, float]):
    model, chip = traced(load_model("llama-3.1-8b")), load_chip("h100-sxm")
    sides = tuple(Side(chip, Plan(tp=width), model) for width in widths)
    link = Link(as_scalar(1e9), as_scalar(1e-6))
    seconds = _link_time(sides, link, model, as_scalar(100.0))
    # 64 times the latency and 100 tokens x 4,096 x 2 bytes, over two links of 1 GB/s
    assert float(seconds) == pytest.approx(64 * (1e-6 + 100 * 4096 * 2 / 2e9))


CELLS = {"chip": "h100", "n_chips": "16", "model": "llama-3.1-8b", "isl": "1000", "osl": "500"}
CELLS |= {"concurrency": "32", "ffn_chip": "h100", "ffn_tp": "8"}


def _predicted(*changes: dict[str, str]) -> list[dict[str, str]]:
    return predict_changes(CELLS, *changes)


@pytest.mark.long
def test_a_slow_link_makes_tokens_slow_and_the_halves_idle():
    fast, slow = _predicted(
        {"link_gb_per_s": "450", "link_us": "1"}, {"link_gb_per_s": "10", "link_us": "100"}
    )
    assert float(slow["tpot_ms"]) > 1.5 * float(fast["tpot_ms"])
    assert float(slow["ffn_busy"]) < float(fast["ffn_busy"]) <= 1
    assert fast["n_chips"] == "16" and fast["ffn_tp"] == "8" and fast["error"] == ""
    # 32 layers, there and back: 64 messages of 100 us at least.
    assert float(slow["tpot_ms"]) > 6.4


@pytest.mark.long
def test_a_prefix_that_is_there_is_not_computed_again():
    alone = {"concurrency": "1", "isl": "4096", "link_us": "1"}
    whole, half, most = _predicted(*(alone | {"prefix_tokens": n} for n in ("0", "2048", "4000")))
    times = [float(row["ttft_ms"]) for row in (whole, half, most)]
    # The second half is read with more text before it than the first.
    first, second = times[1] - times[2], times[0] - times[1]
    assert 0 < 0.8 * first < second < 1.25 * first * 2048 / 1952


@pytest.mark.long
def test_both_halves_are_served_in_every_way_with_the_ranks_of_their_own():
    pair = resolve_attention_ffn(0, CELLS | {"tp": "2", "ffn_tp": ""}, FITTED)
    rows, served = serve_pooled([pair])
    assert [way for _, way in rows] == pair.candidates and len(served.tpot) == len(
        pair.candidates
    ) > 1
    assert all(way.chips == 16 for way in pair.candidates)
    assert len({*map(float, served.tpot)}) == len(pair.candidates)


def test_experts_are_not_spread_over_the_chips_of_attention():
    mixture = CELLS | {"model": "gpt-oss-20b", "ffn_tp": ""}
    sides = [way.parallelisms for way in resolve_attention_ffn(0, mixture, FITTED).candidates]
    assert {attention.ep for attention, _ in sides} == {1}
    assert max(experts.ep for _, experts in sides) > 1
    assert len({*sides}) == len(sides)


@pytest.mark.slow
def test_feed_forward_layers_may_lie_in_sram():
    (hybrid,) = _predicted({"ffn_chip": "lpu-v1", "ffn_tp": "", "n_chips": "", "tp": "8"})
    assert hybrid["error"] == "" and hybrid["fits"] == "true"
    assert float(hybrid["ffn_tp"]) * float(hybrid["ffn_pp"]) + 8 == float(hybrid["n_chips"])
    assert np.isfinite(float(hybrid["usd_per_million_output_tokens"]))


def test_one_sequence_is_one_micro_batch():
    (alone,) = _predicted({"concurrency": "1"})
    assert alone["micro_batches"] == "1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ffn_chip": "h1000"}, "feed-forward chips: "),
        ({"mode": "disaggregated"}, "leave one of them"),
        ({"concurrency": "", "requests_per_s": "1"}, "give users who wait"),
        ({"link_us": "-1"}, "link_us"),
        ({"link_gb_per_s": "fast"}, "not a number"),
    ],
)
def test_halves_that_cannot_be_are_refused_in_one_sentence(change: dict[str, str], said: str):
    (found,) = _predicted(change)
    assert said in found["error"] and found["tpot_ms"] == ""
