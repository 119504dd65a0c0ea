"""Attention: pairs, bytes of the cache, splits, for every way to share keys and values."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import pytest

from perfmodel.kernels.attention import Heads, expanded, grouped, latent, visible
from perfmodel.kernels.attention_decode import attention_decode
from perfmodel.kernels.attention_prefill import attention_prefill
from perfmodel.kernels.backends.flash_attention_2 import FLASH_ATTENTION_2
from perfmodel.kernels.backends.flash_attention_3 import FLASH_ATTENTION_3
from perfmodel.kernels.backends.flashinfer import FLASHINFER_SGLANG
from perfmodel.kernels.backends.trtllm_gen import FLASHINFER_TRTLLM_GEN, TRTLLM_GEN_MLA
from perfmodel.kernels.backends.xpu import XPU
from perfmodel.kernels.backends.xqa import XQA, XQA_HOPPER
from perfmodel.kernels.occupancy import mesh_traversal_time
from perfmodel.kernels.residency import Residency
from perfmodel.library.chip import load_chip
from perfmodel.roofline import Work
from perfmodel.units import as_scalar, as_values
from perfmodel.workload.backend import SMOOTH_ATTENTION, AttentionBackend
from perfmodel.workload.plan import Plan

ROUNDING = 1e-5
"""Relative: some hundred steps of float32's last digit."""

EXACT = Plan(integer=True)


def shape(query: float, kv: float, size: float = 128) -> Heads:
    """MHA, GQA or MQA."""
    return grouped(as_scalar(query), as_scalar(kv), as_scalar(size))


MLA = tuple(map(as_scalar, (128, 512, 64)))
MLA_EXPANDED = tuple(map(as_scalar, (128, 128, 64, 128)))


def decode(heads: Heads, plan: Plan = EXACT, name: str = "h100-sxm", **more) -> Work:
    """One token for each of two sequences of 1,024."""
    return attention_decode(load_chip(name), plan, as_scalar(2), as_scalar(1024), heads, **more)


def prefill(
    heads: Heads, queries: float = 512, context: float = 512, plan: Plan = EXACT, **more
) -> Work:
    """Two prompts of 512 tokens."""
    name = more.pop("name", "h100-sxm")
    sizes = [as_scalar(x) for x in (2, queries, context)]
    return attention_prefill(load_chip(name), plan, *sizes, heads=heads, **more)


@pytest.mark.parametrize("kv", [8, 2, 1])
def test_a_cache_is_read_once_for_each_head_that_it_has(kv: float):
    # 2 sequences x kv heads x 1024 tokens x (128 + 128) numbers of 2 bytes; never x 8 query heads.
    assert decode(shape(8, kv)).demand.main == 2 * kv * 1024 * 256 * 2


def test_the_format_of_the_cache_sets_its_bytes():
    half = decode(shape(8, 2), dataclasses.replace(EXACT, cache="fp8"))
    assert half.demand.main == 2 * 2 * 1024 * 256


@pytest.mark.parametrize("kv", [8, 2, 1])
def test_every_query_head_multiplies_with_every_token(kv: float):
    demand = decode(shape(8, kv)).demand
    # 2 x 8 x 1024 pairs; key and value of 128, a product and a sum for each number.
    assert demand.exponential == 16_384
    assert demand.matrix == 16_384 * 2 * 256


def test_a_block_for_each_query_head_feeds_the_cache_again_and_main_memory_serves_a_share_of_that():
    # TensorRT-LLM falls back where 4 x batch x kv heads x context/128 blocks fill no chip:
    # here 4 x 2 x 1 x 8 = 64 of 132 cores.
    alone = decode(shape(8, 1), dataclasses.replace(EXACT, attention_backend=XQA)).demand
    together = decode(shape(8, 1)).demand
    assert alone.shared is not None and together.shared is not None
    assert alone.main is not None and together.main is not None
    # 2 sequences x 8 heads x (128 + 128) numbers of 2 bytes go in and out, whoever reads the cache.
    fresh = 2 * 8 * 256 * 2
    assert jnp.all(alone.shared - fresh == 8 * (together.shared - fresh))
    again = float(load_chip("h100-sxm").efficiency.attention_decode.kv_reread)
    assert alone.main == pytest.approx(float(together.main) * (1 + 7 * again), rel=ROUNDING)


@pytest.mark.parametrize("cache", ["bf16", "fp8"])
def test_plain_vector_code_pays_for_each_number_whatever_its_format(cache: str):
    # 2 sequences x 64 heads, each with 1024 tokens x (128 + 128) numbers of the one cache they share.
    plan = dataclasses.replace(EXACT, attention_backend=XQA_HOPPER, cache=cache)
    found, fitted = (
        decode(shape(64, 1), plan).demand,
        load_chip("h100-sxm").efficiency.attention_decode,
    )
    assert found.vector == pytest.approx(
        float(fitted.flop_per_element) * 2 * 64 * 1024 * 256, rel=ROUNDING
    )


