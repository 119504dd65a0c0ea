"""Rules of frameworks: parts of a cache, blocks of heads, parts of a prompt."""

import jax.numpy as jnp
import pytest

from perfmodel.kernels.choices import (
    EXPERT_ROWS,
    expert_rows,
    leaves_whole,
    product_format,
    reduces_itself,
)
from perfmodel.kernels.collective import collective
from perfmodel.kernels.dispatch import Partition, decode_cut
from perfmodel.kernels.moe import moe
from perfmodel.kernels.prompts import (
    in_16_bits,
    padded_share,
    prompt_format,
    prompt_parts,
    start_share,
    tile_rows,
)
from perfmodel.kernels.registry import OPERATIONS
from perfmodel.library.chip import load_chip
from perfmodel.roofline import Work
from perfmodel.units import as_scalar
from perfmodel.workload.framework import Backend, Framework, backend, library
from perfmodel.workload.plan import Plan

H100, B200, L40S = 132, 148, 142
"""Cores."""


def cut(
    framework: Framework,
    backend: Backend,
    cores: float,
    batch: float,
    context: float,
    heads: float,
    kv_heads: float,
    window: float = jnp.inf,
    room: float = 100,
) -> Partition:
    """With heads of 128 numbers, and `room` KiB of shared memory."""
    sizes = map(as_scalar, (cores, batch, context, window, heads, kv_heads, 128, room * 1024))
    return decode_cut(Plan(framework=framework, backend=backend), *sizes)


@pytest.mark.parametrize(
    ("batch", "context", "parts"), [(64, 1024, 8), (64, 65536, 17), (1, 64, 1)]
)
def test_xqa_cuts_a_cache_into_tiles_until_each_core_has_eight(
    batch: float, context: float, parts: float
):
    # 1024 / 128 = 8 tiles; 8 x 142 blocks / 64 sequences = 17; a text of half a tile is whole.
    found = cut("trtllm", "xqa", L40S, batch, context, 8, 1)
    assert found.per_query_head == (1 if context == 64 else 0)
    assert found.most_splits == parts


def test_xqa_starts_the_parts_that_a_window_hides():
    found = cut("trtllm", "xqa", L40S, 64, 65536, 8, 1, window=128)
    assert found.most_splits == found.least_splits == 17 and found.launches_hidden == 1


@pytest.mark.parametrize(("framework", "alone"), [("trtllm", 1), ("sglang", 0), ("vllm", 0)])
def test_large_groups_on_blackwell_are_cut_by_head_in_tensorrt_llm_alone(
    framework: Framework, alone: int
):
    found = cut(framework, "trtllm_gen", B200, 128, 4096, 64, 1)
    assert found.per_query_head == alone
    assert alone or found.heads_per_block == 64


def test_few_short_texts_with_large_groups_pass_over_their_queries_besides():
    # 64 heads of 128 numbers are 8192: one pass for the start and one for them.
    assert cut("sglang", "trtllm_gen", B200, 16, 128, 64, 1).extra_passes == 2
    assert cut("sglang", "trtllm_gen", B200, 16, 4096, 64, 1).extra_passes == 0
    assert cut("sglang", "trtllm_gen", B200, 16, 128, 8, 1).extra_passes == 0


@pytest.mark.parametrize(
    ("room", "group", "rows", "keys"),
    [
        (100, 8, 16, 64),
        (100, 64, 64, 64),
        (100, 128, 128, 32),
        (164, 8, 16, 128),
        (164, 128, 128, 64),
    ],
)
def test_flashinfer_takes_as_many_keys_as_leave_room_for_two_blocks(
    room: float, group: float, rows: float, keys: float
):
    # Of 100 KiB each of two blocks has 50: 16 rows of 128 take 4, and 64 keys and values 32.
    found = cut("sglang", "flashinfer", L40S, 4, 4096, group, 1, room=room)
    assert (found.row_tile, found.kv_tile) == (rows, keys)


@pytest.mark.parametrize(("group", "keys"), [(1, 32), (2, 8)])
def test_plain_vector_code_takes_few_keys_at_a_time(group: float, keys: float):
    # 16 threads hold a head of 128 numbers: 128 threads hold 8 rows, of each query head 4.
    found = cut("sglang", "flashinfer", L40S, 4, 4096, group, 1)
    assert found.cuda_cores == 1 and found.kv_tile == keys


