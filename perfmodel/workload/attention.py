"""Shapes of attention: its projections, and what it caches for a sequence."""

from typing import Literal

import equinox as eqx

from perfmodel.workload.sizes import Number, shard, size_or, smaller, split_columns

STATE_BYTES = 4.0
"""Bytes of a number of a state, which is kept in fp32, as its gates are."""


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
    - `reuses`: 1 where keys and values are those of an earlier layer (Gemma 3n and 4), so that it has
      neither products for them nor a cache of its own; else 0.
    - `query_rank`: of the queries' bottleneck (Step 3); 0 where there is none.
    - `indexes`: whether it has an indexer of its own; `factors`: whether it has a bottleneck.
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
    reuses: Number = 0
    query_rank: Number = 0
    indexes: bool = eqx.field(static=True, init=False)
    factors: bool = eqx.field(static=True, init=False)

    def __post_init__(self):
        self.indexes = self.index_heads > 0
        self.factors = self.query_rank > 0

    def inputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projections before attention, on one rank."""
        queries = shard(self.heads, ranks) * (self.key + self.gate)
        cached = shard(self.kv_heads, ranks) * (self.key + self.value - self.joint * self.value)
        cached = (1 - self.reuses) * cached
        indexed = (shard(self.index_heads, ranks) + 1) * self.index_key
        if self.factors:
            return [(hidden, self.query_rank + cached + indexed), (self.query_rank, queries)]
        return [(hidden, queries + cached + indexed)]

    def outputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projection after attention, on one rank."""
        return [(shard(self.heads, ranks) * self.value, hidden)]

    def cached(self) -> Number:
        """Numbers cached for each token."""
        return (1 - self.reuses) * self.kv_heads * (self.key + self.value) + self.index_key

    def cache_numbers(self, context: Number) -> Number:
        """Numbers cached for a sequence of `context` tokens."""
        return self.cached() * smaller(context, self.window)

    def indexed(self, context: Number) -> Number:
        """Those among them that are keys of the indexer."""
        return self.index_key * smaller(context, self.window)

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
            (size_or(self.query_rank, hidden), queries),
            (self.rank, heads * self.nope),
        ]

    def side_columns(self) -> list[Number]:
        """Columns of the first of them that an indexer's keys take, and the weights of its heads."""
        return [self.index_key, self.index_heads]

    def outputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projections after attention, on one rank; the value's first."""
        heads = shard(self.heads, ranks)
        return [(self.rank, heads * self.value), (heads * self.value, hidden)]

    def cached(self) -> Number:
        """Numbers cached for each token."""
        return self.rank + self.rope + self.index_key

    def cache_numbers(self, context: Number) -> Number:
        """Numbers cached for a sequence of `context` tokens."""
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
    - `indexes`: whether it has one; `compresses`: whether it has entries at all.
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
    compresses: bool = eqx.field(static=True, init=False)

    def __post_init__(self):
        self.indexes = self.index_heads > 0
        self.compresses = self.overlap > 0

    def inputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projections before attention, on one rank."""
        queries = shard(self.heads, ranks) * self.key + self.index_heads * self.index_key
        low = self.query_rank + self.key + sum(self.side_columns())
        return [(hidden, low), (self.query_rank, queries)]

    def pooled(self) -> Number:
        """Numbers of a token that are pooled into entries: of keys, and their weights."""
        return 2 * self.overlap * (self.key + self.index_key)

    def side_columns(self) -> list[Number]:
        """Columns of the first of them that compressors and the weights of an indexer's heads take."""
        return [self.pooled() + self.index_heads]

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
        return self.pending * self.pooled()

    def cache_numbers(self, context: Number) -> Number:
        """Numbers cached for a sequence of `context` tokens."""
        entries = context / self.ratio * (self.key + self.index_key)
        return self.key * smaller(context, self.window) + entries + self.state()

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
      2510.26692), `mamba2` (arXiv 2405.21060), `mamba` (arXiv 2312.00752), `rglru` (Griffin, arXiv
      2402.19427) or `convolution` (short convolutions of LFM2, whose state is the last tokens).
    - `heads`: of the state; `key`, `value`: its sides for each head.
    - `columns`: of all projections before it together, gates included.
    - `channels`, `taps`: of the short convolution.
    - `gate_rank`, `gate_columns`: of the low-rank gates of `kda`: rows of the second of
      their two products, which `columns` does not count, and its columns; of the gates of `rglru`, in
      blocks; of `mamba`: the rank of its step sizes, and the columns from which they and the sides of the
      state come.
    """

    heads: Number
    key: Number
    value: Number
    columns: Number
    channels: Number
    taps: Number
    gate_rank: Number = 0
    gate_columns: Number = 0
    kind: Literal["gdn", "kda", "mamba2", "mamba", "rglru", "convolution"] = eqx.field(
        static=True, default="gdn"
    )

    @property
    def kernel(self) -> str:
        """The kind whose kernel prices it: a state without a delta rule is priced as Mamba-2's."""
        return self.kind if self.kind in ("gdn", "kda") else "mamba2"

    def inputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projections before it, on one rank."""
        first = (hidden, split_columns(self.columns, ranks))
        if self.kind == "mamba":
            wide = shard(self.heads, ranks) * self.value
            return [first, (wide, self.gate_columns), (self.gate_rank, wide)]
        if self.kind in ("kda", "rglru"):
            return [first, (self.gate_rank, split_columns(self.gate_columns, ranks))]
        return [first]

    def outputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Rows and columns of the projection after it, on one rank."""
        return [(shard(self.heads, ranks) * self.value, hidden)]

    def cached(self) -> Number:
        """Numbers cached for each token: none."""
        return 0

    def state(self) -> Number:
        """Numbers kept for each sequence."""
        return self.heads * self.key * self.value + self.channels * (self.taps - 1)

    def cache_numbers(self, context: Number) -> Number:
        """Numbers cached for a sequence of `context` tokens: the same for any."""
        return self.state()


class Counted(eqx.Module):
    """A mixer of tokens that is counted in memory, and whose time no kernel predicts.

    - `heads`: of it.
    - `weights`: in its matrix products.
    - `token`, `sequence`: numbers kept for each token, and for each sequence.
    - `kind`: what it is called.
    - `images`: whether a request of text alone skips its layer.
    """

    kind: str = eqx.field(static=True)
    heads: Number = 1
    weights: Number = 0
    token: Number = 0
    sequence: Number = 0
    images: bool = eqx.field(static=True, default=False)

    def inputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """Its weights, as rows of one column."""
        return [(split_columns(self.weights, ranks), 1)]

    def outputs(self, hidden: Number, ranks: Number = 1) -> list[tuple[Number, Number]]:
        """None: they are counted with the inputs."""
        return []

    def cached(self) -> Number:
        """Numbers cached for each token."""
        return self.token

    def state(self) -> Number:
        """Numbers kept for each sequence."""
        return self.sequence

    def cache_numbers(self, context: Number) -> Number:
        """Numbers cached for a sequence of `context` tokens."""
        return self.token * context + self.sequence

    def indexed(self, context: Number) -> Number:
        """Those among them that are keys of an indexer: none."""
        return 0

    @property
    def sparse(self) -> str:
        """The kind of sparse attention whose indexer its keys would be of, had it any."""
        return "dsa"
