"""Where weights and cache live: the fastest memory first, and the slack in bytes."""

import dataclasses

import equinox as eqx
import jax
import pytest

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.memory import NO_TIER, Memory
from perfmodel.inference.placement import cache_bytes, fill, place, sizes, weight_bytes
from perfmodel.kernels.residency import (
    Residency,
    l2_hit_rate,
    native,
    on_chip,
    replay_read_time,
    spilled,
)
from perfmodel.library.chip import load_chip
from perfmodel.resources import TIERS
from perfmodel.units import as_scalar
from perfmodel.workload.attention import Grouped, Latent, Recurrent
from perfmodel.workload.feed_forward import Dense, Mixture
from perfmodel.workload.model import Layer, Stack, Transformer
from perfmodel.workload.plan import Plan

ROUNDING = 1e-5
"""Relative: some hundred steps of float32's last digit; shares carry a guard of one byte."""


def chip_of(*capacities: float) -> Chip:
    """A chip with so many bytes open in each tier; 1 and 3 TB/s in its SRAM."""
    rates = (1e12, 3e12, 1e12, 1e12)
    tiers = [
        Memory(size, rate, 0.0, 1.0) if size else Memory(*NO_TIER)
        for size, rate in zip(capacities, rates, strict=True)
    ]
    return eqx.tree_at(lambda c: (c.private, c.shared, c.main, c.far), load_chip("h100-sxm"), tiers)


def model(attention=None, feed_forward=None) -> Transformer:
    """Two layers, 10 wide, 100 words, head and embedding apart: 2,000 numbers beside the layers."""
    return Transformer(10, 100, (Stack(Layer(attention, feed_forward), 2),))


def shares(residency: Residency) -> list[float]:
    """Of each tier."""
    return [float(getattr(residency, tier)) for tier in TIERS]


def rooms(*sizes: float) -> list:
    """As arrays."""
    return [as_scalar(size) for size in sizes]


def test_the_fastest_memory_is_filled_first():
    filled = fill(rooms(1e6, 0, 1e7, 5e6), as_scalar(4e6))
    assert shares(filled.residency) == pytest.approx([0.25, 0, 0.75, 0], rel=ROUNDING)
    assert [float(left) for left in filled.left] == [0, 0, 7e6, 5e6]
    assert filled.short == 0


def test_what_finds_no_room_is_short_and_priced_like_the_rest():
    filled = fill(rooms(1e6, 0, 3e6, 0), as_scalar(9e6))
    assert shares(filled.residency) == pytest.approx([0.25, 0, 0.75, 0], rel=ROUNDING)
    assert filled.short == 5e6


def test_without_any_room_all_is_priced_in_main_memory():
    filled = fill(rooms(0, 0, 0, 0), as_scalar(1e6))
    assert shares(filled.residency) == [0, 0, 1, 0]
    assert filled.short == 1e6


def test_room_leads_back():
    slope = jax.grad(lambda x: fill([x, *rooms(0, 1e7, 0)], as_scalar(4e6)).residency.private)
    # One more byte of SRAM holds one more of 4e6.
    assert slope(as_scalar(1e6)) == pytest.approx(1 / 4e6, rel=ROUNDING)


def test_weights_are_placed_before_the_cache():
    # Weights 2 bytes x (2 x 3 x 10 x 1000 + 2,000) = 124,000; cache 2 x 2 x 50 x (1 + 1) x 4 x 2.
    one = model(Grouped(2, 1, 4, 4), Dense(1000))
    # Attention: 10 x 16 and 8 x 10 numbers in each layer.
    size, cache = 124_000 + 2 * 2 * 240, 2 * 2 * 50 * 8 * 2
    chip = chip_of(size, 0, 1e6, 0)
    found = place(chip, Plan(), one, as_scalar(2), as_scalar(50))
    assert (found.size, found.cache_size) == (size, cache)
    assert shares(found.weights) == pytest.approx([1, 0, 0, 0], abs=1e-4)  # the guard of one byte
    assert shares(found.cache) == pytest.approx([0, 0, 1, 0], abs=1e-3)
    assert found.slack == 1e6 - cache


def test_slack_is_the_bytes_short_where_a_model_does_not_fit():
    one = model(None, Dense(1000))
    assert place(chip_of(0, 0, 1e5, 0), Plan(), one, *rooms(1, 1)).slack == 1e5 - 124_000


