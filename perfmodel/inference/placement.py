"""Where weights and cache live: the fastest memory first, and what then does not fit."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.kernels.linear_attention import STATE_BYTES
from perfmodel.kernels.residency import Residency
from perfmodel.kernels.sparse_attention import FORMS
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.attention import Grouped, Recurrent
from perfmodel.workload.feed_forward import Mixture
from perfmodel.workload.model import Layer, Transformer, layer_parameters
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import COVERED, format_of, look_up
from perfmodel.workload.sizes import shard

MIN_BYTES = 1.0
"""Bytes added to what is placed, so that shares of nothing are no division by zero."""


class Placement(eqx.Module):
    """Where one chip keeps its part of a model and of the cache.

    - `weights`, `cache`: shares of each tier.
    - `size`: bytes of weights; `cache_size`: bytes of cache.
    - `slack`: bytes free; negative: bytes short.
    """

    weights: Residency
    cache: Residency
    size: Scalar
    cache_size: Scalar
    slack: Scalar


class Filled(NamedTuple):
    """Shares of each tier that hold something, the capacity left in each, and bytes that found none."""

    residency: Residency
    left: list[Scalar]
    short: Scalar


def fill(capacities: list[Scalar], size: Scalar) -> Filled:
    """Fill `capacities` in order with `size` bytes; what does not fit is priced like the rest."""
    rest = size
    taken: list[Scalar] = []
    for capacity in capacities:
        taken.append(jnp.minimum(rest, capacity))
        rest = rest - taken[-1]
    left = [capacity - part for capacity, part in zip(capacities, taken, strict=True)]
    placed = taken[0] + taken[1] + taken[2] + taken[3]
    shares = [part / (placed + MIN_BYTES) for part in taken]
    nowhere = jnp.where(placed > 0, 0.0, 1.0)
    residency = Residency(shares[0], shares[1], shares[2] + nowhere, shares[3])
    return Filled(residency, left, rest)


class Sizes(NamedTuple):
    """Bytes of weights and of cache on one chip, and bytes free; negative: bytes short."""

    weights: Scalar
    cache: Scalar
    slack: Scalar


def sizes(chip: Chip, plan: Plan, model: Transformer, batch: Scalar, context: Scalar) -> Sizes:
    """What the weights, and the cache of `batch` sequences of `context` tokens, take on one chip of a plan.

    Where a cache may overflow into far memory, weights may not: the slack is theirs where it is less.
    """
    weights, cache = weight_bytes(model, plan), cache_bytes(model, plan, batch, context)
    near = sum(_near(plan, [tier.usable_capacity for tier in chip.tiers]), as_scalar(0.0))
    slack = jnp.minimum(kv_cache_capacity(chip, plan, model) - cache, near - weights)
    return Sizes(weights, cache, slack)


def kv_cache_capacity(chip: Chip, plan: Plan, model: Transformer) -> Scalar:
    """Bytes beside the weights on one chip of a plan; negative: bytes short."""
    return sum((tier.usable_capacity for tier in chip.tiers), as_scalar(0.0)) - weight_bytes(
        model, plan
    )


def _near(plan: Plan, capacities: list[Scalar]) -> list[Scalar]:
    """Room for weights in each tier."""
    return [*capacities[:3], 0 * capacities[3]] if plan.overflows else capacities


def place(chip: Chip, plan: Plan, model: Transformer, batch: Scalar, context: Scalar) -> Placement:
    """Place weights, then the cache of `batch` sequences of `context` tokens, on one chip of a plan."""
    size = sizes(chip, plan, model, batch, context)
    capacities = [tier.usable_capacity for tier in chip.tiers]
    weights = fill(_near(plan, capacities), size.weights)
    left = [*weights.left[:3], capacities[3]] if plan.overflows else weights.left
    return Placement(weights.residency, fill(left, size.cache).residency, *size)


def weight_bytes(model: Transformer, plan: Plan) -> Scalar:
    """Bytes of weights on one chip: an even share of the layers of its stage."""
    layers = sum(stack.count * _layer_bytes(stack.layer, model, plan) for stack in model.stacks)
    embeddings = model.hidden * model.vocabulary * look_up(plan.unquantised).weight
    embeddings *= 1 if model.tied else 2
    return (layers + embeddings / plan.tp) / plan.pp


def _layer_bytes(layer: Layer, model: Transformer, plan: Plan) -> Scalar:
    """Attention and shared experts are cut over tensor ranks and copied for data ranks; experts are
    spread over all; each chip has the router."""
    hidden, feed_forward = model.hidden, layer.feed_forward
    size = {
        part: look_up(format_of(part, model.narrow, plan.weights, plan.unquantised)).weight
        for part in COVERED["all"]
    }
    rest = layer_parameters(Layer(layer.attention, None, layer.extra), hidden)
    if not isinstance(feed_forward, Mixture):
        dense = layer_parameters(Layer(None, feed_forward), hidden)
        return (size["attention"] * rest + size["feed_forward"] * dense) / plan.tp
    router, shared, experts = feed_forward.parts(hidden)
    split = size["attention"] * rest + size["feed_forward"] * shared
    experts_bytes = size["experts"] * experts / plan.dp
    return (split + experts_bytes) / plan.tp + look_up(plan.unquantised).weight * router


def cache_bytes(model: Transformer, plan: Plan, batch: Scalar, context: Scalar) -> Scalar:
    """Bytes of cache and states on one chip: sequences of its data rank, layers of its stage."""
    sequences = batch / plan.dp / plan.pp
    return sequences * sum(
        stack.count * _layer_cache_bytes(stack.layer, plan, context) for stack in model.stacks
    )


def _layer_cache_bytes(layer: Layer, plan: Plan, context: Scalar) -> Scalar:
    """Heads of keys and values are cut over tensor ranks; latents and keys of indexers are copied."""
    attention = layer.attention
    if attention is None:
        return as_scalar(0.0)
    if isinstance(attention, Recurrent):
        return STATE_BYTES * attention.cache_numbers(context) / plan.tp
    index = attention.indexed(context)
    size = look_up(plan.cache).weight * (attention.cache_numbers(context) - index)
    if isinstance(attention, Grouped):
        size = size * shard(attention.kv_heads, plan.tp) / attention.kv_heads
    return size + FORMS[attention.sparse].index_bytes * index
