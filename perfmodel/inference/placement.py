"""Where weights and cache live: the fastest memory first, and what then does not fit."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.inference.memory_reserve import prompt_window, usable_main_memory
from perfmodel.kernels.linear_attention import STATE_BYTES
from perfmodel.kernels.residency import Residency
from perfmodel.kernels.sparse_attention import FORMS
from perfmodel.trees import replace
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.attention import Compressed, Counted, Grouped, Latent, Recurrent
from perfmodel.workload.model import (
    Layer,
    LayerBytes,
    Transformer,
    end_bytes,
    layer_bytes,
    part_bytes,
)
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import look_up
from perfmodel.workload.sizes import Number, shard

Attention = Grouped | Latent | Compressed | Recurrent | Counted

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
    capacities = usable_capacities(chip, plan, model, weights)
    near = sum(_near(plan, capacities), as_scalar(0.0))
    free = sum(capacities, as_scalar(0.0)) - weights - cache
    return Sizes(weights, cache, jnp.minimum(free, near - weights))


def usable_capacities(chip: Chip, plan: Plan, model: Transformer, weights: Scalar) -> list[Scalar]:
    """Bytes of each tier that are open to weights and KV cache, of which `weights` are there."""
    private, shared, _, far = [tier.usable_capacity for tier in chip.tiers]
    return [private, shared, usable_main_memory(chip, plan, model, weights), far]


def kv_cache_capacity(chip: Chip, plan: Plan, model: Transformer) -> Scalar:
    """Bytes beside the weights on one chip of a plan; negative: bytes short."""
    weights = weight_bytes(model, plan)
    return sum(usable_capacities(chip, plan, model, weights), as_scalar(0.0)) - weights


def _near(plan: Plan, capacities: list[Scalar]) -> list[Scalar]:
    """Room for weights in each tier."""
    return [*capacities[:3], 0 * capacities[3]] if plan.overflows else capacities


def place(chip: Chip, plan: Plan, model: Transformer, batch: Scalar, context: Scalar) -> Placement:
    """Place weights, then the cache of `batch` sequences of `context` tokens, on one chip of a plan."""
    size = sizes(chip, plan, model, batch, context)
    capacities = usable_capacities(chip, plan, model, size.weights)
    weights = fill(_near(plan, capacities), size.weights)
    left = [*weights.left[:3], capacities[3]] if plan.overflows else weights.left
    return Placement(weights.residency, fill(left, size.cache).residency, *size)


def weight_bytes(model: Transformer, plan: Plan) -> Scalar:
    """Bytes of weights on one chip: an even share of the layers of its stage, and of one that drafts."""
    size = part_bytes(model, plan.weights, plan.unquantised)
    layers = sum(
        count * _rank_bytes(layer_bytes(layer, model.hidden, size), plan)
        for layer, count in stored_layers(model, plan)
    )
    ends = end_bytes(model, size) + size.plain * model.towers
    return (layers + ends / plan.tp) / plan.pp


def _rank_bytes(layer: LayerBytes, plan: Plan) -> Scalar:
    """Attention and shared experts are cut over tensor ranks and copied for data ranks; experts are
    spread over all; each chip has the router."""
    return (layer.cut + layer.experts / plan.dp) / plan.tp + layer.router


def stored_layers(model: Transformer, plan: Plan) -> list[tuple[Layer, Number]]:
    """Each layer of a model and how many there are: with one more like the last where a step drafts."""
    drafting = jnp.where(plan.server.speculative_tokens > 0, 1.0, 0.0)
    layers = [(stack.layer, stack.count) for stack in model.stacks]
    return [*layers, (model.stacks[-1].layer, drafting)]


def cache_bytes(
    model: Transformer, plan: Plan, batch: Scalar, context: Scalar, prompt: Scalar | float = 0.0
) -> Scalar:
    """Bytes of cache and states on one chip: sequences of its data rank, layers of its stage.

    **Arguments:**

    - `prompt`: tokens that a windowed layer keeps besides its window.
    """
    sequences = batch / plan.dp / plan.pp
    return sequences * sum(
        count * _layer_cache_bytes(_with_window(layer.attention, prompt), plan, context)
        for layer, count in stored_layers(model, plan)
    )


def prompt_cache_bytes(model: Transformer, plan: Plan, context: Scalar) -> Scalar:
    """Bytes of cache on one chip of a sequence of `context` tokens on each data rank, whose prompt is
    computed: its windowed layers keep a part of it besides their windows, where the framework does so."""
    return cache_bytes(model, plan, plan.dp, context, prompt_window(plan))


def _with_window(attention: Attention | None, prompt: Scalar | float) -> Attention | None:
    """Attention whose window is longer by `prompt` tokens."""
    if not isinstance(attention, Grouped | Compressed):
        return attention
    return replace(lambda a: a.window, attention, attention.window + prompt)


def _layer_cache_bytes(attention: Attention | None, plan: Plan, context: Scalar) -> Scalar:
    """Heads of keys and values are cut over tensor ranks; latents and keys of indexers are copied."""
    if attention is None:
        return as_scalar(0.0)
    if isinstance(attention, Recurrent):
        return STATE_BYTES * attention.cache_numbers(context) / plan.tp
    index = attention.indexed(context)
    size = look_up(plan.cache).weight * (attention.cache_numbers(context) - index)
    if isinstance(attention, Grouped):
        size = size * shard(attention.kv_heads, plan.tp) / attention.kv_heads
    return size + FORMS[attention.sparse].index_bytes * index
