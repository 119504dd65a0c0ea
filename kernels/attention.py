r"""Attention over a cache: decode (one new token) and prefill (a whole prompt).

One form serves MHA, GQA and MQA (`kv_heads` caches, each read by a group of query
heads), MLA (one latent cache read by all heads) and sliding windows.
"""

from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.efficiency import DecodeEfficiency, PrefillEfficiency
from perfmodel.kernels.dispatch import PADDING, PLAIN, SEES_A_TILE_MORE, WRITES_BACK, decode_cut
from perfmodel.kernels.home import Home, held, native, on_chip, spilled
from perfmodel.kernels.launch import crossing_time, no_taller, occupied, started_at_once
from perfmodel.kernels.prompts import (
    FOLDING,
    KEYS,
    MASKS_WINDOWS,
    SCORES_WINDOWS,
    TILE,
    in_16_bits,
    padded_share,
    prompt_backend,
    prompt_format,
    prompt_parts,
    sizes_in_16_bits,
    start_share,
    tile_rows,
)
from perfmodel.resources import Resources
from perfmodel.roofline import Work
from perfmodel.smooth import soft_min, whole
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.framework import Backend
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import look_up

WIDE, WIDEST = 192.0, 256.0
"""Head sizes up to which registers hold a tile of outputs with ease, and that they just hold."""

REGISTERS, LEAST_L1 = 256.0 * 1024, 28.0 * 1024
"""Bytes of a core's private tier that no block can share: registers, and the rest of its L1
(164 KiB of 192 on A100, 100 of 128 on Ada, 228 of 256 on Hopper: CUDA programming guide)."""

SPLITS = (0.0, 0.5, 1.0, 2.0)
"""Parts of a cache tried in decode: none, then as many as fill the cores half, once, twice."""


class Heads(NamedTuple):
    """Shape of an attention layer on one chip.

    - `query`, `kv`: heads.
    - `key`, `value`: numbers per head and token that are multiplied.
    - `stored`: numbers per KV head and token that are cached.
    """

    query: Scalar
    kv: Scalar
    key: Scalar
    value: Scalar
    stored: Scalar


def grouped(heads: Scalar, kv_heads: Scalar, head_dim: Scalar) -> Heads:
    """MHA, GQA or MQA: keys and values of `head_dim` numbers, both cached."""
    return Heads(heads, kv_heads, head_dim, head_dim, 2 * head_dim)


def latent(heads: Scalar, rank: Scalar, rope: Scalar) -> Heads:
    """MLA in decode, absorbed: one cache of `rank + rope` numbers serves all heads."""
    return Heads(heads, jnp.ones_like(heads), rank + rope, rank, rank + rope)


def expanded(heads: Scalar, nope: Scalar, rope: Scalar, value: Scalar) -> Heads:
    """MLA in prefill: each head has keys of `nope + rope` and values of `value` numbers."""
    return Heads(heads, heads, nope + rope, value, nope + rope + value)


def attention_decode(
    chip: Chip,
    plan: Plan,
    batch: Scalar,
    context: Scalar,
    heads: Heads,
    window: Scalar | float = jnp.inf,
    home: Home | None = None,
) -> Work:
    """Count the work of one new token for each of `batch` sequences.

    **Arguments:**

    - `context`: tokens in each cache, the new one included.
    - `window`: tokens that are seen at most.
    - `home`: where the cache lives; the chip's native memory if not given.
    """
    home = native(chip) if home is None else home
    seen = jnp.minimum(context, as_scalar(window))
    if chip.execution == "launched":
        return _split_decode(chip, plan, batch, context, as_scalar(window), heads, home)
    return _resident_decode(chip, plan, batch, seen, heads, home)


def _cache(plan: Plan, batch: Scalar, seen: Scalar, heads: Heads) -> Scalar:
    return batch * heads.kv * seen * heads.stored * look_up(plan.cache).weight


