r"""Attention of a prompt: many new tokens of each sequence, under a causal mask."""

from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import AttentionPrefillEfficiency
from perfmodel.kernels.attention import (
    Heads,
    cached_heads,
    causal_pairs,
    hit_rate,
    shares,
    wide_head_share,
    window_tokens,
)
from perfmodel.kernels.kernel import AbstractKernel, column, extra, or_default
from perfmodel.kernels.occupancy import blocks_per_start, mesh_traversal_time, tile_height
from perfmodel.kernels.residency import Residency, native, on_chip
from perfmodel.resources import Resources
from perfmodel.roofline import Work
from perfmodel.smooth import piece_count
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.backend import TILE, AttentionBackend
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import look_up


def prompt_backend(plan: Plan) -> AttentionBackend:
    """The kernels that take prompts."""
    return plan.attention_backend.of_prompts(plan.weights)


def prompt_format(plan: Plan) -> str:
    """Format of a prompt's products: the weights' where the cache has it too, else bf16."""
    matrix = plan.format.matrix
    narrow = look_up(plan.cache).matrix == matrix and not prompt_backend(plan).multiplies_in_bf16
    return matrix if narrow else "bf16"


def sizes_in_16_bits(plan: Plan) -> tuple[float, ...]:
    """Head sizes whose prompts in fp8 are multiplied in 16 bits for want of a kernel."""
    return prompt_backend(plan).heads_in_16_bits if prompt_format(plan) == "fp8" else ()


def prompt_rates(plan: Plan) -> set[str]:
    """Kinds of matrix unit whose rates a prompt asks a chip for: its products', and bf16's where some
    heads are multiplied in 16 bits."""
    return {prompt_format(plan)} | ({"bf16"} if sizes_in_16_bits(plan) else set())


def in_16_bits(plan: Plan, head_dim: Scalar) -> Scalar:
    """1 for heads of these sizes, else 0."""
    matches = (jnp.where(head_dim == size, 1.0, 0.0) for size in sizes_in_16_bits(plan))
    return sum(matches, jnp.zeros_like(head_dim))


def attention_prefill(
    chip: Chip,
    plan: Plan,
    batch: Scalar,
    q_len: Scalar,
    ctx_len: Scalar,
    heads: Heads,
    window: Scalar | float = jnp.inf,
    causal: Scalar | float = 1.0,
    residency: Residency | None = None,
) -> Work:
    """Count the work of `q_len` new tokens for each of `batch` sequences.

    **Arguments:**

    - `ctx_len`: tokens in each cache, the new ones included; `q_len` if there is no prefix.
    - `window`: tokens that are seen at most.
    - `causal`: 0 where a token sees those after it.
    - `residency`: where the cache lives; the chip's native memory if not given.
    """
    residency = native(chip) if residency is None else residency
    attended = jnp.minimum(ctx_len, as_scalar(window))
    pairs = causal * causal_pairs(q_len, ctx_len, attended) + (1 - causal) * q_len * attended
    count = _tiled_prefill if chip.execution == "launched" else _resident_prefill
    return count(chip, plan, batch, q_len, ctx_len, attended, pairs, heads, residency)


def _prefill_traffic(plan: Plan, batch: Scalar, q_len: Scalar, ctx_len: Scalar, heads: Heads):
    """Bytes of queries and outputs, and of keys and values."""
    query_bytes = 2.0 * batch * q_len * heads.query * (heads.key + heads.value)
    cache = batch * ctx_len * heads.kv * heads.stored * look_up(plan.cache).weight
    return query_bytes, cache


class Tiles(NamedTuple):
    """How a prompt is tiled.

    - `rows`: of a tile; `blocks`: of all heads, each of `parts`.
    - `multiplied`, `scored`: pairs of query and key, with the padding of tiles; and that exponentials take.
    - `longest`: pairs of the longest block.
    - `windowed`: 1 where a window cuts the text.
    """

    rows: Values
    blocks: Values
    parts: Values
    multiplied: Values
    exponentials: Values
    longest: Values
    windowed: Scalar


