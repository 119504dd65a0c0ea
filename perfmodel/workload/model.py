"""A transformer model: its layers, what it caches, its parameters.

Sizes are plain whole numbers, so that parameter counts are exact; `traced` turns
them into arrays, after which models of one structure share one compiled function.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax

from perfmodel.units import as_scalar
from perfmodel.workload.attention import (
    STATE_BYTES,
    Compressed,
    Counted,
    Grouped,
    Latent,
    Recurrent,
)
from perfmodel.workload.feed_forward import Dense, Mixture
from perfmodel.workload.precision import COVERED, CheckpointFormats, Scope, format_of, look_up
from perfmodel.workload.sizes import Number
from perfmodel.xla import Label


class HyperConnections(eqx.Module):
    """Several residual streams, which each half of a layer reads and writes through a mixture that a small
    product makes for each token (mHC, arXiv 2512.24880).

    - `streams`: of as many numbers as the hidden size.
    - `iterations`: of Sinkhorn and Knopp, which make the mixture's rows and columns add up to 1.
    """

    streams: Number
    iterations: Number

    @property
    def weights(self) -> Number:
        """Of a token's mixture: into the half, back into each stream, and between streams."""
        return (2 + self.streams) * self.streams


class Layer(eqx.Module):
    """Attention, feed-forward, or both.

    - `extra`: parameters that are in no matrix product: norms, biases, gates, sinks; and those of
      hyper-connections.
    - `connections`: of its halves with the residual streams, where there are several.
    - `lookup`: those of `extra` that are rows of a table, of which a token takes one.
    """

    attention: Grouped | Latent | Compressed | Recurrent | Counted | None
    feed_forward: Dense | Mixture | None
    extra: Number = 0
    connections: HyperConnections | None = None
    lookup: Number = 0


class Stack(eqx.Module):
    """`count` equal layers."""

    layer: Layer
    count: Number


class Transformer(eqx.Module):
    """A decoder-only language model.

    - `hidden`, `vocabulary`: columns of the residual stream; tokens.
    - `stacks`: groups of equal layers.
    - `towers`: parameters of the towers of images and sound, which no time is predicted of.
    - `tied`: whether the output head is the embedding.
    - `extra`: parameters outside the layers that are in no matrix product.
    - `native`: format its weights are published in.
    - `narrow`: which of its matrices a checkpoint in four bits has in them, or the formats of its own
      checkpoint part by part.
    - `cache`: format of the KV cache that its checkpoint states; empty where it states none.
    - `pieces`: layers here for each layer of its file: more than one where two halves of a layer run
      side by side.
    - `unpriced`: why its time is not predicted, a sentence's end; empty where it is.
    """

    hidden: Number
    vocabulary: Number
    stacks: tuple[Stack, ...]
    extra: Number = 0
    towers: Number = 0
    tied: bool = eqx.field(static=True, default=False)
    native: str = eqx.field(static=True, default="bf16")
    narrow: Scope | CheckpointFormats = eqx.field(static=True, default="all")
    cache: str = eqx.field(static=True, default="")
    pieces: int = eqx.field(static=True, default=1)
    unpriced: str = eqx.field(static=True, default="")
    name: Label = eqx.field(static=True, converter=Label, default=Label(""))

    @property
    def layers(self) -> Number:
        """In all."""
        return sum(stack.count for stack in self.stacks)


def layer_parameters(layer: Layer, hidden: Number, active: bool = False) -> Number:
    """Parameters of one layer: all of them, or those one token uses."""
    count = layer.extra - (layer.lookup if active else 0)
    if layer.attention is not None:
        matrices = layer.attention.inputs(hidden) + layer.attention.outputs(hidden)
        count += sum(rows * columns for rows, columns in matrices)
    if isinstance(layer.feed_forward, Mixture):
        count += layer.feed_forward.parameters(hidden, active)
    elif layer.feed_forward is not None:
        count += layer.feed_forward.parameters(hidden)
    return count


def parameters(model: Transformer, active: bool = False) -> Number:
    """Parameters of a model: all of them, or those one token uses.

    A token uses the whole output head, but one row of the embedding: nothing, beside the
    rest. So counts the gpt-oss model card (arXiv 2508.10925, table 1).
    """
    embeddings = model.hidden * model.vocabulary * (1 if model.tied or active else 2)
    layers = sum(s.count * layer_parameters(s.layer, model.hidden, active) for s in model.stacks)
    return embeddings + layers + model.extra


