"""The kernels of one layer on one chip, one after the other."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from perfmodel.inference.placement import Placement
from perfmodel.kernels.attention_decode import AttentionDecode
from perfmodel.kernels.attention_prefill import AttentionPrefill
from perfmodel.kernels.collective import AllReduce, AllToAll, Collective
from perfmodel.kernels.elementwise import KINDS, Elementwise
from perfmodel.kernels.gemm import Gemm
from perfmodel.kernels.kernel import AbstractKernel
from perfmodel.kernels.linear_attention import KINDS as KINDS_OF_STATE
from perfmodel.kernels.linear_attention import LinearAttention
from perfmodel.kernels.mla import MlaDecode, MlaPrefill
from perfmodel.kernels.moe import Moe
from perfmodel.kernels.routing import ROUTINGS
from perfmodel.kernels.sparse_attention import KINDS as KINDS_OF_SPARSE
from perfmodel.kernels.sparse_attention import SparseAttention
from perfmodel.library.framework import version_of
from perfmodel.units import Scalar, as_scalar
from perfmodel.workload.attention import Compressed, Grouped, Latent, Recurrent
from perfmodel.workload.feed_forward import Dense, Mixture
from perfmodel.workload.model import HyperConnections, Layer, Transformer, indexes
from perfmodel.workload.plan import Plan
from perfmodel.workload.precision import CheckpointFormats, Scope, format_of
from perfmodel.workload.sizes import Number, shard

STREAM_BYTES = 2.0
"""Bytes of a number in the residual stream: bf16."""


class Batch(NamedTuple):
    """What passes through a layer at once, on one data rank.

    - `sequences`: of which each brings `queries` new tokens to a cache of `context`
      tokens, the new ones included.
    - `decoding`: whether each brings one token.
    """

    sequences: Scalar
    queries: Scalar
    context: Scalar
    decoding: bool

    @property
    def tokens(self) -> Scalar:
        """New tokens in all."""
        return self.sequences * self.queries


Sparse = Grouped | Latent | Compressed
"""Attention that may pick what it sees."""

Batches = Sequence[Batch]
"""What passes together: texts that decode, and prompts among them."""


def tokens_of(batches: Batches) -> Scalar:
    """New tokens of all batches."""
    return sum((batch.tokens for batch in batches), as_scalar(0.0))


class KernelCall(NamedTuple):
    """One kernel of a pass through a model.

    - `label`: what it is to the model.
    - `dtype`: format of its matrix product.
    - `runs`: how often it runs.
    """

    label: str
    kernel: AbstractKernel
    dtype: str
    runs: Scalar


class Context(NamedTuple):
    """Where kernels run: a plan, and where weights and cache live.

    - `runs`: how often each kernel runs.
    - `narrow`: which matrices are in four bits, where the plan's weights are.
    """

    plan: Plan
    placement: Placement
    runs: Scalar
    narrow: Scope | CheckpointFormats

    def format(self, part: str) -> str:
        """The format of a part of a layer."""
        return format_of(part, self.narrow, self.plan.weights, self.plan.unquantised)

    def call(self, label: str, kernel: AbstractKernel, dtype: str = "") -> KernelCall:
        """One kernel, in the plan's format if no other is named."""
        return KernelCall(label, kernel, dtype or self.plan.weights, self.runs)

    def product(
        self, label: str, tokens: Scalar, rows: Scalar, columns: Scalar, dtype: str = ""
    ) -> KernelCall:
        """A matrix product with weights."""
        return self.call(label, Gemm(tokens, columns, rows, self.placement.weights), dtype)

    def elementwise(self, kind: str, tokens: Scalar, hidden: Scalar) -> KernelCall:
        """A kernel that reads, does little, and writes."""
        return self.call(kind, Elementwise(tokens, hidden, as_scalar(list(KINDS).index(kind))))

    def collective(
        self, label: str, kind: type[Collective], ranks: Scalar, size: Scalar
    ) -> KernelCall:
        """A collective over `ranks` chips."""
        return self.call(label, kind(ranks, size))


