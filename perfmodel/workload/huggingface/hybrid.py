"""Families with linear attention: Qwen 3-Next and 3.5, Kimi Linear and K3, Nemotron-H."""

from perfmodel.workload.attention import Counted, Grouped, Latent, Recurrent
from perfmodel.workload.feed_forward import Dense, Mixture
from perfmodel.workload.huggingface.architecture import Architecture
from perfmodel.workload.huggingface.decoder import decoder
from perfmodel.workload.huggingface.fields import MAX_LAYERS, Fields
from perfmodel.workload.huggingface.latent import latent
from perfmodel.workload.huggingface.mixtures import qwen_feeds
from perfmodel.workload.huggingface.parts import (
    LINEAR,
    Part,
    gated,
    grouped,
    head_norms,
    head_size,
    joined,
    marked_layers,
    mixture,
    norms,
    shared_inter,
    sparse_layers,
    stepped_layers,
)
from perfmodel.workload.huggingface.states import mamba2
from perfmodel.workload.model import Layer


def qwen_next(fields: Fields) -> list[Layer]:
    """Qwen 3-Next and 3.5: gated delta nets, and gated attention in every fourth layer."""
    every = fields.size("full_attention_interval", default=4)
    default = [(layer + 1) % every != 0 for layer in range(fields.layers())]
    linear = marked_layers(fields, LINEAR, default)
    attentions = [_delta(fields) if delta else _gated(fields) for delta in linear]
    sparse = stepped_layers(fields) if fields.has("num_experts") else [False] * len(linear)
    return joined(fields, attentions, qwen_feeds(fields, sparse))


def _gated(fields: Fields) -> Part[Grouped]:
    gates = fields.flag("attn_output_gate", default=True)
    attention = grouped(fields, gate=gates * head_size(fields))
    return attention, head_norms(attention)


def _delta(fields: Fields) -> Part[Recurrent]:
    """A gated delta net; its step and decay add two columns and two parameters for each head."""
    heads, key_heads = fields.size("linear_num_value_heads"), fields.size("linear_num_key_heads")
    key, value = fields.size("linear_key_head_dim"), fields.size("linear_value_head_dim")
    taps = fields.size("linear_conv_kernel_dim")
    channels = 2 * key_heads * key + heads * value
    attention = Recurrent(
        heads, key, value, channels + heads * value + 2 * heads, channels, taps, kind="gdn"
    )
    return attention, taps * channels + 2 * heads + value


def kimi_linear(fields: Fields) -> list[Layer]:
    """Kimi Linear and Kimi K3: Kimi delta attention, and latent attention in every fourth layer."""
    linear = fields.part("linear_attn_config")
    full = set(linear.numbers("full_attn_layers"))
    attentions = [
        _kimi_latent(fields) if layer in full else _kimi_delta(linear)
        for layer in range(1, fields.layers() + 1)
    ]
    feeds = [_kimi_feed(fields, sparse) for sparse in sparse_layers(fields)]
    # Attention over the outputs of earlier layers has a norm and a query for each half.
    return joined(fields, attentions, feeds, 6 if fields.has("attn_res_block_size") else 2)


def kimi_outside(fields: Fields) -> int:
    """The last norm, and the norm and query of the attention over earlier layers."""
    return norms(fields, 3 if fields.has("attn_res_block_size") else 1)


def _kimi_latent(fields: Fields) -> Part[Latent]:
    gates = fields.flag("mla_use_output_gate")
    return latent(fields, gate=gates * fields.size("v_head_dim"))


def _kimi_delta(linear: Fields) -> Part[Recurrent]:
    """The decay has a bottleneck as wide as a head; the output gate too, unless of full rank."""
    heads, head = linear.size("num_heads"), linear.size("head_dim")
    taps, wide = linear.size("short_conv_kernel_size"), heads * head
    low = 1 if linear.flag("use_full_rank_gate") else 2
    columns = 3 * wide + (2 - low) * wide + low * head + heads
    attention = Recurrent(heads, head, head, columns, 3 * wide, taps, head, low * wide, kind="kda")
    # Filters, the decay's scale for each head and offset for each number, the last norm.
    return attention, 3 * wide * taps + heads + wide + head


def _kimi_feed(fields: Fields, sparse: bool) -> Part[Dense | Mixture]:
    if not sparse:
        return gated(fields), 0
    width = fields.count("routed_expert_hidden_size", default=0)
    experts = mixture(fields, shared=shared_inter(fields), width=width)
    return experts, experts.experts + width * fields.flag("latent_moe_use_norm")


LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
"""What the letters of `hybrid_override_pattern` mean (`configuration_nemotron_h.py`)."""

