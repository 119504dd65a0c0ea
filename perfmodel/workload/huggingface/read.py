"""From a config.json to a transformer: which architecture it is, and how that is read."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.workload.huggingface.architecture import (
    Architecture,
    Experts,
    architectures,
    by_model_type,
    class_defaults,
)
from perfmodel.workload.huggingface.checkpoint import read_formats
from perfmodel.workload.huggingface.fields import Fields, shown
from perfmodel.workload.huggingface.formats import cache_format
from perfmodel.workload.huggingface.forms import FORMS, NESTED
from perfmodel.workload.huggingface.parts import stacks
from perfmodel.workload.huggingface.unknown import GENERIC, generic, suggested
from perfmodel.workload.huggingface.unread import field_lists, refuse_unread, unread
from perfmodel.workload.model import Transformer
from perfmodel.xla import Label


class Found(NamedTuple):
    """The text part of a file and how it is read.

    - `fields`: with the usual names, and with what the architecture leaves to its defaults.
    - `given`: the text part as written.
    - `assumed`: what was assumed of an architecture that is not known, as sentences.
    """

    fields: Fields
    given: Fields
    how: Architecture
    name: str
    assumed: list[str]


MAKERS_OWN = ({"dim", "n_layers"}, {"dim", "n_heads"})
"""Fields of `params.json`, the form of Meta's and Mistral's own releases (`consolidated`)."""


def text_part(config: Fields) -> Fields:
    """The innermost table that describes the language model: the file itself, or a part of it."""
    for key in field_lists()["nested"]:
        if config.has(key):
            return text_part(config.part(key))
    return config


def find(config: Fields, form: str = "") -> Found:
    """The text part of a file, and how it is read.

    **Arguments:**

    - `form`: how to read an architecture that is not known: a form of `GENERIC`, or a known architecture.

    **Raises:**

    - `ValueError`: for an architecture that is not known, with the form that its fields look like.
    """
    text = text_part(config)
    name = _architecture(config, text)
    assumed: list[str] = []
    if name not in architectures():
        given = form or config.text(READ_AS, default="")
        name, how, assumed = _unknown(config, text, name, given)
    else:
        name, how = _chosen(text, name)
    return Found(_filled(text, how, text is not config), text, how, name, assumed)


READ_AS = "read_as"
"""Key of a config.json that names the form of an architecture that is not known, as `--as` does."""


def _chosen(text: Fields, name: str) -> tuple[str, Architecture]:
    """An architecture, or the one that a field of the file chooses for it."""
    how = architectures()[name]
    if not how.choices:
        return name, how
    if not text.has(how.chosen_by):
        raise text.fault(f"{how.chosen_by} is missing, but {name} needs it; add it to the file")
    word = str(text.table[how.chosen_by])[:20]
    choice = text.known(f"{how.chosen_by}:", word, how.choices)
    chosen = architectures()[choice]
    ignored = [*chosen.ignored, *how.ignored, how.chosen_by]
    return choice, chosen.model_copy(update={"ignored": ignored})


def _architecture(config: Fields, text: Fields) -> str:
    """The word that says how the text part is read: its own, or that of the whole file."""
    inner = _known_word(text) if text is not config else ""
    word = _listed(config)
    outer = architectures().get(word)
    if inner and architectures()[inner].form != NESTED:
        return inner
    if outer is not None and outer.form != NESTED:
        return word
    kind = by_model_type().get(_word(config, "model_type"), "")
    if kind and not word:
        return kind
    if outer is not None and text is config:
        raise config.fault(
            f"{word} has its language model in a part of its own, but none of "
            f"{', '.join(field_lists()['nested'])} is there; add it to the file"
        )
    if outer is not None:
        raise text.fault(
            f"model_type is {shown(text.table.get('model_type'))}, which is not known, so that the "
            f"language model "
            f"of {word} cannot be read; write a known one, or its architectures"
        )
    return word or _word(config, "model_type")


def _known_word(text: Fields) -> str:
    """The architecture that a text part names, by either of its fields; empty where it names none that
    is known."""
    listed = _listed(text) if text.has("architectures") else ""
    return (
        listed if listed in architectures() else by_model_type().get(_word(text, "model_type"), "")
    )


def _word(fields: Fields, key: str) -> str:
    return fields.text(key) if fields.has(key) else ""


def _listed(config: Fields) -> str:
    """The first word of `architectures`; empty where there is none but a `model_type`."""
    if not config.has("architectures") and config.has("model_type"):
        return ""
    _refuse_makers_own(config)
    listed = config.items("architectures")
    word = listed[0] if listed else None
    if not isinstance(word, str):
        raise config.fault(
            "architectures must list one word in quotes, such as LlamaForCausalLM; correct it"
        )
    return word[:100]


def _refuse_makers_own(config: Fields) -> None:
    if not config.has("architectures") and any(own <= set(config.table) for own in MAKERS_OWN):
        raise config.fault(
            "this is a params.json of the maker's own form (dim, n_layers ...); "
            "give the config.json of the model's Hugging Face form instead"
        )


def _unknown(
    config: Fields, text: Fields, name: str, form: str
) -> tuple[str, Architecture, list[str]]:
    """How an architecture is read that is not known, where a form is given; else say which it looks like."""
    if form:
        how, assumed = generic(config, text, name, form)
        return name, how, assumed
    look = suggested(text, name)
    hint = (
        f"its fields look like the form {look}: `perfmodel models PATH --as {look}`, or for every command "
        f'"{READ_AS}": "{look}" in the file, reads it so and says what it assumes'
        if look
        else f"and its fields look like none of the forms ({', '.join(GENERIC)})"
    )
    raise config.fault(f"architecture {name!r} is not known; {hint}")


SPELLINGS = (Experts().experts, Experts().active, Experts().shared_count, ["n_positions", "n_ctx"])
"""Several names of one field; where a file has one, the default of another is of no use."""


def _filled(text: Fields, how: Architecture, inner: bool) -> Fields:
    """The text part with the usual names of fields, and with defaults where a field is missing.

    Transformers writes of an inner table what differs from the defaults of its class; of a whole file,
    sizes are
    there, and a missing one is an error.
    """
    model = text.renamed(how.names)
    core = set(field_lists()["core"])
    kind = str(text.table.get("model_type", ""))
    known = class_defaults().get(kind) or class_defaults().get(next(iter(how.model_types), ""), {})
    usual = {how.names.get(key, key): value for key, value in known.items()}
    usual = {key: value for key, value in usual.items() if inner or key not in core}
    spelled = [set(keys) for keys in SPELLINGS if not set(keys).isdisjoint(model.table)]
    usual = {key: value for key, value in usual.items() if not any(key in keys for keys in spelled)}
    table = usual | how.defaults | model.table
    return Fields(table, model.name, model.seen)


MAX_BYTES = 10_000_000
"""No config is longer; a longer one is not read."""


def from_config(config: dict[str, Any], name: str = "config", form: str = "") -> Transformer:
    """A transformer from the fields of its config.json.

    Of a model of images or sound, only the language model is counted. Layers that predict
    several tokens at once (MTP) are counted nowhere.

    **Arguments:**

    - `config`: the file as a dictionary; with the `quantization` table of its
      hf_quant_config.json beside the other fields, where there is one.
    - `name`: of the model; messages begin with it.
    - `form`: how to read an architecture that is not known.

    **Raises:**

    - `ValueError`: naming the field and what is wrong with it.
    """
    if not isinstance(config, dict):
        raise ValueError(f"{name}: a config is a table of fields, not {type(config).__name__}.")
    return transformer(Fields(config, name), name, form)


def transformer(fields: Fields, name: str, form: str = "") -> Transformer:
    """As `from_config`, from fields."""
    found = find(fields, form)
    model, how = found.fields, found.how
    _check(model, how)
    reader = FORMS[how.form]
    layers = reader.layers(model, how)
    native, narrow = read_formats(fields, model, layers, how.expert_names)
    built = Transformer(
        hidden=model.size("hidden_size"),
        vocabulary=model.size("vocab_size"),
        stacks=stacks(layers),
        extra=reader.outside(model, how),
        tied=_tied(fields, found),
        native=native,
        narrow=narrow,
        cache=cache_format(fields, model),
        pieces=3 if how.two_attentions else 2 if how.state and how.state.beside else reader.pieces,
        unpriced=how.unpriced or reader.unpriced(model),
        name=Label(name),
    )
    if not found.assumed:
        given = Fields(found.given.table, found.given.name, model.seen)
        refuse_unread(given, model, how, found.name)
        _check_outer(fields, found)
    return built


def assumptions(config: dict[str, Any], name: str, form: str) -> list[str]:
    """What was assumed of an architecture that is not known, and its fields that were not read."""
    fields = Fields(config, name)
    found = find(fields, form)
    FORMS[found.how.form].layers(found.fields, found.how)
    FORMS[found.how.form].outside(found.fields, found.how)
    _tied(fields, found)
    given = Fields(found.given.table, found.given.name, found.fields.seen)
    return [*found.assumed, *(f"{key} is not read" for key in unread(given, found.how))]


def priced_as(config: dict[str, Any], name: str, form: str = "") -> str:
    """What time is predicted of, where it is not every request; else empty."""
    return find(Fields(config, name), form).how.priced_as


def _check(model: Fields, how: Architecture) -> None:
    """Fields that may have one value only."""
    for path, value in how.fixed.items():
        model.fix(path, value)
    for keys in SPELLINGS:
        values = [model.table[key] for key in keys if model.table.get(key) is not None]
        if any(value != values[0] for value in values[1:]):
            raise model.fault(
                f"{' and '.join(keys)} are names of one field, but differ; keep the right one"
            )
    for key, other in how.equal.items():
        if model.has(key) and model.table[key] != model.table.get(other):
            raise model.fault(f"{key} must equal {other}; this family is read in no other way")


def _tied(config: Fields, found: Found) -> bool:
    """Whether the output head is the embedding: as the file says, else as the text part does, else the
    family."""
    key = "tie_word_embeddings"
    inner = found.given.renamed(found.how.names)
    inner.seen.add(key)
    return config.flag(key, inner.flag(key, found.how.tied))


def _check_outer(config: Fields, found: Found) -> None:
    """Sizes that the outer table repeats may not contradict the text part."""
    if found.given is config or found.given.name == config.name:
        return
    for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
        if config.has(key) and found.given.has(key) and config.table[key] != found.given.table[key]:
            raise config.fault(
                f"{key} is {shown(config.table[key])}, but {shown(found.given.table[key])} in its text part; "
                "take out the one that is wrong"
            )


def read_config(path: Path | str, name: str = "", form: str = "") -> Transformer:
    """A transformer from a config.json, and the hf_quant_config.json beside it if there is one.

    **Raises:**

    - `ValueError`: naming the file, the field and what is wrong with it.
    """
    return from_config(read_table(path), name or str(path), form)


def read_table(path: Path | str) -> dict[str, Any]:
    """The fields of a config.json, with those of the hf_quant_config.json beside it if there is one.

    **Raises:**

    - `ValueError`: naming the file and what is wrong with it.
    """
    path = Path(path)
    config = read_json(path)
    beside = path.with_name(path.name.replace("config.json", "hf_quant_config.json"))
    if beside != path and beside.is_file() and "quantization_config" not in config:
        quantised = Fields(read_json(beside), str(beside)).part("quantization")
        config = config | {"quantization": quantised.table}
    return config


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds one table.

    **Raises:**

    - `ValueError`: when it cannot be read, is too long, or holds anything else.
    """
    try:
        if not path.is_file():
            raise ValueError("there is no such file")
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is longer than {MAX_BYTES:,} bytes, which no config is")
        table = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError) as error:
        problem = str(error).rstrip(".")[:300]
        raise ValueError(f"{path} cannot be read as JSON: {problem}.") from None
    if not isinstance(table, dict):
        raise ValueError(f"{path} must hold a table in braces, but holds a {type(table).__name__}.")
    return table


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the field {twice[:60]!r} is there twice")
    return table
