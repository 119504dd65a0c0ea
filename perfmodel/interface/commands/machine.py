"""`perfmodel explore`, `doctor` and `quickstart`: this machine, and where to begin."""

from pathlib import Path
from typing import Annotated

import typer

from perfmodel.interface.commands.options import Json
from perfmodel.interface.terminal import bar, say, show_json, show_table


def explore(
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Of this machine.")] = 8501,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the page's address as JSON when it answers.")
    ] = False,
) -> None:
    """Drag SRAM, bandwidth, stacks and prices of up to four machines, and see what that does.

    A page on this machine alone (127.0.0.1); Ctrl-C ends it. Needs the extra `app`.

    Example: perfmodel explore
    """
    from perfmodel.interface.explore.serve import run

    run(port, browser, json_)


def doctor(json_: Json = False) -> None:
    """Say what this installation has and lacks: versions, devices, extras, data, caches.

    Example: perfmodel doctor
    """
    from perfmodel.interface.doctor import examine, lines

    found = examine()
    if json_:
        show_json([one._asdict() for one in found])
        return
    show_table("This installation", ["", "", "found", "what to do"], lines(found))


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
    from perfmodel.interface.pages.page import money
    from perfmodel.interface.quickstart import CAVEATS, NAMES, STEPS, as_dict, run

    with bar("quickstart", STEPS) as update:
        answer = run(out, update)
    if json_:
        show_json(as_dict(answer))
        return
    show_table("Llama-3.1-70B, 4,096 tokens of context, decoding", NAMES, answer.machines)
    say("")
    show_table(
        "A chip of the H100's area and power, eight of them, searched by gradient", *answer.designs
    )
    pictures = ", ".join(map(str, answer.pictures))
    say("", *answer.said, *CAVEATS, money(), f"Pictures: {pictures}.")
