"""Families with experts whose layers differ: MiniMax-M3, MiMo-V2, Step, Llama 4."""

from perfmodel.workload.attention import Counted, Grouped
from perfmodel.workload.feed_forward import Dense, Mixture
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.huggingface.parts import (
    EVERYWHERE,
    SLIDING,
    Part,
    after_dense,
    attention_biases,
    gated,
    grouped,
    head_norms,
    joined,
    marked_layers,
    mixture,
    norms,
    query_biases,
    shared_inter,
    sparse_layers,
)
from perfmodel.workload.model import Layer
from perfmodel.workload.sizes import Number


def qwen_feeds(fields: Fields, sparse: list[bool]) -> list[Part[Dense | Mixture]]:
    """Experts of Qwen 2 to 3.5, with a gated shared one or none; the gate is in no product."""
    if not any(sparse):
        return [(gated(fields), 0)] * len(sparse)
    shared = fields.count("shared_expert_intermediate_size", default=0)
    gate = fields.size("hidden_size") if shared else 0
    return after_dense(fields, sparse, mixture(fields, shared=shared), gate)


def minimax_m3(fields: Fields) -> list[Layer]:
    """MiniMax-M3: dense layers, then experts; an indexer picks blocks of the cache."""
    layers = fields.layers()
    sparse = fields.part("sparse_attention_config")
    indexed = sparse.numbers("sparse_attention_freq", layers) if sparse.table else [0] * layers
    attentions = [_m3_attention(fields, sparse if index else None) for index in indexed]
    feeds = [_m3_feed(fields, experts) for experts in sparse_layers(fields)]
    return joined(fields, attentions, feeds)


def _m3_attention(fields: Fields, sparse: Fields | None) -> Part[Grouped]:
    fields.require(False, "attention_output_gate")
    if sparse is None:
        attention = grouped(fields)
        return attention, head_norms(attention)
    attention = grouped(
        fields,
        index_heads=sparse.size("sparse_num_index_heads"),
        index_key=sparse.size("sparse_index_dim"),
        index_most=sparse.size("sparse_topk_blocks") * sparse.size("sparse_block_size"),
    )
    return attention, head_norms(attention) + 2 * attention.index_key


def _m3_feed(fields: Fields, sparse: bool) -> Part[Dense | Mixture]:
    if not sparse:
        return Dense(fields.size("dense_intermediate_size")), 0
    shared = fields.count("n_shared_experts", default=0) * fields.size("intermediate_size")
    experts = mixture(fields, "intermediate_size", shared=shared)
    return experts, experts.experts if fields.flag("use_routing_bias") else 0


def mimo_v2(fields: Fields) -> list[Layer]:
    """MiMo-V2: sliding layers with heads of their own and sinks; dense layers first."""
    slides = fields.numbers("hybrid_layer_pattern", fields.layers())
    attentions = [_mimo_attention(fields, "swa_" if slide else "") for slide in slides]
    experts = mixture(fields, shared=shared_inter(fields))
    feeds = after_dense(fields, sparse_layers(fields), experts, experts.experts)
    return joined(fields, attentions, feeds)


def _mimo_attention(fields: Fields, prefix: str) -> Part[Grouped]:
    key = fields.size(f"{prefix}head_dim")
    attention = Grouped(
        heads=fields.size(f"{prefix}num_attention_heads"),
        kv_heads=fields.size(f"{prefix}num_key_value_heads"),
        key=key,
        value=fields.size(f"{prefix}v_head_dim", default=key),
        window=fields.size("sliding_window_size", "sliding_window") if prefix else EVERYWHERE,
    )
    sinks = fields.flag(f"add_{'swa' if prefix else 'full'}_attention_sink_bias")
    biases = fields.flag("attention_bias") * query_biases(attention)
    return attention, sinks * attention.heads + biases


def step3p5(fields: Fields) -> list[Layer]:
    """Step-3.5 and 3.7 Flash: sliding layers with heads of their own; a gate for each head."""
    fields.items("layer_types")
    slides = marked_layers(fields, SLIDING, [])
    attentions = [_step_attention(fields, slide) for slide in slides]
    experts = mixture(fields, shared=fields.size("share_expert_dim"))
    bias = experts.experts if fields.flag("use_moe_router_bias", default=True) else 0
    feeds = after_dense(fields, _step_sparse(fields), experts, bias)
    return joined(fields, [(a, head_norms(a)) for a in attentions], feeds)


