"""`perfmodel study`."""

from pathlib import Path
from typing import Annotated

import typer

from perfmodel.errors import InputError
from perfmodel.interface.cli.options import Json, Report, check_places, study_names, write_report
from perfmodel.interface.terminal import bar, say, show_json, show_list, show_table


def study(
    name: Annotated[
        str,
        typer.Argument(
            help="A study, or the number of its claim, such as Q1.", autocompletion=study_names
        ),
    ] = "",
    list_: Annotated[bool, typer.Option("--list", help="List the studies.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the answer, its table and its figure.")
    ] = None,
    report: Report = None,
    json_: Json = False,
) -> None:
    """Test a public claim about SRAM, HBM and inference: an answer with numbers, and how sure it is.

    Example: perfmodel study --list

    Example: perfmodel study peak-bandwidth --out studies
    """
    from perfmodel.interface.pages import study as shown
    from perfmodel.studies.claim import find, studies

    if list_ or not name:
        _check_alone(name, list_, out or report)
        show_list(shown.listing(studies()), json_)
        return
    asked = find(name)
    check_places(folder=out, report=report)
    with bar("machines alike") as update:
        answer = asked.run(update)
    written = shown.write(asked, answer, out) if out is not None else []
    if report is not None:
        write_report(report, shown.study_page(asked, answer), silent=True)
        written.append(report)
    if json_:
        show_json(shown.as_dict(asked, answer))
        return
    say(*shown.lines(asked, answer), "")
    show_table(shown.answer_table(f"{asked.question}: {asked.title}", answer))
    say(*(f"Caveat: {caveat}" for caveat in answer.caveats))
    say(*(f"Written: {path}" for path in written))


def _check_alone(name: str, list_: bool, place: Path | None) -> None:
    """A list is no answer: it has no name, and writes no file."""
    if list_ and name:
        raise InputError(f"--list shows all studies, not {name[:40]!r}; leave out one of the two.")
    if place is not None:
        raise InputError(
            "a study is missing, so there is nothing to write; "
            "give its name before --out or --report: `perfmodel study --list` shows them."
        )
