"""Families from before Llama: learned or rotary positions, biases, no gates."""

from perfmodel.workload.feed_forward import Dense
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.huggingface.parts import grouped, norms, query_biases
from perfmodel.workload.model import Layer

OFFSET = 2
"""OPT keeps this many positions more than it uses (`modeling_opt.py`)."""


def _inter(fields: Fields) -> Dense:
    """The feed-forward layer, four times as wide as the stream where the file does not say."""
    wide = fields.size("intermediate_size", default=4 * fields.size("hidden_size"))
    return Dense(wide, gated=False)


def _biased(fields: Fields, norm_count: int = 2) -> list[Layer]:
    """Biases on all products, norms with biases."""
    attention, feed_forward = grouped(fields), _inter(fields)
    biases = query_biases(attention) + feed_forward.inter + 2 * fields.size("hidden_size")
    extra = norms(fields, norm_count, bias=True) + biases
    return [Layer(attention, feed_forward, extra)] * fields.layers()


def gpt2(fields: Fields) -> list[Layer]:
    """GPT-2 and GPT-3."""
    return _biased(fields)


def gpt2_outside(fields: Fields) -> int:
    """Learned positions and the last norm."""
    return (fields.size("n_positions", "n_ctx") + 2) * fields.size("hidden_size")


def opt(fields: Fields) -> list[Layer]:
    """OPT, but for the 350M model, whose embeddings are narrower than its stream."""
    hidden = fields.size("hidden_size")
    if fields.size("word_embed_proj_dim", default=hidden) != hidden:
        raise fields.fault("word_embed_proj_dim must equal hidden_size; OPT-350M is not supported")
    if not fields.flag("enable_bias", default=True):
        raise fields.fault("enable_bias must be true; OPT without biases is not supported")
    return _biased(fields)


def opt_outside(fields: Fields) -> int:
    """Learned positions and the last norm."""
    positions = fields.size("max_position_embeddings") + OFFSET
    return positions * fields.size("hidden_size") + norms(fields, 1, bias=True)


def bloom(fields: Fields) -> list[Layer]:
    """BLOOM."""
    return _biased(fields)


def bloom_outside(fields: Fields) -> int:
    """The norm of the embedding and the last norm; positions are in the scores (ALiBi)."""
    return norms(fields, 2, bias=True)


def neox(fields: Fields) -> list[Layer]:
    """GPT-NeoX and Pythia."""
    if not fields.flag("attention_bias", default=True):
        raise fields.fault("attention_bias must be true; GPT-NeoX without biases is not supported")
    return _biased(fields)


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
    if fields.flag("bias") or not fields.flag("parallel_attn", default=True):
        raise fields.fault("bias must be false and parallel_attn true; Falcon-RW is not supported")
    new = fields.flag("new_decoder_architecture")
    heads = fields.size("num_attention_heads")
    several = heads if not fields.flag("multi_query", default=True) else 1
    kv_heads = fields.size("num_kv_heads", default=heads) if new else several
    attention = grouped(fields, kv_heads=kv_heads)
    feed_forward = Dense(fields.size("ffn_hidden_size", default=_inter(fields).inter), gated=False)
    count = fields.size("num_ln_in_parallel_attn", default=2 if new else 1)
    return [Layer(attention, feed_forward, norms(fields, count, bias=True))] * fields.layers()