def _tiles(
    chip: Chip,
    plan: Plan,
    batch: Scalar,
    q_len: Scalar,
    ctx_len: Scalar,
    attended: Scalar,
    pairs: Scalar,
    heads: Heads,
) -> Tiles:
    backend, windowed = prompt_backend(plan), jnp.where(attended < ctx_len, 1.0, 0.0)
    folded = backend.folded(heads.query / heads.kv, q_len)
    rows, count = q_len * folded, batch * heads.query / folded
    tile = tile_height(chip, backend.row_tile(rows, heads.key), rows, plan.exact)
    tiles = piece_count(rows / tile, plan.exact)
    unhidden = causal_pairs(q_len, ctx_len, ctx_len)
    through = unhidden if backend.multiplies_hidden else pairs
    edge = tiles * tile * backend.prompt_keys / 2 * (1 + windowed)
    multiplied = count * (through * folded * tiles * tile / rows + edge)
    exponentials = batch * heads.query * pairs
    if backend.scores_hidden:
        exponentials = exponentials * (1 + batch * heads.query * (unhidden - pairs) / multiplied)
    parts = backend.prompt_parts(chip.cores, count * tiles, attended)
    longest = (attended + windowed * (tile / folded + TILE)) * tile / parts
    return Tiles(tile, count * tiles, parts, multiplied, exponentials, longest, windowed)


def _tiled_prefill(
    chip: Chip,
    plan: Plan,
    batch: Scalar,
    q_len: Scalar,
    ctx_len: Scalar,
    attended: Scalar,
    pairs: Scalar,
    heads: Heads,
    residency: Residency,
) -> Work:
    fitted = chip.efficiency.attention_prefill
    tiles = _tiles(chip, plan, batch, q_len, ctx_len, attended, pairs, heads)
    useful_pairs = batch * heads.query * pairs
    query_bytes, cache = _prefill_traffic(plan, batch, q_len, ctx_len, heads)
    reads, hits = residency.traffic(cache), hit_rate(chip, plan, fitted, query_bytes, cache)
    # Keys and values of a prefix were written long ago: no SRAM holds them, unless replayed.
    recent = 1.0 if plan.replay else q_len / ctx_len
    number = heads.stored * look_up(plan.cache).weight
    return Work(
        demand=Resources(
            matrix=2 * (heads.key + heads.value) * useful_pairs,
            exponential=tiles.exponentials,
            private=reads["private"],
            shared=tiles.multiplied / tiles.rows * number + query_bytes,
            main=query_bytes * (1 - hits) + reads["main"] * (1 - hits * recent),
            far=reads["far"],
        ),
        shares=shares(
            fitted,
            useful_pairs / tiles.multiplied * wide_head_share(fitted, heads.key),
            rate=_head_rate(chip, plan, heads),
        ),
        occupancy=_load_balance(chip, plan, fitted, tiles),
        latency=fitted.launch * (1 + in_16_bits(plan, heads.key) / 2)
        + _start_time(chip, plan, fitted, heads, tiles)
        + fitted.per_token * batch * q_len
        + _append_time(chip, fitted, query_bytes, cache * q_len / ctx_len, hits),
        dtype=prompt_format(plan),
    )


def _start_time(
    chip: Chip, plan: Plan, fitted: AttentionPrefillEfficiency, heads: Heads, tiles: Tiles
) -> Values:
    """Starts of the blocks that a core takes one after the other."""
    start = fitted.block_start * prompt_backend(plan).start_factor(heads.key)
    start, rounds = start + fitted.window_start * tiles.windowed, tiles.blocks / chip.cores
    return start * piece_count(rounds, plan.exact) / blocks_per_start(chip, rounds)


def _head_rate(chip: Chip, plan: Plan, heads: Heads) -> Scalar:
    """Share of the peak at which heads are multiplied: what formats and padding leave."""
    padding = prompt_backend(plan).prompt_padding(heads.key, heads.value)
    return _format_rate(chip, plan, heads.key) / padding


def _format_rate(chip: Chip, plan: Plan, key: Scalar) -> Scalar:
    """Share of the peak of a prompt's format at which heads are multiplied: bf16's where it is in 16 bits."""
    if not sizes_in_16_bits(plan):
        return jnp.ones_like(key)
    bf16, peak = (as_scalar(chip.rates(kind).matrix) for kind in ("bf16", prompt_format(plan)))
    return 1 - in_16_bits(plan, key) * (1 - bf16 / peak)