@pytest.mark.parametrize(
    ("m", "n", "k", "whole"),
    [(4, 64, 4096, True), (8, 64, 4096, False), (16, 2048, 8192, True), (17, 2048, 8192, False)],
)
def test_cublas_on_ada_leaves_k_whole_where_there_is_little_to_do(
    m: float, n: float, k: float, whole: bool
):
    plan = Plan(framework="vllm", library=library("vllm", "ada"))
    assert leaves_whole(plan, *map(as_scalar, (m, n, k))) == whole
    assert not leaves_whole(Plan(framework="vllm"), *map(as_scalar, (m, n, k)))


@pytest.mark.parametrize(
    ("framework", "weights", "expected", "rows"),
    [
        ("trtllm", "w4a8_mxfp4", 40, [64]),
        ("trtllm", "w4a8_mxfp4", 1000, [256]),
        ("vllm", "nvfp4", 40, [32, 64, 128, 256]),
        ("sglang", "fp8_block", 40, [32, 64, 128, 128]),
        ("vllm", "bf16", 0.1, [8, 8, 8, 8]),
        ("trtllm", "nvfp4", 40, list(EXPERT_ROWS)),
    ],
)
def test_mixtures_on_blackwell_take_tiles_for_an_even_share_of_all_tokens(
    framework: Framework, weights: str, expected: float, rows: list[float]
):
    plan = Plan(framework=framework, weights=weights, backend="trtllm_gen")
    # Of 8 rows, 64 and so on: 40 pairs for each expert fill the next power of two.
    assert expert_rows(plan, as_scalar(expected)).tolist() == rows


def test_tokens_of_other_ranks_make_the_tiles_of_a_mixture_taller():
    plan = Plan(framework="trtllm", weights="w4a8_mxfp4", backend="trtllm_gen", expert=8)
    names = ("tokens", "hidden", "inter", "active", "experts", "tensor", "ranks", "routing")
    sizes = map(as_scalar, (256, 4096, 2048, 8, 256, 1, 8, 0))
    told = dict(zip(names, sizes, strict=True))
    share = moe(load_chip("b200-sxm", plan), plan, **told).shares.matrix
    alone = expert_rows(plan, as_scalar(256 * 8 / 256))
    # An expert gets 8 tokens, in tiles of 64 rows.
    assert share is not None and alone.tolist() == [8]
    sustained = load_chip("b200-sxm", plan).efficiency.moe.sustained
    assert share.tolist() == pytest.approx([float(sustained) * 8 / 64], rel=1e-5)


def prompts(framework: Framework, architecture: str) -> Plan:
    """A plan whose weights and cache are in fp8."""
    own = backend(framework, architecture, "fp8")
    return Plan(weights="fp8", cache="fp8", framework=framework, backend=own)


@pytest.mark.parametrize(
    ("framework", "architecture", "expected"),
    [
        ("trtllm", "ada", "fp8"),
        ("trtllm", "hopper", "fp8"),
        ("sglang", "ada", "bf16"),  # Triton's, of which fresh keys are in bf16
        ("sglang", "hopper", "fp8"),
    ],
)
def test_prompts_are_multiplied_in_the_format_of_fresh_keys(framework, architecture, expected):
    assert prompt_format(prompts(framework, architecture)) == expected


@pytest.mark.parametrize(
    ("architecture", "head_dim", "wide"),
    [("ada", 64, 1), ("ada", 128, 0), ("ada", 256, 1), ("hopper", 64, 0), ("blackwell", 256, 0)],
)
def test_tensorrt_llm_multiplies_some_heads_in_16_bits_on_ada(architecture, head_dim, wide):
    assert float(in_16_bits(prompts("trtllm", architecture), as_scalar(head_dim))) == wide
    plain = Plan(framework="trtllm", backend=backend("trtllm", architecture))
    assert float(in_16_bits(plain, as_scalar(head_dim))) == 0


