r"""What decode and prefill of attention share: heads, windows, and what wide heads and replays do.

One form serves MHA, GQA and MQA (`kv_heads` caches, each read by a group of query
heads), MLA (one latent cache read by all heads) and sliding windows.
"""

from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import AttentionDecodeEfficiency, AttentionPrefillEfficiency
from perfmodel.kernels.kernel import or_default
from perfmodel.kernels.residency import l2_hit_rate, spilled
from perfmodel.resources import Resources
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.plan import Plan

WIDE_HEAD, WIDEST_HEAD = 192.0, 256.0
"""Head sizes up to which registers hold a tile of outputs with ease, and that they just hold."""


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


def cached_heads(
    heads: Scalar, kv_heads: Scalar, head_dim: Scalar, value: Scalar | None, stored: Scalar | None
) -> Heads:
    """Keys and values of one size, both cached, unless it is said otherwise."""
    numbers = or_default(value, head_dim)
    return Heads(heads, kv_heads, head_dim, numbers, or_default(stored, head_dim + numbers))


def window_tokens(window: Scalar) -> Scalar:
    """Tokens that are seen at most; zero stands for all."""
    return jnp.where(window > 0, window, jnp.inf)


def latent(heads: Scalar, rank: Scalar, rope: Scalar) -> Heads:
    """MLA in decode, absorbed: one cache of `rank + rope` numbers serves all heads."""
    return Heads(heads, jnp.ones_like(heads), rank + rope, rank, rank + rope)


def expanded(heads: Scalar, nope: Scalar, rope: Scalar, value: Scalar) -> Heads:
    """MLA in prefill: each head has keys of `nope + rope` and values of `value` numbers."""
    return Heads(heads, heads, nope + rope, value, nope + rope + value)


def causal_pairs(q_len: Scalar, ctx_len: Scalar, attended: Scalar) -> Scalar:
    r"""Pairs of query and key under a causal mask with a window.

    $\sum_{i=1}^{q} \min(p + i, w)$ for $p$ tokens of prefix and a window of $w$: a triangle,
    then a band.
    """
    prefix_tokens = ctx_len - q_len
    growing = jnp.clip(attended - prefix_tokens, 0.0, q_len)
    return growing * prefix_tokens + growing * (growing + 1) / 2 + (q_len - growing) * attended


def shares(
    fitted: AttentionDecodeEfficiency | AttentionPrefillEfficiency,
    useful: Values | float = 1.0,
    feed: Values | None = None,
    rate: Values | float = 1.0,
) -> Resources:
    """Shares of the peak rates: `useful` of what is multiplied at `rate`, `feed` of the shared tier's."""
    exponential = (
        fitted.exponential if isinstance(fitted, AttentionPrefillEfficiency) else as_scalar(1.0)
    )
    return Resources(
        matrix=fitted.sustained * useful * rate,
        exponential=exponential * useful,
        private=fitted.private,
        shared=fitted.feed if feed is None else feed,
        main=fitted.streaming,
    )


def replay_hit_rate(
    chip: Chip,
    plan: Plan,
    fitted: AttentionDecodeEfficiency | AttentionPrefillEfficiency,
    size: Scalar,
) -> Scalar:
    """Share of a replayed operand that stays in the shared tier; none in service."""
    if not plan.replay:
        return as_scalar(0.0)
    capacity = chip.shared.capacity / chip.shared.parts * fitted.l2_hit_capacity
    return l2_hit_rate(chip, fitted.l2_hit_sharpness, capacity, size)


def hit_rate(
    chip: Chip,
    plan: Plan,
    fitted: AttentionDecodeEfficiency | AttentionPrefillEfficiency,
    query_bytes: Scalar,
    cache: Scalar,
) -> Scalar:
    """Share of queries and outputs that stay on chip: replayed beside the cache, or as SRAM has room."""
    if plan.replay:
        return replay_hit_rate(chip, plan, fitted, query_bytes + cache)
    return 1 - spilled(chip, query_bytes)


def wide_head_share(
    fitted: AttentionDecodeEfficiency | AttentionPrefillEfficiency, key: Scalar
) -> Scalar:
    """Share of the rates left where tiles of wide heads crowd the registers."""
    return fitted.wide_head_rate ** jnp.maximum((key - WIDE_HEAD) / (WIDEST_HEAD - WIDE_HEAD), 0.0)
