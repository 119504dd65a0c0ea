"""`perfmodel models`."""

from typing import Annotated, Any

import typer

from perfmodel.errors import InputError
from perfmodel.interface.cli.options import Json, model_names
from perfmodel.interface.tables import table_of
from perfmodel.interface.terminal import say, show_json, show_table


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
    chip: Annotated[
        str, typer.Option("--chip", help="Show also what fits on chips of this kind.")
    ] = "",
    n_chips: Annotated[str, typer.Option("--n-chips", help="How many, all tensor ranks.")] = "1",
    framework: Annotated[str, typer.Option("--framework", help="Software that serves.")] = "",
    length: Annotated[str, typer.Option("--length", help="Tokens of a sequence.")] = "8192",
    memory_fraction: Annotated[
        str, typer.Option("--memory-fraction", help="Share of memory; the default if not given.")
    ] = "",
    json_: Json = False,
) -> None:
    """List models, or show one: a library name, or a Hugging Face config.json.

    Example: perfmodel models llama-3.1-70b

    Example: perfmodel models path/to/config.json --as dense

    Example: perfmodel models llama-3.1-70b --chip h100-sxm --n-chips 4 --framework vllm
    """
    from perfmodel.interface.listing import model_details, models_table
    from perfmodel.interface.model_memory import memory_details, memory_numbers
    from perfmodel.library.model import model_facts, model_files, model_sources

    if not name:
        if form:
            raise InputError("--as needs the path of a config.json; give it before --as.")
        if chip:
            raise InputError("--chip needs a model; give its name before --chip.")
        if json_:
            show_json([_numbers(model_facts(stem)) for stem in sorted(model_files())])
        else:
            show_table(models_table())
        return
    found = model_facts(name, form)
    cells = {"model": name, "chip": chip, "n_chips": n_chips, "tp": n_chips, "framework": framework}
    cells |= {"memory_fraction": memory_fraction}
    memory = memory_numbers(cells, length) if chip else {}
    if json_:
        show_json(_numbers(found) | memory | {"notes": found.notes, "sources": model_sources(name)})
        return
    show_table(table_of(found.name, model_details(found)))
    if memory:
        show_table(table_of(f"On {n_chips} x {chip}", memory_details(memory)))
    say(*(f"Note: {note}." for note in found.notes))
    say(*(f"Source: {source}" for source in model_sources(name).values()))


def _numbers(found: Any) -> dict[str, Any]:
    """What JSON has of a model."""
    return {"name": found.name, "format": found.native} | found.numbers()
