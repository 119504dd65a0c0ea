"""The form that most architectures are read as: what each has of its own is in
`library/architectures.toml`."""

import dataclasses
from collections.abc import Callable

from perfmodel.workload.attention import Grouped, Latent
from perfmodel.workload.feed_forward import Dense, Mixture
from perfmodel.workload.huggingface.architecture import Architecture, Experts
from perfmodel.workload.huggingface.fields import MAX_LAYERS, Fields
from perfmodel.workload.huggingface.latent import latent
from perfmodel.workload.huggingface.parts import (
    EVERYWHERE,
    FULL,
    SLIDING,
    Part,
    grouped,
    head_norms,
    head_size,
    late_windows,
    one_window,
    query_biases,
    sparse_layers,
    stepped_layers,
    windows,
)
from perfmodel.workload.huggingface.states import MIXERS, layers_with_states
from perfmodel.workload.model import Layer
from perfmodel.workload.sizes import Number

LETTERS = {"L": SLIDING, "G": FULL}
"""Letters of `sliding_window_pattern` (`configuration_exaone4.py` of transformers)."""


def decoder(fields: Fields, how: Architecture) -> list[Layer]:
    """Layers of attention and a feed-forward half, one after the other."""
    extra = stream_norms(fields, how) + how.layer_extra
    if how.state is not None and how.state.alone and how.state.all:
        mixer, own = MIXERS[how.state.kind](fields)
        return [Layer(mixer, None, extra + own)] * fields.layers()
    attentions = _with_shared(
        fields, how, [_attention(fields, how, window) for window in _windows(fields, how)]
    )
    feeds = feed_forwards(fields, how)
    if how.two_attentions:
        return _with_two(attentions, feeds, dense(fields, how), extra)
    if how.state is not None:
        return layers_with_states(fields, how, attentions, feeds, extra)
    both = zip(attentions, feeds, strict=True)
    return [Layer(a, feed, extra + own + more) for (a, own), (feed, more) in both]


def outside(fields: Fields, how: Architecture) -> int:
    """Parameters outside the layers that are in no product."""
    hidden = fields.size("hidden_size")
    count = how.last_norms * _norm(fields, how)
    if how.positions:
        count += (fields.size(*how.positions) + how.position_offset) * hidden
    return count + fields.switch(how.head_bias) * fields.size("vocab_size")


def stream_norms(fields: Fields, how: Architecture) -> int:
    """Weights of the norms of the stream in one layer."""
    return (how.norms - fields.switch(how.one_norm)) * _norm(fields, how)


def _norm(fields: Fields, how: Architecture) -> int:
    weights = how.norm_weights + fields.switch(how.norm_bias)
    return weights * fields.size("hidden_size")


def _attention(fields: Fields, how: Architecture, window: Number) -> Part[Grouped | Latent]:
    if how.latent:
        attention, extra = latent(fields)
        return attention, extra + _latent_biases(fields, how, attention)
    changes: dict[str, Number] = {"gate": {"": 0, "head": 1}.get(how.gate) or 0}
    if how.gate == "value":
        changes["gate"] = head_size(fields)
    if fields.switch(how.one_kv_head):
        changes["kv_heads"] = 1
    attention = grouped(fields, window, **changes)
    wide = attention.heads * attention.value
    extra = fields.switch(how.qkv_bias) * query_biases(attention)
    extra += fields.switch(how.o_bias) * fields.size("hidden_size")
    extra += (
        fields.switch(how.head_norms) * head_norms(attention) * (2 if how.head_norm_bias else 1)
    )
    extra += fields.switch(how.wide_norms) * (wide + attention.kv_heads * attention.key)
    extra += fields.switch(how.sinks) * attention.heads + how.sub_norms * wide
    return attention, extra


def _with_shared(fields: Fields, how: Architecture, attentions: list[Part]) -> list[Part]:
    """Layers that share keys and values: all but the first of each few have none of their own."""
    if not how.shares or not fields.flag(how.shares[0]):
        return attentions
    every = fields.size(how.shares[1])
    return [
        (dataclasses.replace(attention, reuses=int(layer % every != 0)), own)
        for layer, (attention, own) in enumerate(attentions)
    ]


def _latent_biases(fields: Fields, how: Architecture, attention: Latent) -> Number:
    low = attention.query_rank + attention.rank + attention.rope
    return fields.switch(how.qkv_bias) * (low + fields.size("hidden_size"))


