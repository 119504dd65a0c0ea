"""Families with latent or compressed attention: DeepSeek from V2 on, Kimi K2, GLM-5."""

from collections.abc import Sequence

from perfmodel.workload.attention import Compressed, Grouped, Latent
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.huggingface.parts import (
    Part,
    after_dense,
    grouped,
    joined,
    mixture,
    norms,
    shared_inter,
    sparse_layers,
)
from perfmodel.workload.model import HyperConnections, Layer
from perfmodel.workload.sizes import Number


def latent(fields: Fields, **changes: Number) -> Part[Latent]:
    """Latent attention, with the weights of the norms of its bottlenecks."""
    # Heads of keys and values, and the sizes that follow from others, are of no use here.
    fields.note("num_key_value_heads", "head_dim", "qk_head_dim")
    attention = Latent(
        heads=fields.size("num_attention_heads"),
        query_rank=fields.count("q_lora_rank", default=0),
        rank=fields.size("kv_lora_rank"),
        rope=fields.size("qk_rope_head_dim"),
        nope=fields.size("qk_nope_head_dim"),
        value=fields.size("v_head_dim"),
        **changes,
    )
    fields.require(False, "attention_bias")
    return attention, attention.query_rank + attention.rank


def _indexed(fields: Fields, own: bool) -> Part[Latent]:
    """Latent attention with an indexer, or with the choice of an earlier layer's.

    The key of the indexer has a norm with a bias.
    """
    most = fields.size("index_topk")
    if not own:
        return latent(fields, index_most=most)
    heads, key = fields.size("index_n_heads"), fields.size("index_head_dim")
    attention, extra = latent(fields, index_heads=heads, index_key=key, index_most=most)
    return attention, extra + 2 * key


def _with_experts(
    fields: Fields, attentions: Sequence[Part[Latent | Grouped]], bias: bool
) -> list[Layer]:
    """Layers with experts after dense ones; `bias`: whether each expert has one in routing."""
    experts = mixture(fields, shared=shared_inter(fields))
    sparse, biases = sparse_layers(fields), bias * experts.experts
    return joined(fields, attentions, after_dense(fields, sparse, experts, biases))


def deepseek(fields: Fields) -> list[Layer]:
    """DeepSeek-V2 and V3, R1, Kimi K2; the small ones of images (VL2 tiny, OCR) have usual heads."""
    if not fields.flag("use_mla", default=True):
        fields.note("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank")
        return _with_experts(fields, [(grouped(fields), 0)] * fields.layers(), False)
    bias = fields.text("topk_method", default="greedy") == "noaux_tc"
    return _with_experts(fields, [latent(fields)] * fields.layers(), bias)


def deepseek_v32(fields: Fields) -> list[Layer]:
    """DeepSeek-V3.2: with an indexer in every layer."""
    return _with_experts(fields, [_indexed(fields, True)] * fields.layers(), True)


def glm_dsa(fields: Fields) -> list[Layer]:
    """GLM-5: as DeepSeek-V3.2; from 5.2 on some layers use the choice of an earlier one."""
    kinds = ["full"] * fields.layers()
    if fields.has("indexer_types"):
        kinds = fields.words("indexer_types", ("full", "shared"), fields.layers())
    return _with_experts(fields, [_indexed(fields, kind == "full") for kind in kinds], True)


SINKHORN_ITERATIONS = 20
"""`hc_sinkhorn_iters` of DeepSeek-V4 (`configuration_deepseek_v4.py` of transformers)."""

CSA, HCA = 4, 128
"""Tokens for each entry of the two kinds of compressed attention."""


def deepseek_v4(fields: Fields) -> list[Layer]:
    """DeepSeek-V4: compressed attention, experts in all layers, hyper-connections.

    The first layers choose experts by a table of tokens instead of a bias; the table is
    of whole numbers and is not counted.
    """
    ratios = fields.numbers("compress_ratios", fields.layers())
    hashed = fields.count("num_hash_layers", default=0)
    return [_v4_layer(fields, ratio, layer < hashed) for layer, ratio in enumerate(ratios)]


def _v4_layer(fields: Fields, ratio: int, hashed: bool) -> Layer:
    attention = _compressed(fields, ratio)
    experts = mixture(fields, shared=shared_inter(fields))
    extra = norms(fields) + _v4_attention_extra(attention) + 2 * _hyper(fields)
    extra += 0 if hashed else experts.experts
    return Layer(attention, experts, extra, _connections(fields))


def _connections(fields: Fields) -> HyperConnections:
    """The configuration of V4 leaves its iterations to the default."""
    iterations = fields.count("hc_sinkhorn_iters", default=SINKHORN_ITERATIONS)
    return HyperConnections(fields.size("hc_mult"), iterations)


def _compressed(fields: Fields, ratio: int) -> Compressed:
    if ratio not in (0, CSA, HCA):
        raise fields.fault(
            f"compress_ratios has {ratio}, but only 0, {CSA} and {HCA} are known; correct it"
        )
    sizes: dict[str, Number] = {
        "heads": fields.size("num_attention_heads"),
        "key": fields.size("head_dim"),
        "query_rank": fields.size("q_lora_rank"),
        "groups": fields.size("o_groups"),
        "group_rank": fields.size("o_lora_rank"),
        "window": fields.size("sliding_window"),
    }
    fields.share(sizes["heads"], sizes["groups"], "num_attention_heads over o_groups")
    if ratio:
        overlap = 1 if ratio == HCA else 2
        sizes |= {"ratio": ratio, "overlap": overlap, "pending": overlap * ratio}
    if ratio == CSA:
        sizes |= {
            "index_heads": fields.size("index_n_heads"),
            "index_most": fields.size("index_topk"),
        }
        sizes |= {"index_key": fields.size("index_head_dim")}
    return Compressed(**sizes)


def _v4_attention_extra(attention: Compressed) -> Number:
    """Norms of queries and key, a sink for each head; positions and norms of what is pooled."""
    own = attention.query_rank + attention.key + attention.heads
    if not attention.overlap:
        return own
    positions = attention.overlap * attention.ratio * (attention.key + attention.index_key)
    return own + positions + attention.key + attention.index_key


def _hyper(fields: Fields) -> int:
    """One hyper-connection (arXiv 2512.24880): mixing weights, their offsets and three scales."""
    connections = _connections(fields)
    return connections.weights * (connections.streams * fields.size("hidden_size") + 1) + 3


def v4_outside(fields: Fields) -> int:
    """The last norm, and the weights that join the streams before it."""
    streams = fields.size("hc_mult")
    return norms(fields, 1) + streams * (streams * fields.size("hidden_size") + 1) + 1
