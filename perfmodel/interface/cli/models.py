"""`perfmodel models`."""

from typing import Annotated

import typer

from perfmodel.interface.cli.options import Json, model_names
from perfmodel.interface.terminal import say, show_json, show_list, show_table


def models(
    name: Annotated[
        str,
        typer.Argument(
            help="A model, or the path of a config.json; all models if not given.",
            autocompletion=model_names,
        ),
    ] = "",
    json_: Json = False,
) -> None:
    """List models, or show one: a library name, or a Hugging Face config.json.

    Example: perfmodel models llama-3.1-70b

    Example: perfmodel models path/to/config.json
    """
    from perfmodel.interface.listing import MODEL_NAMES, model_rows
    from perfmodel.library.model import model_facts, model_sources

    if not name:
        show_list("Models", MODEL_NAMES, model_rows(), json_)
        return
    found = model_facts(name)
    if json_:
        show_json(found._asdict() | {"sources": model_sources(name)})
        return
    counts = (f"{found.parameters:,}", f"{found.active:,}", f"{found.cache_bytes:,.0f} B in bf16")
    show_table(found.name, MODEL_NAMES, [(found.name, *counts, str(found.layers), found.native)])
    say(*(f"Source: {source}" for source in model_sources(name).values()))