def test_memory_that_is_not_usable_holds_nothing():
    chip = load_chip("h100-sxm")
    found = place(chip, Plan(), model(None, Dense(1000)), *rooms(1, 1))
    assert found.weights.private == found.weights.shared == 0
    # 0.92 of 80 GB; float32 counts steps of 8 kB there.
    assert found.slack == pytest.approx(73.6e9 - 124_000, abs=1e4)


@pytest.mark.parametrize(("dtype", "size"), [("bf16", 2), ("fp8", 1), ("int4", 0.515625)])
def test_embeddings_keep_their_format(dtype: str, size: float):
    found = weight_bytes(model(None, Dense(1000)), Plan(weights=dtype))
    assert found == 60_000 * size + 2_000 * 2


def test_ranks_divide_the_weights():
    one = model(None, Dense(1000))
    assert weight_bytes(one, Plan(tp=4)) == 31_000
    assert weight_bytes(one, Plan(pp=2)) == 62_000
    assert weight_bytes(one, Plan(dp=2)) == 124_000


def test_experts_are_spread_over_data_ranks_too():
    # 4 experts of 3 x 10 x 50, and a router of 10 x 4, in each of two layers; embeddings 4,000 bytes.
    one = model(None, Mixture(4, 2, 50))
    # Each rank has the whole router.
    assert weight_bytes(one, Plan(dp=2)) == 2 * 2 * (6_000 / 2 + 40) + 4_000
    assert weight_bytes(one, Plan(tp=2)) == 2 * 2 * (6_000 / 2 + 40) + 4_000 / 2


def test_shared_experts_are_copied_for_data_ranks_and_keep_the_format_of_dense_layers():
    one = model(None, Mixture(4, 2, 50, shared=100))
    more = weight_bytes(one, Plan(dp=2)) - weight_bytes(model(None, Mixture(4, 2, 50)), Plan(dp=2))
    assert more == 2 * 2 * 3 * 10 * 100
    narrow = dataclasses.replace(one, narrow="experts")
    experts, rest = 2 * 4 * 3 * 10 * 50, 2 * (3 * 10 * 100 + 40) + 2_000
    assert weight_bytes(narrow, Plan(weights="nvfp4")) == 0.5625 * experts + 2 * rest


def test_a_cache_is_divided_by_ranks_down_to_one_head():
    one = model(Grouped(8, 2, 4, 4))
    # 3 sequences x 100 tokens x 2 layers x 2 heads x 8 numbers of 2 bytes.
    whole = 3 * 100 * 2 * 2 * 8 * 2
    for plan, part in (
        (Plan(), 1),
        (Plan(tp=2), 2),
        (Plan(tp=8), 2),
        (Plan(dp=3), 3),
        (Plan(pp=2), 2),
        (Plan(cache="fp8"), 2),
    ):
        assert cache_bytes(one, plan, *rooms(3, 100)) == whole / part


def test_latents_are_copied_to_every_rank():
    one = model(Latent(8, 0, 12, 4, 4, 4))
    sizes = rooms(3, 100)
    assert cache_bytes(one, Plan(tp=8), *sizes) == cache_bytes(one, Plan(), *sizes) == 19_200


def test_a_state_is_kept_in_single_precision():
    # 4 heads of 8 x 8 and 3 taps of 96 channels, in each of two layers, 4 bytes each.
    one = model(Recurrent(4, 8, 8, 100, 96, 4))
    for context in (1, 10_000):
        assert cache_bytes(one, Plan(), *rooms(3, context)) == 3 * 2 * (256 + 288) * 4


def test_layers_without_attention_cache_nothing():
    assert cache_bytes(model(None, Dense(10)), Plan(), *rooms(3, 100)) == 0


@pytest.mark.parametrize(
    ("capacities", "residency"),
    [
        ((1e6, 2e6, 1e9, 0), [0, 0, 1, 0]),
        ((1e6, 2e6, 0, 0), [0, 1, 0, 0]),
        ((1e6, 0, 0, 1e9), [1, 0, 0, 0]),
        ((0, 0, 1, 0), [0, 0, 1, 0]),
        ((1e6, 1e6, 0, 0), [1, 0, 0, 0]),
    ],
)
def test_a_chip_keeps_operands_in_main_memory_else_in_sram(capacities, residency):
    assert shares(native(chip_of(*capacities))) == residency


