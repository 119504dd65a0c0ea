"""How a framework's attention kernels cut a cache: facts about frameworks, not chips.

Read in their sources, and seen in their measured times:

- FlashAttention 2 folds grouped queries into rows only for one new token and no window
  (`seqlenq_ngroups_swapped`): two transposes, and only then is the cache split.
- FlashAttention 3 folds grouped queries into rows always, and gives each part of a cache as
  many tiles as 1.1 times the cores need (`prepare_varlen_num_blocks`). vLLM splits a cache
  at most 32 times; SGLang copies queries and outputs of head size 192, and turns a cache of
  latents in fp8 into bf16 before it is read.
- FlashInfer decodes groups of fewer than four with plain vector code. Its other blocks take as few
  rows as hold a group, and as many keys as then leave room for two of them in a core's shared
  memory (`BatchPrefillWithPagedKVCacheDispatched`).
- TensorRT-LLM runs XQA where 1 < group <= 32 and, for a bf16 cache, 4 x batch x kv_heads x
  max(1, context/128) fills the cores; else a block of vector code for each query head, which
  splits a cache into parts of 512 tokens. XQA keeps head sizes that are powers of two, does
  not split an fp8 cache before Hopper, and takes another kernel for fp8 heads of 64.
- On Blackwell TensorRT-LLM's own kernels take groups up to 32, and any for SGLang and vLLM, where few
  and short texts with large groups run another kernel; of latents sixteen heads at a
  time up to 32, then all.
- Intel's kernels cut a cache only to reach every core once, and run several blocks on a core.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.hardware.chip import MATRIX_ROWS
from perfmodel.kernels.prompts import TILE, tile_rows
from perfmodel.smooth import power_of_two
from perfmodel.units import Flag, Scalar
from perfmodel.workload.framework import Backend
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import look_up

UNBOUND = 1e9


def _to_power_of_two(size: Scalar) -> Scalar:
    return power_of_two(size) / size


PADDING: dict[Backend, Callable[[Scalar], Scalar]] = {
    "xqa": _to_power_of_two,
    "xqa_hopper": _to_power_of_two,
}
"""What a head size becomes on chip, over what it is, where a backend pads it."""

WRITES_BACK: tuple[Backend, ...] = ("xqa_hopper",)
"""Backends whose benchmark leaves the shared tier full of data that must be written back before
it can be read into: seen as one more pass over as much of the cache as the tier holds."""


SEES_A_TILE_MORE: tuple[Backend, ...] = ("smooth", "fa3")
"""Backends that read one tile more of a cache where a window cuts it."""


class Case(NamedTuple):
    """What a rule looks at.

    - `framework`: `None` where kernels alone are meant.
    - `windowed`: whether there is a window, however long the text.
    - `group`: query heads of one KV head.
    - `room`: bytes of shared memory of a core.
    """

    framework: str | None
    cache: str
    cores: Scalar
    batch: Scalar
    context: Scalar
    windowed: Flag
    group: Scalar
    kv_heads: Scalar
    head_dim: Scalar
    room: Scalar


class Partition(NamedTuple):
    """How a decode kernel partitions a cache over thread blocks.

    - `most_splits`, `least_splits`: parts of one sequence's cache, at most and at least.
    - `extra_passes`: over queries and outputs, or other kernels before the main one.
    - `per_query_head`: 1 where each query head has a block of its own and reads the cache itself.
    - `cuda_cores`: 1 where blocks multiply on the vector units, not on the matrix units.
    - `row_tile`: rows of queries that a block multiplies at least.
    - `heads_per_block`: query heads of one KV head that a block takes, at most.
    - `kv_tile`: tokens of the cache that a block takes at a time.
    - `blocks_per_core`: that a core works on at once, none of them faster for being alone.
    - `unpacked_bytes`: moved for each number of the cache before it is read.
    - `launches_hidden`: 1 where parts that a window hides are started too.
    """

    most_splits: Scalar
    extra_passes: Scalar
    per_query_head: Scalar
    cuda_cores: Scalar
    row_tile: Scalar
    least_splits: Scalar
    heads_per_block: Scalar
    kv_tile: Scalar
    blocks_per_core: Scalar
    unpacked_bytes: Scalar
    launches_hidden: Scalar


WARPGROUP_ROWS = 8.0
"""The same where a group's queries are the narrow side of Hopper's `wgmma` (the n of `m64n8k32`)."""

LATENT_TILE = 64.0
"""The same for latents, whose rows are long."""

LIGHT_TILE = 16.0
"""Tokens of the cache that a block of plain vector code takes at a time."""

XPU_ROWS = 8.0
"""Rows that Intel's matrix units multiply at once, at most (the repeat count of `dpas`)."""