def test_heads_in_groups_are_left_to_matrix_units():
    grouped_heads = decode(
        shape(64, 8), dataclasses.replace(EXACT, attention_backend=XQA_HOPPER, cache="fp8")
    )
    assert grouped_heads.demand.vector == 0 and decode(shape(64, 1)).demand.vector is None


def test_a_window_bounds_what_is_read_and_multiplied():
    demand = decode(shape(8, 2), window=256.0).demand
    assert demand.main == 2 * 2 * 256 * 256 * 2
    assert demand.exponential == 2 * 8 * 256


def test_a_window_longer_than_the_text_changes_nothing():
    assert decode(shape(8, 2), window=5000.0).demand.main == decode(shape(8, 2)).demand.main


def test_absorbed_latents_are_read_once_for_all_heads():
    demand = decode(latent(*MLA)).demand
    # 512 + 64 numbers for each token; 128 heads multiply with 576 and with 512 of them.
    # Two blocks of 64 heads read it; main memory serves a share of the second reading.
    again = float(load_chip("h100-sxm").efficiency.attention_decode.kv_reread)
    assert demand.main == pytest.approx(2 * 1024 * 576 * 2 * (1 + again), rel=ROUNDING)
    assert demand.matrix == 2 * 128 * 1024 * 2 * (576 + 512)


@pytest.mark.parametrize(("heads", "blocks"), [(16, 1), (32, 2), (128, 1)])
def test_latents_on_blackwell_are_read_by_sixteen_heads_at_a_time_up_to_32(heads: int, blocks: int):
    plan = dataclasses.replace(EXACT, attention_backend=TRTLLM_GEN_MLA)
    shared = decode(latent(as_scalar(heads), *MLA[1:]), plan).demand.shared
    # 1024 tokens are sixteen tiles of 64; queries of 576 and outputs of 512 numbers besides.
    assert shared == 2 * blocks * 1024 * 576 * 2 + 2 * heads * (576 + 512) * 2


def test_flash_attention_3_gives_each_part_as_many_tiles_as_fill_the_cores():
    # 2 x 2 blocks of 8 tiles on 132 cores: one tile for each part, eight parts, no choice.
    found = decode(
        shape(8, 2), dataclasses.replace(EXACT, attention_backend=FLASH_ATTENTION_3)
    ).occupancy
    assert found.tolist() == pytest.approx([32 / 132] * 4, rel=ROUNDING)


def test_a_cache_is_split_to_fill_the_cores():
    # 4 blocks on 132 cores: 16, 33 or 66 parts would fill them half, once, twice; 8 tiles allow 8.
    found = decode(shape(8, 2)).occupancy
    assert found.tolist() == pytest.approx([4 / 132, *[32 / 132] * 3], rel=ROUNDING)


def test_a_split_cache_pays_for_its_reduction():
    chip, latency = load_chip("h100-sxm"), decode(shape(8, 2)).latency
    fitted = chip.efficiency.attention_decode
    # 8 parts of 2 x 8 x 128 outputs, 4 bytes out and 4 back.
    traffic = 8 * 8 * 2048 / (chip.shared.bandwidth * fitted.feed)
    expected = float(fitted.splitkv_reduction + traffic)
    assert latency[1] - latency[0] == pytest.approx(expected, rel=1e-4)  # of a difference


def test_a_cache_is_read_where_it_lives():
    demand = decode(shape(8, 2), name="wse-3", residency=Residency(private=0.75, far=0.25)).demand
    cache = 2 * 2 * 1024 * 256 * 2
    assert (demand.private, demand.main, demand.far) == (0.75 * cache, 0, 0.25 * cache)


def test_a_dataflow_machine_crosses_its_cores_four_times():
    chip = load_chip("wse-3")
    for work, fitted in (
        (decode(shape(8, 2), name="wse-3"), chip.efficiency.attention_decode),
        (prefill(shape(8, 2), name="wse-3"), chip.efficiency.attention_prefill),
    ):
        expected = float(fitted.launch + mesh_traversal_time(chip, 4.0))
        assert work.latency == pytest.approx(expected, rel=ROUNDING)