def test_an_operand_is_read_in_parts():
    found = Residency(0.25, 0.25, 0.5, 0).traffic(as_scalar(100))
    assert {tier: float(x) for tier, x in found.items()} == {
        "private": 25,
        "shared": 25,
        "main": 50,
        "far": 0,
    }
    assert shares(Residency.main_memory()) == [0, 0, 1, 0]
    assert Residency.main_memory().traffic(as_scalar(100))["main"] == 100


def test_what_fits_stays_and_what_does_not_spills():
    chip = chip_of(1e6, 3e6, 1e9, 0)
    # 4 MB of SRAM: of 40 kB nothing spills, of 400 MB 99 %; at 4 MB the bend spills 1 - 2^(-1/4).
    for size, share in ((4e4, 0.0), (4e8, 0.99), (4e6, 1 - 2**-0.25)):
        assert spilled(chip, as_scalar(size)) == pytest.approx(share, abs=1e-6)


def test_without_sram_all_spills():
    assert spilled(chip_of(0, 0, 1e9, 0), as_scalar(1e6)) == 1


def test_data_on_chip_use_both_kinds_of_sram_by_their_bandwidths():
    # 1 and 3 TB/s.
    found = on_chip(chip_of(1e6, 1e6, 0, 0), as_scalar(100))
    assert found["private"] == pytest.approx(25, rel=ROUNDING)
    assert found["shared"] == pytest.approx(75, rel=ROUNDING)
    assert on_chip(chip_of(1e6, 0, 0, 0), as_scalar(100))["private"] == 100


def test_without_sram_nothing_is_undefined():
    found = on_chip(chip_of(0, 0, 1e9, 0), as_scalar(100))
    assert (found["private"], found["shared"]) == (0, 100)


def test_sram_of_one_byte_per_second_is_there():
    chip = eqx.tree_at(lambda c: c.private.bandwidth, chip_of(1e6, 0, 1e9, 0), as_scalar(1.0))
    found = on_chip(chip, as_scalar(100))
    assert (found["private"], found["shared"]) == (100, 0)


def replaying(staged: float):
    """A chip whose shared tier holds 6 bytes in two parts, read at 1 byte/s, over memory of 8 bytes/s."""
    shared = Memory(6.0, 1.0, 0.0, 0.0, parts=2.0, staged=staged)
    chip = eqx.tree_at(lambda c: c.shared, chip_of(0, 0, 1e9, 0), shared)
    return eqx.tree_at(lambda c: c.main.bandwidth, chip, as_scalar(8.0))


def test_what_a_benchmark_replays_stays_in_a_cache_as_far_as_it_fits():
    chip, fitted = replaying(0.0), load_chip("h100-sxm").efficiency.gemm
    # Twice the room: (1/2)^2 against 1: 0.8 of it stays, of half of that 0.2.
    assert l2_hit_rate(chip, *rooms(2, 2e6, 1e6)) == pytest.approx(0.8, rel=ROUNDING)
    assert l2_hit_rate(chip, *rooms(2, 1e6, 2e6)) == pytest.approx(0.2, rel=ROUNDING)
    changed = {
        "l2_hit_capacity": 2.0,
        "l2_hit_sharpness": 1.0,
        "streaming": 0.5,
        "l2_bandwidth": 1.0,
    }
    fitted = eqx.tree_at(
        lambda f: [getattr(f, n) for n in changed], fitted, rooms(*changed.values())
    )
    # A part of 3 bytes and one of guard, times 2, hold half of 8 bytes. The other half takes the time of
    # main memory; what stays takes 8 x 0.5 / (1 x 1 + 1) = 2 of it.
    assert replay_read_time(chip, fitted, as_scalar(8.0)) == pytest.approx(1.5, rel=ROUNDING)


def test_a_scratchpad_keeps_nothing_of_what_a_benchmark_replays():
    fitted = load_chip("tpu-v5e").efficiency.gemm
    assert l2_hit_rate(replaying(1.0), *rooms(2, 2e6, 1e6)) == 0
    assert replay_read_time(load_chip("tpu-v5e"), fitted, as_scalar(1e3)) == 1


