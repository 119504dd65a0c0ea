"""`perfmodel sweep`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.interface.cli import options
from perfmodel.interface.terminal import (
    bar,
    show_json,
    show_list,
    show_table,
    warn_assumed,
    warn_unsupported,
)


def sweep(
    grid: Annotated[
        Path,
        typer.Argument(
            help="Grid in TOML: values of chip, model, isl, osl, concurrency ...; or memory-price."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            help="File to write (.csv, .parquet), or a folder of parts: DIR/, s3://BUCKET/DIR/.",
        ),
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the parts of a run that was stopped.")
    ] = False,
    model: Annotated[str, typer.Option(help="Of memory-price: the model.")] = "",
    speed: Annotated[
        str, typer.Option(help="Of memory-price: tokens/s that each user gets at least.")
    ] = "",
    isl: Annotated[float, typer.Option(help="Of memory-price: input tokens.")] = 1024,
    osl: Annotated[float, typer.Option(help="Of memory-price: output tokens.")] = 1024,
    usd_per_gb: Annotated[
        str,
        typer.Option(help="Of memory-price: prices of HBM, with commas; 2 to 200 if not given."),
    ] = "",
    cluster: options.Cluster = "",
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

    Example: perfmodel sweep grid.toml --cluster local --out points/

    memory-price in place of a grid: USD of a million tokens over the price of HBM in USD/GB, with a picture,
    and the price at which GDDR, LPDDR, DDR or SRAM serve the model at that speed for as much.

    Example: perfmodel sweep memory-price --model llama-3.1-70b --speed 30 --out prices.csv
    """
    from perfmodel.interface import memory_price

    if str(grid) == memory_price.NAME:
        asked = memory_price.asked_of(model, speed, isl, osl)
        prices = memory_price.prices_of(options.listed(usd_per_gb))
        with bar("programs") as update:
            table = memory_price.run(asked, prices, Path(out), update)
        warn_assumed([model])
        show_list(table, json_)
        return
    from perfmodel.errors import InputError
    from perfmodel.inference.sweep import is_folder
    from perfmodel.inference.sweep import sweep as run
    from perfmodel.library.model import named_in

    if report is not None and is_folder(out):
        raise InputError(
            "--report reads one file; give --out a name that ends in .csv or .parquet."
        )
    options.check_places(report=report)
    with bar("points") as update:
        found = run(grid, out, options.fitted(calibration), resume, update, cluster)
    warn_assumed(named_in(grid, "model"))
    warn_unsupported(named_in(grid, "chip"), named_in(grid, "framework"))
    _show(out, found, json_, is_folder(out))
    if report is not None:
        from perfmodel.interface.pages.sweep import sweep_page

        options.write_report(report, sweep_page(grid, Path(out)), silent=json_)


def _show(out: str, found: Any, json_: bool, in_parts: bool) -> None:
    """How many points there are, and the best of a file by each order."""
    from perfmodel.interface.sweep_tables import table_of_winners, winners

    best = [] if in_parts or found.rows == found.errors else winners(Path(out))
    if json_:
        show_json(options.outcome(out, *found) | {"best": best})
        return
    options.show_outcome(out, *found, json_=False)
    if best:
        show_table(table_of_winners(best))
