"""Matrices of a model by the names that checkpoints give them, and which names a list means."""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from perfmodel.workload.attention import Grouped, Latent, Recurrent
from perfmodel.workload.feed_forward import Dense, Mixture
from perfmodel.workload.model import Layer
from perfmodel.workload.sizes import Number

PREFIXES = (
    "model.language_model.",
    "language_model.model.",
    "language_model.",
    "model.text_model.",
    "text_model.",
    "transformer.",
    "backbone.",
    "model.",
)
"""What stands before `layers.0...` in different families."""


def bare(name: str) -> str:
    """A name without what stands before its layer."""
    name = name.removesuffix(".weight")
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


class Matrix(NamedTuple):
    """One matrix, or several alike, of a layer.

    - `part`: a word of `COVERED`; `names`: what families call it; `count`: its weights.
    """

    part: str
    names: tuple[str, ...]
    count: Number


def matrices(layer: Layer, index: int, hidden: Any, experts: Sequence[str] = ()) -> list[Matrix]:
    """The matrices of a layer but for its router, with their names.

    - `experts`: what the family calls its experts, where it is not as usual.
    """
    inner = tuple(experts) or (*(f"{place}.experts" for place in FEED_FORWARD), "experts")
    found = _attention(layer.attention, hidden)
    found += _feed_forward(layer.feed_forward, hidden, inner)
    return [
        one._replace(names=tuple(f"layers.{index}.{name}" for name in one.names)) for one in found
    ]


ATTENTION = ("self_attn", "attn", "attention", "mixer", "linear_attn", "mamba", "self_attention")
"""What families call the first half of a layer."""

FEED_FORWARD = ("mlp", "ffn", "feed_forward", "mixer", "block_sparse_moe", "moe", "shared_mlp")
"""And the second."""


def _named(part: str, places: Iterable[str], ends: Iterable[str], count: Number) -> Matrix:
    ends = tuple(ends)
    return Matrix(part, tuple(f"{place}.{end}" for place in places for end in ends), count)


def _attention(attention: Any, hidden: Any) -> list[Matrix]:
    if attention is None:
        return []
    inputs, outputs = attention.inputs(hidden), attention.outputs(hidden)
    total = sum(rows * columns for rows, columns in inputs)
    out = sum(rows * columns for rows, columns in outputs)
    pieces: list[Piece]
    if isinstance(attention, Grouped) and not attention.factors:
        pieces = _grouped(attention, hidden)
    elif isinstance(attention, Latent):
        pieces = _latent(attention, hidden)
    elif isinstance(attention, Recurrent) and attention.kind == "gdn":
        pieces = _delta(attention, hidden)
    else:
        pieces = [(("in_proj", "q_proj", "qkv_proj"), total)]
    rest = total - sum(count for _, count in pieces)
    if rest > 0:
        pieces.append((pieces[0][0], rest))
    outside = out if not isinstance(attention, Latent) else outputs[1][0] * outputs[1][1]
    pieces.append((("o_proj", "out_proj", "dense", "c_proj", "wo"), outside))
    return [_named("attention", ATTENTION, ends, count) for ends, count in pieces]


Piece = tuple[tuple[str, ...], Number]


def _grouped(attention: Grouped, hidden: Any) -> list[Piece]:
    queries = attention.heads * (attention.key + attention.gate) * hidden
    keys = (1 - attention.reuses) * attention.kv_heads * attention.key * hidden
    values = (
        (1 - attention.reuses - attention.joint) * attention.kv_heads * attention.value * hidden
    )
    return [
        (("q_proj", "qkv_proj", "query_key_value", "wq", "Wqkv", "c_attn"), queries),
        (("k_proj", "qkv_proj", "query_key_value", "wk", "Wqkv", "c_attn"), keys),
        (("v_proj", "qkv_proj", "query_key_value", "wv", "Wqkv", "c_attn"), max(values, 0)),
    ]


