"""Kernel libraries: parts of a cache, blocks of heads, parts of a prompt."""

import ast
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import pytest

from perfmodel.kernels.attention import grouped
from perfmodel.kernels.attention_decode import MIN_L1, REGISTERS, partition_of
from perfmodel.kernels.attention_prefill import in_16_bits, prompt_format
from perfmodel.kernels.backends import (
    ATTENTION_BACKENDS,
    COLLECTIVE_BACKENDS,
    GEMM_BACKENDS,
    MOE_BACKENDS,
    backends_of,
)
from perfmodel.kernels.backends.cublas import CUBLAS_ADA, VENDOR
from perfmodel.kernels.backends.flash_attention_2 import FLASH_ATTENTION_2
from perfmodel.kernels.backends.flash_attention_3 import (
    FLASH_ATTENTION_3,
    FLASH_ATTENTION_3_SGLANG,
)
from perfmodel.kernels.backends.flash_mla import FLASH_MLA, UNPACKING_FLASH_MLA
from perfmodel.kernels.backends.flashinfer import FLASHINFER
from perfmodel.kernels.backends.nccl import NCCL, TRTLLM
from perfmodel.kernels.backends.triton import TRITON, TRITON_MLA
from perfmodel.kernels.backends.triton_kernels import TRITON_KERNELS
from perfmodel.kernels.backends.trtllm_gen import (
    FLASHINFER_TRTLLM_GEN,
    FLASHINFER_TRTLLM_GEN_MOE,
    TRTLLM_GEN,
    TRTLLM_GEN_MLA,
    TRTLLM_GEN_MOE,
)
from perfmodel.kernels.backends.xpu import XPU
from perfmodel.kernels.backends.xqa import XQA, XQA_HOPPER
from perfmodel.kernels.collective import collective
from perfmodel.kernels.gemm import product_format
from perfmodel.kernels.mla import MlaPrefill
from perfmodel.kernels.moe import Moe
from perfmodel.library.chip import load_chip
from perfmodel.library.framework import frameworks, older_versions
from perfmodel.roofline import Work
from perfmodel.units import as_scalar
from perfmodel.workload.backend import (
    SMOOTH_ATTENTION,
    SMOOTH_MOE,
    AttentionBackend,
    MoeBackend,
    Partition,
)
from perfmodel.workload.plan import Plan

H100, B200, L40S = 132, 148, 142
"""Cores."""


def cut(
    backend: AttentionBackend,
    cores: float,
    batch: float,
    context: float,
    heads: float,
    kv_heads: float,
    window: float = jnp.inf,
    room: float = 100,
) -> Partition:
    """With heads of 128 numbers, and `room` KiB of shared memory."""
    return partition(backend, cores, batch, context, window, heads, kv_heads, 128, room * 1024)


def partition(backend: AttentionBackend, *sizes: float, cache: str = "bf16") -> Partition:
    """Of cores, batch, context, window, heads, KV heads, numbers of a head, and bytes of shared memory."""
    cores, batch, context, window, heads, kv_heads, size, room = map(as_scalar, sizes)
    chip = eqx.tree_at(
        lambda c: (c.cores, c.private.capacity),
        load_chip("h100-sxm"),
        (cores, cores * (room + REGISTERS + MIN_L1)),
    )
    plan = Plan(attention_backend=backend, cache=cache)
    return partition_of(chip, plan, batch, context, window, grouped(heads, kv_heads, size))


@pytest.mark.parametrize(
    ("batch", "context", "parts"), [(64, 1024, 8), (64, 65536, 17), (1, 64, 1)]
)
def test_xqa_cuts_a_cache_into_tiles_until_each_core_has_eight(
    batch: float, context: float, parts: float
):
    # 1024 / 128 = 8 tiles; 8 x 142 blocks / 64 sequences = 17; a text of half a tile is whole.
    found = cut(XQA, L40S, batch, context, 8, 1)
    assert found.per_query_head == (1 if context == 64 else 0)
    assert found.max_splits == parts


