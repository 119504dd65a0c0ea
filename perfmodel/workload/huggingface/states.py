"""Layers with a state of fixed size: selective state spaces, lightning attention, short convolutions,
RWKV."""

import math
from collections.abc import Callable

from perfmodel.workload.attention import Counted, Grouped, Latent, Recurrent
from perfmodel.workload.feed_forward import Dense, Mixture
from perfmodel.workload.huggingface.architecture import Architecture, State
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.huggingface.parts import Part, head_size
from perfmodel.workload.model import Layer
from perfmodel.workload.sizes import Number

Feeds = list[Part[Dense | Mixture]]


def layers_with_states(
    fields: Fields,
    how: Architecture,
    attentions: list[Part[Grouped | Latent]],
    feeds: Feeds,
    extra: Number,
) -> list[Layer]:
    """Layers of which some have a state instead of attention, or beside it."""
    state = how.state
    assert state is not None
    mixer, more = MIXERS[state.kind](fields)
    found: list[Layer] = []
    kinds = which_attend(fields, state)
    for attends, (attention, own), (feed, biases) in zip(kinds, attentions, feeds, strict=True):
        if state.beside:
            # Both read the same norm and are added: two halves, one after the other, cost as much.
            found += [Layer(attention, None, own), Layer(mixer, feed, extra + more + biases)]
        elif attends:
            found.append(Layer(attention, feed, extra + own + biases))
        else:
            half = None if state.alone else feed
            found.append(Layer(mixer, half, extra + more + (0 if state.alone else biases)))
    return found


def which_attend(fields: Fields, state: State) -> list[bool]:
    """Which layers have attention."""
    layers = fields.layers()
    if state.all or state.beside:
        return [state.beside] * layers
    if state.indices and fields.has(state.indices):
        listed = set(fields.numbers(state.indices))
        if listed and max(listed) >= layers:
            raise fields.fault(
                f"{state.indices} has {max(listed)}, but there are {layers} layers; correct it"
            )
        return [layer in listed for layer in range(layers)]
    if fields.has(state.kinds):
        return _listed(fields, state, layers)
    if state.period:
        every, first = fields.size(state.period[0]), fields.count(state.period[1], default=0)
        return [layer % every == first for layer in range(layers)]
    raise fields.fault(
        f"{state.kinds} is missing, so that the kinds of its layers are unknown; add it to the file"
    )