def text_only(model: Transformer) -> Transformer:
    """The model as a request of text alone runs it: layers that it skips only take memory, as towers do."""
    skipped = [s for s in model.stacks if getattr(s.layer.attention, "images", False)]
    if not skipped:
        return model
    idle = sum(s.count * layer_parameters(s.layer, model.hidden) for s in skipped)
    kept = tuple(s for s in model.stacks if not getattr(s.layer.attention, "images", False))
    return dataclasses.replace(model, stacks=kept, towers=model.towers + idle)


UNQUANTISED = "bf16"
"""The format of what a checkpoint leaves as it was."""


class PartBytes(NamedTuple):
    """Bytes of one weight of each part of a model; `plain`: of what is not quantised."""

    attention: float
    feed_forward: float
    experts: float
    head: float
    embedding: float
    plain: float


def part_bytes(model: Transformer, weights: str, unquantised: str) -> PartBytes:
    """Bytes of one weight of each part, where a checkpoint is in `weights` and the rest in `unquantised`."""
    scope, plain = model.narrow, look_up(unquantised).weight
    head = embedding = plain
    if isinstance(scope, CheckpointFormats) and weights == scope.native:
        head, embedding = scope.head.size, scope.embedding.size
    parts = {p: look_up(format_of(p, scope, weights, unquantised)).weight for p in COVERED["all"]}
    return PartBytes(**parts, head=head, embedding=embedding, plain=plain)


class LayerBytes(NamedTuple):
    """Bytes of a layer: what tensor ranks cut, experts, which all ranks share, and the router."""

    cut: Number
    experts: Number
    router: Number


def layer_bytes(layer: Layer, hidden: Number, size: PartBytes) -> LayerBytes:
    """Bytes of the weights of a layer, from those of one weight of each part."""
    inner = layer.feed_forward
    rest = layer_parameters(Layer(layer.attention, None), hidden)
    cut = size.attention * rest + size.plain * layer.extra
    if isinstance(inner, Mixture):
        router, shared, experts = inner.parts(hidden)
        cut = cut + size.feed_forward * shared
        return LayerBytes(cut, size.experts * experts, size.plain * router)
    if inner is not None:
        cut = cut + size.feed_forward * inner.parameters(hidden)
    return LayerBytes(cut, 0, 0)


def end_bytes(model: Transformer, size: PartBytes) -> Number:
    """Bytes of embedding, output head and what else is outside the layers, without the towers."""
    rows = size.embedding if model.tied else size.head + size.embedding
    return model.hidden * model.vocabulary * rows + model.extra * size.plain


def weight_bytes(model: Transformer) -> float:
    """Bytes of a checkpoint in its own format, scales included, without the towers of images and sound."""
    unquantised = UNQUANTISED if look_up(model.native).weight < 2 else model.native
    size = part_bytes(model, model.native, unquantised)
    layers = sum(s.count * sum(layer_bytes(s.layer, model.hidden, size)) for s in model.stacks)
    return float(layers + end_bytes(model, size))


def indexes(model: Transformer) -> bool:
    """Whether any layer has an indexer."""
    return any(getattr(stack.layer.attention, "indexes", False) for stack in model.stacks)


def cache_numbers(model: Transformer, context: Number = None) -> Number:
    """Numbers cached: for one more token of a short text, or for a whole text of `context` tokens.

    What a sliding window has passed, and what a compressed cache has pooled, is not kept.
    """
    total = 0
    for stack in model.stacks:
        attention = stack.layer.attention
        if attention is not None:
            numbers = attention.cached() if context is None else attention.cache_numbers(context)
            total += stack.count * numbers
    return total


def long_text_numbers(model: Transformer) -> Number:
    """Numbers cached for one more token of a text that has filled every window."""
    context = LONG_TEXT
    return cache_numbers(model, context + 1) - cache_numbers(model, context)


LONG_TEXT = 10**8
"""Tokens of a text that is longer than any window."""


def fixed_cache_bytes(model: Transformer, number_bytes: Number) -> float:
    """Bytes cached once for a sequence whose windows are full: windows, and states in fp32.

    **Arguments:**

    - `number_bytes`: of a number of a key or a value.
    """
    total = 0.0
    for stack in model.stacks:
        attention = stack.layer.attention
        if isinstance(attention, Recurrent | Counted):
            total += stack.count * STATE_BYTES * attention.state()
        elif attention is not None:
            grows = attention.cache_numbers(LONG_TEXT + 1) - attention.cache_numbers(LONG_TEXT)
            once = attention.cache_numbers(LONG_TEXT) - grows * LONG_TEXT
            total += stack.count * number_bytes * once
    return float(total)


def traced(model: Transformer) -> Transformer:
    """The model with every size as an array."""
    return jax.tree.map(as_scalar, model)