def test_xqa_starts_the_parts_that_a_window_hides():
    found = cut(XQA, L40S, 64, 65536, 8, 1, window=128)
    assert found.max_splits == found.min_splits == 17 and found.launches_hidden == 1


@pytest.mark.parametrize(("backend", "alone"), [(TRTLLM_GEN, 1), (FLASHINFER_TRTLLM_GEN, 0)])
def test_large_groups_on_blackwell_are_cut_by_head_in_tensorrt_llm_alone(
    backend: AttentionBackend, alone: int
):
    found = cut(backend, B200, 128, 4096, 64, 1)
    assert found.per_query_head == alone
    assert alone or found.heads_per_block == 64


@pytest.mark.parametrize("backend", [TRTLLM_GEN, XQA, XQA_HOPPER])
@pytest.mark.parametrize("group", [1, 33, 128])
def test_heads_wider_than_the_vector_code_has_are_left_to_matrix_units(
    backend: AttentionBackend, group: int
):
    # TensorRT-LLM compiles masked_multihead_attention for heads of up to 256 numbers.
    for size, alone in ((256, 1), (512, 0)):
        found = partition(backend, B200, 64, 64, jnp.inf, group, 1, size, 230000)
        small = group == 1 and backend is TRTLLM_GEN
        assert found.per_query_head == found.cuda_cores == (0 if small else alone)


def test_few_short_texts_with_large_groups_pass_over_their_queries_besides():
    # 64 heads of 128 numbers are 8192: one pass for the start and one for them.
    assert cut(FLASHINFER_TRTLLM_GEN, B200, 16, 128, 64, 1).extra_passes == 2
    assert cut(FLASHINFER_TRTLLM_GEN, B200, 16, 4096, 64, 1).extra_passes == 0
    assert cut(FLASHINFER_TRTLLM_GEN, B200, 16, 128, 8, 1).extra_passes == 0


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
    found = cut(FLASHINFER, L40S, 4, 4096, group, 1, room=room)
    assert (found.row_tile, found.kv_tile) == (rows, keys)


@pytest.mark.parametrize(("group", "keys"), [(1, 32), (2, 8)])
def test_plain_vector_code_takes_few_keys_at_a_time(group: float, keys: float):
    # 16 threads hold a head of 128 numbers: 128 threads hold 8 rows, of each query head 4.
    found = cut(FLASHINFER, L40S, 4, 4096, group, 1)
    assert found.cuda_cores == 1 and found.kv_tile == keys


@pytest.mark.parametrize(
    ("m", "n", "k", "whole"),
    [(4, 64, 4096, True), (8, 64, 4096, False), (16, 2048, 8192, True), (17, 2048, 8192, False)],
)
def test_cublas_on_ada_leaves_k_whole_where_there_is_little_to_do(
    m: float, n: float, k: float, whole: bool
):
    sizes = [as_scalar(x) for x in (m, n, k)]
    assert CUBLAS_ADA.leaves_k_whole("bf16", *sizes) == whole
    assert not VENDOR.leaves_k_whole("bf16", *sizes)


