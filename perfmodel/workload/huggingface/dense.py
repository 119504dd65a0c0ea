"""Dense families whose layers differ: DeciLM, Gemma 3n and 4, Falcon, Llama with images."""

from perfmodel.workload.attention import Counted, Grouped
from perfmodel.workload.feed_forward import Dense
from perfmodel.workload.huggingface import decoder
from perfmodel.workload.huggingface.architecture import Architecture
from perfmodel.workload.huggingface.fields import Fields, shown
from perfmodel.workload.huggingface.parts import (
    EVERYWHERE,
    SLIDING,
    gated,
    grouped,
    head_norms,
    head_size,
    marked_layers,
    mixture,
    norms,
    query_biases,
)
from perfmodel.workload.model import Layer
from perfmodel.workload.sizes import Number

MULTIPLE = 256
"""Feed-forward sizes of DeciLM are rounded up to this (`modeling_decilm.py`, `_find_multiple`)."""


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
        part.require(False, "replace_with_linear")
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


GLOBAL_LAYER_PERIOD = 6
"""Every sixth layer of Gemma 3 and 4 sees all tokens (`configuration_gemma3.py`)."""


def _sliding(fields: Fields, every: int) -> list[bool]:
    return [(layer + 1) % every != 0 for layer in range(fields.layers())]


def gemma4(fields: Fields) -> list[Layer]:
    """Gemma 4: full layers with heads of their own, whose values come of the keys' projection.

    With experts, a dense layer stands beside them: it is counted as shared. In the models for small
    devices the last
    layers use keys and values of earlier ones, and each layer adds rows of a table of its own.
    """
    fields.require(False, "attention_bias")
    slides = marked_layers(fields, SLIDING, _sliding(fields, GLOBAL_LAYER_PERIOD))
    first = fields.layers() - fields.count("num_kv_shared_layers", default=0, most=fields.layers())
    return [_gemma4_layer(fields, slide, layer >= first) for layer, slide in enumerate(slides)]


def _gemma4_layer(fields: Fields, slides: bool, reuses: bool) -> Layer:
    attention = _gemma4_attention(fields, slides, reuses)
    hidden = fields.size("hidden_size")
    per_layer, lookup = per_layer_embedding(fields)
    # Four norms, one scalar for the whole layer.
    extra = norms(fields, 4) + head_norms(attention) * (1 - reuses / 2) + 1 + per_layer + lookup
    extra = int(extra)
    if not fields.flag("enable_moe_block"):
        wide = 1 + (fields.flag("use_double_wide_mlp") and reuses)
        feed_forward = Dense(wide * fields.size("intermediate_size"))
        return Layer(attention, feed_forward, extra, lookup=lookup)
    experts = mixture(fields, shared=fields.size("intermediate_size"))
    # Three more norms; the router scales its input, and the output of each expert.
    extra += norms(fields, 3) + hidden + experts.experts
    return Layer(attention, experts, extra, lookup=lookup)


def per_layer_embedding(fields: Fields) -> tuple[int, int]:
    """Of embeddings for each layer, its gate, its two projections and its norm; and its part of the table."""
    wide = fields.count("hidden_size_per_layer_input", default=0)
    if not wide:
        fields.has("vocab_size_per_layer_input")
        return 0, 0
    rows = fields.size("vocab_size_per_layer_input", default=fields.size("vocab_size"))
    return 3 * wide * fields.size("hidden_size") + norms(fields, 1), rows * wide


def per_layer_outside(fields: Fields) -> int:
    """The last norm, and the one of embeddings for each layer."""
    return norms(fields, 1) + fields.count("hidden_size_per_layer_input", default=0)


GEMMA3N_ROUTER = 4
"""Numbers of streams that AltUp keeps; its coefficients, for each token (`configuration_gemma3n.py`)."""