XPU_ROW = 512.0
"""Numbers of a head that the blocks on one Xe core take together: four of 128, eight of 64."""

TOGETHER = 64.0
"""Query heads of one KV head that a decode block takes together, at most."""

PLAIN: tuple[Backend, ...] = ("xqa", "xqa_hopper", "trtllm_gen")
"""Backends that leave heads alone to plain vector code, which takes each number of the cache for one query
(`masked_multihead_attention` of TensorRT-LLM)."""

UNPACKED = 10.0
"""Bytes moved for each number of a cache in fp8 that is first turned into bf16: one is read, two
written, and so on through copies of the latents and of their rotated part."""

LARGE_GROUP = 8192.0
"""Numbers of a group's queries that cost the kernel for large groups as much as its start."""

FLASH_ROWS = 64.0
"""Rows of queries in a block of FlashAttention."""


def _one_where(flag: Flag) -> Scalar:
    return jnp.where(flag, 1.0, 0.0)


def _fa2(case: Case, free: Partition) -> Partition:
    together = (case.group > 1) & ~case.windowed
    swapped = together & (case.batch > 1) & (case.kv_heads > 1)
    apart = _one_where(~together)
    return free._replace(
        most_splits=jnp.where(together, free.most_splits, 1.0),
        extra_passes=_one_where(swapped),
        per_query_head=apart,
        cuda_cores=apart,
        row_tile=free.least_splits * FLASH_ROWS,
    )


def _fa3(case: Case, free: Partition) -> Partition:
    return _flash(case, free, 32.0)


def _fa3_padded(case: Case, free: Partition) -> Partition:
    return _flash(case, free, UNBOUND)._replace(extra_passes=_one_where(case.head_dim == 192))


def _flash(case: Case, free: Partition, most: float) -> Partition:
    """As many tiles for each part that 1.1 times the cores suffice."""
    tiles = jnp.ceil(case.context / 128)
    each = jnp.ceil(1.1 * case.batch * case.kv_heads * tiles / case.cores)
    parts = jnp.minimum(jnp.ceil(tiles / each), most)
    return free._replace(
        most_splits=parts, least_splits=parts, row_tile=free.least_splits * FLASH_ROWS
    )


def _flashinfer(case: Case, free: Partition) -> Partition:
    wide = _one_where(case.head_dim < 256)
    rows = tile_rows("flashinfer", case.group, case.head_dim)
    matrix = free._replace(
        row_tile=rows, heads_per_block=TOGETHER * (1 + wide), kv_tile=_flashinfer_keys(case, rows)
    )
    # 128 threads hold eight numbers of a head each, sixteen in fp8; a head alone takes more keys.
    light = 1024 / (case.head_dim * look_up(case.cache).weight / 2)
    tile = jnp.where(case.group == 1, 4096 / case.head_dim, light)
    return _vector(matrix, _one_where(case.group < 4), tile)


def _flashinfer_keys(case: Case, rows: Scalar) -> Scalar:
    """Keys of a tile: powers of two of 16 for each warp, as its registers and half of a core allow."""
    warps = jnp.where(rows > 16, 1.0, 4.0)
    queries = 2.0 * rows * case.head_dim
    each = 2.0 * case.head_dim * 16 * warps * look_up(case.cache).weight
    blocks = jnp.where(case.room >= 2 * (queries + each), 2.0, 1.0)
    fit = jnp.maximum((case.room / blocks - queries) / each, 1.0)
    most = jnp.where(rows > 64, 4.0, 8.0)
    return 16 * warps * jnp.minimum(2.0 ** jnp.floor(jnp.log2(fit)), most)


def _vector(cut: Partition, where: Scalar, tile: Scalar | float = LIGHT_TILE) -> Partition:
    """Blocks of plain vector code multiply what there is."""
    return cut._replace(
        cuda_cores=where,
        row_tile=cut.row_tile + where * (1 - cut.row_tile),
        kv_tile=cut.kv_tile + where * (tile - cut.kv_tile),
    )


def _trtllm_gen(case: Case, free: Partition) -> Partition:
    large = _one_where(case.group > 32)
    if case.framework == "trtllm":
        return _vector(free._replace(per_query_head=large), large)
    short = _one_where((case.batch * case.kv_heads < case.cores / 2) & (case.context <= 256))
    passes = 1 + case.group * case.head_dim / LARGE_GROUP
    return free._replace(
        heads_per_block=jnp.maximum(free.heads_per_block, case.group),
        extra_passes=large * short * passes,
    )


def _xqa(case: Case, free: Partition) -> Partition:
    found = _grouped_xqa(case, free, _fills(case) | (case.cache == "fp8"))
    if case.cache != "fp8":
        return found
    alone = found.per_query_head > 0
    return found._replace(
        most_splits=jnp.where(alone, found.most_splits, 1.0), least_splits=free.least_splits
    )


