"""Families with grouped attention and a dense feed-forward layer."""

from perfmodel.workload.attention import Grouped
from perfmodel.workload.feed_forward import Dense
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.huggingface.parts import (
    gated,
    grouped,
    head_norms,
    late_windows,
    norms,
    one_window,
    query_biases,
)
from perfmodel.workload.model import Layer

MULTIPLE = 256
"""Feed-forward sizes of DeciLM are rounded up to this (`modeling_decilm.py`, `_find_multiple`)."""


def llama(fields: Fields) -> list[Layer]:
    """Llama, Mistral and Phi-3: two norms, biases where the file says so."""
    attention, feed_forward = grouped(fields, one_window(fields)), gated(fields)
    extra = norms(fields)
    if fields.flag("attention_bias"):
        extra += query_biases(attention) + fields.size("hidden_size")
    if fields.flag("mlp_bias"):
        extra += 2 * feed_forward.inter + fields.size("hidden_size")
    return [Layer(attention, feed_forward, extra)] * fields.layers()


def qwen2(fields: Fields) -> list[Layer]:
    """Qwen 1.5 to 2.5 and MiMo: biases on queries, keys and values."""
    attentions = [grouped(fields, window) for window in late_windows(fields)]
    return [Layer(a, gated(fields), norms(fields) + query_biases(a)) for a in attentions]


def qwen3_attention(fields: Fields) -> list[tuple[Grouped, int]]:
    """Attention of each layer of Qwen 3, with its parameters in no product and its norm."""
    attentions = [grouped(fields, window) for window in late_windows(fields)]
    bias = fields.flag("attention_bias")
    hidden = fields.size("hidden_size")
    return [(a, head_norms(a) + bias * (query_biases(a) + hidden) + hidden) for a in attentions]


def qwen3(fields: Fields) -> list[Layer]:
    """Qwen 3: norms of queries and keys."""
    return [
        Layer(a, gated(fields), extra + norms(fields, 1)) for a, extra in qwen3_attention(fields)
    ]


def nemotron(fields: Fields) -> list[Layer]:
    """Nemotron-4: norms with biases, squared ReLU without a gate."""
    attention = grouped(fields)
    feed_forward = Dense(fields.size("intermediate_size"), gated=False)
    extra = norms(fields, 2, bias=True)
    if fields.flag("attention_bias") or fields.flag("mlp_bias"):
        raise fields.fault("attention_bias and mlp_bias must be false in this family; set them so")
    return [Layer(attention, feed_forward, extra)] * fields.layers()


def decilm(fields: Fields) -> list[Layer]:
    """DeciLM: Llama with heads of each layer's own; Nemotron-NAS: feed-forward sizes too."""
    layers = fields.layers()
    if not fields.has("block_configs"):
        heads = fields.numbers("num_key_value_heads_per_layer", layers, least=1)
        return [Layer(grouped(fields, kv_heads=h), gated(fields), norms(fields)) for h in heads]
    return [_searched(fields, block) for block in fields.tables("block_configs", layers)]


def _searched(fields: Fields, block: Fields) -> Layer:
    heads, feed = block.part("attention"), block.part("ffn")
    for part in (heads, feed):
        if part.flag("replace_with_linear"):
            raise part.fault("replace_with_linear is not supported; only no_op and sizes are")
    attention = None if heads.flag("no_op") else _searched_heads(fields, heads)
    feed_forward = None if feed.flag("no_op") else _searched_feed(fields, feed)
    halves = (attention is not None) + (feed_forward is not None)
    return Layer(attention, feed_forward, norms(fields, halves))


def _searched_heads(fields: Fields, heads: Fields) -> Grouped:
    all_heads, group = fields.size("num_attention_heads"), heads.size("n_heads_in_group")
    kv_heads = fields.share(all_heads, group, "num_attention_heads over n_heads_in_group")
    window = heads.size("window_length") if heads.has("window_length") else float("inf")
    return grouped(fields, window, kv_heads=kv_heads)


def _searched_feed(fields: Fields, feed: Fields) -> Dense:
    inter = int(2 * feed.real("ffn_mult") * fields.size("hidden_size") / 3)
    return Dense(-(-inter // MULTIPLE) * MULTIPLE)
