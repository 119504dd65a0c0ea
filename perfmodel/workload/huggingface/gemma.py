"""The Gemma family: sliding layers between full ones, more norms than others."""

from perfmodel.workload.attention import Grouped
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.huggingface.parts import (
    SLIDING,
    gated,
    grouped,
    head_norms,
    head_size,
    marked_layers,
    mixture,
    norms,
    windows,
)
from perfmodel.workload.model import Layer

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
    every = fields.size(
        "sliding_window_pattern", "_sliding_window_pattern", default=GLOBAL_LAYER_PERIOD
    )
    slides = _sliding(fields, every)
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