def _xqa_hopper(case: Case, free: Partition) -> Partition:
    other = _one_where((case.head_dim == 64) & (case.cache == "fp8"))
    if case.cache == "fp8":
        free = free._replace(row_tile=free.least_splits * WARPGROUP_ROWS)
    found = _grouped_xqa(case, free, _fills(case) | (case.cache == "fp8"))
    return found._replace(extra_passes=jnp.maximum(found.extra_passes, other))


def _fills(case: Case) -> Flag:
    tiles = jnp.maximum(1.0, jnp.floor(case.context / 128))
    return 4 * case.batch * case.kv_heads * tiles >= case.cores


def _grouped_xqa(case: Case, free: Partition, fills: Flag) -> Partition:
    together = (case.group > 1) & (case.group <= 32) & fills
    apart = _one_where(~together)
    vector = jnp.maximum(jnp.floor(case.context / 512), 1.0)
    most = jnp.minimum(
        jnp.floor(8 * case.cores / (case.batch * case.kv_heads)), case.context // 128
    )
    matrix = jnp.maximum(most, 1.0)
    cut = free._replace(
        most_splits=jnp.where(together, matrix, vector),
        least_splits=jnp.where(together, matrix, 1.0),
        extra_passes=apart,
        per_query_head=apart,
        launches_hidden=1 - apart,
    )
    return _vector(cut, apart)


def _xpu(case: Case, free: Partition) -> Partition:
    """A block for each core, then more of them on each core, by what its registers hold."""
    parts = jnp.maximum(jnp.ceil(case.cores / (case.batch * case.kv_heads)), 1.0)
    ways = XPU_ROW / case.head_dim
    return free._replace(
        most_splits=parts,
        least_splits=parts,
        blocks_per_core=ways,
        row_tile=free.least_splits * XPU_ROWS,
    )


def _latent_gen(case: Case, free: Partition) -> Partition:
    """Sixteen heads in a block, up to 32 in all; else up to 128."""
    few = case.group <= 32
    return _latent(free)._replace(heads_per_block=jnp.where(few, MATRIX_ROWS, 128.0))


def _latent(free: Partition) -> Partition:
    return free._replace(kv_tile=free.least_splits * LATENT_TILE)


def _latent_triton(case: Case, free: Partition) -> Partition:
    """Sixteen heads in a block, however many there are (SGLang's `_decode_grouped_att_m_fwd`)."""
    return _latent(free)._replace(heads_per_block=free.least_splits * MATRIX_ROWS)


def _latent_hopper(case: Case, free: Partition) -> Partition:
    return _latent(free)._replace(row_tile=free.least_splits * FLASH_ROWS)


def _latent_flash(case: Case, free: Partition) -> Partition:
    unpacked = UNPACKED if case.cache == "fp8" else 0.0
    return _latent_hopper(case, free)._replace(unpacked_bytes=free.least_splits * unpacked)


RULES: dict[Backend, Callable[[Case, Partition], Partition]] = {
    "fa2": _fa2,
    "fa3": _fa3,
    "fa3_padded": _fa3_padded,
    "flashinfer": _flashinfer,
    "trtllm_gen": _trtllm_gen,
    "xqa": _xqa,
    "xqa_hopper": _xqa_hopper,
    "xpu": _xpu,
    "latent_gen": _latent_gen,
    "latent_triton": _latent_triton,
    "latent_hopper": _latent_hopper,
    "latent_flash": _latent_flash,
}

LATENT: dict[Backend, Backend] = {
    "trtllm_gen": "latent_gen",
    "xqa_hopper": "latent_hopper",
    "fa3": "latent_flash",
    "flashinfer": "latent_triton",
    "fa3_padded": "latent_flash",
}
"""The kernels that decode latent attention, beside those of grouped attention; `smooth` elsewhere."""


def decode_cut(
    plan: Plan,
    cores: Scalar,
    batch: Scalar,
    context: Scalar,
    window: Scalar,
    heads: Scalar,
    kv_heads: Scalar,
    head_dim: Scalar,
    room: Scalar,
    matrix_rows: float = MATRIX_ROWS,
) -> Partition:
    """The rule of a plan's backend; the smooth form knows none."""
    none = jnp.zeros_like(batch)
    free = Partition(
        none + UNBOUND,
        none,
        none,
        none,
        none + matrix_rows,
        none + 1.0,
        none + TOGETHER,
        none + TILE,
        none + 1.0,
        none,
        none,
    )
    if plan.backend == "smooth":
        return free
    windowed, group = jnp.isfinite(window), heads / kv_heads
    case = Case(
        plan.framework, plan.cache, cores, batch, context, windowed, group, kv_heads, head_dim, room
    )
    return RULES[plan.backend](case, free)