@pytest.mark.parametrize(
    ("backend", "weights", "expected", "rows"),
    [
        (TRTLLM_GEN_MOE, "w4a8_mxfp4", 40, [64]),
        (TRTLLM_GEN_MOE, "w4a8_mxfp4", 1000, [256]),
        (FLASHINFER_TRTLLM_GEN_MOE, "nvfp4", 40, [32, 64, 128, 256]),
        (FLASHINFER_TRTLLM_GEN_MOE, "fp8_block", 40, [32, 64, 128, 128]),
        (FLASHINFER_TRTLLM_GEN_MOE, "bf16", 0.1, [8, 8, 8, 8]),
        (TRTLLM_GEN_MOE, "nvfp4", 40, [16, 32, 64, 128]),
        (TRITON_KERNELS, "w4a16_mxfp4", 40, [64]),
        (TRITON_KERNELS, "w4a16_mxfp4", 0.1, [16]),
        (TRITON_KERNELS, "w4a16_mxfp4", 1000, [128]),
        (TRITON_KERNELS, "bf16", 40, [16, 32, 64, 128]),
    ],
)
def test_some_mixtures_take_tiles_for_an_even_share_of_all_tokens(
    backend: MoeBackend, weights: str, expected: float, rows: list[float]
):
    # Of 8 rows, 64 and so on: 40 pairs for each expert fill the next power of two.
    assert backend.tiles_tried(weights, as_scalar(expected)).tolist() == rows


def test_high_tiles_of_trtllm_gen_take_longer_steps_along_their_dot_products():
    rows = jnp.array([0.0, 64.0, 256.0])
    assert TRTLLM_GEN_MOE.step_time("w4a8_mxfp4", rows).tolist() == [0.5, 1, 2.5]
    assert TRTLLM_GEN_MOE.step_time("nvfp4", rows).tolist() == [1, 1, 1]
    assert TRITON_KERNELS.step_time("w4a16_mxfp4", rows).tolist() == [1, 1, 1]


def test_mixtures_in_mxfp4_on_hopper_run_triton_kernels():
    for framework in ("trtllm", "vllm"):
        assert backends_of(framework, "hopper")["moe_backend"] is TRITON_KERNELS
    assert backends_of("sglang", "hopper")["moe_backend"] is SMOOTH_MOE


def test_tokens_of_other_ranks_make_the_tiles_of_a_mixture_taller():
    plan = Plan(framework="trtllm", weights="w4a8_mxfp4", moe_backend=TRTLLM_GEN_MOE, ep=8)
    names = ("tokens", "hidden", "inter", "topk", "experts", "tp", "ep", "routing")
    sizes = map(as_scalar, (256, 4096, 2048, 8, 256, 1, 8, 0))
    told = dict(zip(names, sizes, strict=True))
    (work,) = Moe(**told).count(load_chip("b200-sxm", plan), plan)
    share = work.shares.matrix
    alone = TRTLLM_GEN_MOE.tiles_tried(plan.weights, as_scalar(256 * 8 / 256))
    # An expert gets 8 tokens, in tiles of 64 rows.
    assert share is not None and alone.tolist() == [8]
    sustained = load_chip("b200-sxm", plan).efficiency.moe.sustained
    assert share.tolist() == pytest.approx([float(sustained) * 8 / 64], rel=1e-5)


def prompts(framework: str, architecture: str) -> Plan:
    """A plan whose weights and cache are in fp8."""
    own = backends_of(framework, architecture, "fp8")
    return Plan(weights="fp8", cache="fp8", framework=framework, **own)


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
    plain = Plan(**backends_of("trtllm", architecture))
    assert float(in_16_bits(plain, as_scalar(head_dim))) == 0


@pytest.mark.parametrize(("architecture", "expected"), [("ada", 256 / 192), ("hopper", 1.0)])
def test_tensorrt_llm_pads_heads_of_prompts_before_hopper(architecture, expected):
    backend = backends_of("trtllm", architecture)["attention_backend"]
    share = backend.prompt_padding(as_scalar(192), as_scalar(192))
    assert float(share) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("architecture", "weights", "expected"),
    [("ada", "fp8_block", "bf16"), ("ada", "fp8", "fp8"), ("hopper", "fp8_block", "fp8")],
)
def test_blocks_in_fp8_are_multiplied_as_bf16_on_ada(architecture, weights, expected):
    plan = Plan(weights=weights, **backends_of("trtllm", architecture))
    assert product_format(plan) == expected


def test_triton_reads_latents_for_sixteen_heads_at_a_time():
    found = cut(TRITON_MLA, L40S, 16, 4096, 128, 1)
    assert found.heads_per_block == 16 and found.kv_tile == 64