@pytest.mark.parametrize(("architecture", "expected"), [("ada", 256 / 192), ("hopper", 1.0)])
def test_tensorrt_llm_pads_heads_of_prompts_before_hopper(architecture, expected):
    share = padded_share(backend("trtllm", architecture), as_scalar(192), as_scalar(192))
    assert float(share) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("architecture", "weights", "expected"),
    [("ada", "fp8_block", "bf16"), ("ada", "fp8", "fp8"), ("hopper", "fp8_block", "fp8")],
)
def test_blocks_in_fp8_are_multiplied_as_bf16_on_ada(architecture, weights, expected):
    plan = Plan(weights=weights, framework="trtllm", library=library("trtllm", architecture))
    assert product_format(plan) == expected


def test_triton_reads_latents_for_sixteen_heads_at_a_time():
    found = cut("sglang", "latent_triton", L40S, 16, 4096, 128, 1)
    assert found.heads_per_block == 16 and found.kv_tile == 64


@pytest.mark.parametrize(("blocks", "parts"), [(12, 11), (2, 32), (200, 1)])
def test_sglang_on_hopper_cuts_prompts_for_idle_cores(blocks: float, parts: float):
    # 132 / 12 = 11; 4,096 keys are 32 tiles.
    plan = Plan(framework="sglang", backend="fa3_padded")
    found = prompt_parts(plan, as_scalar(H100), as_scalar(blocks), as_scalar(4096))
    assert found == parts


def mla_prefill(framework: Framework, backend: Backend) -> Work:
    row = {name: as_scalar(x) for name, x in (("batch", 2), ("heads", 16), ("ctx_len", 512))}
    plan = Plan(framework=framework, backend=backend)
    return OPERATIONS["mla_prefill"].works(load_chip("h100-sxm"), plan, row)[0]


def test_sglang_before_blackwell_multiplies_prompts_with_latents():
    pairs = 2 * 16 * 512 * 513 / 2
    expanded = mla_prefill("trtllm", "xqa_hopper").demand.matrix
    absorbed = mla_prefill("sglang", "fa3_padded").demand.matrix
    assert expanded == pytest.approx(pairs * 2 * (192 + 128), rel=1e-5)
    assert absorbed == pytest.approx(pairs * 2 * (576 + 512), rel=1e-5)


MIB = 2.0**20


@pytest.mark.parametrize(
    ("framework", "backend", "ranks", "most"),
    [
        ("trtllm", "xqa_hopper", 8, 0.5),
        ("trtllm", "xqa_hopper", 4, 2),
        ("trtllm", "trtllm_gen", 4, 0.5),
        ("vllm", "fa3", 8, 16),
        ("vllm", "trtllm_gen", 8, 2),
        ("sglang", "fa3_padded", 2, 32),
    ],
)
def test_frameworks_reduce_up_to_a_size(
    framework: Framework, backend: Backend, ranks: float, most: float
):
    plan = Plan(framework=framework, backend=backend)
    for size, itself in ((0.99 * most * MIB, True), (most * MIB, False)):
        assert bool(reduces_itself(plan, as_scalar(ranks), as_scalar(size))) == itself


def test_beyond_that_size_frameworks_reduce_as_nccl_does():
    chip, sizes = load_chip("h100-sxm"), [as_scalar(x) for x in (8, 1, 64 * MIB)]
    plans = [Plan(framework="trtllm", backend="xqa_hopper"), Plan(framework="nccl")]
    one, other = (collective(chip, plan, "all_reduce", *sizes) for plan in plans)
    assert one.demand.network is not None and other.demand.network is not None
    assert one.demand.network.tolist() == other.demand.network.tolist()
    assert one.latency.tolist() == other.latency.tolist()


@pytest.mark.parametrize(
    ("batch", "kv_heads", "parts"),
    # 8,192 tokens are 64 tiles; ceil(1.1 x batch x heads x 64 / 132) of them a part: 1, 2, 3 and 35.
    [(1, 1, 32), (1, 3, 32), (2, 2, 22), (8, 8, 2)],
)
def test_flash_attention_3_cuts_a_cache_for_ten_percent_more_blocks_than_cores(
    batch: float, kv_heads: float, parts: float
):
    found = cut("vllm", "fa3", H100, batch, 8192, 8 * kv_heads, kv_heads)
    assert found.most_splits == found.least_splits == parts and found.row_tile == 64


