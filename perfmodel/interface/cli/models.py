"""`perfmodel models`."""

from typing import Annotated

import typer

from perfmodel.interface.cli.options import Json, model_names
from perfmodel.interface.tables import table_of
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
    from perfmodel.interface.listing import model_row, models_table
    from perfmodel.library.model import model_facts, model_sources

    if not name:
        show_list(models_table(), json_)
        return
    found = model_facts(name)
    if json_:
        show_json(found._asdict() | {"sources": model_sources(name)})
        return
    show_table(table_of(found.name, [model_row(found, whole=True)]))
    say(*(f"Source: {source}" for source in model_sources(name).values()))