def layer_calls(
    context: Context, hidden: Number, layer: Layer, batches: Batches
) -> list[KernelCall]:
    """One layer, its collectives included."""
    calls: list[KernelCall] = []
    tokens = tokens_of(batches)
    between = stream_calls(context, hidden, layer.connections, tokens)
    if layer.attention is not None:
        calls += between + attention_calls(context, hidden, layer.attention, batches)
    if layer.feed_forward is not None:
        calls += between + feed_forward_calls(context, hidden, layer.feed_forward, tokens)
    return calls


COPY = "rope"
"""The kind of kernel that reads each number once and writes it once, in 16 bits."""


def stream_calls(
    context: Context, hidden: Number, connections: HyperConnections | None, tokens: Scalar
) -> list[KernelCall]:
    """From one half of a layer to the next where there are several residual streams.

    The half's output is added to each stream and the streams are mixed; a product with all of them makes the
    next mixture; and a kernel makes its rows and columns add up to 1 in turns, and sums the streams
    (`mhc_post`, `tf32_hc_prenorm_gemm`, `mhc_pre_big_fuse` in vLLM 0.20 and SGLang 0.5.10).
    """
    if connections is None:
        return []
    streams, label = connections.streams, "streams"
    copy = functools.partial(Elementwise, tokens, kind=as_scalar(list(KINDS).index(COPY)))
    every, turns = streams * hidden, 2.0 * connections.iterations
    return [
        context.call(label, copy(every + hidden / 2)),
        context.product(label, tokens, every, connections.weights, context.plan.unquantised),
        context.call(label, copy((every + hidden) / 2, steps=turns)),
    ]


def attention_calls(
    context: Context, hidden: Number, attention: Any, batches: Batches
) -> list[KernelCall]:
    """Norm, projections, the mixing of tokens of each batch, projection back, all-reduce."""
    ranks, dtype, tokens = context.plan.tp, context.format("attention"), tokens_of(batches)
    before = _inputs(context, hidden, attention)
    after = [("output", *matrix) for matrix in attention.outputs(hidden, ranks)]
    return [
        context.elementwise("norm", tokens, hidden),
        *[context.product("projection", tokens, *product) for product in before],
        *[call for batch in batches for call in _mixing(context, attention, batch)],
        *[context.product(label, tokens, rows, columns, dtype) for label, rows, columns in after],
        context.collective("all-reduce", AllReduce, ranks, STREAM_BYTES * tokens * hidden),
    ]


def _inputs(context: Context, hidden: Number, attention: Any) -> list[tuple[Number, Number, str]]:
    """Rows, columns and format of the products before the mixing of tokens.

    Gates of each head of a gated delta net stay as they were, a few columns that no scale of a block fits.
    """
    ranks, dtype = context.plan.tp, context.format("attention")
    matrices = [(*matrix, dtype) for matrix in attention.inputs(hidden, ranks)]
    if context.plan.framework is not None and isinstance(attention, Latent | Compressed):
        return _with_own_products(context, attention, matrices)
    if version_of(context.plan).fuses_delta_net_inputs or getattr(attention, "kind", "") != "gdn":
        return matrices
    heads = shard(attention.heads, ranks)
    rows, columns, _ = matrices[0]
    gate, small = heads * attention.value, (rows, heads, context.plan.unquantised)
    return [(rows, columns - gate - 2 * heads, dtype), (rows, gate, dtype), small, small]


def _with_own_products(
    context: Context, attention: Latent | Compressed, matrices: list[tuple[Number, Number, str]]
) -> list[tuple[Number, Number, str]]:
    """With products of their own for what an indexer or a compressor makes, where a framework is named.

    An indexer's keys, the weights of its heads, and its queries (`wk`, `weights_proj`, `wq_b`). Those of
    DeepSeek-V4's compressors and of its indexer's weights run beside each other, so that they are one
    (`fused_wkv_wgate`). Products of the stream are not quantised (vLLM 0.20, SGLang 0.5).
    """
    (rows, low, dtype), (rank, queries, _), *rest = matrices
    if not (attention.indexes or getattr(attention, "compresses", False)):
        return matrices
    plain, sides = context.plan.unquantised, attention.side_columns()
    own = attention.index_heads * attention.index_key
    found = [(rows, low - sum(sides), dtype), *[(rows, side, plain) for side in sides]]
    if not attention.indexes:
        return [*found, (rank, queries, dtype), *rest]
    return [*found, (rank, queries - own, dtype), (rank, own, dtype), *rest]


