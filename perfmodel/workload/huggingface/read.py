"""From a config.json to a transformer."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from perfmodel.workload.huggingface.families import family
from perfmodel.workload.huggingface.fields import Fields
from perfmodel.workload.huggingface.formats import narrow, native
from perfmodel.workload.huggingface.parts import stacks
from perfmodel.workload.model import Transformer
from perfmodel.xla import Label

MAX_BYTES = 10_000_000
"""No config is longer; a longer one is not read."""


def from_config(config: dict[str, Any], name: str = "config") -> Transformer:
    """A transformer from the fields of its config.json.

    Of a model of images or sound, only the language model is counted. Layers that predict
    several tokens at once (MTP) are counted nowhere.

    **Arguments:**

    - `config`: the file as a dictionary; with the `quantization` table of its
      hf_quant_config.json beside the other fields, where there is one.
    - `name`: of the model; messages begin with it.

    **Raises:**

    - `ValueError`: naming the field and what is wrong with it.
    """
    if not isinstance(config, dict):
        raise ValueError(f"{name}: a config is a table of fields, not {type(config).__name__}.")
    fields = Fields(config, name)
    how = family(fields)
    language = fields.part("text_config") if fields.has("text_config") else fields
    model = Fields(how.defaults | language.renamed(how.names).table, language.name)
    return Transformer(
        hidden=model.size("hidden_size"),
        vocabulary=model.size("vocab_size"),
        stacks=stacks(how.layers(model)),
        extra=how.outside(model),
        tied=fields.flag("tie_word_embeddings", model.flag("tie_word_embeddings", how.tied)),
        native=native(fields, model),
        narrow=narrow(fields, model),
        name=Label(name),
    )


def read_config(path: Path | str, name: str = "") -> Transformer:
    """A transformer from a config.json, and the hf_quant_config.json beside it if there is one.

    **Raises:**

    - `ValueError`: naming the file, the field and what is wrong with it.
    """
    path = Path(path)
    config = read_json(path)
    beside = path.with_name(path.name.replace("config.json", "hf_quant_config.json"))
    if beside != path and beside.is_file() and "quantization_config" not in config:
        quantised = Fields(read_json(beside), str(beside)).part("quantization")
        config = config | {"quantization": quantised.table}
    return from_config(config, name or str(path))


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
