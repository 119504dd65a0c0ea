"""`perfmodel chips`."""

import sys
from typing import Annotated

import typer

from perfmodel.interface.cli.options import Json, chip_names
from perfmodel.interface.tables import Table
from perfmodel.interface.terminal import say, show_json, show_table


def chips(
    name: Annotated[
        str,
        typer.Argument(
            help="A chip, or a chip file to check; all chips if not given.",
            autocompletion=chip_names,
        ),
    ] = "",
    template: Annotated[
        str,
        typer.Option(
            help="Print a chip file to begin with, of a chip that is like this one.",
            autocompletion=chip_names,
        ),
    ] = "",
    json_: Json = False,
) -> None:
    """List chips, show one with the source of every number, or check a chip file.

    Example: perfmodel chips h100

    Example: perfmodel chips --template like:h100-sxm > my_chip.toml

    Example: perfmodel chips my_chip.toml
    """
    from perfmodel.interface.chip_template import chip_template
    from perfmodel.interface.listing import chips_records, chips_table
    from perfmodel.library.chip import checked_chip_file, device_facts, facts
    from perfmodel.library.plausibility import findings

    if template:
        sys.stdout.write(chip_template(template))
        return
    if not name:
        show_json(chips_records()) if json_ else show_table(chips_table())
        return
    stem, file = checked_chip_file(name)
    found, checked = facts(file) + device_facts(file), findings(file)
    if json_:
        listed = [fact._asdict() for fact in found]
        warnings = [f"{one.place}: {one.sentence}" for one in checked]
        about = {"chip": stem, "name": file.name, "note": file.note}
        show_json(about | {"warnings": warnings, "facts": listed})
        return
    names = ["fact", "value", "trust", "source"]
    show_table(Table(f"{file.name} ({stem})", names, found))
    if file.note:
        say(file.note)
    for one in checked:
        say(f"{'Impossible' if one.impossible else 'Unusual'}: {one.place}: {one.sentence}.")