def _mixing(context: Context, attention: Any, batch: Batch) -> list[KernelCall]:
    kind = next((kind for kind in type(attention).__mro__ if kind in MIXING), None)
    if kind is None:
        raise ValueError(
            f"attention of kind {type(attention).__name__} has no kernel yet; "
            f"modelled are {', '.join(kind.__name__ for kind in MIXING)}."
        )
    return MIXING[kind](context, attention, batch)


def _attend(
    context: Context, batch: Batch, heads: Scalar, kv_heads: Scalar, head_dim: Scalar, **sizes: Any
) -> KernelCall:
    common = {"batch": batch.sequences, "ctx_len": batch.context, "head_dim": head_dim}
    sizes = common | {"residency": context.placement.cache} | sizes
    if batch.decoding:
        # Tokens that are checked together share the cache, as the heads of a group do.
        kv_heads = heads if version_of(context.plan).decodes_per_query_head else kv_heads
        kernel = AttentionDecode(heads=heads * batch.queries, kv_heads=kv_heads, **sizes)
    else:
        sizes |= {"q_len": batch.queries, "causal": 0}
        kernel = AttentionPrefill(heads=heads, kv_heads=kv_heads, **sizes)
    return context.call("attention", kernel, context.plan.attended)


def _sparse(
    context: Context, attention: Sparse, batch: Batch, heads: Scalar, **form: Scalar
) -> KernelCall:
    """The indexer, its choice, and attention to what it picks; `form`: sizes of the model's own."""
    kernel = SparseAttention(
        batch=batch.sequences,
        q_len=batch.queries,
        ctx_len=batch.context,
        heads=heads,
        topk=attention.index_most,
        index_key=attention.index_key,
        kind=as_scalar(KINDS_OF_SPARSE.index(attention.sparse)),
        phase=as_scalar(0.0 if batch.decoding else 1.0),
        residency=context.placement.cache,
        **form,
    )
    return context.call("attention", kernel, context.plan.attended)


def _grouped(context: Context, attention: Grouped, batch: Batch) -> list[KernelCall]:
    """Heads of the indexer of MiniMax-M3 are cut over tensor ranks, as those of keys and values are."""
    ranks = context.plan.tp
    query, kv = shard(attention.heads, ranks), shard(attention.kv_heads, ranks)
    key, value = attention.key, attention.value
    rope = context.elementwise("rope", batch.tokens, (query + kv) * key)
    if attention.indexes:
        index = shard(attention.index_heads, ranks)
        numbers = {"key": key, "value": value, "stored": key + value}
        sizes = {"kv_heads": kv, "index_heads": index}
        return [rope, _sparse(context, attention, batch, query, **sizes, **numbers)]
    sizes = {"head_dim": key, "value_dim": value, "window": attention.window}
    return [rope, _attend(context, batch, heads=query, kv_heads=kv, **sizes)]


INDEXER = (
    ("norm", 1.0, 0.0),
    ("rope", 1.0, 1.0),
    ("add", 0.0, 1.0),
    ("add", 1.0, 0.0),
    ("quantise", 0.0, 1.0),
    ("quantise", 1.0, 0.0),
    ("add", 1.0, 0.0),
    ("add", 0.0, 0.0),
)
"""Small kernels around an indexer, by how many keys and queries each is wide: key norm, rotation, Hadamard
transform of queries and keys, quantisation of both, the key's way into its cache, the weights of
heads (`nsa_indexer.py` of SGLang 0.5; `sparse_attn_indexer` of vLLM 0.14)."""


def _indexer_calls(context: Context, attention: Latent, batch: Batch) -> list[KernelCall]:
    """What a framework launches beside products, scores, choice and attention; the best schedule fuses it.

    With the norms of both latents and the joining of the parts of a query, eleven kernels.
    """
    if context.plan.framework is None:
        return []
    heads = shard(attention.heads, context.plan.tp)
    key, queries = attention.index_key, attention.index_heads * attention.index_key
    sizes = [(kind, keys * key + parts * queries) for kind, keys, parts in INDEXER]
    sizes += [("norm", attention.query_rank), ("norm", attention.rank)]
    sizes += [("add", heads * (attention.rank + attention.rope))]
    return [context.elementwise(kind, batch.tokens, width) for kind, width in sizes]