def test_checkpoints_in_four_bits_keep_what_they_leave_out():
    attention = Grouped(heads=8, kv_heads=8, key=16, value=16)
    layer = Layer(attention, Dense(1000))
    sizes = {
        scope: float(weight_bytes(_one(layer, scope), Plan(weights="nvfp4")))
        for scope in ("all", "feed_forward", "experts")
    }
    kept = 4 * 8 * 16 * 128  # four products of attention
    wide = {"all": 0, "feed_forward": kept, "experts": kept + 3 * 128 * 1000}
    for scope, numbers in wide.items():
        assert sizes[scope] - sizes["all"] == pytest.approx((2 - 0.5625) * numbers)
    eight = [weight_bytes(_one(layer, scope), Plan(weights="fp8")) for scope in wide]
    assert eight[0] == eight[1] == eight[2]


def _one(layer: Layer, scope) -> Transformer:
    return Transformer(128, 1, (Stack(layer, 1),), narrow=scope)


def test_shares_are_of_what_was_placed_and_a_guard_of_one_byte():
    # 3 bytes in rooms of 1 and 3: one and two of them, over 3 + 1.
    filled = fill(rooms(1, 0, 3, 0), as_scalar(3))
    assert shares(filled.residency) == [0.25, 0, 0.5, 0]
    assert [float(left) for left in filled.left] == [0, 0, 1, 0]
    assert shares(fill(rooms(0, 2, 0, 2), as_scalar(3)).residency) == [0, 0.5, 0, 0.25]
    assert shares(fill(rooms(1, 0, 0, 0), as_scalar(1)).residency) == [0.5, 0, 0, 0]


def test_a_cache_that_overflows_lies_in_far_memory_where_weights_may_not():
    # 124,960 bytes of weights; 3,200 of cache for two sequences of 50 tokens, half of which fits beside.
    one = model(Grouped(2, 1, 4, 4), Dense(1000))
    size, cache = 124_000 + 2 * 2 * 240, 2 * 2 * 50 * 8 * 2
    chip, plan = chip_of(0, 0, size + cache / 2, 1e6), Plan(overflows=True)
    found = place(chip, plan, one, *rooms(2, 50))
    assert shares(found.weights) == pytest.approx([0, 0, 1, 0], abs=1e-4)
    assert shares(found.cache) == pytest.approx([0, 0, 0.5, 0.5], abs=1e-3)
    assert found.slack == cache / 2
    assert sizes(chip, plan, one, *rooms(0, 50)).slack == cache / 2
    # What is free is far memory's where the cache asks for more than lies beside the weights.
    assert sizes(chip, plan, one, *rooms(1_000, 50)).slack == 1e6 + cache / 2 - 500 * cache
    assert sizes(chip_of(0, 0, 1e6, 0), plan, one, *rooms(0, 50)).slack == 1e6 - size


def test_far_memory_holds_weights_where_no_cache_overflows():
    found = place(chip_of(0, 0, 62_000, 1e6), Plan(), model(None, Dense(1000)), *rooms(1, 1))
    assert shares(found.weights) == pytest.approx([0, 0, 0.5, 0.5], abs=1e-4)


def test_a_tied_embedding_is_stored_once():
    one = dataclasses.replace(model(None, Dense(1000)), tied=True)
    assert weight_bytes(one, Plan()) == 120_000 + 2_000
    assert weight_bytes(one, Plan(tp=4, pp=2)) == (120_000 + 2_000) / 8


def test_attention_beside_experts_is_cut_over_tensor_ranks_and_copied_to_data_ranks():
    # Attention 240, experts 6,000, router 40 in each of two layers; embeddings 4,000 bytes.
    one = model(Grouped(2, 1, 4, 4), Mixture(4, 2, 50))
    layer = 2 * ((240 + 6_000 / 2) / 2 + 40)
    assert weight_bytes(one, Plan(tp=2, dp=2)) == 2 * layer + 4_000 / 2


def test_a_router_is_as_wide_as_what_a_checkpoint_keeps():
    one = model(None, Mixture(4, 2, 50))
    assert weight_bytes(one, Plan(weights="int4")) == 2 * (0.515625 * 6_000 + 2 * 40) + 4_000
    assert weight_bytes(one, Plan(unquantised="fp32")) == 2 * (2 * 6_000 + 4 * 40) + 8_000


def test_states_are_cut_over_tensor_ranks():
    one = model(Recurrent(4, 8, 8, 100, 96, 4))
    assert cache_bytes(one, Plan(tp=2), *rooms(3, 10)) == 3 * 2 * (256 + 288) * 4 / 2