def _latent(attention: Latent, hidden: Any) -> list[Piece]:
    own = attention.heads * (attention.nope + attention.rope)
    rank = attention.query_rank
    queries: list[Piece] = [(("q_a_proj", "fused_qkv_a_proj"), hidden * rank)] if rank else []
    queries.append((("q_b_proj", "q_proj"), (rank or hidden) * own))
    index = attention.index_heads * attention.index_key
    indexer = (rank or hidden) * index + hidden * (attention.index_key + attention.index_heads)
    low = hidden * (attention.rank + attention.rope)
    high = attention.rank * attention.heads * (attention.nope + attention.value)
    inner: list[Piece] = [(("indexer", "indexer.wq_b", "indexer.wk"), indexer)] if index else []
    keys: list[Piece] = [(("kv_a_proj_with_mqa", "fused_qkv_a_proj"), low), (("kv_b_proj",), high)]
    return [*queries, *keys, *inner]


def _delta(attention: Recurrent, hidden: Any) -> list[Piece]:
    gates = attention.heads * attention.value
    return [
        (("in_proj_qkv", "in_proj_qkvz", "in_proj"), attention.channels * hidden),
        (("in_proj_z", "in_proj_qkvz", "in_proj"), gates * hidden),
        (("in_proj_a", "in_proj_b", "in_proj_ba", "in_proj"), 2 * attention.heads * hidden),
    ]


UP = ("gate_proj", "up_proj", "gate_up_proj", "w1", "w3", "fc1", "c_fc", "dense_h_to_4h")
DOWN = ("down_proj", "w2", "fc2", "c_proj", "dense_4h_to_h")
SHARED = ("shared_experts", "shared_expert", "shared_mlp")


def _feed_forward(feed_forward: Any, hidden: Any, inner: tuple[str, ...]) -> list[Matrix]:
    if isinstance(feed_forward, Dense):
        down = hidden * feed_forward.inter
        up = feed_forward.parameters(hidden) - down
        return [
            _named("feed_forward", FEED_FORWARD, UP, up),
            _named("feed_forward", FEED_FORWARD, DOWN, down),
        ]
    if not isinstance(feed_forward, Mixture):
        return []
    _, shared, experts = feed_forward.parts(hidden)
    places = [f"{place}.{name}" for place in FEED_FORWARD for name in SHARED]
    first = [f"{place}.0" for place in inner]
    found = [_named("experts", first, (*UP, *DOWN), experts)]
    # A dense layer that stands beside the experts has the names of a dense one.
    beside = [*places, *FEED_FORWARD]
    return [*found, _named("feed_forward", beside, (*UP, *DOWN), shared)] if shared else found


class Names:
    """A list of names, globs (`*`) and regular expressions (`re:`), to ask which matrices it means."""

    def __init__(self, names: Iterable[str]):
        self.whole: set[str] = set()
        self.begins: set[str] = set()
        self.patterns: list[re.Pattern[str]] = []
        for name in names:
            self._add(name)
        self.first_words = {name.partition(".")[0] for name in self.whole}

    def _add(self, name: str) -> None:
        if name.startswith("re:"):
            self.patterns.append(_compiled(name[3:]))
        elif "*" not in name and "?" not in name:
            self.whole.add(bare(name))
        elif name.endswith("*") and not set(name[:-1]) & set("*?["):
            self.begins.add(bare(name[:-1]))
        else:
            self.patterns.append(_compiled(fnmatch.translate(name)))

    def mean(self, name: str) -> bool:
        """Whether the list means a matrix: its whole name, a run of the words of it, its beginning, or a
        pattern."""
        words = name.split(".")
        runs = (
            ".".join(words[i:j])
            for i, word in enumerate(words)
            if word in self.first_words
            for j in range(i + 1, len(words) + 1)
        )
        if not self.whole.isdisjoint(runs):
            return True
        if name.startswith(tuple(self.begins)):
            return True
        spelled = (name, *(prefix + name for prefix in PREFIXES)) if self.patterns else ()
        return any(pattern.match(spelling) for pattern in self.patterns for spelling in spelled)

    def any(self, names: Iterable[str]) -> bool:
        """Whether the list means a matrix by any of its names."""
        return any(self.mean(name) for name in names)


def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of a file; one that is no regular expression means nothing."""
    try:
        return re.compile(pattern)
    except re.error:
        return re.compile(r"(?!)")