def _shares(
    fitted: DecodeEfficiency | PrefillEfficiency,
    useful: Values | float = 1.0,
    feed: Values | None = None,
    rate: Values | float = 1.0,
) -> Resources:
    """Shares of the peak rates: `useful` of what is multiplied at `rate`, `feed` of the shared tier's."""
    exponential = fitted.exponential if isinstance(fitted, PrefillEfficiency) else as_scalar(1.0)
    return Resources(
        matrix=fitted.sustained * useful * rate,
        exponential=exponential * useful,
        private=fitted.private,
        shared=fitted.feed if feed is None else feed,
        main=fitted.streaming,
    )


def _split_decode(
    chip: Chip, plan: Plan, batch: Scalar, context: Scalar, window: Scalar, heads: Heads, home: Home
) -> Work:
    fitted, seen = chip.efficiency.decode, jnp.minimum(context, window)
    sizes = (batch, context, window, heads.query, heads.kv, heads.key, _room(chip))
    cut = decode_cut(plan, chip.cores, *sizes, chip.matrix_rows)
    group = heads.query / heads.kv
    shared_items = batch * heads.kv * whole(group / cut.heads, plan.exact)
    items = (1 - cut.alone) * shared_items + cut.alone * batch * heads.query
    cuts = 1.0 if plan.backend in SEES_A_TILE_MORE else 0.0
    tiles = whole(seen / cut.grain, plan.exact) + cuts * jnp.where(seen < context, 1.0, 0.0)
    cuttable = tiles + cut.empty * (whole(context / cut.grain, plan.exact) - tiles)
    splits = _cache_splits(chip, plan, items, jnp.minimum(cuttable, cut.splits), cut.least)
    pairs = batch * heads.query * seen
    rows = cut.rows * whole(batch * heads.query / items / cut.rows, plan.exact)
    cache = _cache(plan, batch, seen, heads)
    reads = home.traffic(cache)
    fresh = 2.0 * batch * heads.query * (heads.key + heads.value)
    kept = _kept(chip, plan, fitted, fresh + cache) if plan.replay else 1 - spilled(chip, fresh)
    missed = _again(fitted, items / (batch * heads.kv)) * _misses(
        chip, plan, fitted, cache * context / seen, cache
    )
    unpacked = cut.unpacked * batch * heads.kv * seen * heads.stored
    padded = PADDING.get(plan.backend, jnp.ones_like)(heads.key)
    numbers = items * tiles * cut.grain * heads.stored * padded
    feed = numbers * look_up(plan.cache).weight
    multiplied = rows * items * tiles * cut.grain * padded
    uncrowded = _crowded(fitted, heads.key)
    rounds = items * splits / (chip.cores * cut.ways)
    filled = uncrowded * _filled(chip, fitted, feed, rounds, cut.light)
    return Work(
        demand=Resources(
            matrix=2 * (heads.key + heads.value) * pairs,
            vector=cut.alone * fitted.plain * numbers if plan.backend in PLAIN else None,
            exponential=pairs,
            private=reads["private"],
            shared=feed + fresh,
            main=reads["main"] * missed + fresh * (1 - kept) + unpacked,
            far=reads["far"],
        ),
        shares=_shares(fitted, pairs / multiplied * uncrowded, _fed(fitted, filled, feed, fresh)),
        occupancy=occupied(rounds, fitted.rounding, plan.exact),
        latency=fitted.launch
        + fitted.sequence * batch
        + fitted.copy * cut.copies
        + _rotation(chip, fitted, fresh)
        + _reduction(chip, fitted, splits, batch * heads.query * heads.value),
        choice=fitted.choice,
    )


def _fed(fitted: DecodeEfficiency, filled: Values, feed: Values, fresh: Scalar) -> Values:
    """Share of the shared tier's rate; queries and outputs have all of it: no product waits for them."""
    return (feed + fresh) / (feed / (fitted.feed * filled) + fresh)