def _with_two(
    attentions: list[Part], feeds: list[Part], beside: Part, extra: Number
) -> list[Layer]:
    """LongCat: two attentions a layer, each with a dense half; experts beside both (arXiv 2509.01322)."""
    found: list[Layer] = []
    for (attention, own), (experts, more) in zip(attentions, feeds, strict=True):
        dense_half, biases = beside
        first = Layer(attention, dense_half, extra + own + biases)
        found += [
            first,
            Layer(attention, dense_half, extra + own + biases),
            Layer(None, experts, more),
        ]
    return found


def _windows(fields: Fields, how: Architecture) -> list[Number]:
    """The window of each layer."""
    if how.windows == "all" and (how.state or not fields.has("layer_types")):
        return [one_window(fields)] * fields.layers()
    if how.state is not None:
        return [EVERYWHERE] * fields.layers()
    if how.windows == "late":
        return late_windows(fields)
    return windows(fields, SLIDES[how.windows](fields, how))


def _none(fields: Fields, how: Architecture) -> list[bool]:
    return [False] * fields.layers()


def _even(fields: Fields, how: Architecture) -> list[bool]:
    return [layer % 2 == 0 for layer in range(fields.layers())]


def _period(fields: Fields, how: Architecture) -> list[bool]:
    """All but every n-th; where the window is missing, all layers see all."""
    every = fields.size(*how.period, default=how.every) if how.period else how.every
    slides = fields.has("sliding_window")
    return [slides and (layer + 1) % every != 0 for layer in range(fields.layers())]


def _letters(fields: Fields, how: Architecture) -> list[bool]:
    """By letters, again and again; the last layer sees all (`configuration_exaone4.py`)."""
    layers = fields.layers()
    if not fields.has("sliding_window"):
        return [False] * layers
    if not isinstance(fields.table.get("sliding_window_pattern"), str):
        return _period(fields, how)
    letters = fields.text("sliding_window_pattern")
    if not 0 < len(letters) <= MAX_LAYERS or set(letters) - set(LETTERS):
        raise fields.fault("sliding_window_pattern must be of the letters L and G; correct it")
    kinds = [LETTERS[letters[layer % len(letters)]] for layer in range(layers)]
    return [kind == SLIDING for kind in kinds[:-1]] + [False]


def _types(fields: Fields, how: Architecture) -> list[bool]:
    """GPT-Neo: lists of words, each with how often it is repeated."""
    kinds: list[str] = []
    for item in fields.items("attention_types"):
        good = isinstance(item, list) and len(item) == 2 and isinstance(item[0], list)
        if not good or not isinstance(item[1], int) or not 0 <= item[1] <= MAX_LAYERS:
            raise fields.fault(
                "attention_types must list words and how often they come; correct it"
            )
        kinds += [str(word) for word in item[0]] * item[1]
    if len(kinds) != fields.layers():
        raise fields.fault(
            f"attention_types gives {len(kinds)} layers, but the model has others; correct it"
        )
    return [kind == "local" for kind in kinds]


SLIDES: dict[str, Callable[[Fields, Architecture], list[bool]]] = {
    "marked": _none,
    "all": _none,
    "even": _even,
    "period": _period,
    "letters": _letters,
    "types": _types,
}
"""Which layers slide where the file does not list them."""


def feed_forwards(fields: Fields, how: Architecture) -> list[Part[Dense | Mixture]]:
    """The feed-forward half of each layer."""
    layers = fields.layers()
    if how.experts is None or not _has_experts(fields, how.experts):
        return [dense(fields, how)] * layers
    sparse = LAYERS[how.experts.layers](fields, how.experts)
    fields.note(*how.experts.dense, *how.inter)
    experts = mixture(fields, how, how.experts) if any(sparse) else None
    return [experts if one and experts else dense(fields, how) for one in sparse]


def _has_experts(fields: Fields, of: Experts) -> bool:
    """Some files of a family with experts have none: fields that are missing, null or zero."""
    found = [fields.table[key] for key in of.experts if fields.has(key)]
    return bool(found) and found[0] not in (0, 1)


