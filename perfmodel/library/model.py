"""Models by name: from their files, or from a config.json, to transformers."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from perfmodel.errors import InputError
from perfmodel.library.files import fold, pick, read_as, stems
from perfmodel.library.schema import Sourced, Strict
from perfmodel.workload.huggingface import from_config, read_config
from perfmodel.workload.model import Transformer, cache_numbers, parameters
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
    """What is published of a model's size: all parameters, and those that one token uses."""

    parameters: Total | None = None
    active: Total | None = None

    def totals(self) -> list[Total]:
        """Those that are known."""
        return [total for total in (self.parameters, self.active) if total is not None]


class ModelFile(Sourced):
    """A model.

    - `name`: its Hugging Face id, or what its paper calls it.
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
            return read_config(name)
        except ValueError as error:
            raise InputError(str(error)) from None
    stem = find_model(name)
    file = model_files()[stem]
    model = build(stem, file)
    formats = {end: word for variant, word in file.variants.items() for end in ends(variant)}
    return dataclasses.replace(model, native=formats.get(fold(name), model.native))


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
    """What a model's shape says: parameters in all and active, cache bytes of a token, layers, format."""

    name: str
    parameters: int
    active: int
    cache_bytes: float
    layers: int
    native: str


def model_facts(name: str) -> ModelFacts:
    """Counts of a model of the library, or of a config.json.

    **Raises:**

    - `InputError`: for an unknown model, or a file that is wrong.
    """
    model = load_model(name)
    cache = float(cache_numbers(model)) * look_up("bf16").weight
    label = str.__str__(model.name) or name
    return ModelFacts(
        label,
        int(parameters(model)),
        int(parameters(model, active=True)),
        cache,
        int(model.layers),
        model.native,
    )


def model_sources(name: str) -> dict[str, str]:
    """Where a model's numbers come from."""
    if name.endswith(".json"):
        return {"config": name}
    return model_files()[find_model(name)].sources
