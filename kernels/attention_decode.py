r"""Attention of a decode step: one new token of each sequence over its cache."""

from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import AttentionDecodeEfficiency
from perfmodel.kernels.attention import (
    Heads,
    cached_heads,
    hit_rate,
    replay_hit_rate,
    shares,
    wide_head_share,
    window_tokens,
)
from perfmodel.kernels.kernel import AbstractKernel, column, extra
from perfmodel.kernels.occupancy import blocks_per_start, mesh_traversal_time, wave_occupancy
from perfmodel.kernels.residency import Residency, native
from perfmodel.resources import Resources
from perfmodel.roofline import Work
from perfmodel.smooth import piece_count, soft_min
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.backend import NO_SPLIT_LIMIT, TILE, DecodeShape, Partition
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import look_up

REGISTERS, MIN_L1 = 256.0 * 1024, 28.0 * 1024
"""Bytes of a core's private tier that no block can share: registers, and the rest of its L1
(164 KiB of 192 on A100, 100 of 128 on Ada, 228 of 256 on Hopper: CUDA programming guide)."""

HEADS_PER_BLOCK = 64.0
"""Query heads of one KV head that a decode block takes, at most, if no rule says it."""

SPLITS = (0.0, 0.5, 1.0, 2.0)
"""Parts of a cache tried in decode: none, then as many as fill the cores half, once, twice."""


def attention_decode(
    chip: Chip,
    plan: Plan,
    batch: Scalar,
    ctx_len: Scalar,
    heads: Heads,
    window: Scalar | float = jnp.inf,
    residency: Residency | None = None,
) -> Work:
    """Count the work of one new token for each of `batch` sequences.

    **Arguments:**

    - `ctx_len`: tokens in each cache, the new one included.
    - `window`: tokens that are seen at most.
    - `residency`: where the cache lives; the chip's native memory if not given.
    """
    residency = native(chip) if residency is None else residency
    attended = jnp.minimum(ctx_len, as_scalar(window))
    if chip.execution == "launched":
        return _split_decode(chip, plan, batch, ctx_len, as_scalar(window), heads, residency)
    return _resident_decode(chip, plan, batch, attended, heads, residency)


def _cache_bytes(plan: Plan, batch: Scalar, attended: Scalar, heads: Heads) -> Scalar:
    return batch * heads.kv * attended * heads.stored * look_up(plan.cache).weight


class Blocks(NamedTuple):
    """How a cache is spread over thread blocks.

    - `items`: caches times the heads that read them apart; each is split into `splits`.
    - `numbers`: of the cache that all blocks read; `multiplied`: pairs of query and token, with padding.
    - `rounds`: blocks for each core.
    """

    items: Scalar
    splits: Values
    numbers: Scalar
    multiplied: Scalar
    rounds: Values


def _blocks(
    chip: Chip,
    plan: Plan,
    batch: Scalar,
    ctx_len: Scalar,
    attended: Scalar,
    heads: Heads,
    by: Partition,
) -> Blocks:
    group, queries = heads.query / heads.kv, batch * heads.query
    grouped = batch * heads.kv * piece_count(group / by.heads_per_block, plan.exact)
    items = (1 - by.per_query_head) * grouped + by.per_query_head * queries
    tiles, splittable = _tiles(plan, ctx_len, attended, by)
    most = jnp.minimum(splittable, by.max_splits)
    splits = _cache_splits(chip, plan, items, most, by.min_splits)
    rows = by.row_tile * piece_count(queries / items / by.row_tile, plan.exact)
    padding = plan.attention_backend.cached_padding(heads.key)
    return Blocks(
        items,
        splits,
        numbers=items * tiles * by.kv_tile * heads.stored * padding,
        multiplied=rows * items * tiles * by.kv_tile * padding,
        rounds=items * splits / (chip.cores * by.blocks_per_core),
    )


def _tiles(plan: Plan, ctx_len: Scalar, attended: Scalar, by: Partition) -> tuple[Scalar, Scalar]:
    """Tiles of one cache that are read, and that are split over blocks."""
    tiles = piece_count(attended / by.kv_tile, plan.exact)
    if plan.attention_backend.reads_boundary_tile:
        tiles = tiles + jnp.where(attended < ctx_len, 1.0, 0.0)
    hidden = piece_count(ctx_len / by.kv_tile, plan.exact) - tiles
    return tiles, tiles + by.launches_hidden * hidden


