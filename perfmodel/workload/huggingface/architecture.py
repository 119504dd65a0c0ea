"""Architectures as data: the form each is read as, and what it has of its own
(`library/architectures.toml`)."""

import functools
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

ARCHITECTURES = Path(__file__).parents[2] / "library" / "architectures.toml"
"""Facts of the architectures; the defaults of transformers are in `architecture_defaults.toml` beside it."""

DEFAULTS = ARCHITECTURES.with_name("architecture_defaults.toml")

Switch = bool | str
"""Yes or no, or a flag of the file that says it: `key` (no where missing), `key=true`, `!key` (the
opposite)."""

Windows = Literal["marked", "all", "late", "even", "period", "letters", "types"]
"""Which layers slide where the file does not list `layer_types`: none, all, those from some layer on, every
second one, all but every n-th, by letters (`LLLG`), or by `attention_types` of GPT-Neo."""


class Table(BaseModel):
    """A table of a file of facts: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Experts(Table):
    """Experts of an architecture.

    - `experts`, `active`, `inter`: fields of their number, of those of a token, of their columns.
    - `layers`: which layers have them: all; all after `first` dense ones, or every `moe_layer_freq`-th;
      as Qwen
      writes it; or every `period`-th from `offset` on.
    - `shared`: experts that every token goes through: a number of them (`count`) or their columns (`size`).
    - `beside`: whether a dense layer of `intermediate_size` columns stands beside them.
    - `shared_gate`: whether a gate, in no product, weighs the shared expert.
    - `bias`: whether each expert's products have biases; `router_bias`: whether each expert has one in
      routing.
    - `idle`: field of the number of experts that do nothing, for which the router has columns too.
    - `dense`: field of the columns of a dense layer.
    """

    experts: list[str] = ["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"]
    active: list[str] = [
        "num_experts_per_tok",
        "num_experts_per_token",
        "moe_top_k",
        "top_k_experts",
        "moe_k",
    ]
    inter: list[str] = ["moe_intermediate_size"]
    layers: Literal["all", "first", "stepped", "period", "listed"] = "all"
    first: str = "first_k_dense_replace"
    period: list[str] = []
    shared: Literal["", "count", "size"] = ""
    shared_count: list[str] = ["n_shared_experts", "num_shared_experts", "moe_num_shared_experts"]
    shared_size: list[str] = ["shared_expert_intermediate_size"]
    shared_gate: Switch = False
    beside: Switch = False
    gated: bool = True
    bias: Switch = False
    router_bias: Switch = False
    idle: list[str] = []
    dense: list[str] = ["intermediate_size"]


class State(Table):
    """Layers with a state instead of a cache, or beside one.

    - `kind`: of the state (`states.py`).
    - `words`: of `layer_types` for such layers; `attention`: those for attention.
    - `kinds`: a field with a word or number for each layer; `indices`: one with the layers that have
      attention.
    - `period`: fields of how often attention comes and from which layer on.
    - `beside`: whether each layer has both, attention and state.
    - `alone`: whether such a layer has no feed-forward half.
    """

    kind: str
    words: list[str] = []
    attention: list[str] = ["attention", "full_attention"]
    kinds: str = "layer_types"
    indices: str = ""
    period: list[str] = []
    beside: bool = False
    alone: bool = False
    all: bool = False


class Architecture(Table):
    """How one architecture is read.

    - `like`: another one, of which this has all that it does not say itself.
    - `form`: `decoder`, which reads all that is said here, or a form with a reader of its own.
    - `model_types`: its words of `model_type`, also of the text part of a file.
    - `names`: its own names of fields, with the usual ones; `fixed`: fields that may have one value only.
    - `equal`: fields that must have the value of another.
    - `defaults`: fields that its files may leave out; `tied`: whether the output head is the embedding.
    - `norms`, `norm_bias`, `norm_weights`: norms of the stream in a layer, and whether they have biases,
      and weights.
    - `one_norm`: where it is so, a layer has one norm less (attention and feed-forward in parallel).
    - `qkv_bias`, `o_bias`, `mlp_bias`, `head_bias`: biases of products.
    - `head_norms`, `wide_norms`, `query_norms`: norms of queries and keys, one for all heads or one over
      all heads.
    - `one_kv_head`: whether all heads share one key and one value.
    - `shares`: a flag, and the field of how many layers share the keys and values of the first of them.
    - `chosen_by`, `choices`: a field whose value says which architecture the language model has.
    - `latent`: latent attention; `sinks`, `gate`, `sub_norms`, `layer_extra`: further parameters.
    - `windows`, `period`: which layers slide.
    - `gated`: whether the feed-forward layer is; `inter`: fields of its columns; `inter_factor`: of the
      stream where they are missing.
    - `positions`, `position_offset`: learned positions; `last_norms`: norms outside the layers.
    - `expert_names`: what its checkpoints call the experts of a layer, where it is not as usual.
    - `ignored`: fields that change no count in this architecture.
    - `unpriced`: why no time is predicted; empty where it is.
    - `priced_as`: what time is predicted of, where it is not every request, as a sentence.
    """

    like: str = ""
    form: str = "decoder"
    model_types: list[str] = []
    names: dict[str, str] = {}
    fixed: dict[str, bool | int | str] = {}
    equal: dict[str, str] = {}
    defaults: dict[str, bool | int | str | list[Any]] = {}
    tied: bool = False
    norms: int = 2
    norm_bias: Switch = False
    norm_weights: bool = True
    one_norm: Switch = False
    last_norms: int = 1
    qkv_bias: Switch = "attention_bias"
    o_bias: Switch = "attention_bias"
    mlp_bias: Switch = False
    head_bias: Switch = False
    one_kv_head: Switch = False
    head_norms: Switch = False
    head_norm_bias: bool = False
    wide_norms: Switch = False
    sinks: Switch = False
    gate: Literal["", "head", "value"] = ""
    sub_norms: bool = False
    layer_extra: int = 0
    shares: list[str] = []
    chosen_by: str = ""
    choices: dict[str, str] = {}
    latent: bool = False
    windows: Windows = "marked"
    period: list[str] = []
    every: int = 0
    gated: Switch = True
    inter: list[str] = ["intermediate_size"]
    inter_factor: int = 0
    inter_half: bool = False
    positions: list[str] = []
    position_offset: int = 0
    two_attentions: bool = False
    experts: Experts | None = None
    state: State | None = None
    expert_names: list[str] = []
    ignored: list[str] = []
    unpriced: str = ""
    priced_as: str = ""
    note: str = ""


@functools.cache
def architectures() -> dict[str, Architecture]:
    """Every architecture, by the first word of `architectures`."""
    tables = tomllib.loads(ARCHITECTURES.read_text(encoding="utf-8"))
    return {name: _read(name, _whole(name, tables)) for name in tables}


def _whole(name: str, tables: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """A table with all that it has of the one it is like; inner tables are joined, names of models are
    not."""
    own = tables[name]
    if "like" not in own or depth > len(tables):
        return own
    base = _whole(own["like"], tables, depth + 1)
    base = {key: value for key, value in base.items() if key != "model_types"}
    inner = {
        key: base[key] | value
        for key, value in own.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | own | inner


def _read(name: str, table: dict[str, Any]) -> Architecture:
    try:
        return Architecture.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{ARCHITECTURES}: {name}.{place}: {first['msg']}.") from None


@functools.cache
def by_model_type() -> dict[str, str]:
    """The architecture of each word of `model_type`; each may be named once."""
    pairs = [(word, name) for name, how in architectures().items() for word in how.model_types]
    twice = [word for word, count in Counter(word for word, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"{ARCHITECTURES}: model_types has {twice[0]!r} twice; name it once.")
    return dict(pairs)


@functools.cache
def class_defaults() -> dict[str, dict[str, Any]]:
    """What transformers takes for a field that a file leaves out, by `model_type`."""
    return tomllib.loads(DEFAULTS.read_text(encoding="utf-8"))