def _step_attention(fields: Fields, slides: bool) -> Grouped:
    own = fields.part("attention_other_setting") if slides else fields
    own = own if own.table else fields
    return Grouped(
        heads=own.size("num_attention_heads"),
        kv_heads=own.size("num_attention_groups", "num_key_value_heads"),
        key=own.size("head_dim"),
        value=own.size("head_dim"),
        window=fields.size("sliding_window") if slides else EVERYWHERE,
        gate=int(fields.flag("use_head_wise_attn_gate")),
    )


def _step_sparse(fields: Fields) -> list[bool]:
    if not fields.has("moe_layers_enum"):
        return sparse_layers(fields)
    listed = {number.strip() for number in fields.text("moe_layers_enum").split(",")}
    return [str(layer) in listed for layer in range(fields.layers())]


def step3(fields: Fields) -> list[Layer]:
    """Step 3: queries through a bottleneck with a norm, one head of keys and values (arXiv 2507.19427)."""
    head, rank = fields.size("head_dim"), fields.size("share_q_dim")
    groups = fields.size("num_attention_groups")
    attention = grouped(fields, kv_heads=groups, head=head, query_rank=rank)
    experts = mixture(fields, shared=fields.size("share_expert_dim"))
    feeds = after_dense(fields, _step_sparse(fields), experts)
    return joined(fields, [(attention, rank)] * len(feeds), feeds)


NO_ROPE = 4
"""Every fourth layer of Llama 4 sees all tokens (`configuration_llama4.py` of transformers)."""


def llama4(fields: Fields) -> list[Layer]:
    """Llama 4: chunks of the text in three layers of four; experts in every layer or second.

    A layer that sees its own chunk alone keeps half a chunk on average, and at most a
    whole one: the chunk is taken as a window.
    """
    # Norms of queries and keys have no weights in this family.
    attentions = [grouped(fields, window) for window in _chunks(fields)]
    experts = mixture(fields, "intermediate_size", shared=fields.size("intermediate_size"))
    dense = Dense(fields.size("intermediate_size_mlp"))
    every = fields.size("interleave_moe_layer_step", default=1)
    feeds = [(dense if (layer + 1) % every else experts, 0) for layer in range(len(attentions))]
    return joined(fields, [(a, attention_biases(fields, a)) for a in attentions], feeds)


def _chunks(fields: Fields) -> list[Number]:
    layers = fields.layers()
    ropes = [int((layer + 1) % NO_ROPE != 0) for layer in range(layers)]
    if fields.table.get("no_rope_layers"):
        ropes = fields.numbers("no_rope_layers", layers)
    chunked = fields.has("attention_chunk_size")
    chunk = fields.size("attention_chunk_size") if chunked else EVERYWHERE
    return [chunk if rope else EVERYWHERE for rope in ropes]


def jetmoe(fields: Fields) -> list[Layer]:
    """JetMoE (arXiv 2404.07413): queries and outputs of attention are experts too; all share keys and values.

    Each layer is two: keys and values with the experts of attention, which are two products each as a
    feed-forward layer without a gate has; then the experts of the feed-forward half.
    """
    hidden, heads = fields.size("hidden_size"), fields.size("num_key_value_heads")
    wide = heads * fields.size("kv_channels")
    experts = fields.size("num_local_experts")
    active = fields.size("num_experts_per_tok", most=experts)
    fields.note("num_attention_heads")
    cached = Counted("attention of experts", heads * active, hidden * 2 * wide, 2 * wide)
    queries = Mixture(experts=experts, active=active, inter=wide, gated=False)
    feed = Mixture(experts=experts, active=active, inter=fields.size("intermediate_size"))
    # A norm and a bias of the outputs in each half.
    half = norms(fields, 2)
    return [Layer(cached, queries, half), Layer(None, feed, half)] * fields.layers()
