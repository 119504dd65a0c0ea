"""`perfmodel validate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.interface.cli.options import (
    Calibration,
    JsonFile,
    Measured,
    Report,
    ReportFolder,
    check_places,
    fitted,
    listed,
    write_report,
)
from perfmodel.interface.terminal import bar, say, show_table


def validate(
    protocol: Annotated[
        str, typer.Option("--protocol", help="quick (three minutes) or full (hours).")
    ] = "quick",
    chips: Annotated[str, typer.Option(help="Only these chips, with commas.")] = "",
    ops: Annotated[
        str,
        typer.Option(help="Only these operations, with commas; technology: chips, not kernels."),
    ] = "",
    json_: JsonFile = None,
    out: ReportFolder = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what the report already holds.")
    ] = False,
    data: Measured = "aiconfigurator",
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of rows.")] = 0,
    calibration: Calibration = None,
    report: Report = None,
) -> None:
    """Say how far predictions lie from kernels that no fit has seen, beside three baselines.

    The baselines, on the same rows: a plain roofline, a random forest, and what frameworks
    disagree by on one chip. Then the same of area, power and cost of chips, each left out once.

    Example: perfmodel validate --protocol quick --json quick.json

    Example: perfmodel validate --ops technology

    Example: perfmodel validate --protocol full --out validation --resume
    """
    from perfmodel.calibration.protocol import named_protocol
    from perfmodel.calibration.run_protocol import ValidationRequest, notes, run_protocol
    from perfmodel.interface.pages.validate import charts_of, validate_page
    from perfmodel.interface.plots import save
    from perfmodel.interface.plots.theme import altair

    check_places(file=json_, folder=out, report=report)
    how = named_protocol(protocol, fitted(calibration), seed)
    request = ValidationRequest(how, data, listed(chips), listed(ops), json_, out, resume)
    if out is not None:
        altair()
    with bar("validate") as update:
        found = run_protocol(request, update)
    charts = charts_of(out) if out is not None else {}
    for name, chart in charts.items():
        save(chart, Path(f"{out}/{name}.png"))
    _show(found, how.quick)
    said = notes(found)
    say(*said)
    if request.report is not None:
        say(f"The report is {request.report}.")
    if report is not None:
        write_report(report, validate_page(found, said, list(charts.values())))


def _show(found: dict[str, Any], quick: bool) -> None:
    from perfmodel.calibration import acceptance

    records, chips = found["kernels"], found["technology"]
    if records and quick:
        show_table("Held-out rows", acceptance.TABLE, acceptance.lines(records))
        say("")
    if records:
        show_table("What must be reached", acceptance.SUMMARY, acceptance.summary(records))
    if chips:
        lines, summary = acceptance.technology_lines(chips), acceptance.technology_summary(chips)
        show_table("Chips that a fit has not seen", acceptance.TECHNOLOGY_TABLE, lines)
        say("")
        show_table("Technology: what must be reached", acceptance.TECHNOLOGY_SUMMARY, summary)