def _room(chip: Chip) -> Scalar:
    """Bytes of shared memory that blocks share on a core: not registers, nor the least L1 (NVIDIA)."""
    return jnp.maximum(chip.private.capacity / chip.cores - REGISTERS - LEAST_L1, LEAST_L1)


def _again(fitted: DecodeEfficiency, readers: Values) -> Values:
    """Readings of a cache that main memory serves when so many blocks read all of it."""
    return 1 + fitted.again * (readers - 1)


def _rotation(chip: Chip, fitted: DecodeEfficiency, fresh: Scalar) -> Scalar:
    """Passes over queries and outputs that other kernels make, before or after."""
    return fitted.rotate * fresh / (chip.main.bandwidth * fitted.streaming + 1.0)


def _filled(
    chip: Chip, fitted: DecodeEfficiency, feed: Values, rounds: Values, light: Scalar
) -> Values:
    """Share of a core's time in which its part of the cache streams; the rest starts and ends blocks."""
    stream = feed / (chip.shared.bandwidth * fitted.feed + 1.0)
    start = fitted.block + light * (fitted.light - fitted.block)
    return stream / (stream + start * rounds / started_at_once(chip, rounds))


def _misses(
    chip: Chip, plan: Plan, fitted: DecodeEfficiency, pool: Scalar, cache: Scalar
) -> Scalar:
    """Traffic of main memory for each byte of the cache that is read; 1 in service.

    Replays find part of a cache in the shared tier; or they find that tier full of
    data that must be written back first, as much as the `pool` of all tokens holds.
    """
    if plan.replay and plan.backend in WRITES_BACK:
        return 1 + soft_min(pool, chip.shared.capacity * fitted.hold) / cache
    return 1 - _kept(chip, plan, fitted, cache)


def _cache_splits(chip: Chip, plan: Plan, items: Scalar, most: Scalar, least: Scalar) -> Values:
    filling = jnp.array(SPLITS, dtype=float) * chip.cores / items
    return jnp.clip(jnp.floor(filling) if plan.exact else filling, jnp.minimum(least, most), most)


def _reduction(chip: Chip, fitted: DecodeEfficiency, splits: Values, outputs: Scalar) -> Values:
    """Partial outputs in fp32 go through the shared tier and come back."""
    extra = 1 - jnp.exp(-4 * (splits - 1))
    return extra * (
        fitted.reduction + 8.0 * outputs * splits / (chip.shared.bandwidth * fitted.feed + 1.0)
    )


def _kept(
    chip: Chip, plan: Plan, fitted: DecodeEfficiency | PrefillEfficiency, size: Scalar
) -> Scalar:
    """Share of a replayed operand that stays in the shared tier; none in service."""
    if not plan.replay:
        return as_scalar(0.0)
    room = chip.shared.capacity / chip.shared.parts * fitted.hold
    return held(chip, fitted.cliff, room, size)


def _resident_decode(
    chip: Chip, plan: Plan, batch: Scalar, seen: Scalar, heads: Heads, home: Home
) -> Work:
    """The cache is read where it lives; queries go in, scores, sums and outputs cross: four times."""
    fitted = chip.efficiency.decode
    pairs = batch * heads.query * seen
    reads = home.traffic(_cache(plan, batch, seen, heads))
    return Work(
        demand=Resources(
            matrix=2 * (heads.key + heads.value) * pairs,
            exponential=pairs,
            private=reads["private"],
            shared=reads["shared"],
            main=reads["main"],
            far=reads["far"],
        ),
        shares=_shares(fitted),
        latency=fitted.launch + crossing_time(chip, 4.0),
    )


