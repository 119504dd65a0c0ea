"""`perfmodel chips`."""

from typing import Annotated

import typer

from perfmodel.interface.cli.options import Json, chip_names
from perfmodel.interface.tables import Table
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
    from perfmodel.interface.listing import chips_table
    from perfmodel.library.chip import checked_chip_file, facts

    if not name:
        show_list(chips_table(), json_)
        return
    stem, file = checked_chip_file(name)
    found = facts(file)
    if json_:
        listed = [fact._asdict() for fact in found]
        show_json({"chip": stem, "name": file.name, "note": file.note, "facts": listed})
        return
    names = ["fact", "value", "trust", "source"]
    show_table(Table(f"{file.name} ({stem})", names, found))
    if file.note:
        say(file.note)
