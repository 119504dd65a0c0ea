"""Shapes of transformer models: what is multiplied, what is cached, what is counted.

Sizes are plain whole numbers, so that parameter counts are exact; `traced` turns
them into arrays, after which models of one structure share one compiled function.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from perfmodel.label import Label
from perfmodel.units import as_scalar
from perfmodel.workload.precision import Scope

Number = Any
"""A whole number, or a traced one after `traced`."""


def shard(heads: Number, ranks: Number) -> Number:
    """Heads of one rank; a rank has at least one, so fewer heads than ranks are replicated."""
    if isinstance(ranks, int) and ranks == 1:
        return heads
    return jnp.maximum(heads / ranks, 1.0)


def _split(columns: Number, ranks: Number) -> Number:
    return columns if isinstance(ranks, int) and ranks == 1 else columns / ranks


def _or(size: Number, other: Number) -> Number:
    """`size`, or `other` where it is zero; plain numbers stay plain, so that counts stay exact."""
    return size or other if isinstance(size, int) else jnp.where(size > 0, size, other)


def _least(left: Number, right: Number) -> Number:
    plain = isinstance(left, int | float) and isinstance(right, int | float)
    return min(left, right) if plain else jnp.minimum(left, right)


class Grouped(eqx.Module):
    """MHA, GQA or MQA, with a sliding window or without, with an indexer or without.

    - `heads`, `kv_heads`: query heads; heads of keys and values.
    - `key`, `value`: numbers in a key and in a value of one head.
    - `window`: tokens seen at most; infinite for full attention.
    - `gate`: columns of the output gate of one head: `value` where each number is gated,
      1 where each head is, 0 where none is.
    - `joint`: 1 where values come of the projection of the keys (Gemma 4), else 0.
    - `index_heads`, `index_key`, `index_most`: of the indexer of MiniMax-M3, which picks
      blocks of the cache, and the tokens it lets through; 0 where there is none.
    - `indexes`: whether it has an indexer of its own.
    """

    heads: Number
    kv_heads: Number
    key: Number
    value: Number
    window: Number = float("inf")
    gate: Number = 0
    joint: Number = 0
    index_heads: Number = 0
    index_key: Number = 0
    index_most: Number = 0
    indexes: bool = eqx.field(static=True, init=False)

    def __post_init__(self):
        self.indexes = self.index_heads > 0

    def inputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projections before attention, on one rank."""
        queries = shard(self.heads, ranks) * (self.key + self.gate)
        cached = shard(self.kv_heads, ranks) * (self.key + self.value - self.joint * self.value)
        indexed = (shard(self.index_heads, ranks) + 1) * self.index_key
        return [(hidden, queries + cached + indexed)]

    def outputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projection after attention, on one rank."""
        return [(shard(self.heads, ranks) * self.value, hidden)]

    def cached(self) -> Number:
        """Numbers cached for each token."""
        return self.kv_heads * (self.key + self.value) + self.index_key

    def kept(self, context: Number) -> Number:
        """Numbers kept for a sequence of `context` tokens."""
        return self.cached() * _least(context, self.window)

    def indexed(self, context: Number) -> Number:
        """Those among them that are keys of the indexer."""
        return self.index_key * _least(context, self.window)

    @property
    def sparse(self) -> str:
        """The kind of sparse attention that its indexer serves."""
        return "msa"


class Latent(eqx.Module):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434), with an indexer or without.

    - `heads`: query heads.
    - `query_rank`: of the queries' bottleneck; 0 where there is none.
    - `rank`, `rope`: numbers cached for each token: the latent and the rotary key.
    - `nope`, `value`: numbers in the other part of a key, and in a value, of one head.
    - `gate`: columns of the output gate of one head; 0 where there is none.
    - `index_heads`, `index_key`, `index_most`: of the lightning indexer of DeepSeek-V3.2
      (arXiv 2512.02556), and the tokens it lets through; 0 where there is none. A layer
      that uses the choice of an earlier one (GLM-5.2) has only `index_most`.
    - `indexes`: whether it has an indexer of its own; `picks`: whether it sees only a choice.
    """

    heads: Number
    query_rank: Number
    rank: Number
    rope: Number
    nope: Number
    value: Number
    gate: Number = 0
    index_heads: Number = 0
    index_key: Number = 0
    index_most: Number = 0
    indexes: bool = eqx.field(static=True, init=False)
    picks: bool = eqx.field(static=True, init=False)

    def __post_init__(self):
        self.indexes = self.index_heads > 0
        self.picks = self.index_most > 0

    def inputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projections before attention, on one rank; the key's last."""
        heads = shard(self.heads, ranks)
        low = self.query_rank + self.rank + self.rope + self.index_key + self.index_heads
        queries = heads * (self.nope + self.rope) + self.index_heads * self.index_key
        return [
            (hidden, low + heads * self.gate),
            (_or(self.query_rank, hidden), queries),
            (self.rank, heads * self.nope),
        ]

    def outputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projections after attention, on one rank; the value's first."""
        heads = shard(self.heads, ranks)
        return [(self.rank, heads * self.value), (heads * self.value, hidden)]

    def cached(self) -> Number:
        """Numbers cached for each token."""
        return self.rank + self.rope + self.index_key

    def kept(self, context: Number) -> Number:
        """Numbers kept for a sequence of `context` tokens."""
        return self.cached() * context

    def indexed(self, context: Number) -> Number:
        """Those among them that are keys of the indexer."""
        return self.index_key * context

    @property
    def sparse(self) -> str:
        """The kind of sparse attention that its indexer serves."""
        return "dsa"