@pytest.mark.parametrize("queries", [1, 5, 12])
@pytest.mark.parametrize("prefix", [0, 3, 20])
@pytest.mark.parametrize("window", [1, 4, 10, 100])
def test_visible_pairs_are_those_of_a_mask(queries: int, prefix: int, window: int):
    # Token i of the new ones sees itself, those before it and the prefix, at most `window` in all.
    expected = sum(min(prefix + i, window) for i in range(1, queries + 1))
    context = prefix + queries
    sizes = [as_scalar(x) for x in (queries, context, min(context, window))]
    assert visible(*sizes) == expected


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


def test_vector_units_multiply_no_queries_that_are_not_there():
    # Four queries of each cache; matrix units take 16. 1,024 tokens are eight tiles of 128.
    for name, multiplied in (("m3-ultra", 4), ("h100-sxm", 16)):
        sustained = float(load_chip(name).efficiency.attention_decode.sustained)
        share = as_values(decode(shape(8, 2), name=name).shares.matrix)
        assert share == pytest.approx(sustained * 4 / multiplied, rel=ROUNDING)


def test_one_core_that_fetches_ahead_waits_for_the_first_part_of_a_cache_alone():
    # Two sequences and four heads of 1,024 x 256 numbers of 2 bytes are one stream on the one core of a TPU.
    chip = load_chip("tpu-v6e")
    fitted, feed, fresh = chip.efficiency.attention_decode, 2 * 4 * 1024 * 256 * 2, 2 * 2 * 8 * 256
    stream = feed / float(chip.shared.bandwidth * fitted.feed)
    filled = stream / (stream + float(fitted.block_start))
    share = (feed + fresh) / (feed / (float(fitted.feed) * filled) + fresh)
    found = as_values(decode(shape(8, 4), name="tpu-v6e").shares.shared)[0]
    assert found == pytest.approx(share, rel=ROUNDING)


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


def test_a_group_s_rows_pad_what_the_matrix_units_take():
    # 2 heads of a group fill 2 of 16 rows; 8 tiles of 128 tokens, no padding of tokens.
    chip = load_chip("h100-sxm")
    share = decode(shape(4, 2)).shares.matrix
    assert share is not None
    expected = float(chip.efficiency.attention_decode.sustained) * 2 / 16
    assert jnp.ravel(share)[0] == pytest.approx(expected, rel=ROUNDING)


def test_a_last_tile_is_multiplied_whole():
    # 1,025 tokens are nine tiles of 128, of which 127 places are empty.
    chip = load_chip("h100-sxm")
    work = attention_decode(chip, EXACT, as_scalar(2), as_scalar(1025), shape(32, 2))
    expected = float(chip.efficiency.attention_decode.sustained) * 1025 / 1152
    assert work.shares.matrix is not None
    assert jnp.ravel(work.shares.matrix)[0] == pytest.approx(expected, rel=ROUNDING)


def test_a_window_that_cuts_a_tile_reads_one_more():
    # 256 of 1,024 tokens: two tiles and the one that is cut; of a text as long as it, two.
    cut = decode(shape(8, 2), window=256.0).demand.shared
    whole = attention_decode(
        load_chip("h100-sxm"), EXACT, as_scalar(2), as_scalar(256), shape(8, 2), window=256.0
    ).demand.shared
    # 2 sequences x 2 heads x 128 tokens x 256 numbers of 2 bytes are one tile of each block.
    assert cut is not None and whole is not None
    assert jnp.all(cut - whole == 2 * 2 * 128 * 256 * 2)


def test_queries_and_outputs_pass_once_and_each_sequence_takes_its_time():
    chip = load_chip("h100-sxm")
    fitted = chip.efficiency.attention_decode
    latency = decode(shape(8, 2)).latency[0]
    # 2 x 8 heads x 256 numbers of 2 bytes.
    passes = 8192 * float(fitted.rope_passes) / float(chip.main.bandwidth * fitted.streaming)
    expected = float(fitted.launch) + 2 * float(fitted.per_sequence) + passes
    assert float(latency) == pytest.approx(expected, rel=1e-4)


def test_copies_of_a_backend_take_their_time_besides():
    chip = load_chip("h100-sxm")
    plain, copied = (
        decode(shape(16, 2), dataclasses.replace(EXACT, attention_backend=b), window=w).latency[0]
        for b, w in ((FLASH_ATTENTION_2, 256.0), (FLASH_ATTENTION_2, 4096.0))
    )
    # A window of any length leaves groups apart: no transposes, and no split.
    assert float(plain) == float(copied)
    folded = decode(
        shape(16, 2), dataclasses.replace(EXACT, attention_backend=FLASH_ATTENTION_2)
    ).latency[0]
    more = float(folded - plain)
    assert more == pytest.approx(float(chip.efficiency.attention_decode.extra_pass), rel=1e-3)