def test_sglang_cuts_a_cache_without_a_limit_and_copies_heads_of_192():
    found = cut("sglang", "fa3_padded", H100, 1, 8192, 8, 1)
    assert found.most_splits == 64 and found.extra_passes == 0
    sizes = map(as_scalar, (H100, 1, 8192, jnp.inf, 8, 1, 192, 102400))
    assert decode_cut(Plan(backend="fa3_padded"), *sizes).extra_passes == 1


def test_flash_attention_3_cuts_all_of_a_text_whatever_the_window():
    assert cut("vllm", "fa3", H100, 1, 8192, 8, 1, window=128).most_splits == 32


@pytest.mark.parametrize(
    ("batch", "heads", "kv_heads", "window", "alone", "copies"),
    [
        (2, 16, 2, jnp.inf, 0, 1),
        (1, 16, 2, jnp.inf, 0, 0),
        (2, 8, 1, jnp.inf, 0, 0),
        (2, 2, 2, jnp.inf, 1, 0),
        (2, 16, 2, 256, 1, 0),
    ],
)
def test_flash_attention_2_folds_groups_without_a_window(
    batch: float, heads: float, kv_heads: float, window: float, alone: float, copies: float
):
    # Two transposes where there are several sequences and several heads of keys.
    found = cut("vllm", "fa2", L40S, batch, 4096, heads, kv_heads, window=window)
    assert (found.per_query_head, found.cuda_cores, found.extra_passes, found.row_tile) == (
        alone,
        alone,
        copies,
        64,
    )
    assert (found.most_splits == 1) == bool(alone)