LATER = {"linear_attention": "mamba", "full_attention": "attention"}
"""What transformers 5 calls them."""


def nemotron_h(fields: Fields) -> list[Layer]:
    """Nemotron-H and 3: each layer is attention, Mamba-2, feed-forward or experts alone."""
    fields.require(False, "attention_bias", "mlp_bias", "use_bias", "mamba_proj_bias")
    readers = {"mamba": _mamba, "attention": _alone, "mlp": _mlp, "moe": _moe}
    return [readers[kind](fields) for kind in _nemotron_kinds(fields)]


def _nemotron_kinds(fields: Fields) -> list[str]:
    if fields.has("layers_block_type"):
        words = fields.words("layers_block_type", (*LETTERS.values(), *LATER))
        return [LATER.get(word, word) for word in words]
    letters = fields.text("hybrid_override_pattern")
    if not 0 < len(letters) <= MAX_LAYERS or set(letters) - set(LETTERS):
        raise fields.fault(
            f"hybrid_override_pattern must have one of {' '.join(LETTERS)} for each layer"
        )
    return [LETTERS[letter] for letter in letters]


def _mamba(fields: Fields) -> Layer:
    attention, extra = mamba2(fields)
    return Layer(attention, None, norms(fields, 1) + extra)


def _alone(fields: Fields) -> Layer:
    head = fields.size("head_dim", "attention_head_dim")
    return Layer(grouped(fields, head=head), None, norms(fields, 1))


def _mlp(fields: Fields) -> Layer:
    return Layer(None, Dense(fields.size("intermediate_size"), gated=False), norms(fields, 1))


def _moe(fields: Fields) -> Layer:
    shared = fields.size("moe_shared_expert_intermediate_size")
    shared *= fields.size("n_shared_experts", default=1)
    width = fields.count("moe_latent_size", default=0)
    experts = mixture(fields, shared=shared, width=width, gated=False)
    return Layer(None, experts, norms(fields, 1) + experts.experts)


def zamba2(fields: Fields) -> list[Layer]:
    """Zamba2 (arXiv 2411.15242): layers of Mamba-2; before some, one of few blocks of attention and
    feed-forward that
    share their weights but for adapters, and read the stream beside the embedding."""
    mixer, more = mamba2(fields)
    plain = Layer(mixer, None, norms(fields, 1) + more)
    hidden = fields.size("hidden_size")
    shared = Layer(_shared_block(fields), None, hidden * hidden)
    kinds = fields.words(
        "layers_block_type", ("mamba", "linear_attention", "hybrid"), fields.layers()
    )
    found: list[Layer] = []
    for kind in kinds:
        found += [shared, plain] if kind == "hybrid" else [plain]
    return found


def _shared_block(fields: Fields) -> Counted:
    """What one use of a shared block has of its own: adapters and a cache."""
    hidden, rank = fields.size("hidden_size"), fields.size("adapter_rank")
    adapters = rank * (hidden + 2 * fields.size("intermediate_size"))
    if fields.flag("use_shared_attention_adapter"):
        adapters += 3 * 2 * rank * 2 * hidden
    heads = fields.size("num_attention_heads")
    head = fields.size("attention_head_dim", default=2 * hidden // heads)
    kv_heads = fields.size("num_key_value_heads", default=heads)
    return Counted("shared attention", heads, adapters, 2 * kv_heads * head, 0)


def zamba2_outside(fields: Fields) -> int:
    """The last norm and the shared blocks."""
    hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    head = fields.size("attention_head_dim", default=2 * hidden // heads)
    kv_heads = fields.size("num_key_value_heads", default=heads)
    attention = 2 * hidden * (heads + 2 * kv_heads) * head + heads * head * hidden
    block = attention + 3 * hidden * fields.size("intermediate_size") + 3 * hidden
    fields.require(False, "add_bias_linear")
    return norms(fields, 1) + fields.size("num_mem_blocks", default=1) * block


def lfm2(fields: Fields, how: Architecture) -> list[Layer]:
    """LFM2: a feed-forward layer whose columns are two thirds of those written, rounded up to a multiple."""
    wide = fields.size("intermediate_size")
    if fields.flag("block_auto_adjust_ff_dim", default=True):
        factor = (
            fields.real("block_ffn_dim_multiplier")
            if fields.has("block_ffn_dim_multiplier")
            else 1.0
        )
        multiple = fields.size("block_multiple_of", default=256)
        wide = -(-int(factor * (2 * wide // 3)) // multiple) * multiple
    return decoder(
        Fields(fields.table | {"intermediate_size": wide}, fields.name, fields.seen), how
    )