def gemma3n(fields: Fields) -> list[Layer]:
    """Gemma 3n: as Gemma 3 with embeddings for each layer, four streams (AltUp, arXiv 2301.13310),
    low-rank paths
    beside attention (LAuReL, arXiv 2411.07501), and keys and values that the last layers share."""
    slides = marked_layers(fields, SLIDING, _sliding(fields, GEMMA3N_PERIOD))
    first = fields.layers() - fields.count("num_kv_shared_layers", default=15, most=fields.layers())
    window = fields.size("sliding_window", default=512) if any(slides) else EVERYWHERE
    sizes = _gemma3n_columns(fields)
    return [
        _gemma3n_layer(fields, window if slide else EVERYWHERE, sizes[layer], layer >= first)
        for layer, slide in enumerate(slides)
    ]


GEMMA3N_PERIOD = 5
"""Every fifth layer of Gemma 3n sees all tokens (`configuration_gemma3n.py`)."""


def _gemma3n_columns(fields: Fields) -> list[int]:
    if isinstance(fields.table.get("intermediate_size"), list):
        return fields.numbers("intermediate_size", fields.layers(), least=1)
    return [fields.size("intermediate_size")] * fields.layers()


def _gemma3n_layer(fields: Fields, window: Number, inter: int, reuses: bool) -> Layer:
    hidden, streams = (
        fields.size("hidden_size"),
        fields.size("altup_num_inputs", default=GEMMA3N_ROUTER),
    )
    attention = grouped(fields, window, reuses=int(reuses))
    per_layer, lookup = per_layer_embedding(fields)
    rank = fields.size("laurel_rank", default=64)
    altup = hidden + streams * streams + streams**3 + hidden * streams + hidden
    laurel = 2 * hidden * rank + hidden
    extra = norms(fields, 4) + (1 if reuses else 2) * attention.key + per_layer + altup + laurel
    return Layer(attention, Dense(inter), extra + lookup, lookup=lookup)


def gemma3n_outside(fields: Fields) -> int:
    """The last norms, and the projections of AltUp's streams in and out."""
    streams, hidden = (
        fields.size("altup_num_inputs", default=GEMMA3N_ROUTER),
        fields.size("hidden_size"),
    )
    return per_layer_outside(fields) + 2 * (streams - 1) * hidden * hidden


def _gemma4_attention(fields: Fields, slides: bool, reuses: bool) -> Grouped:
    if slides:
        return grouped(fields, fields.size("sliding_window"), reuses=int(reuses))
    heads = fields.size("num_global_key_value_heads", default=fields.size("num_key_value_heads"))
    head = fields.size("global_head_dim", default=head_size(fields))
    joint = int(fields.flag("attention_k_eq_v"))
    return grouped(fields, kv_heads=heads, head=head, joint=joint, reuses=int(reuses))


def falcon(fields: Fields) -> list[Layer]:
    """Falcon: attention and feed-forward in parallel, after one norm in 7B, after two later; one after
    the other
    and with biases in the models that were trained on RefinedWeb alone."""
    new = fields.flag(
        "new_decoder_architecture",
        default=fields.has("num_kv_heads") and not fields.has("multi_query"),
    )
    heads, hidden = fields.size("num_attention_heads"), fields.size("hidden_size")
    several = heads if not fields.flag("multi_query", default=True) else 1
    kv_heads = fields.size("num_kv_heads", default=heads) if new else several
    fields.has("num_kv_heads")
    attention = grouped(fields, kv_heads=kv_heads)
    wide = fields.size("ffn_hidden_size", default=fields.size("ff_factor", default=4) * hidden)
    feed_forward = Dense(wide, gated=False)
    parallel = fields.flag("parallel_attn", default=True)
    count = fields.size("num_ln_in_parallel_attn", default=2) if new else 2 - parallel
    biases = query_biases(attention) + feed_forward.inter + 2 * hidden
    extra = norms(fields, count, bias=True) + fields.flag("bias") * biases
    return [Layer(attention, feed_forward, extra)] * fields.layers()


