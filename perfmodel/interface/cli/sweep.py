"""`perfmodel sweep`."""

from pathlib import Path
from typing import Annotated

import typer

from perfmodel.interface.cli import options
from perfmodel.interface.terminal import bar


def sweep(
    grid: Annotated[
        Path, typer.Argument(help="Grid in TOML: values of chip, model, isl, osl, concurrency ...")
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write: .csv or .parquet.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the parts of a run that was stopped.")
    ] = False,
    calibration: options.Calibration = None,
    report: options.Report = None,
    json_: options.Json = False,
) -> None:
    """Predict every point of a grid of chips, models, plans and traffic: millions of them.

    A grid names columns of `predict serving`, each with one value, a list, or a range; its table
    `hardware` has factors on what the chips' files say.

    isl = [1000, 8000]

    concurrency = {low = 1, high = 256, points = 9, spacing = "log"}

    Example: perfmodel sweep grid.toml --out points.parquet
    """
    from perfmodel.inference.sweep import sweep as run
    from perfmodel.xla import prepare_for_millions

    prepare_for_millions()
    options.check_places(report=report)
    with bar("points") as update:
        found = run(grid, out, options.fitted(calibration), resume, update)
    options.show_outcome(out, *found, json_)
    if report is not None:
        from perfmodel.interface.pages.sweep import sweep_page

        options.write_report(report, sweep_page(grid, out), silent=json_)