def _split_decode(
    chip: Chip,
    plan: Plan,
    batch: Scalar,
    ctx_len: Scalar,
    window: Scalar,
    heads: Heads,
    residency: Residency,
) -> Work:
    fitted, attended = chip.efficiency.attention_decode, jnp.minimum(ctx_len, window)
    by = partition_of(chip, plan, batch, ctx_len, window, heads)
    blocks = _blocks(chip, plan, batch, ctx_len, attended, heads, by)
    cache, pairs = _cache_bytes(plan, batch, attended, heads), batch * heads.query * attended
    query_bytes = 2.0 * batch * heads.query * (heads.key + heads.value)
    feed = blocks.numbers * look_up(plan.cache).weight
    reads = residency.traffic(cache)
    rereads = _cache_rereads(fitted, blocks.items / (batch * heads.kv))
    missed = _miss_rate(chip, plan, fitted, cache * ctx_len / attended, cache)
    hits = hit_rate(chip, plan, fitted, query_bytes, cache)
    unpacked = by.unpacked_bytes * batch * heads.kv * attended * heads.stored
    vector = by.per_query_head * fitted.flop_per_element * blocks.numbers
    head_rate = wide_head_share(fitted, heads.key)
    streaming = head_rate * _streaming_share(chip, fitted, feed, blocks.rounds, by.cuda_cores)
    return Work(
        demand=Resources(
            matrix=2 * (heads.key + heads.value) * pairs,
            vector=vector if plan.attention_backend.masked_multihead_attention else None,
            exponential=pairs,
            private=reads["private"],
            shared=feed + query_bytes,
            main=reads["main"] * (rereads * missed) + query_bytes * (1 - hits) + unpacked,
            far=reads["far"],
        ),
        shares=shares(
            fitted,
            pairs / blocks.multiplied * head_rate,
            _feed_share(fitted, streaming, feed, query_bytes),
        ),
        occupancy=wave_occupancy(blocks.rounds, fitted.wave_quantisation, plan.exact),
        latency=fitted.launch
        + fitted.per_sequence * batch
        + fitted.extra_pass * by.extra_passes
        + _rope_time(chip, fitted, query_bytes)
        + _split_reduction_time(chip, fitted, blocks.splits, batch * heads.query * heads.value),
        selection_sharpness=fitted.selection_sharpness,
    )


def _feed_share(
    fitted: AttentionDecodeEfficiency, streaming_share: Values, feed: Values, query_bytes: Scalar
) -> Values:
    """Share of the shared tier's rate; queries and outputs have all of it: no product waits for them."""
    return (feed + query_bytes) / (feed / (fitted.feed * streaming_share) + query_bytes)


def partition_of(
    chip: Chip, plan: Plan, batch: Scalar, ctx_len: Scalar, window: Scalar, heads: Heads
) -> Partition:
    """How a plan's kernels partition a cache; without a rule nothing binds them."""
    none = jnp.zeros_like(batch)
    free = Partition(
        max_splits=none + NO_SPLIT_LIMIT,
        extra_passes=none,
        per_query_head=none,
        cuda_cores=none,
        row_tile=none + chip.matrix_rows,
        min_splits=none + 1.0,
        heads_per_block=none + HEADS_PER_BLOCK,
        kv_tile=none + TILE,
        blocks_per_core=none + 1.0,
        unpacked_bytes=none,
        launches_hidden=none,
    )
    windowed, group = jnp.isfinite(window), heads.query / heads.kv
    where = (plan.cache, chip.cores, batch, ctx_len, windowed)
    shape = DecodeShape(*where, group, heads.kv, heads.key, _shared_memory(chip))
    return plan.attention_backend.partition(shape, free)


def _shared_memory(chip: Chip) -> Scalar:
    """Bytes of shared memory that blocks share on a core: not registers, nor the least L1 (NVIDIA)."""
    return jnp.maximum(chip.private.capacity / chip.cores - REGISTERS - MIN_L1, MIN_L1)


def _cache_rereads(fitted: AttentionDecodeEfficiency, readers: Values) -> Values:
    """Readings of a cache that main memory serves when so many blocks read all of it."""
    return 1 + fitted.kv_reread * (readers - 1)