class Compressed(eqx.Module):
    """Attention of DeepSeek-V4: a window of tokens, and the text before it compressed.

    One key, which is the value too, serves all heads. In compressed sparse attention (CSA)
    an entry stands for 4 tokens, pooled from two windows of 4, and an indexer lets some
    entries through; in heavily compressed attention (HCA) an entry stands for 128 tokens
    (DeepSeek-V4 technical report, section 2.3, and `modeling_deepseek_v4.py` of
    transformers, which has the tensors).

    - `heads`, `key`: query heads; numbers in a key.
    - `query_rank`: of the queries' bottleneck.
    - `groups`, `group_rank`: of the output's bottleneck, one for each group of heads.
    - `window`: tokens seen as they are.
    - `ratio`: tokens for each entry; infinite where only the window is seen.
    - `overlap`: entries that a token is part of: 2 in CSA, 1 in HCA, 0 for none.
    - `pending`: tokens held until they are compressed: 8 in CSA, 128 in HCA.
    - `index_heads`, `index_key`, `index_most`: of the indexer, and the entries it lets through.
    - `indexes`: whether it has one.
    """

    heads: Number
    key: Number
    query_rank: Number
    groups: Number
    group_rank: Number
    window: Number
    ratio: Number = float("inf")
    overlap: Number = 0
    pending: Number = 0
    index_heads: Number = 0
    index_key: Number = 0
    index_most: Number = 0
    indexes: bool = eqx.field(static=True, init=False)

    def __post_init__(self):
        self.indexes = self.index_heads > 0

    def inputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projections before attention, on one rank."""
        queries = shard(self.heads, ranks) * self.key + self.index_heads * self.index_key
        pooled = 2 * self.overlap * (self.key + self.index_key)
        low = self.query_rank + self.key + pooled + self.index_heads
        return [(hidden, low), (self.query_rank, queries)]

    def outputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projections after attention, on one rank.

        The first is one product for each group: its columns are those of all groups, its
        rows those of one.
        """
        ranked = shard(self.groups, ranks) * self.group_rank
        rows = self.heads * self.key
        rows = rows // self.groups if isinstance(rows, int) else rows / self.groups
        return [(rows, ranked), (ranked, hidden)]

    def cached(self) -> Number:
        """Numbers cached for one more token of a text shorter than the window."""
        return self.key + (self.key + self.index_key) / self.ratio

    def state(self) -> Number:
        """Numbers kept for each sequence until they are compressed: keys and their weights."""
        return 2 * self.overlap * self.pending * (self.key + self.index_key)

    def kept(self, context: Number) -> Number:
        """Numbers kept for a sequence of `context` tokens."""
        entries = context / self.ratio * (self.key + self.index_key)
        return self.key * _least(context, self.window) + entries + self.state()

    def indexed(self, context: Number) -> Number:
        """Those among them that are keys of the indexer."""
        return context / self.ratio * self.index_key

    @property
    def sparse(self) -> str:
        """The kind of sparse attention: an indexer picks entries, or all are seen."""
        return "csa" if self.indexes else "hca"