def dense(fields: Fields, how: Architecture) -> Part[Dense]:
    """The dense half."""
    keys = how.experts.dense if how.experts and _has_experts(fields, how.experts) else how.inter
    inter = columns(fields, how, keys)
    layer = Dense(inter, gated=fields.switch(how.gated))
    biases = (2 if layer.gated else 1) * inter + fields.size("hidden_size")
    return layer, fields.switch(how.mlp_bias) * biases + how.sub_norms * inter


def columns(fields: Fields, how: Architecture, keys: list[str]) -> int:
    """Of the feed-forward half: as written, or as often the stream as the family takes."""
    missing = how.inter_factor * fields.size("hidden_size") if how.inter_factor else None
    wide = fields.size(*keys, default=missing)
    return fields.share(wide, 2, f"{keys[0]} over two") if how.inter_half else wide


def mixture(fields: Fields, how: Architecture, of: Experts) -> Part[Mixture]:
    """Experts, and their parameters in no product."""
    hidden = fields.size("hidden_size")
    experts = fields.size(*of.experts)
    inter = _first_number(fields, of.inter)
    shared = _shared(fields, how, of, inter)
    biases = (2 if of.gated else 1) * inter + hidden
    layer = Mixture(
        experts=experts,
        active=_working(_first_number(fields, of.active, most=experts), experts, _idle(fields, of)),
        inter=inter,
        shared=shared,
        bias=fields.switch(of.bias) * biases,
        gated=of.gated,
    )
    extra = fields.switch(of.router_bias) * experts
    extra += hidden if shared and fields.switch(of.shared_gate) else 0
    return layer, extra + _idle(fields, of) * (hidden + 1)


def _working(active: int, experts: int, idle: int) -> int:
    """Experts of a token that do something, on average, where tokens choose all alike (LongCat)."""
    return max(1, round(active * experts / (experts + idle)))


def _first_number(fields: Fields, keys: list[str], most: int = 10**8) -> int:
    """The first field that is there; a list of one number for each layer must be of equal ones."""
    for key in keys:
        if isinstance(fields.table.get(key), list):
            numbers = set(fields.numbers(key, least=1))
            if len(numbers) != 1:
                raise fields.fault(f"{key} differs between layers, which no form reads")
            return numbers.pop()
    return fields.size(*keys, most=most)


def _shared(fields: Fields, how: Architecture, of: Experts, inter: int) -> int:
    """Columns of all that every token goes through."""
    beside = columns(fields, how, of.dense) if fields.switch(of.beside) else 0
    if of.shared == "count":
        keys = [key for key in of.shared_count if isinstance(fields.table.get(key), list)]
        count = _first_number(fields, keys) if keys else fields.count(*of.shared_count, default=0)
        return beside + count * inter
    if of.shared == "size":
        return beside + fields.count(*of.shared_size, default=0)
    return beside


def _idle(fields: Fields, of: Experts) -> int:
    return fields.count(*of.idle, default=0) if of.idle else 0


def _all(fields: Fields, of: Experts) -> list[bool]:
    return [True] * fields.layers()


def _first(fields: Fields, of: Experts) -> list[bool]:
    """After dense layers, whose number is in a field of the architecture's own."""
    if of.first == "first_k_dense_replace" or fields.has("mlp_layer_types"):
        return sparse_layers(fields)
    first = fields.count(of.first, default=0)
    return [layer >= first for layer in range(fields.layers())]


def _stepped(fields: Fields, of: Experts) -> list[bool]:
    return stepped_layers(fields)


def _every(fields: Fields, of: Experts) -> list[bool]:
    """Every n-th layer from some layer on."""
    period, offset = of.period
    every, first = fields.size(period), fields.count(offset)
    return [layer % every == first for layer in range(fields.layers())]


def _listed(fields: Fields, of: Experts) -> list[bool]:
    """Between two layers, every n-th (`configuration_ernie4_5_moe.py`)."""
    layers = fields.layers()
    first = fields.count("moe_layer_start_index", default=0)
    last = fields.count("moe_layer_end_index", default=layers - 1)
    every = fields.size("moe_layer_interval", default=1)
    return [(layer + 1) % every == 0 and first <= layer <= last for layer in range(layers)]


LAYERS: dict[str, Callable[[Fields, Experts], list[bool]]] = {
    "all": _all,
    "first": _first,
    "stepped": _stepped,
    "period": _every,
    "listed": _listed,
}
"""Which layers have experts."""