def _rope_time(chip: Chip, fitted: AttentionDecodeEfficiency, query_bytes: Scalar) -> Scalar:
    """Passes over queries and outputs that other kernels make, before or after."""
    return fitted.rope_passes * query_bytes / (chip.main.bandwidth * fitted.streaming + 1.0)


def _streaming_share(
    chip: Chip, fitted: AttentionDecodeEfficiency, feed: Values, rounds: Values, cuda_cores: Scalar
) -> Values:
    """Share of a core's time in which its part of the cache streams; the rest starts and ends blocks."""
    stream = feed / (chip.shared.bandwidth * fitted.feed + 1.0)
    start = fitted.block_start + cuda_cores * (fitted.block_start_cuda - fitted.block_start)
    return stream / (stream + start * rounds / blocks_per_start(chip, rounds))


def _miss_rate(
    chip: Chip, plan: Plan, fitted: AttentionDecodeEfficiency, pool: Scalar, cache: Scalar
) -> Scalar:
    """Traffic of main memory for each byte of the cache that is read; 1 in service.

    Replays find part of a cache in the shared tier; or they find that tier full of
    data that must be written back first, as much as the `pool` of all tokens holds.
    """
    if plan.replay and plan.attention_backend.writes_back:
        return 1 + soft_min(pool, chip.shared.capacity * fitted.l2_hit_capacity) / cache
    return 1 - replay_hit_rate(chip, plan, fitted, cache)


def _cache_splits(chip: Chip, plan: Plan, items: Scalar, most: Scalar, least: Scalar) -> Values:
    filling = jnp.array(SPLITS, dtype=float) * chip.cores / items
    return jnp.clip(jnp.floor(filling) if plan.exact else filling, jnp.minimum(least, most), most)


def _split_reduction_time(
    chip: Chip, fitted: AttentionDecodeEfficiency, splits: Values, outputs: Scalar
) -> Values:
    """Partial outputs in fp32 go through the shared tier and come back."""
    extra = 1 - jnp.exp(-4 * (splits - 1))
    return extra * (
        fitted.splitkv_reduction
        + 8.0 * outputs * splits / (chip.shared.bandwidth * fitted.feed + 1.0)
    )


def _resident_decode(
    chip: Chip, plan: Plan, batch: Scalar, attended: Scalar, heads: Heads, residency: Residency
) -> Work:
    """The cache is read where it lives; queries go in, scores, sums and outputs cross: four times."""
    fitted = chip.efficiency.attention_decode
    pairs = batch * heads.query * attended
    reads = residency.traffic(_cache_bytes(plan, batch, attended, heads))
    return Work(
        demand=Resources(
            matrix=2 * (heads.key + heads.value) * pairs,
            exponential=pairs,
            private=reads["private"],
            shared=reads["shared"],
            main=reads["main"],
            far=reads["far"],
        ),
        shares=shares(fitted),
        latency=fitted.launch + mesh_traversal_time(chip, 4.0),
    )


READS = ("cache", "attention_backend", "replay")
"""Choices of a plan that attention of decode steps reads."""


class AttentionDecode(AbstractKernel):
    """Attention of one new token for each of `batch` sequences.

    - `batch`: sequences; `heads`: of queries, on one chip; `kv_heads`: of keys and values.
    - `ctx_len`: tokens in each cache, the new one included; `window`: seen at most, zero for all.
    - `head_dim`: numbers of a head's key; `value_dim`: of its value, if others; `stored_dim`: cached of a KV
      head and token, if not both.
    - `residency`: where the cache lives, if not in the chip's native memory.
    """

    op = "attention_decode"
    family = "attention_decode"
    reads = READS

    batch: Scalar = column()
    ctx_len: Scalar = column()
    heads: Scalar = column()
    kv_heads: Scalar = column()
    head_dim: Scalar = column()
    window: Scalar = column(default=0.0)
    value_dim: Scalar | None = extra()
    stored_dim: Scalar | None = extra()
    residency: Residency | None = None

    @classmethod
    def rates(cls, plan: Plan) -> set[str]:
        """Products in bf16 alone, whatever the weights' format is."""
        return {"bf16"}

    def count(self, chip: Chip, plan: Plan) -> list[Work]:
        numbers = (self.head_dim, self.value_dim, self.stored_dim)
        heads = cached_heads(self.heads, self.kv_heads, *numbers)
        sizes = (self.batch, self.ctx_len, heads, window_tokens(self.window))
        return [attention_decode(chip, plan, *sizes, self.residency)]