@pytest.mark.parametrize(
    ("batch", "context", "cache", "alone"),
    # 4 x batch x 4 tiles of 128 fill 132 cores from a batch of nine on; an fp8 cache need not.
    [(8, 512, "bf16", 1), (9, 512, "bf16", 0), (9, 511, "bf16", 1), (8, 512, "fp8", 0)],
)
def test_tensorrt_llm_leaves_what_fills_no_chip_to_vector_code(
    batch: float, context: float, cache: str, alone: float
):
    sizes = map(as_scalar, (H100, batch, context, jnp.inf, 8, 1, 128, 102400))
    plan = Plan(framework="trtllm", backend="xqa_hopper", cache=cache)
    found = decode_cut(plan, *sizes)
    assert (
        found.per_query_head
        == found.cuda_cores
        == found.extra_passes
        == 1 - found.launches_hidden
        == alone
    )
    # Vector code takes parts of 512 tokens; others 8 x 132 blocks over the batch, but no more than tiles.
    assert found.most_splits == (max(context // 512, 1) if alone else 4)
    assert found.kv_tile == (16 if alone else 128)


@pytest.mark.parametrize(("group", "alone"), [(1, 1), (2, 0), (32, 0), (33, 1)])
def test_xqa_takes_groups_of_two_to_32(group: float, alone: float):
    assert cut("trtllm", "xqa", L40S, 64, 4096, group, 1).per_query_head == alone


@pytest.mark.parametrize(("size", "copies"), [(64, 1), (128, 0)])
def test_another_kernel_decodes_heads_of_64_in_fp8_on_hopper(size: float, copies: float):
    sizes = list(map(as_scalar, (H100, 64, 4096, jnp.inf, 8, 1, size, 102400)))
    narrow = Plan(framework="trtllm", backend="xqa_hopper", cache="fp8")
    found = decode_cut(narrow, *sizes)
    # Groups are the narrow side of its products in fp8: eight rows.
    assert (found.extra_passes, found.row_tile) == (copies, 8)
    plain = decode_cut(Plan(framework="trtllm", backend="xqa_hopper"), *sizes)
    assert (plain.extra_passes, plain.row_tile) == (0, 16)


def test_a_cache_in_fp8_is_not_split_before_hopper_unless_it_must_be():
    sizes = list(map(as_scalar, (L40S, 64, 4096, jnp.inf, 8, 1, 128, 102400)))
    found = decode_cut(Plan(framework="trtllm", backend="xqa", cache="fp8"), *sizes)
    assert found.most_splits == found.least_splits == 1
    sizes[4] = as_scalar(64.0)  # a group of 64 is left to vector code: eight parts of 512 tokens
    assert decode_cut(Plan(framework="trtllm", backend="xqa", cache="fp8"), *sizes).most_splits == 8


@pytest.mark.parametrize(
    ("batch", "size", "parts", "ways"), [(4, 128, 5, 4), (4, 64, 5, 8), (40, 128, 1, 4)]
)
def test_intel_s_kernels_reach_every_core_once(
    batch: float, size: float, parts: float, ways: float
):
    # 20 cores over 4 blocks; 512 numbers of heads on a core.
    sizes = map(as_scalar, (20, batch, 4096, jnp.inf, 8, 1, size, 102400))
    found = decode_cut(Plan(framework="vllm", backend="xpu"), *sizes)
    assert (found.most_splits, found.least_splits, found.blocks_per_core, found.row_tile) == (
        parts,
        parts,
        ways,
        8,
    )


@pytest.mark.parametrize(("group", "heads"), [(16, 16), (32, 16), (33, 128)])
def test_blackwell_takes_latents_for_sixteen_heads_or_for_many(group: float, heads: float):
    found = cut("trtllm", "latent_gen", B200, 4, 4096, group, 1)
    assert (found.heads_per_block, found.kv_tile, found.row_tile) == (heads, 64, 16)


@pytest.mark.parametrize(("cache", "moved"), [("bf16", 0), ("fp8", 10)])
def test_latents_in_fp8_are_unpacked_before_flash_attention_reads_them(cache: str, moved: float):
    sizes = list(map(as_scalar, (H100, 4, 4096, jnp.inf, 16, 1, 576, 102400)))
    found = decode_cut(Plan(framework="sglang", backend="latent_flash", cache=cache), *sizes)
    assert (found.unpacked_bytes, found.row_tile, found.kv_tile) == (moved, 64, 64)
    assert decode_cut(Plan(backend="latent_hopper", cache=cache), *sizes).unpacked_bytes == 0


@pytest.mark.parametrize(
    ("group", "size", "light", "rows", "heads"),
    [(3, 128, 1, 1, 128), (4, 128, 0, 16, 128), (4, 256, 0, 16, 64), (17, 128, 0, 64, 128)],
)
def test_flashinfer_takes_groups_of_four_to_matrix_units(
    group: float, size: float, light: float, rows: float, heads: float
):
    sizes = map(as_scalar, (L40S, 4, 4096, jnp.inf, group, 1, size, 102400))
    found = decode_cut(Plan(framework="sglang", backend="flashinfer"), *sizes)
    assert (found.cuda_cores, found.row_tile, found.heads_per_block) == (light, rows, heads)


def test_large_groups_on_blackwell_start_at_33():
    assert [
        cut("trtllm", "trtllm_gen", B200, 128, 4096, n, 1).per_query_head for n in (32, 33)
    ] == [0, 1]


def test_a_plain_plan_has_no_rule():
    sizes = map(as_scalar, (H100, 4, 4096, jnp.inf, 8, 1, 128, 102400))
    found = decode_cut(Plan(), *sizes)
    assert found.most_splits == 1e9
    assert (
        found.row_tile,
        found.least_splits,
        found.heads_per_block,
        found.kv_tile,
        found.blocks_per_core,
    ) == (16, 1, 64, 128, 1)
    assert (
        found.extra_passes
        == found.per_query_head
        == found.cuda_cores
        == found.unpacked_bytes
        == found.launches_hidden
        == 0
    )


@pytest.mark.parametrize(
    ("backend", "rows", "size", "tall"),
    [
        ("flashinfer", 16, 128, 16),
        ("flashinfer", 17, 128, 64),
        ("flashinfer", 64, 128, 64),
        ("flashinfer", 65, 128, 128),
        ("flashinfer", 65, 256, 64),
        ("fa2", 500, 128, 64),
        ("xqa", 500, 128, 64),
        ("xpu", 500, 128, 64),
        ("triton", 500, 128, 64),
        ("fa3", 500, 128, 128),
    ],
)
def test_tiles_of_a_prompt_have_as_many_rows(
    backend: Backend, rows: float, size: float, tall: float
):
    assert tile_rows(backend, as_scalar(rows), as_scalar(size)) == tall


@pytest.mark.parametrize(
    ("backend", "size", "share"),
    [("triton", 32, 1), ("triton", 64, 1), ("triton", 128, 2), ("triton", 192, 4), ("fa3", 192, 1)],
)
def test_triton_pads_what_it_loads(backend: Backend, size: float, share: float):
    assert start_share(backend, as_scalar(size)) == share
