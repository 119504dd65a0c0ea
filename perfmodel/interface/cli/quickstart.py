"""`perfmodel quickstart`."""

from pathlib import Path
from typing import Annotated

import typer

from perfmodel.interface.cli.options import Json
from perfmodel.interface.terminal import bar, say, show_json, show_table


def quickstart(
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")] = Path(
        "quickstart"
    ),
    json_: Json = False,
) -> None:
    """Answer a real question in two minutes: Llama-3.1-70B on H100, B200, WSE-3 and LPU.

    How fast and how expensive is it, what binds, and which split of SRAM and HBM would the
    gradient choose for a chip of the same area?

    Example: perfmodel quickstart
    """
    from perfmodel.interface.quickstart import CAVEATS, NEXT, STEPS, USD, as_dict, run

    with bar("quickstart", STEPS) as update:
        answer = run(out, update)
    if json_:
        show_json(as_dict(answer))
        return
    show_table(answer.machines)
    say("")
    show_table(answer.designs)
    pictures = ", ".join(map(str, answer.pictures))
    say("", *answer.said, *CAVEATS, USD, f"Pictures: {pictures}.", NEXT)
