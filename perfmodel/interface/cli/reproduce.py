"""`perfmodel reproduce`."""

from typing import Annotated

import typer

from perfmodel.interface.cli import options
from perfmodel.interface.terminal import bar, show_table


def reproduce(
    sets: Annotated[
        str,
        typer.Option(
            help="throughput, single-stream, energy (joules of boards), serving (this and the next need the "
            "data extra), decisions (which measured deployment is chosen under a limit on TPOT, and what it "
            "loses), equal-lengths (TTFT and TPOT of users in step), closed, "
            "disaggregated, or memory (KV-cache capacity as servers print it when they start)."
        ),
    ] = "throughput,single-stream,serving",
    json_: options.JsonFile = None,
    out: options.ReportFolder = None,
    data: options.Measured = "aiconfigurator",
    calibration: options.Calibration = None,
    report: options.Report = None,
    explain: options.Explain = False,
) -> None:
    """Put published and measured results beside predictions.

    TTFT is the mean from sending a request to its first token, with the wait for KV-cache capacity
    and the burst at the beginning of a run; TPOT is (total - TTFT) / (output tokens - 1). Throughput counts
    output tokens, or input and output where the published value does.

    Example: perfmodel reproduce --sets single-stream

    Example: perfmodel reproduce --sets decisions --json decisions.json

    Example: perfmodel reproduce --sets equal-lengths

    Example: perfmodel reproduce --sets memory

    Example: perfmodel reproduce --out reproduced
    """
    from perfmodel.calibration import measured_runs, published_results
    from perfmodel.calibration.data.aiconfigurator import locate
    from perfmodel.files import write_json
    from perfmodel.interface.pages.reproduce import reproduce_page, tables_of, write

    options.check_places(file=json_, folder=out, report=report)
    asked = published_results.sets_of(options.listed(sets))
    if set(measured_runs.RUN_SETS) & set(asked):
        locate(data)
    with bar("rows alike") as update:
        found, rows, tables = published_results.reproduce(
            asked, data, options.fitted(calibration), update
        )
    for table in tables_of(found):
        show_table(table)
    if explain:
        options.show_definitions()
    if out is not None:
        write(found, rows, tables, out)
    if json_ is not None:
        write_json(json_, found)
    if report is not None:
        options.write_report(report, reproduce_page(found, rows))
