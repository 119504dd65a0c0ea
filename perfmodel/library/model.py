"""Models by name: from their files, or from a config.json, to transformers."""

import dataclasses
import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from pydantic import Field

from perfmodel.errors import InputError
from perfmodel.library.files import fold, pick, read_as, read_toml, stems
from perfmodel.library.schema import Sourced, Strict
from perfmodel.workload.huggingface import from_config, read_config, read_table
from perfmodel.workload.huggingface.index import check_index
from perfmodel.workload.huggingface.read import READ_AS, assumptions, priced_as
from perfmodel.workload.huggingface.towers import tower_parameters
from perfmodel.workload.model import (
    Transformer,
    cache_numbers,
    fixed_cache_bytes,
    long_text_numbers,
    parameters,
    text_only,
    weight_bytes,
)
from perfmodel.workload.precision import FORMATS, Scope, look_up


def ends(name: str) -> tuple[str, str]:
    """A name, folded, with and without the organisation before it."""
    return fold(name), fold(name.split("/")[-1])


class Total(Strict):
    """A count of parameters as published.

    - `value`: the count.
    - `tolerance`: how far, relative to it, a count made from the config may be off: how the
      published one is rounded, and what else it counts.
    - `embedding`: whether a count of active parameters has the whole embedding in it.
    - `source`: a key of the file's `[sources]`.
    """

    value: float = Field(gt=0, allow_inf_nan=False)
    tolerance: float = Field(default=0.0, ge=0, le=0.2)
    embedding: bool = False
    source: str


class PublishedFile(Strict):
    """What is published of a model's size: all parameters, and those that one token uses.

    - `parameters`: all; `active`: those that one token uses.
    """

    parameters: Total | None = None
    active: Total | None = None

    def totals(self) -> list[Total]:
        """Those that are known."""
        return [total for total in (self.parameters, self.active) if total is not None]


class ModelFile(Sourced):
    """A model.

    - `name`: its Hugging Face id, or what its paper calls it.
    - `published`: counts of parameters.
    - `aliases`: other names of it, in the same format.
    - `narrow`: which of its matrices checkpoints in four bits have in them, where its config
      does not say; from the lists of what they leave out, in the variants' hf_quant_config.json.
    - `variants`: names under which its weights are published in other formats, with these.
    - `config`: the fields of its config.json that say what it costs; the rest is left out.
    """

    name: str
    aliases: list[str] = []
    narrow: Scope | None = None
    variants: dict[str, Literal[tuple(FORMATS)]] = {}  # pyright: ignore[reportInvalidTypeForm]
    published: PublishedFile = PublishedFile()
    config: dict[str, Any]
    note: str = ""

    def spellings(self) -> set[str]:
        """Every name of the model, folded, with and without the organisation before it."""
        names = [self.name, *self.aliases, *self.variants]
        return {spelling for name in names for spelling in ends(name)}


@functools.cache
def model_files() -> dict[str, ModelFile]:
    """Every model of the library, by its name there."""
    return {stem: read_as(ModelFile, path) for stem, path in stems("models").items()}


@functools.cache
def model_names() -> dict[str, str]:
    """Every spelling of every model, folded, with its name in the library."""
    spellings = {fold(stem): stem for stem in model_files()}
    for stem, file in model_files().items():
        spellings |= dict.fromkeys(file.spellings(), stem)
    return spellings


def find_model(name: str) -> str:
    """The library's name for a model, from any spelling of it.

    **Raises:**

    - `InputError`: for an unknown model, with the nearest names.
    """
    return pick(name, model_names(), "model", "perfmodel models")


def load_model(name: str | Path) -> Transformer:
    """A model of the library, or one from a config.json.

    **Arguments:**

    - `name`: any spelling of a model of the library, or the path of a config.json: a `Path`,
      or a text that ends in `.json`.

    **Raises:**

    - `InputError`: for an unknown model or a wrong file.
    """
    if isinstance(name, Path) or name.endswith(".json"):
        try:
            return _with_towers(read_config(name), read_table(name), str(name))
        except ValueError as error:
            raise InputError(str(error)) from None
    stem = find_model(name)
    file, model = model_files()[stem], _known_model(stem, str(jnp.result_type(float)))
    formats = {end: word for variant, word in file.variants.items() for end in ends(variant)}
    return dataclasses.replace(model, native=formats.get(fold(name), model.native))


@functools.cache
def _known_model(stem: str, number: str) -> Transformer:
    """A model of the library, read once for each precision of its numbers."""
    # Within a traced function they would be that function's own, and of no use to the next.
    with jax.ensure_compile_time_eval():
        file = model_files()[stem]
        return _with_towers(build(stem, file), file.config, stem)


def named_in(path: Path, key: str) -> list[str]:
    """Words under `key` of a study or a grid in TOML, however deep: models, chips, frameworks; none where it
    is no file, as a preset's name is not."""
    return _named(read_toml(path), key) if path.is_file() else []


def _named(content: Any, key: str, within: str = "") -> list[str]:
    if isinstance(content, dict):
        return [name for inner, value in content.items() for name in _named(value, key, inner)]
    if isinstance(content, list):
        return [name for value in content for name in _named(value, key, within)]
    return [content] if within == key and isinstance(content, str) else []


def assumed_of(names: Iterable[str]) -> list[str]:
    """What is assumed of the models of files, where it is something: a sentence for each file."""
    files = dict.fromkeys(name for name in names if name.endswith(".json"))
    return [f"{name}: {'; '.join(said)}." for name in files if (said := _assumed(name))]


