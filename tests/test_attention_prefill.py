"""Attention of prompts: pairs, tiles, windows."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import pytest
from attention import EXACT, ROUNDING, prefill, shape

from perfmodel.kernels.attention import causal_pairs, expanded
from perfmodel.kernels.attention_prefill import attention_prefill
from perfmodel.kernels.backends.flash_attention_2 import FLASH_ATTENTION_2
from perfmodel.kernels.backends.flash_attention_3 import FLASH_ATTENTION_3
from perfmodel.kernels.backends.flashinfer import FLASHINFER_SGLANG
from perfmodel.kernels.backends.trtllm_gen import FLASHINFER_TRTLLM_GEN
from perfmodel.kernels.backends.xpu import XPU
from perfmodel.kernels.backends.xqa import XQA
from perfmodel.library.chip import load_chip
from perfmodel.roofline import Work
from perfmodel.units import as_scalar
from perfmodel.workload.backend import SMOOTH_ATTENTION, AttentionBackend
from perfmodel.workload.plan import Plan

MLA_EXPANDED = tuple(map(as_scalar, (128, 128, 64, 128)))


@pytest.mark.parametrize("queries", [1, 5, 12])
@pytest.mark.parametrize("prefix", [0, 3, 20])
@pytest.mark.parametrize("window", [1, 4, 10, 100])
def test_visible_pairs_are_those_of_a_mask(queries: int, prefix: int, window: int):
    # Token i of the new ones sees itself, those before it and the prefix, at most `window` in all.
    expected = sum(min(prefix + i, window) for i in range(1, queries + 1))
    context = prefix + queries
    sizes = [as_scalar(x) for x in (queries, context, min(context, window))]
    assert causal_pairs(*sizes) == expected


def test_a_causal_prompt_multiplies_half_of_its_square():
    demand = prefill(shape(8, 2)).demand
    # 512 x 513 / 2 pairs, of 2 prompts and 8 heads.
    pairs = 2 * 8 * 131_328
    assert demand.exponential == pairs
    assert demand.matrix == pairs * 2 * 256


def test_without_a_mask_a_prompt_multiplies_its_square():
    assert prefill(shape(8, 2), causal=0.0).demand.exponential == 2 * 8 * 512 * 512


def test_expanded_latents_have_keys_and_values_for_each_head():
    demand = prefill(expanded(*MLA_EXPANDED)).demand
    assert demand.matrix == pytest.approx(2 * 128 * 131_328 * 2 * (192 + 128), rel=ROUNDING)


def test_a_short_prompt_stays_in_sram():
    # Queries and outputs 2 x 512 x 8 x 256 x 2 = 4 MB, in 122 MB.
    assert prefill(shape(8, 2)).demand.main == pytest.approx(0.0, abs=10.0)


def test_a_cached_prefix_is_read_from_main_memory():
    # 2 prompts x 2 heads x 100,000 tokens of prefix x 256 numbers of 2 bytes.
    demand = prefill(shape(8, 2), context=100_512).demand
    assert demand.main == pytest.approx(2 * 2 * 100_000 * 256 * 2, rel=1e-4)


def test_padding_of_tiles_is_not_useful():
    chip = load_chip("h100-sxm")
    share = prefill(shape(8, 8)).shares.matrix
    assert share is not None
    # Four blocks of 128 rows: the triangle and half a tile of 128 x 128 on the diagonal of each.
    expected = chip.efficiency.attention_prefill.sustained * 131_328 / (131_328 + 4 * 128 * 128 / 2)
    assert jnp.ravel(share)[0] == pytest.approx(float(expected), rel=ROUNDING)


@pytest.mark.parametrize("kv", [8, 1])
def test_a_resident_prompt_reads_each_key_head_once(kv: float):
    demand = prefill(shape(8, kv), name="wse-3").demand
    # Keys and values 2 x 512 x kv x 256; queries and outputs 2 x 512 x 8 x 256; 2 bytes each.
    expected = 2 * 2 * 512 * 256 * (kv + 8)
    assert demand.private == pytest.approx(expected, rel=ROUNDING)
    assert demand.main == demand.far == 0


def test_a_backend_that_masks_windows_multiplies_what_they_hide():
    full, cut = (
        prefill(
            shape(8, 8),
            4096,
            4096,
            dataclasses.replace(EXACT, attention_backend=backend),
            window=256.0,
        )
        for backend in (XPU, FLASHINFER_TRTLLM_GEN)
    )
    assert full.demand.matrix == cut.demand.matrix
    assert full.shares.matrix is not None and cut.shares.matrix is not None
    # 4096 x 4097 / 2 pairs in place of 256 x 257 / 2 + 3840 x 256, and edges of 64 tiles of
    # 64 x 64 and 32 of 128 x 128.
    ratio = (8_390_656 + 262_144) / (1_015_936 + 524_288)
    assert float(cut.shares.matrix / full.shares.matrix) == pytest.approx(ratio, rel=1e-4)


def test_sglang_scores_what_a_window_hides_in_fp8_and_skips_its_products():
    plan = dataclasses.replace(
        EXACT, framework="sglang", weights="fp8", cache="fp8", attention_backend=FLASHINFER_SGLANG
    )
    full, cut = (prefill(shape(8, 8), 4096, 4096, plan, window=w) for w in (4096.0, 256.0))
    # 4096 x 4097 / 2 pairs, of which a window of 256 leaves 256 x 257 / 2 + 3840 x 256.
    shown, hidden = 1_015_936, 8_390_656 - 1_015_936
    assert cut.demand.matrix is not None and full.demand.matrix is not None
    assert float(cut.demand.matrix / full.demand.matrix) == pytest.approx(shown / 8_390_656)
    multiplied = shown + 64 * 64 * 64  # an edge of 64 blocks of 64 rows, half a tile of keys twice
    exponential = 2 * 8 * shown * (1 + hidden / multiplied)  # batch 2, 8 heads
    assert cut.demand.exponential is not None
    assert float(cut.demand.exponential) == pytest.approx(exponential, rel=1e-4)


def test_what_is_masked_is_cut_as_finely_as_the_tiles_of_keys():
    fine, coarse = (
        prefill(shape(8, 8), 128, 128, dataclasses.replace(EXACT, attention_backend=backend))
        for backend in (XQA, FLASHINFER_TRTLLM_GEN)
    )
    assert fine.shares.matrix is not None and coarse.shares.matrix is not None
    # One tile of rows: 128 x 129 / 2 pairs, and half a tile of 64 or of 128 keys.
    ratio = (8256 + 128 * 128 / 2) / (8256 + 128 * 64 / 2)
    assert float(fine.shares.matrix / coarse.shares.matrix) == pytest.approx(ratio, rel=1e-4)


@pytest.mark.parametrize(("name", "starts"), [("tpu-v6e", 1.0), ("h100-sxm", 2.0)])
def test_one_core_that_fetches_ahead_waits_for_the_first_block_of_a_prompt_alone(name, starts):
    # Two prompts of eight heads and 2,048 tokens are 256 blocks of 128 rows: on 132 cores two waves.
    def latency(block: float) -> float:
        chip = eqx.tree_at(
            lambda c: c.efficiency.attention_prefill.block_start, load_chip(name), as_scalar(block)
        )
        sizes = [as_scalar(x) for x in (2, 2048, 2048)]
        plan = dataclasses.replace(EXACT, attention_backend=FLASHINFER_TRTLLM_GEN)
        return float(attention_prefill(chip, plan, *sizes, heads=shape(8, 8)).latency)

    assert latency(1.0) - latency(0.0) == pytest.approx(starts, rel=1e-4)


def grown(backend: AttentionBackend, heads: float, queries: float = 512, **more) -> Work:
    return prefill(
        shape(heads, 1), queries, 512, dataclasses.replace(EXACT, attention_backend=backend), **more
    )


@pytest.mark.parametrize(
    ("backend", "queries", "useful"),
    [
        # 512 x 513 / 2 pairs of each head, and half a tile of 128 keys for each of its rows' tiles:
        (FLASHINFER_TRTLLM_GEN, 512, 131_328 / (131_328 + 4 * 128 * 128 / 2)),
        (FLASH_ATTENTION_2, 512, 131_328 / (131_328 + 8 * 64 * 128 / 2)),
        (XQA, 512, 131_328 / (131_328 + 8 * 64 * 64 / 2)),
        # eight heads are folded into 4,096 rows, or one token's into 8 of a tile of 64 or 128.
        (FLASH_ATTENTION_3, 512, 8 * 131_328 / (8 * 131_328 + 32 * 128 * 128 / 2)),
        (FLASH_ATTENTION_2, 1, 8 * 512 / (64 * 512 + 64 * 128 / 2)),
        (FLASH_ATTENTION_3, 1, 8 * 512 / (128 * 512 + 128 * 128 / 2)),
        (FLASHINFER_TRTLLM_GEN, 1, 512 / (128 * 512 + 128 * 128 / 2)),
    ],
)
def test_tiles_of_a_backend_pad_a_prompt(backend: AttentionBackend, queries: float, useful: float):
    share = grown(backend, 8, queries).shares.matrix
    assert share is not None
    sustained = float(load_chip("h100-sxm").efficiency.attention_prefill.sustained)
    assert float(jnp.ravel(share)[0]) == pytest.approx(sustained * useful, rel=ROUNDING)


@pytest.mark.parametrize(
    ("backend", "share"), [(SMOOTH_ATTENTION, 2), (FLASH_ATTENTION_3, 1), (FLASH_ATTENTION_2, 1)]
)
def test_the_smooth_form_tries_heads_folded_and_apart(backend: AttentionBackend, share: int):
    assert jnp.size(grown(backend, 8).occupancy) == share


def test_wide_heads_leave_less_of_the_rates():
    fitted = load_chip("h100-sxm").efficiency.attention_prefill
    plan = dataclasses.replace(EXACT, attention_backend=FLASHINFER_TRTLLM_GEN)
    wide, usual = (prefill(shape(8, 8, size), plan=plan).shares.matrix for size in (256, 192))
    assert wide is not None and usual is not None
    # From 192 numbers on, all of it at 256.
    assert float(wide / usual) == pytest.approx(float(fitted.wide_head_rate), rel=ROUNDING)


@pytest.mark.parametrize(("size", "rate"), [(64, "bf16"), (128, "fp8"), (256, "bf16")])
def test_heads_without_a_kernel_in_fp8_are_multiplied_at_the_rate_of_16_bits(size: int, rate: str):
    plan = Plan(integer=True, weights="fp8", cache="fp8", attention_backend=XQA)
    every = dataclasses.replace(XQA, heads_in_16_bits=())
    plain = dataclasses.replace(plan, attention_backend=every)
    chip = load_chip("h100-sxm", plan)
    sizes = [as_scalar(x) for x in (2, 512, 512)]
    found, full = (
        attention_prefill(chip, one, *sizes, heads=shape(8, 8, size)).shares.matrix
        for one in (plan, plain)
    )
    assert found is not None and full is not None
    own, eight = (as_scalar(chip.rates(kind).matrix) for kind in (rate, "fp8"))
    assert float(jnp.ravel(found / full)[0]) == pytest.approx(float(own / eight), rel=ROUNDING)