def _latent(context: Context, attention: Latent, batch: Batch) -> list[KernelCall]:
    """Each tensor rank scores with all heads of an indexer: its keys are copied, as latents are."""
    heads = shard(attention.heads, context.plan.tp)
    rope = context.elementwise("rope", batch.tokens, heads * attention.rope)
    if attention.picks:
        small_kernels = _indexer_calls(context, attention, batch) if attention.indexes else []
        width = attention.rank + attention.rope
        numbers = {"key": width, "value": attention.rank, "stored": width}
        sizes = {"index_heads": attention.index_heads} | numbers
        return [rope, *small_kernels, _sparse(context, attention, batch, heads, **sizes)]
    return [
        rope,
        context.call("attention", _mla(context, attention, batch, heads), context.plan.attended),
    ]


def _mla(context: Context, attention: Latent, batch: Batch, heads: Scalar) -> AbstractKernel:
    sizes: dict[str, Any] = {"batch": batch.sequences, "ctx_len": batch.context}
    sizes |= {"rank": attention.rank, "rope": attention.rope, "residency": context.placement.cache}
    if batch.decoding:
        return MlaDecode(heads=heads * batch.queries, **sizes)
    sizes |= {"q_len": batch.queries, "nope": attention.nope, "value_dim": attention.value}
    return MlaPrefill(heads=heads, **sizes)


def _compressed(context: Context, attention: Compressed, batch: Batch) -> list[KernelCall]:
    """A window of tokens and the entries before it, one key for all heads."""
    heads = shard(attention.heads, context.plan.tp)
    numbers = {"key": attention.key, "value": attention.key, "stored": attention.key}
    sizes = {"ratio": attention.ratio, "window": attention.window}
    return [
        context.elementwise("rope", batch.tokens, heads * attention.key),
        *_compressor_calls(context, attention, batch, heads),
        _sparse(
            context, attention, batch, heads, index_heads=attention.index_heads, **sizes, **numbers
        ),
    ]


def _compressor_calls(
    context: Context, attention: Compressed, batch: Batch, heads: Scalar
) -> list[KernelCall]:
    """What a framework launches beside products, scores, choice and attention; the best schedule fuses it.

    Norms of the bottleneck and the key; the way of keys and their weights into the state, in fp32, and from
    there, pooled, normed and rotated, into the cache, for both compressors at once; an indexer's queries,
    rotated and quantised, and the places of what it picks; outputs, rotated back and quantised
    (`fused_q_kv_rmsnorm`, `save_partial_states`, `compress_norm_rope_store`, `fused_indexer_q_rope_quant`,
    `compute_global_topk_indices_and_lens`, `fused_inv_rope_fp8_quant` of vLLM 0.20).
    """
    if context.plan.framework is None:
        return []
    state = attention.pooled()
    sizes = [("norm", attention.query_rank + attention.key)]
    if attention.compresses:
        sizes += [("norm", state), ("add", state)]
    if attention.indexes:
        sizes += [("quantise", attention.index_heads * attention.index_key)]
        sizes += [("add", attention.index_most)]
    sizes += [("quantise", heads * attention.key)]
    return [context.elementwise(kind, batch.tokens, width) for kind, width in sizes]