def _listed(fields: Fields, state: State, layers: int) -> list[bool]:
    """A word, or 1 for attention and 0 for a state, for each layer; a short list comes again and again."""
    items = fields.items(state.kinds)
    if items and len(items) < layers and state.kinds == "block_types":
        items = (items * (layers // len(items) + 1))[:layers]
    table = dict.fromkeys((*state.attention, 1), True) | dict.fromkeys((*state.words, 0), False)
    if len(items) != layers:
        raise fields.fault(
            f"{state.kinds} has {len(items)} items, but the model has {layers} layers; correct it"
        )
    hashable = [
        item if isinstance(item, str | int) and not isinstance(item, bool) else str(item)
        for item in items
    ]
    return [fields.known(f"{state.kinds}:", item, table) for item in hashable]


def mamba2(fields: Fields) -> Part[Recurrent]:
    """Mamba-2 (arXiv 2405.21060): filters with biases, three parameters for each head, the norm before
    the way out."""
    heads, head = _heads(fields)
    state, groups = fields.size("ssm_state_size"), fields.size("n_groups")
    taps, wide = fields.size("conv_kernel"), heads * head
    channels = wide + 2 * groups * state
    columns = wide + channels + heads
    mixer = Recurrent(heads, state, head, columns, channels, taps, kind="mamba2")
    extra = channels * (taps + fields.flag("use_conv_bias", default=True)) + 3 * heads
    extra += wide * fields.flag("mamba_rms_norm", default=True)
    extra += fields.flag("use_bias") * (columns + fields.size("hidden_size"))
    return mixer, extra


def _heads(fields: Fields) -> tuple[int, int]:
    """Heads and the size of each; where the columns of all are written too, they must agree."""
    heads, wide = fields.size("mamba_num_heads"), _width(fields)
    given = isinstance(fields.table.get("mamba_head_dim"), int)
    fields.note("mamba_head_dim")
    if not given:
        wide = wide or 2 * fields.size("hidden_size")
        return heads, fields.share(wide, heads, "columns of the state space over its heads")
    head = fields.size("mamba_head_dim")
    if wide and heads * head != wide:
        raise fields.fault(
            f"{heads} heads of {head} are not the {wide} columns of the state space; correct one of them"
        )
    return heads, head


def _width(fields: Fields) -> int:
    """Columns of a state space, as written or as so many times the stream; 0 where neither is."""
    if fields.has("mamba_width"):
        fields.note("expand")
        return fields.size("mamba_width")
    return fields.size("expand") * fields.size("hidden_size") if fields.has("expand") else 0


CHANNELS = 64
"""Channels of Mamba, of which each has a state of its own, that are priced together as a head is."""


def _blocks(wide: int, most: int) -> tuple[int, int]:
    """Equal blocks of columns, and the columns of each: at most `most`."""
    block = math.gcd(wide, most)
    return wide // block, block


def mamba(fields: Fields) -> Part[Recurrent]:
    """Mamba (arXiv 2312.00752): two projections in, filters, step sizes by a bottleneck, a state for
    each channel."""
    hidden, state, taps = (
        fields.size("hidden_size"),
        fields.size("ssm_state_size"),
        fields.size("conv_kernel"),
    )
    wide = _width(fields) or 2 * hidden
    rank = _rank(fields, hidden)
    heads, block = _blocks(wide, CHANNELS)
    extra = wide * (taps + fields.flag("use_conv_bias", default=True)) + wide + wide * state + wide
    extra += fields.flag("use_bias") * (2 * wide + hidden)
    extra += fields.flag("mamba_inner_norms") * (rank + 2 * state)
    gates = rank + 2 * state
    mixer = Recurrent(heads, state, block, 2 * wide, wide, taps, rank, gates, kind="mamba")
    return mixer, extra


def _rank(fields: Fields, hidden: int) -> int:
    """Of the step sizes; `auto` is a sixteenth of the stream, rounded up (`configuration_mamba.py`)."""
    if fields.table.get("time_step_rank") == "auto":
        fields.has("time_step_rank")
        return -(-hidden // 16)
    return fields.size("time_step_rank", default=-(-hidden // 16))


def lightning(fields: Fields) -> Part[Recurrent]:
    """Lightning attention (arXiv 2501.08313): a state of a head's size squared, a norm and a gate over
    all heads.

    Its recurrence is that of Mamba-2 with a decay that is fixed, and is priced as such.
    """
    heads, head = fields.size("num_attention_heads"), head_size(fields)
    wide = heads * head
    return Recurrent(heads, head, head, 4 * wide, 3 * wide, 1, kind="mamba2"), wide


def convolution(fields: Fields) -> Part[Recurrent]:
    """The short convolution of LFM2: a gated filter, whose state is the last tokens; three columns come in
    for each that goes out."""
    hidden, taps = fields.size("hidden_size"), fields.size("conv_L_cache")
    bias = fields.flag("conv_bias")
    heads, block = _blocks(hidden, CHANNELS)
    wide = 3 * hidden
    mixer = Recurrent(heads, taps - 1, block, wide, wide, 1, kind="convolution")
    return mixer, hidden * taps + bias * 5 * hidden


def rglru(fields: Fields) -> Part[Recurrent]:
    """The recurrent block of Griffin (arXiv 2402.19427): two products in, a filter, gates of blocks, one
    out."""
    hidden, heads, taps = (
        fields.size("hidden_size"),
        fields.size("num_attention_heads"),
        fields.size("conv1d_width"),
    )
    wide = fields.size("lru_width", default=hidden)
    block = fields.share(wide, heads, "lru_width over num_attention_heads")
    extra = 2 * wide + hidden + wide * (taps + 1) + 3 * wide
    mixer = Recurrent(heads, 1, block, 2 * wide, wide, taps, block, 2 * wide, kind="rglru")
    return mixer, extra


def rwkv4(fields: Fields) -> list[Layer]:
    """RWKV-4 (arXiv 2305.13048): time mixing and channel mixing; `modeling_rwkv.py` of transformers."""
    hidden = fields.size("hidden_size")
    wide = fields.size("attention_hidden_size", default=hidden)
    inter = fields.size("intermediate_size", default=4 * hidden)
    mixer = Counted(
        "RWKV",
        1,
        4 * hidden * wide + 2 * hidden * inter + hidden * hidden,
        0,
        2 * hidden + 3 * wide,
    )
    # Two norms with biases; decay and bonus of time; five mixings of a token with the one before.
    layer = Layer(mixer, None, 4 * hidden + 2 * wide + 5 * hidden)
    first = Layer(mixer, None, layer.extra + 2 * hidden)
    return [first, *[layer] * (fields.layers() - 1)]


MIXERS: dict[str, Callable[[Fields], Part]] = {
    "mamba2": mamba2,
    "mamba": mamba,
    "lightning": lightning,
    "convolution": convolution,
    "rglru": rglru,
}
"""How to read a layer with a state, by its kind."""
