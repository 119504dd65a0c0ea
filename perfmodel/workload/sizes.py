"""Sizes of a model: plain whole numbers, so that counts are exact, or traced ones."""

from typing import Any

import jax.numpy as jnp

Number = Any
"""A whole number, or a traced one after `traced`."""


def shard(heads: Number, ranks: Number) -> Number:
    """Heads of one rank; a rank has at least one, so fewer heads than ranks are replicated."""
    if isinstance(ranks, int) and ranks == 1:
        return heads
    return jnp.maximum(heads / ranks, 1.0)


def split_columns(columns: Number, ranks: Number) -> Number:
    """Columns of one rank."""
    return columns if isinstance(ranks, int) and ranks == 1 else columns / ranks


def size_or(size: Number, other: Number) -> Number:
    """`size`, or `other` where it is zero; plain numbers stay plain, so that counts stay exact."""
    return size or other if isinstance(size, int) else jnp.where(size > 0, size, other)


def smaller(left: Number, right: Number) -> Number:
    """The smaller of two; plain numbers stay plain."""
    plain = isinstance(left, int | float) and isinstance(right, int | float)
    return min(left, right) if plain else jnp.minimum(left, right)
