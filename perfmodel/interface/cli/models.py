"""`perfmodel models`."""

from typing import Annotated

import typer

from perfmodel.errors import InputError
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
    form: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="FORM",
            help="Read an unknown architecture as a form (dense, mixture, latent), or as a known one.",
        ),
    ] = "",
    json_: Json = False,
) -> None:
    """List models, or show one: a library name, or a Hugging Face config.json.

    Example: perfmodel models llama-3.1-70b

    Example: perfmodel models path/to/config.json --as dense
    """
    from perfmodel.interface.listing import model_details, models_table
    from perfmodel.library.model import model_facts, model_sources

    if not name:
        if form:
            raise InputError("--as needs the path of a config.json; give it before --as.")
        show_list(models_table(), json_)
        return
    found = model_facts(name, form)
    if json_:
        show_json(
            {"name": found.name, "format": found.native}
            | found.numbers()
            | {"notes": found.notes, "sources": model_sources(name)}
        )
        return
    show_table(table_of(found.name, model_details(found)))
    say(*(f"Note: {note}." for note in found.notes))
    say(*(f"Source: {source}" for source in model_sources(name).values()))