def _recurrent(context: Context, attention: Recurrent, batch: Batch) -> list[KernelCall]:
    """Frameworks also launch a split of the projections, the gates, and the gated norm of what comes out
    (`fused_qkvzba_split`, `fused_gdn_gating`, `RMSNormGated` in vLLM 0.14 and SGLang 0.5)."""
    ranks = context.plan.tp
    keys = (attention.channels - attention.heads * attention.value) / (2 * attention.key)
    outputs = shard(attention.heads, ranks) * attention.value
    small_kernels = [
        context.elementwise("add", batch.tokens, attention.columns / ranks),
        context.elementwise("norm", batch.tokens, outputs),
        context.elementwise("activation", batch.tokens, shard(attention.heads, ranks)),
    ]
    kernel = LinearAttention(
        batch=batch.sequences,
        q_len=batch.queries,
        heads=shard(attention.heads, ranks),
        key_heads=shard(keys, ranks),
        head_dim=attention.key,
        value_dim=attention.value,
        kind=as_scalar(KINDS_OF_STATE.index(attention.kernel)),
        phase=as_scalar(0.0 if batch.decoding else 1.0),
        residency=context.placement.cache,
    )
    return [
        *(small_kernels if context.plan.framework else []),
        context.call("attention", kernel),
    ]


MIXING: dict[type[Any], Callable[[Context, Any, Batch], list[KernelCall]]] = {
    Grouped: _grouped,
    Latent: _latent,
    Compressed: _compressed,
    Recurrent: _recurrent,
}
"""How each kind of attention mixes tokens."""


def wishes_of(model: Transformer) -> frozenset[str]:
    """Kinds of matrix unit that a model's kernels multiply in where a chip has them."""
    return SparseAttention.wishes if indexes(model) else frozenset()


def feed_forward_calls(
    context: Context, hidden: Number, feed_forward: Any, tokens: Scalar
) -> list[KernelCall]:
    """Norm, products up and down, all-reduce; for a mixture, routing and the experts."""
    inner = _mixture if isinstance(feed_forward, Mixture) else _dense
    size = STREAM_BYTES * tokens * hidden
    return [
        context.elementwise("norm", tokens, hidden),
        *inner(context, hidden, feed_forward, tokens),
        context.collective("all-reduce", AllReduce, context.plan.tp, size),
    ]


def _dense(
    context: Context, hidden: Number, feed_forward: Dense | Mixture, tokens: Scalar
) -> list[KernelCall]:
    """The dense layer, or the shared experts of a mixture."""
    inter = feed_forward.inter if isinstance(feed_forward, Dense) else feed_forward.shared
    columns, dtype = inter / context.plan.tp, context.format("feed_forward")
    return [
        context.product("up", tokens, hidden, (2 if feed_forward.gated else 1) * columns, dtype),
        context.elementwise("activation", tokens, columns),
        context.product("down", tokens, columns, hidden, dtype),
    ]


SERVING_ROUTING = "power_law_1.01"
"""How tokens are routed where a framework serves: some experts are hot, so that fewer are touched and the
busiest rank has more. It is the routing that AIConfigurator takes; on the runs that are fitted it brings TPOT
from 5.8 to 5.4 %, TTFT from 17.7 to 16.9. Even routing is kept for the smooth form, which has no bend."""


def _mixture(
    context: Context, hidden: Number, feed_forward: Mixture, tokens: Scalar
) -> list[KernelCall]:
    """Router, dispatch where attention is spread over data ranks, experts, the way back, shared experts."""
    plan = context.plan
    fused = 1.0 * plan.fuses_shared_expert
    beside = feed_forward.shares and not plan.fuses_shared_expert
    spread = 1 + (plan.ep - 1) * jnp.minimum(plan.dp - 1, 1.0)
    sent = tokens * feed_forward.active * hidden
    width = jnp.where(feed_forward.width > 0, feed_forward.width, hidden)
    experts = Moe(
        tokens=tokens * plan.dp,
        hidden=width,
        inter=feed_forward.inter,
        topk=feed_forward.active + fused,
        experts=feed_forward.experts + fused,
        tp=plan.tp * plan.dp / plan.ep,
        ep=plan.ep,
        routing=as_scalar(ROUTINGS.index(SERVING_ROUTING if plan.framework else "random")),
        gated=1.0 * feed_forward.gated,
        residency=context.placement.weights,
    )
    return [
        context.product("router", tokens, hidden, feed_forward.experts, plan.unquantised),
        context.collective("dispatch", AllToAll, spread, plan.format.activation * sent),
        context.call("experts", experts),
        context.collective("combine", AllToAll, spread, STREAM_BYTES * sent),
        *(_dense(context, hidden, feed_forward, tokens) if beside else []),
    ]
