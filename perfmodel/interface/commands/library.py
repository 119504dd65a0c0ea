"""`perfmodel chips` and `perfmodel models`: what the library holds."""

from typing import Annotated

import typer

from perfmodel.interface.commands.options import Json, chip_names, model_names
from perfmodel.interface.terminal import say, show_json, show_list, show_table


def chips(
    name: Annotated[
        str,
        typer.Argument(
            help="A chip, or a chip file to check; all chips if not given.",
            autocompletion=chip_names,
        ),
    ] = "",
    json_: Json = False,
) -> None:
    """List chips, show one with the source of every number, or check a chip file.

    Example: perfmodel chips h100

    Example: perfmodel chips my_chip.toml
    """
    from perfmodel.interface.listing import CHIP_NAMES, chip_rows, facts, read_chip

    if not name:
        show_list("Chips", CHIP_NAMES, chip_rows(), json_)
        return
    stem, file = read_chip(name)
    found = facts(file)
    if json_:
        listed = [fact._asdict() for fact in found]
        show_json({"chip": stem, "name": file.name, "note": file.note, "facts": listed})
        return
    rows = [tuple(fact) for fact in found]
    show_table(f"{file.name} ({stem})", ["fact", "value", "trust", "source"], rows)
    if file.note:
        say(file.note)


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
    from perfmodel.interface.listing import MODEL_NAMES, model_facts, model_rows, model_sources

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
