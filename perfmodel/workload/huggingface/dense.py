"""Families with grouped attention and a dense feed-forward layer: Llama and its like, Gemma, older ones."""

from perfmodel.workload.attention import Grouped
from perfmodel.workload.feed_forward import Dense
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.huggingface.parts import (
    SLIDING,
    Part,
    attention_biases,
    gated,
    grouped,
    head_norms,
    head_size,
    joined,
    late_windows,
    marked_layers,
    mixture,
    norms,
    one_window,
    query_biases,
    windows,
)
from perfmodel.workload.model import Layer

MULTIPLE = 256
"""Feed-forward sizes of DeciLM are rounded up to this (`modeling_decilm.py`, `_find_multiple`)."""


def llama(fields: Fields) -> list[Layer]:
    """Llama, Mistral and Phi-3: two norms, biases where the file says so."""
    attention, feed_forward = grouped(fields, one_window(fields)), gated(fields)
    extra = norms(fields) + attention_biases(fields, attention)
    if fields.flag("mlp_bias"):
        extra += 2 * feed_forward.inter + fields.size("hidden_size")
    return [Layer(attention, feed_forward, extra)] * fields.layers()


def qwen2(fields: Fields) -> list[Layer]:
    """Qwen 1.5 to 2.5 and MiMo: biases on queries, keys and values."""
    attentions = [grouped(fields, window) for window in late_windows(fields)]
    return [Layer(a, gated(fields), norms(fields) + query_biases(a)) for a in attentions]


def qwen3_attention(fields: Fields) -> list[Part[Grouped]]:
    """Attention of each layer of Qwen 3, with its parameters in no product."""
    attentions = [grouped(fields, window) for window in late_windows(fields)]
    return [(a, head_norms(a) + attention_biases(fields, a)) for a in attentions]


def qwen3(fields: Fields) -> list[Layer]:
    """Qwen 3: norms of queries and keys."""
    return joined(fields, qwen3_attention(fields), [(gated(fields), 0)] * fields.layers())


def nemotron(fields: Fields) -> list[Layer]:
    """Nemotron-4: norms with biases, squared ReLU without a gate."""
    attention = grouped(fields)
    feed_forward = Dense(fields.size("intermediate_size"), gated=False)
    fields.require(False, "attention_bias", "mlp_bias")
    return [Layer(attention, feed_forward, norms(fields, 2, bias=True))] * fields.layers()


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


def gemma(fields: Fields) -> list[Layer]:
    """The first Gemma."""
    return [Layer(grouped(fields), gated(fields), norms(fields))] * fields.layers()


def gemma2(fields: Fields) -> list[Layer]:
    """Gemma 2: four norms; every second layer slides, the first one too."""
    slides = [layer % 2 == 0 for layer in range(fields.layers())]
    return [
        Layer(grouped(fields, w), gated(fields), norms(fields, 4)) for w in windows(fields, slides)
    ]


GEMMA3 = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4096,
}
"""What the files of Gemma 3 leave out (`configuration_gemma3.py` of transformers)."""


def gemma3(fields: Fields) -> list[Layer]:
    """Gemma 3: as Gemma 2, norms of queries and keys, five sliding layers to a full one."""
    patterns = ("sliding_window_pattern", "_sliding_window_pattern")
    slides = _sliding(fields, fields.size(*patterns, default=GLOBAL_LAYER_PERIOD))
    attentions = [grouped(fields, window) for window in windows(fields, slides)]
    return [Layer(a, gated(fields), norms(fields, 4) + head_norms(a)) for a in attentions]


def gemma4(fields: Fields) -> list[Layer]:
    """Gemma 4: full layers with heads of their own, whose values come of the keys' projection.

    With experts, a dense layer stands beside them: it is counted as shared.
    """
    for key in ("num_kv_shared_layers", "hidden_size_per_layer_input"):
        if fields.count(key, default=0):
            raise fields.fault(f"{key} must be 0; Gemma 4 for small devices is not supported")
    slides = marked_layers(fields, SLIDING, _sliding(fields, GLOBAL_LAYER_PERIOD))
    return [_gemma4_layer(fields, slide) for slide in slides]