class Recurrent(eqx.Module):
    """Linear attention: a state of fixed size instead of a cache.

    - `kind`: `gdn` (gated delta net, arXiv 2412.06464), `kda` (Kimi linear, arXiv
      2510.26692) or `mamba2` (arXiv 2405.21060).
    - `heads`: of the state; `key`, `value`: its sides for each head.
    - `columns`: of all projections before it together, gates included.
    - `channels`, `taps`: of the short convolution.
    - `gate_rank`, `gate_columns`: of the low-rank gates of `kda`: rows of the second of
      their two products, which `columns` does not count, and its columns.
    """

    heads: Number
    key: Number
    value: Number
    columns: Number
    channels: Number
    taps: Number
    gate_rank: Number = 0
    gate_columns: Number = 0
    kind: Literal["gdn", "kda", "mamba2"] = eqx.field(static=True, default="gdn")

    def inputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projections before it, on one rank."""
        first = (hidden, _split(self.columns, ranks))
        if self.kind != "kda":
            return [first]
        return [first, (self.gate_rank, _split(self.gate_columns, ranks))]

    def outputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projection after it, on one rank."""
        return [(shard(self.heads, ranks) * self.value, hidden)]

    def cached(self) -> Number:
        """Numbers cached for each token: none."""
        return 0

    def state(self) -> Number:
        """Numbers kept for each sequence."""
        return self.heads * self.key * self.value + self.channels * (self.taps - 1)

    def kept(self, context: Number) -> Number:
        """Numbers kept for a sequence of `context` tokens: the same for any."""
        return self.state()


class Dense(eqx.Module):
    """Feed-forward layer: `inter` columns up, gated or not, and back down."""

    inter: Number
    gated: bool = eqx.field(static=True, default=True)

    def parameters(self, hidden: Number) -> Number:
        """Weights of the layer."""
        return (3 if self.gated else 2) * hidden * self.inter


class Mixture(eqx.Module):
    """Mixture of experts.

    - `experts`, `active`: routed experts, and those that a token goes through.
    - `inter`: columns of a routed expert; `shared`: of all that every token goes through
      beside them: shared experts, or a dense layer in parallel (Gemma 4).
    - `width`: rows of a routed expert, where it is not the model's hidden size; else 0.
    - `bias`: parameters of a routed expert that are in no matrix product.
    - `shares`: whether there is anything that every token goes through.
    """

    experts: Number
    active: Number
    inter: Number
    shared: Number = 0
    width: Number = 0
    bias: Number = 0
    gated: bool = eqx.field(static=True, default=True)
    shares: bool = eqx.field(static=True, init=False)

    def __post_init__(self):
        self.shares = self.shared > 0

    def parameters(self, hidden: Number, active: bool = False) -> Number:
        """Weights of the layer with its router: all of them, or those one token uses."""
        return sum(self.parts(hidden, active))

    def parts(self, hidden: Number, active: bool = False) -> tuple[Number, Number, Number]:
        """Weights of the router, of what every token goes through, and of the routed experts."""
        sides = 3 if self.gated else 2
        expert = sides * _or(self.width, hidden) * self.inter + self.bias
        routed = (self.active if active else self.experts) * expert
        bottleneck = 2 * hidden * self.width
        return hidden * self.experts, sides * hidden * self.shared + bottleneck, routed


class Layer(eqx.Module):
    """Attention, feed-forward, or both.

    - `extra`: parameters that are in no matrix product: norms, biases, gates, sinks.
    """

    attention: Grouped | Latent | Compressed | Recurrent | None
    feed_forward: Dense | Mixture | None
    extra: Number = 0


class Stack(eqx.Module):
    """`count` equal layers."""

    layer: Layer
    count: Number


class Transformer(eqx.Module):
    """A decoder-only language model.

    - `hidden`, `vocabulary`: columns of the residual stream; tokens.
    - `stacks`: groups of equal layers.
    - `tied`: whether the output head is the embedding.
    - `extra`: parameters outside the layers that are in no matrix product.
    - `native`: format its weights are published in.
    - `narrow`: which of its matrices a checkpoint in four bits has in them.
    """

    hidden: Number
    vocabulary: Number
    stacks: tuple[Stack, ...]
    extra: Number = 0
    tied: bool = eqx.field(static=True, default=False)
    native: str = eqx.field(static=True, default="bf16")
    narrow: Scope = eqx.field(static=True, default="all")
    name: Label = eqx.field(static=True, converter=Label, default=Label(""))

    @property
    def layers(self) -> Number:
        """In all."""
        return sum(stack.count for stack in self.stacks)


def layer_parameters(layer: Layer, hidden: Number, active: bool = False) -> Number:
    """Parameters of one layer: all of them, or those one token uses."""
    count = layer.extra
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
            numbers = attention.cached() if context is None else attention.kept(context)
            total += stack.count * numbers
    return total


def traced(model: Transformer) -> Transformer:
    """The model with every size as an array."""
    return jax.tree.map(as_scalar, model)
