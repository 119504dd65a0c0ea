"""What the families have in common: heads, windows, which layers are mixtures, stacks."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from perfmodel.workload.attention import Grouped
from perfmodel.workload.feed_forward import Dense, Mixture
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.model import Layer, Stack
from perfmodel.workload.sizes import Number

T = TypeVar("T")

EVERYWHERE = float("inf")
"""The window of full attention."""

FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
"""Words of `layer_types`."""


def stacks(layers: Iterable[Layer]) -> tuple[Stack, ...]:
    """Equal layers together, wherever they stand: their order costs nothing."""
    return tuple(Stack(layer, count) for layer, count in Counter(layers).items())


def grouped(fields: Fields, window: Number = EVERYWHERE, **changes: Number) -> Grouped:
    """Heads as most families write them; `changes` has what is not so."""
    heads = fields.size("num_attention_heads")
    kv_heads = changes.pop("kv_heads", None) or fields.size("num_key_value_heads", default=heads)
    fields.share(heads, kv_heads, "num_attention_heads over num_key_value_heads")
    head = changes.pop("head", None) or head_size(fields)
    sizes = {"key": head, "value": head, "window": window} | changes
    return Grouped(heads=heads, kv_heads=kv_heads, **sizes)


def head_size(fields: Fields) -> int:
    """Numbers in a head: as written, or the hidden size over the heads."""
    if fields.has("head_dim"):
        return fields.size("head_dim")
    hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    return fields.share(hidden, heads, "hidden_size over num_attention_heads")


Part = tuple[T, Number]
"""A half of a layer, and its parameters that are in no product."""


def joined(
    fields: Fields, attentions: Sequence[Part], feeds: Sequence[Part], norm_count: int = 2
) -> list[Layer]:
    """Layers of both halves, with the norms of the residual stream."""
    both = zip(attentions, feeds, strict=True)
    extra = norms(fields, norm_count)
    return [Layer(a, feed, extra + own + more) for (a, own), (feed, more) in both]


def after_dense(
    fields: Fields, sparse: Iterable[bool], experts: Mixture, extra: Number = 0
) -> list[Part[Dense | Mixture]]:
    """Experts where a layer is `sparse`, with `extra` parameters in no product; else the usual layer."""
    return [(experts, extra) if one else (gated(fields), 0) for one in sparse]


def attention_biases(fields: Fields, attention: Grouped) -> Number:
    """Biases of the projections of queries, keys, values and the output, where there are any."""
    biases = query_biases(attention) + fields.size("hidden_size")
    return fields.flag("attention_bias") * biases


def query_biases(attention: Grouped) -> Number:
    """Biases of the projections of queries, keys and values."""
    return attention.heads * attention.key + attention.kv_heads * (attention.key + attention.value)


def head_norms(attention: Grouped) -> Number:
    """Weights of the norms of queries and keys, one for all heads of each."""
    return 2 * attention.key


def norms(fields: Fields, count: int = 2, bias: bool = False) -> int:
    """Weights of `count` norms of the residual stream."""
    return count * fields.size("hidden_size") * (2 if bias else 1)


def gated(fields: Fields) -> Dense:
    """The usual feed-forward layer."""
    return Dense(fields.size("intermediate_size"))


def mixture(
    fields: Fields, inter: str = "moe_intermediate_size", **changes: Number | bool
) -> Mixture:
    """Experts as most families write them; `changes` has what is not so."""
    experts = fields.size("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    active = fields.size(
        "num_experts_per_tok", "num_experts_per_token", "moe_top_k", "top_k_experts", most=experts
    )
    return Mixture(experts=experts, active=active, inter=fields.size(inter), **changes)


def shared_inter(fields: Fields) -> int:
    """Columns of all shared experts, where there are as many as `n_shared_experts` says."""
    shared = fields.count("n_shared_experts", "num_shared_experts", default=0)
    return shared * fields.size("moe_intermediate_size")


def sparse_layers(fields: Fields) -> list[bool]:
    """Which layers are mixtures, as the families after DeepSeek-V2 write it."""
    layers = fields.layers()
    fields.note("first_k_dense_replace", "moe_layer_freq")
    if fields.has("mlp_layer_types"):
        kinds = fields.words("mlp_layer_types", ("dense", "sparse"), layers)
        return [kind == "sparse" for kind in kinds]
    if fields.has("is_moe_layer"):
        return [bool(number) for number in fields.numbers("is_moe_layer", layers)]
    if isinstance(fields.table.get("moe_layer_freq"), list):
        return [bool(number) for number in fields.numbers("moe_layer_freq", layers)]
    first = fields.count("first_k_dense_replace", default=0)
    every = fields.size("moe_layer_freq", default=1)
    return [layer >= first and layer % every == 0 for layer in range(layers)]


def stepped_layers(fields: Fields) -> list[bool]:
    """Which layers are mixtures, as Qwen writes it."""
    every = fields.size("decoder_sparse_step", default=1)
    dense = set(fields.numbers("mlp_only_layers") if fields.has("mlp_only_layers") else ())
    return [(layer + 1) % every == 0 and layer not in dense for layer in range(fields.layers())]


def marked_layers(fields: Fields, word: str, default: list[bool]) -> list[bool]:
    """Which layers have the attention called `word`; the rest has full attention.

    `default` is of use where the file does not list its layers.
    """
    if not fields.has("layer_types"):
        return default
    return [kind == word for kind in fields.words("layer_types", (FULL, word), fields.layers())]


def windows(fields: Fields, default: list[bool]) -> list[Number]:
    """The window of each layer; `default` says which slide, where the file does not."""
    slides = marked_layers(fields, SLIDING, default)
    if fields.has("layer_types"):
        fields.note("sliding_window", "sliding_window_pattern")
    window = fields.size("sliding_window") if any(slides) else EVERYWHERE
    return [window if slide else EVERYWHERE for slide in slides]


def late_windows(fields: Fields) -> list[Number]:
    """The window of each layer, as Qwen writes it: from some layer on, if at all."""
    slides = fields.flag("use_sliding_window")
    fields.note("sliding_window")
    first = fields.count("max_window_layers") if slides else 0
    return windows(fields, [slides and layer >= first for layer in range(fields.layers())])


def one_window(fields: Fields) -> Number:
    """The window of all layers, where all have the same."""
    slides = fields.flag("use_sliding_window", default=True) and fields.has("sliding_window")
    fields.note("sliding_window")
    return fields.size("sliding_window") if slides else EVERYWHERE