def _gemma4_layer(fields: Fields, slides: bool) -> Layer:
    attention = _gemma4_attention(fields, slides)
    hidden = fields.size("hidden_size")
    # Four norms, one scalar for the whole layer.
    extra = norms(fields, 4) + head_norms(attention) + 1
    if not fields.flag("enable_moe_block"):
        return Layer(attention, gated(fields), extra)
    experts = mixture(fields, shared=fields.size("intermediate_size"))
    # Three more norms; the router scales its input, and the output of each expert.
    return Layer(attention, experts, extra + norms(fields, 3) + hidden + experts.experts)


def _gemma4_attention(fields: Fields, slides: bool) -> Grouped:
    if slides:
        return grouped(fields, fields.size("sliding_window"))
    heads = fields.size("num_global_key_value_heads", default=fields.size("num_key_value_heads"))
    head = fields.size("global_head_dim", default=head_size(fields))
    return grouped(fields, kv_heads=heads, head=head, joint=int(fields.flag("attention_k_eq_v")))


OFFSET = 2
"""OPT keeps this many positions more than it uses (`modeling_opt.py`)."""


def _inter(fields: Fields) -> Dense:
    """The feed-forward layer, four times as wide as the stream where the file does not say."""
    wide = fields.size("intermediate_size", default=4 * fields.size("hidden_size"))
    return Dense(wide, gated=False)


def biased(fields: Fields) -> list[Layer]:
    """GPT-2, GPT-3 and BLOOM: biases on all products, norms with biases."""
    attention, feed_forward = grouped(fields), _inter(fields)
    biases = query_biases(attention) + feed_forward.inter + 2 * fields.size("hidden_size")
    extra = norms(fields, bias=True) + biases
    return [Layer(attention, feed_forward, extra)] * fields.layers()


def gpt2_outside(fields: Fields) -> int:
    """Learned positions and the last norm."""
    return (fields.size("n_positions", "n_ctx") + 2) * fields.size("hidden_size")


def opt(fields: Fields) -> list[Layer]:
    """OPT, but for the 350M model, whose embeddings are narrower than its stream."""
    hidden = fields.size("hidden_size")
    if fields.size("word_embed_proj_dim", default=hidden) != hidden:
        raise fields.fault("word_embed_proj_dim must equal hidden_size; OPT-350M is not supported")
    fields.require(True, "enable_bias")
    return biased(fields)


def opt_outside(fields: Fields) -> int:
    """Learned positions and the last norm."""
    positions = fields.size("max_position_embeddings") + OFFSET
    return positions * fields.size("hidden_size") + norms(fields, 1, bias=True)


def bloom_outside(fields: Fields) -> int:
    """The norm of the embedding and the last norm; positions are in the scores (ALiBi)."""
    return norms(fields, 2, bias=True)


def neox(fields: Fields) -> list[Layer]:
    """GPT-NeoX and Pythia."""
    fields.require(True, "attention_bias")
    return biased(fields)


def biased_norm(fields: Fields) -> int:
    """The last norm."""
    return norms(fields, 1, bias=True)


def gptj(fields: Fields) -> list[Layer]:
    """GPT-J: attention and feed-forward in parallel after one norm; no biases in attention."""
    attention, feed_forward = grouped(fields), _inter(fields)
    extra = norms(fields, 1, bias=True) + feed_forward.inter + fields.size("hidden_size")
    return [Layer(attention, feed_forward, extra)] * fields.layers()


def gptj_outside(fields: Fields) -> int:
    """The last norm and the biases of the output head."""
    return norms(fields, 1, bias=True) + fields.size("vocab_size")


def falcon(fields: Fields) -> list[Layer]:
    """Falcon: attention and feed-forward in parallel, after one norm in 7B, after two later."""
    fields.require(False, "bias")
    fields.require(True, "parallel_attn")
    new = fields.flag("new_decoder_architecture")
    heads = fields.size("num_attention_heads")
    several = heads if not fields.flag("multi_query", default=True) else 1
    kv_heads = fields.size("num_kv_heads", default=heads) if new else several
    attention = grouped(fields, kv_heads=kv_heads)
    feed_forward = Dense(fields.size("ffn_hidden_size", default=_inter(fields).inter), gated=False)
    count = fields.size("num_ln_in_parallel_attn", default=2 if new else 1)
    return [Layer(attention, feed_forward, norms(fields, count, bias=True))] * fields.layers()