@pytest.mark.parametrize(("blocks", "parts"), [(12, 11), (2, 32), (200, 1)])
def test_sglang_on_hopper_cuts_prompts_for_idle_cores(blocks: float, parts: float):
    # 132 / 12 = 11; 4,096 keys are 32 tiles.
    sizes = [as_scalar(x) for x in (H100, blocks, 4096)]
    found = FLASH_ATTENTION_3_SGLANG.prompt_parts(*sizes)
    assert found == parts


def mla_prefill(backend: AttentionBackend) -> Work:
    row = MlaPrefill(batch=as_scalar(2), heads=as_scalar(16), ctx_len=as_scalar(512))
    plan = Plan(integer=True, attention_backend=backend)
    return row.count(load_chip("h100-sxm"), plan)[0]


def test_sglang_before_blackwell_multiplies_prompts_with_latents():
    pairs = 2 * 16 * 512 * 513 / 2
    expanded = mla_prefill(XQA_HOPPER).demand.matrix
    absorbed = mla_prefill(FLASH_ATTENTION_3_SGLANG).demand.matrix
    assert expanded == pytest.approx(pairs * 2 * (192 + 128), rel=1e-5)
    assert absorbed == pytest.approx(pairs * 2 * (576 + 512), rel=1e-5)


MIB = 2.0**20


@pytest.mark.parametrize(
    ("framework", "architecture", "ranks", "most"),
    [
        ("trtllm", "hopper", 8, 0.5),
        ("trtllm", "hopper", 4, 2),
        ("trtllm", "blackwell", 4, 0.5),
        ("vllm", "hopper", 8, 16),
        ("vllm", "blackwell", 8, 2),
        ("sglang", "hopper", 2, 32),
    ],
)
def test_frameworks_reduce_up_to_a_size(
    framework: str, architecture: str, ranks: float, most: float
):
    backend = backends_of(framework, architecture)["collective_backend"]
    for size, itself in ((0.99 * most * MIB, True), (most * MIB, False)):
        assert bool(backend.reduces_itself(as_scalar(ranks), as_scalar(size))) == itself


def test_beyond_that_size_frameworks_reduce_as_nccl_does():
    chip, sizes = load_chip("h100-sxm"), [as_scalar(x) for x in (8, 1, 64 * MIB)]
    plans = [Plan(collective_backend=one) for one in (TRTLLM, NCCL)]
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
    found = cut(FLASH_ATTENTION_3, H100, batch, 8192, 8 * kv_heads, kv_heads)
    assert found.max_splits == found.min_splits == parts and found.row_tile == 64


def test_sglang_cuts_a_cache_without_a_limit_and_copies_heads_of_192():
    found = cut(FLASH_ATTENTION_3_SGLANG, H100, 1, 8192, 8, 1)
    assert found.max_splits == 64 and found.extra_passes == 0
    sizes = (H100, 1, 8192, jnp.inf, 8, 1, 192, 102400)
    assert partition(FLASH_ATTENTION_3_SGLANG, *sizes).extra_passes == 1


def test_flash_attention_3_cuts_all_of_a_text_whatever_the_window():
    assert cut(FLASH_ATTENTION_3, H100, 1, 8192, 8, 1, window=128).max_splits == 32


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
    found = cut(FLASH_ATTENTION_2, L40S, batch, 4096, heads, kv_heads, window=window)
    assert (found.per_query_head, found.cuda_cores, found.extra_passes, found.row_tile) == (
        alone,
        alone,
        copies,
        64,
    )
    assert (found.max_splits == 1) == bool(alone)