def attention_prefill(
    chip: Chip,
    plan: Plan,
    batch: Scalar,
    queries: Scalar,
    context: Scalar,
    heads: Heads,
    window: Scalar | float = jnp.inf,
    causal: Scalar | float = 1.0,
    home: Home | None = None,
) -> Work:
    """Count the work of `queries` new tokens for each of `batch` sequences.

    **Arguments:**

    - `context`: tokens in each cache, the new ones included; `queries` if there is no prefix.
    - `window`: tokens that are seen at most.
    - `causal`: 0 where a token sees those after it.
    - `home`: where the cache lives; the chip's native memory if not given.
    """
    home = native(chip) if home is None else home
    seen = jnp.minimum(context, as_scalar(window))
    pairs = causal * visible(queries, context, seen) + (1 - causal) * queries * seen
    count = _tiled_prefill if chip.execution == "launched" else _resident_prefill
    return count(chip, plan, batch, queries, context, seen, pairs, heads, home)


def visible(queries: Scalar, context: Scalar, seen: Scalar) -> Scalar:
    r"""Pairs of query and key under a causal mask with a window.

    $\sum_{i=1}^{q} \min(p + i, w)$ for $p$ tokens of prefix and a window of $w$: a triangle,
    then a band.
    """
    prefix = context - queries
    growing = jnp.clip(seen - prefix, 0.0, queries)
    return growing * prefix + growing * (growing + 1) / 2 + (queries - growing) * seen


def _prefill_traffic(plan: Plan, batch: Scalar, queries: Scalar, context: Scalar, heads: Heads):
    """Bytes of queries and outputs, and of keys and values."""
    fresh = 2.0 * batch * queries * heads.query * (heads.key + heads.value)
    cache = batch * context * heads.kv * heads.stored * look_up(plan.cache).weight
    return fresh, cache


def _tiled_prefill(
    chip: Chip,
    plan: Plan,
    batch: Scalar,
    queries: Scalar,
    context: Scalar,
    seen: Scalar,
    pairs: Scalar,
    heads: Heads,
    home: Home,
) -> Work:
    fitted, backend = chip.efficiency.prefill, prompt_backend(plan)
    fold = _folds(backend, heads, queries)
    windowed = jnp.where(seen < context, 1.0, 0.0)
    rows = queries * fold
    tall = no_taller(chip, tile_rows(backend, rows, heads.key), rows, plan.exact)
    blocks = whole(rows / tall, plan.exact)
    all_blocks = batch * heads.query / fold * blocks
    unhidden = visible(queries, context, context)
    through = unhidden if backend in MASKS_WINDOWS else pairs
    edge = blocks * tall * KEYS.get(backend, TILE) / 2 * (1 + windowed)
    area = through * fold * blocks * tall / rows + edge
    asked, multiplied = batch * heads.query * pairs, batch * heads.query / fold * area
    scored = asked
    if backend in SCORES_WINDOWS:
        scored = asked * (1 + batch * heads.query * (unhidden - pairs) / multiplied)
    rounds, parts = all_blocks / chip.cores, prompt_parts(plan, chip.cores, all_blocks, seen)
    longest = (seen + windowed * (tall / fold + TILE)) * tall / parts
    fresh, cache = _prefill_traffic(plan, batch, queries, context, heads)
    reads = home.traffic(cache)
    kept = _kept(chip, plan, fitted, fresh + cache) if plan.replay else 1 - spilled(chip, fresh)
    # Keys and values of a prefix were written long ago: no SRAM holds them, unless replayed.
    recent = 1.0 if plan.replay else queries / context
    start = fitted.block * start_share(backend, heads.key) + fitted.windowed * windowed
    return Work(
        demand=Resources(
            matrix=2 * (heads.key + heads.value) * asked,
            exponential=scored,
            private=reads["private"],
            shared=multiplied / tall * heads.stored * look_up(plan.cache).weight + fresh,
            main=fresh * (1 - kept) + reads["main"] * (1 - kept * recent),
            far=reads["far"],
        ),
        shares=_shares(
            fitted,
            asked / multiplied * _crowded(fitted, heads.key),
            rate=_prompt_rate(chip, plan, heads.key)
            / padded_share(backend, heads.key, heads.value),
        ),
        occupancy=_balance(chip, plan, fitted, multiplied, all_blocks * parts, longest),
        latency=fitted.launch * (1 + in_16_bits(plan, heads.key) / 2)
        + start * whole(rounds, plan.exact) / started_at_once(chip, rounds)
        + fitted.token * batch * queries
        + _append(chip, fitted, fresh, cache * queries / context, kept),
        dtype=prompt_format(plan),
    )