def openelm(fields: Fields) -> list[Layer]:
    """OpenELM (arXiv 2404.14619): heads and columns of each layer's own."""
    layers, hidden = fields.layers(), fields.size("hidden_size")
    queries = fields.numbers("num_query_heads", layers, least=1)
    cached = fields.numbers("num_kv_heads", layers, least=1)
    head, gated_ = fields.size("head_dim"), fields.flag("ffn_with_glu", default=True)
    own = norms(fields) + 2 * head * fields.flag("normalize_qk_projections")
    return [
        Layer(Grouped(q, kv, head, head), Dense(wide, gated=gated_), own)
        for q, kv, wide in zip(queries, cached, _openelm_columns(fields, hidden), strict=True)
    ]


def _openelm_columns(fields: Fields, hidden: int) -> list[int]:
    """Of each layer: a multiple of the divisor near as often the stream as written, and not a tenth below."""
    divisor = fields.size("ffn_dim_divisor")
    found: list[int] = []
    for factor in fields.items("ffn_multipliers", fields.layers()):
        number = isinstance(factor, int | float) and not isinstance(factor, bool)
        if not number or not 0 < factor < MULTIPLE:
            raise fields.fault(
                f"ffn_multipliers has {shown(factor)}, but must list numbers from 0 to {MULTIPLE}; "
                "correct it in the file"
            )
        wide = max(divisor, int(factor * hidden + divisor / 2) // divisor * divisor)
        found.append(wide + divisor if wide < 0.9 * factor * hidden else wide)
    return found


def opt_outside(fields: Fields, how: Architecture) -> int:
    """OPT: as others, and where its embedding is narrower than its stream the products between them."""
    hidden = fields.size("hidden_size")
    count = decoder.outside(fields, how)
    if not fields.flag("do_layer_norm_before", default=True):
        count -= 2 * hidden
    wide = fields.size("word_embed_proj_dim", default=hidden)
    return (
        count + (wide - hidden) * fields.size("vocab_size") + (2 * wide * hidden) * (wide != hidden)
    )


def narrow_embedding(fields: Fields) -> str:
    """Why OPT-350M is not timed: its output head is narrower than its stream."""
    narrow = fields.size("word_embed_proj_dim", default=fields.size("hidden_size"))
    return "" if narrow == fields.size("hidden_size") else "an embedding narrower than its stream"


def mllama(fields: Fields) -> list[Layer]:
    """Llama 3.2 with images: layers of cross attention among Llama's, with keys of the image alone.

    A request without an image skips them and keeps no cache of them; with one, their cache is of the image,
    once, nothing for a further token, and not counted.

    **Raises:**

    - `ValueError`: for a place that is no layer of the file, or is named twice.
    """
    crossed = _crossed(fields)
    attention, feed_forward = grouped(fields), Dense(fields.size("intermediate_size"))
    weights = sum(rows * columns for rows, columns in _matrices(fields, attention))
    cross = Counted("cross attention", attention.heads, weights, images=True)
    own = Layer(attention, feed_forward, norms(fields))
    other = Layer(cross, feed_forward, norms(fields) + head_norms(attention) + 2)
    return [other if layer in crossed else own for layer in range(fields.layers())]


def _crossed(fields: Fields) -> set[int]:
    """The layers of cross attention, from nought."""
    places, layers = fields.numbers("cross_attention_layers"), fields.layers()
    if len(set(places)) < len(places) or not all(0 <= place < layers for place in places):
        raise fields.fault(
            f"cross_attention_layers must name layers from 0 to {layers - 1}, each once; correct it"
        )
    if len(places) == layers:
        raise fields.fault(
            "cross_attention_layers names every layer, so that none is left for text; correct it"
        )
    return set(places)


def _matrices(fields: Fields, attention: Grouped) -> list[tuple[Number, Number]]:
    hidden = fields.size("hidden_size")
    return attention.inputs(hidden) + attention.outputs(hidden)


IMAGE_ROWS = 8
"""Rows that the embedding has beside those of the vocabulary (`modeling_mllama.py`)."""


def mllama_outside(fields: Fields) -> int:
    """The last norm, and the embedding's rows for images."""
    return norms(fields, 1) + IMAGE_ROWS * fields.size("hidden_size")
