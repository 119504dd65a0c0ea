"""`perfmodel explore`."""

from typing import Annotated

import typer


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