def _assumed(name: str) -> list[str]:
    """Of one file; nothing where it does not say how it is read, or is wrong, which is said elsewhere."""
    try:
        config = read_table(name)
        said = assumptions(config, name, "") if READ_AS in config else []
        return [*said, *filter(None, [priced_as(config, name)])]
    except ValueError:
        return []


def _with_towers(model: Transformer, config: dict[str, Any], name: str) -> Transformer:
    """A model with the parameters of its towers of images and sound, as far as they can be counted."""
    towers = tower_parameters(config, name)
    return dataclasses.replace(model, towers=(towers.vision or 0) + (towers.audio or 0))


def published(name: str) -> set[str]:
    """The formats in which a model's weights are published, as far as is known here."""
    model = load_model(name)
    file = model_files().get(model_names().get(fold(name), ""))
    return {model.native, *(file.variants.values() if file else ())}


DRAFT_LAYERS = ("num_nextn_predict_layers", "mtp_num_hidden_layers")
"""Fields of a config.json that count the layers with which a model drafts tokens itself (MTP)."""


def draft_layers(name: str) -> int:
    """Layers with which a model drafts tokens itself; 0 where it has none, or where it is not known."""
    if name.endswith(".json"):
        config: dict[str, Any] = json.loads(Path(name).read_text())
    else:
        config = model_files()[find_model(name)].config
    config = config.get("text_config", config)
    return max(int(config.get(field) or 0) for field in DRAFT_LAYERS)


def build(stem: str, file: ModelFile) -> Transformer:
    """A transformer from a model's file."""
    try:
        model = from_config(file.config, stem)
    except ValueError as error:
        raise InputError(f"perfmodel/library/models/{stem}.toml: {error}") from None
    return dataclasses.replace(model, narrow=file.narrow or model.narrow)


class ModelFacts(NamedTuple):
    """What a model's shape says.

    - `parameters`, `active`: of the language model: all, and those that a token uses.
    - `vision`, `audio`: of the towers of images and of sound with what joins them; none where that cannot be
      counted.
    - `weight_bytes`: of the language model in the format of its checkpoint, scales included.
    - `cache_bytes`: in bf16, for each token; `long_cache_bytes`: for each once every window is full.
    - `once_bytes`: what a sequence keeps besides: full windows, and states.
    - `cache`: the format of the cache that the checkpoint states; `unpriced`: why no time is predicted.
    - `priced_as`: what time is predicted of, where it is not every request.
    - `notes`: what was assumed of an architecture that is not known.
    """

    name: str
    parameters: int
    active: int
    vision: int | None
    audio: int | None
    weight_bytes: float
    cache_bytes: float
    long_cache_bytes: float
    once_bytes: float
    layers: int
    native: str
    cache: str = ""
    unpriced: str = ""
    priced_as: str = ""
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int | None:
        """Parameters with those of all towers; none where one cannot be counted."""
        if self.vision is None or self.audio is None:
            return None
        return self.parameters + self.vision + self.audio

    def numbers(self) -> dict[str, float | int | None]:
        """What `--json` shows, with units in the keys."""
        return {
            "parameters": self.parameters,
            "parameters_active": self.active,
            "parameters_vision": self.vision,
            "parameters_audio": self.audio,
            "parameters_total": self.total,
            "weight_bytes": self.weight_bytes,
            "cache_bytes_per_token": self.cache_bytes,
            "cache_bytes_per_token_long": self.long_cache_bytes,
            "cache_bytes_once": self.once_bytes,
            "layers": self.layers,
        }


def model_facts(name: str, form: str = "") -> ModelFacts:
    """Counts of a model of the library, or of a config.json.

    **Arguments:**

    - `form`: how to read an architecture that is not known.

    **Raises:**

    - `InputError`: for an unknown model, or a file that is wrong.
    """
    if form and not name.endswith(".json"):
        raise InputError(
            f"--as is {form[:40]!r}, but {name[:60]!r} is a model of the library; give the path of a "
            f"config.json."
        )
    if not name.endswith(".json"):
        return _facts(load_model(name), model_files()[find_model(name)].config, name, ())
    try:
        config = read_table(name)
        model = from_config(config, name, form)
        assumed = assumptions(config, name, form) if form or READ_AS in config else ()
        facts = _facts(model, config, name, tuple(assumed), form)
        check_index(
            Path(name),
            facts.weight_bytes,
            facts.vision,
            facts.audio,
            model.native,
            bool(facts.notes),
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    return facts


def _facts(
    model: Transformer, config: dict[str, Any], name: str, notes: tuple[str, ...], form: str = ""
) -> ModelFacts:
    size = look_up("bf16").weight
    towers = tower_parameters(config, name)
    return ModelFacts(
        str.__str__(model.name) or name,
        int(parameters(model)),
        int(parameters(model, active=True)),
        towers.vision,
        towers.audio,
        weight_bytes(model),
        float(cache_numbers(model)) * size,
        float(long_text_numbers(model)) * size,
        fixed_cache_bytes(model, size),
        int(model.layers) // model.pieces,
        model.native,
        model.cache,
        model.unpriced,
        priced_as(config, name, form),
        notes,
    )


def load_priced(name: str | Path) -> Transformer:
    """A model whose time can be predicted, as a request of text alone runs it; else as `load_model`.

    **Raises:**

    - `InputError`: also for a model with layers that no kernel prices.
    """
    model = load_model(name)
    if model.unpriced:
        raise InputError(
            f"{str.__str__(model.name)} has {model.unpriced}: no time is predicted; `perfmodel models` "
            f"counts it."
        )
    return text_only(model)


def model_sources(name: str) -> dict[str, str]:
    """Where a model's numbers come from."""
    if name.endswith(".json"):
        return {"config": name}
    return model_files()[find_model(name)].sources