@pytest.mark.parametrize(
    ("batch", "context", "cache", "alone"),
    # 4 x batch x 4 tiles of 128 fill 132 cores from a batch of nine on; an fp8 cache need not.
    [(8, 512, "bf16", 1), (9, 512, "bf16", 0), (9, 511, "bf16", 1), (8, 512, "fp8", 0)],
)
def test_tensorrt_llm_leaves_what_fills_no_chip_to_vector_code(
    batch: float, context: float, cache: str, alone: float
):
    sizes = (H100, batch, context, jnp.inf, 8, 1, 128, 102400)
    found = partition(XQA_HOPPER, *sizes, cache=cache)
    assert (
        found.per_query_head
        == found.cuda_cores
        == found.extra_passes
        == 1 - found.launches_hidden
        == alone
    )
    # Vector code takes parts of 512 tokens; others 8 x 132 blocks over the batch, but no more than tiles.
    assert found.max_splits == (max(context // 512, 1) if alone else 4)
    assert found.kv_tile == (16 if alone else 128)


@pytest.mark.parametrize(("group", "alone"), [(1, 1), (2, 0), (32, 0), (33, 1)])
def test_xqa_takes_groups_of_two_to_32(group: float, alone: float):
    assert cut(XQA, L40S, 64, 4096, group, 1).per_query_head == alone


@pytest.mark.parametrize(("size", "copies"), [(64, 1), (128, 0)])
def test_another_kernel_decodes_heads_of_64_in_fp8_on_hopper(size: float, copies: float):
    sizes = (H100, 64, 4096, jnp.inf, 8, 1, size, 102400)
    found = partition(XQA_HOPPER, *sizes, cache="fp8")
    # Groups are the narrow side of its products in fp8: eight rows.
    assert (found.extra_passes, found.row_tile) == (copies, 8)
    plain = partition(XQA_HOPPER, *sizes)
    assert (plain.extra_passes, plain.row_tile) == (0, 16)


def test_a_cache_in_fp8_is_not_split_before_hopper_unless_it_must_be():
    sizes = (L40S, 64, 4096, jnp.inf, 8, 1, 128, 102400)
    found = partition(XQA, *sizes, cache="fp8")
    assert found.max_splits == found.min_splits == 1
    # A group of 64 is left to vector code: eight parts of 512 tokens.
    large = (L40S, 64, 4096, jnp.inf, 64, 1, 128, 102400)
    assert partition(XQA, *large, cache="fp8").max_splits == 8


@pytest.mark.parametrize(
    ("batch", "size", "parts", "ways"), [(4, 128, 5, 4), (4, 64, 5, 8), (40, 128, 1, 4)]
)
def test_intel_s_kernels_reach_every_core_once(
    batch: float, size: float, parts: float, ways: float
):
    # 20 cores over 4 blocks; 512 numbers of heads on a core.
    sizes = (20, batch, 4096, jnp.inf, 8, 1, size, 102400)
    found = partition(XPU, *sizes)
    assert (found.max_splits, found.min_splits, found.blocks_per_core, found.row_tile) == (
        parts,
        parts,
        ways,
        8,
    )


@pytest.mark.parametrize(("group", "heads"), [(16, 16), (32, 16), (33, 128)])
def test_blackwell_takes_latents_for_sixteen_heads_or_for_many(group: float, heads: float):
    found = cut(TRTLLM_GEN_MLA, B200, 4, 4096, group, 1)
    assert (found.heads_per_block, found.kv_tile, found.row_tile) == (heads, 64, 16)


@pytest.mark.parametrize(("cache", "moved"), [("bf16", 0), ("fp8", 10)])
def test_latents_in_fp8_are_unpacked_before_flash_attention_reads_them(cache: str, moved: float):
    sizes = (H100, 4, 4096, jnp.inf, 16, 1, 576, 102400)
    found = partition(UNPACKING_FLASH_MLA, *sizes, cache=cache)
    assert (found.unpacked_bytes, found.row_tile, found.kv_tile) == (moved, 64, 64)
    assert partition(FLASH_MLA, *sizes, cache=cache).unpacked_bytes == 0


@pytest.mark.parametrize(
    ("group", "size", "light", "rows", "heads"),
    [(3, 128, 1, 1, 128), (4, 128, 0, 16, 128), (4, 256, 0, 16, 64), (17, 128, 0, 64, 128)],
)
def test_flashinfer_takes_groups_of_four_to_matrix_units(
    group: float, size: float, light: float, rows: float, heads: float
):
    sizes = (L40S, 4, 4096, jnp.inf, group, 1, size, 102400)
    found = partition(FLASHINFER, *sizes)
    assert (found.cuda_cores, found.row_tile, found.heads_per_block) == (light, rows, heads)


def test_large_groups_on_blackwell_start_at_33():
    assert [cut(TRTLLM_GEN, B200, 128, 4096, n, 1).per_query_head for n in (32, 33)] == [0, 1]


def test_a_plain_plan_has_no_rule():
    sizes = (H100, 4, 4096, jnp.inf, 8, 1, 128, 102400)
    found = partition(SMOOTH_ATTENTION, *sizes)
    assert found.max_splits == 1e9
    assert (
        found.row_tile,
        found.min_splits,
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
        (FLASHINFER, 16, 128, 16),
        (FLASHINFER, 17, 128, 64),
        (FLASHINFER, 64, 128, 64),
        (FLASHINFER, 65, 128, 128),
        (FLASHINFER, 65, 256, 64),
        (FLASH_ATTENTION_2, 500, 128, 64),
        (XQA, 500, 128, 64),
        (XPU, 500, 128, 64),
        (TRITON, 500, 128, 64),
        (FLASH_ATTENTION_3, 500, 128, 128),
    ],
)
def test_tiles_of_a_prompt_have_as_many_rows(
    backend: AttentionBackend, rows: float, size: float, tall: float
):
    assert backend.row_tile(as_scalar(rows), as_scalar(size)) == tall


@pytest.mark.parametrize(
    ("backend", "size", "share"),
    [
        (TRITON, 32, 1),
        (TRITON, 64, 1),
        (TRITON, 128, 2),
        (TRITON, 192, 4),
        (FLASH_ATTENTION_3, 192, 1),
    ],
)
def test_triton_pads_what_it_loads(backend: AttentionBackend, size: float, share: float):
    assert backend.start_factor(as_scalar(size)) == share


NAMES = {
    *frameworks(),
    *older_versions(),
    *ATTENTION_BACKENDS,
    *COLLECTIVE_BACKENDS,
    *GEMM_BACKENDS,
    *MOE_BACKENDS,
}
SOURCES = sorted((Path(__file__).parents[1] / "kernels").rglob("*.py"))


def _asked(node: ast.AST) -> list[str]:
    """Names of frameworks and libraries that code compares with, or looks up by."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return [node.attr] * ((node.value.id, node.attr) in ASKS)
    if isinstance(node, ast.Subscript):
        found = [node.slice]
    else:
        found = list(ast.walk(node)) if isinstance(node, ast.Compare | ast.MatchValue) else []
    words = (str(one.value) for one in found if isinstance(one, ast.Constant))
    return [word for word in words if word in NAMES]


ASKS = {("plan", "framework"), ("plan", "framework_version"), ("shape", "framework")}
"""Objects and fields that would say who serves."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_kernel_asks_whose_it_is(path: Path):
    tree = ast.parse(path.read_text())
    assert [word for node in ast.walk(tree) for word in _asked(node)] == []


def test_a_library_is_known_by_what_it_does_wherever_it_is_made():
    again = FLASH_ATTENTION_3.__class__(**vars(FLASH_ATTENTION_3))
    assert again == FLASH_ATTENTION_3 and hash(again) == hash(FLASH_ATTENTION_3)
    assert FLASH_ATTENTION_3 != FLASH_ATTENTION_3_SGLANG and repr(again) == "flash_attention_3"