def _prompt_rate(chip: Chip, plan: Plan, key: Scalar) -> Scalar:
    """Share of the peak of a prompt's format at which heads are multiplied: bf16's where it is in 16 bits."""
    if not sizes_in_16_bits(plan):
        return jnp.ones_like(key)
    bf16, peak = (as_scalar(chip.rates(kind).matrix) for kind in ("bf16", prompt_format(plan)))
    return 1 - in_16_bits(plan, key) * (1 - bf16 / peak)


def _crowded(fitted: DecodeEfficiency | PrefillEfficiency, key: Scalar) -> Scalar:
    """Share of the rates left where tiles of wide heads crowd the registers."""
    return fitted.crowded ** jnp.maximum((key - WIDE) / (WIDEST - WIDE), 0.0)


def _folds(backend: Backend, heads: Heads, queries: Scalar) -> Values:
    """Query heads folded into rows: all of a group, none, or both tried in the smooth form."""
    group = heads.query / heads.kv
    if backend == "smooth":
        return jnp.stack([jnp.ones_like(group), group])
    if backend == "fa2":
        return jnp.where(queries == 1, group, 1.0)
    return group if FOLDING[backend] else jnp.ones_like(group)


def _balance(
    chip: Chip,
    plan: Plan,
    fitted: PrefillEfficiency,
    total: Values,
    blocks: Values,
    longest: Values,
) -> Values:
    """Share of the cores at work: mean work over that of the busiest core."""
    mean = total / chip.cores
    tail = mean + fitted.tail * longest * jnp.minimum(1.0, blocks / chip.cores)
    waves = total / blocks * whole(blocks / chip.cores, plan.exact)
    busiest = (1 - fitted.rounding) * tail + fitted.rounding * waves
    return mean / jnp.maximum(busiest, jnp.minimum(longest, total))


def _append(
    chip: Chip, fitted: PrefillEfficiency, queries: Scalar, keys: Scalar, kept: Scalar
) -> Scalar:
    """Passes over queries, and over keys and values (rotary embedding, append to the cache)."""
    slow = (1 - kept) / (chip.main.bandwidth * fitted.streaming + 1.0)
    fast = kept / (chip.shared.bandwidth * fitted.feed + 1.0)
    return (fitted.rotate * queries + fitted.append * keys) * (slow + fast)


def _resident_prefill(
    chip: Chip,
    plan: Plan,
    batch: Scalar,
    queries: Scalar,
    context: Scalar,
    seen: Scalar,
    pairs: Scalar,
    heads: Heads,
    home: Home,
) -> Work:
    """Keys and values are read once where they live; four crossings, as in decode."""
    fitted = chip.efficiency.prefill
    multiplied = batch * heads.query * pairs
    fresh, cache = _prefill_traffic(plan, batch, queries, context, heads)
    reads, moved = home.traffic(cache), on_chip(chip, fresh)
    return Work(
        demand=Resources(
            matrix=2 * (heads.key + heads.value) * multiplied,
            exponential=multiplied,
            private=reads["private"] + moved["private"],
            shared=reads["shared"] + moved["shared"],
            main=reads["main"],
            far=reads["far"],
        ),
        shares=_shares(fitted),
        latency=fitted.launch + crossing_time(chip, 4.0),
        dtype=prompt_format(plan),
    )