def _load_balance(
    chip: Chip, plan: Plan, fitted: AttentionPrefillEfficiency, tiles: Tiles
) -> Values:
    """Share of the cores at work: mean work over that of the busiest core."""
    total, blocks, longest = tiles.multiplied, tiles.blocks * tiles.parts, tiles.longest
    mean = total / chip.cores
    tail = mean + fitted.tail * longest * jnp.minimum(1.0, blocks / chip.cores)
    waves = total / blocks * piece_count(blocks / chip.cores, plan.exact)
    busiest = (1 - fitted.wave_quantisation) * tail + fitted.wave_quantisation * waves
    return mean / jnp.maximum(busiest, jnp.minimum(longest, total))


def _append_time(
    chip: Chip,
    fitted: AttentionPrefillEfficiency,
    query_bytes: Scalar,
    key_bytes: Scalar,
    hits: Scalar,
) -> Scalar:
    """Passes over queries, and over keys and values (rotary embedding, append to the cache)."""
    main_time = (1 - hits) / (chip.main.bandwidth * fitted.streaming + 1.0)
    shared_time = hits / (chip.shared.bandwidth * fitted.feed + 1.0)
    return (fitted.rope_passes * query_bytes + fitted.append_passes * key_bytes) * (
        main_time + shared_time
    )


def _resident_prefill(
    chip: Chip,
    plan: Plan,
    batch: Scalar,
    q_len: Scalar,
    ctx_len: Scalar,
    attended: Scalar,
    pairs: Scalar,
    heads: Heads,
    residency: Residency,
) -> Work:
    """Keys and values are read once where they live; four crossings, as in decode."""
    fitted = chip.efficiency.attention_prefill
    multiplied = batch * heads.query * pairs
    query_bytes, cache = _prefill_traffic(plan, batch, q_len, ctx_len, heads)
    reads, moved = residency.traffic(cache), on_chip(chip, query_bytes)
    return Work(
        demand=Resources(
            matrix=2 * (heads.key + heads.value) * multiplied,
            exponential=multiplied,
            private=reads["private"] + moved["private"],
            shared=reads["shared"] + moved["shared"],
            main=reads["main"],
            far=reads["far"],
        ),
        shares=shares(fitted),
        latency=fitted.launch + mesh_traversal_time(chip, 4.0),
        dtype=prompt_format(plan),
    )


READS = ("weights", "cache", "attention_backend", "replay")
"""Choices of a plan that attention of prompts reads."""


class AttentionPrefill(AbstractKernel):
    """Attention of `q_len` new tokens for each of `batch` sequences.

    - `batch`: sequences; `q_len`: new tokens of each.
    - `heads`: of queries, on one chip; `kv_heads`: of keys and values.
    - `causal`: whether a token sees only those before it.
    - `ctx_len`: tokens in each cache, the new ones included; `window`: seen at most, zero for all.
    - `head_dim`, `value_dim`, `stored_dim`, `residency`: as in decode.
    """

    op = "attention_prefill"
    family = "attention_prefill"
    reads = READS

    batch: Scalar = column()
    q_len: Scalar = column()
    heads: Scalar = column()
    kv_heads: Scalar = column()
    head_dim: Scalar = column()
    ctx_len: Scalar | None = column(default="q_len")
    window: Scalar = column(default=0.0)
    causal: Scalar = column(words=("true", "false"))
    value_dim: Scalar | None = extra()
    stored_dim: Scalar | None = extra()
    residency: Residency | None = None

    @classmethod
    def rates(cls, plan: Plan) -> set[str]:
        """Of the products, and of those in 16 bits."""
        return prompt_rates(plan)

    def count(self, chip: Chip, plan: Plan) -> list[Work]:
        numbers = (self.head_dim, self.value_dim, self.stored_dim)
        heads = cached_heads(self.heads, self.kv_heads, *numbers)
        sizes = (self.batch, self.q_len, or_default(self.ctx_len, self.q_len), heads)
        window, causal = window_tokens(self.window), 1 - self.causal
        return [attention_prefill(chip, plan, *sizes, window, causal, self.residency)]
