"""`perfmodel predict kernels` and `predict serving`."""

import functools
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.errors import InputError
from perfmodel.interface.cli import options
from perfmodel.interface.cli.column_options import flag, product, takes_columns
from perfmodel.interface.terminal import bar, say, show_json, show_table


def predict_kernels(
    rows: Annotated[
        Path, typer.Argument(help="CSV of the kernel schema: op, chip, dtype, and sizes by op.")
    ],
    out: options.Out,
    calibration: options.Calibration = None,
    cold: Annotated[
        bool,
        typer.Option(
            "--cold",
            help="Operands come from memory, as in service; not replayed, as in benchmarks.",
        ),
    ] = False,
    report: options.Report = None,
    json_: options.Json = False,
) -> None:
    """Predict the time of kernels, with a 90 % interval and what binds.

    Example: perfmodel predict kernels rows.csv --out predictions.csv
    """
    from perfmodel.interface.predict import predict_kernels as run

    options.check_places(file=out, report=report)
    with bar("kernels") as update:
        result = run(rows, out, options.fitted(calibration), not cold, update)
    if not json_:
        from perfmodel.interface.kernel_rows import table_of_kernels

        show_table(table_of_kernels(out))
    _show_outcome(out, result.error, json_)
    if report is not None:
        from perfmodel.interface.pages.predict import kernels_page

        options.write_report(report, kernels_page(rows, out), silent=json_)


@takes_columns
def predict_serving(
    rows: Annotated[
        Path | None,
        typer.Argument(
            metavar="ROWS.csv",
            help="CSV of the serving schema: chip, model, isl, osl, concurrency ...; options if not given.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; needed with ROWS.csv.")
    ] = None,
    calibration: options.Calibration = None,
    report: options.Report = None,
    explain: options.Explain = False,
    json_: options.Json = False,
    percentiles: Annotated[
        bool,
        typer.Option(
            "--percentiles",
            help="Simulate rows for p50, p90, p99: 5 s of each model and framework, 0.1 to 3 s of each row.",
        ),
    ] = False,
    ttft_ms: Annotated[
        float | None, typer.Option(min=0, help="Limit on TTFT of goodput, with --percentiles.")
    ] = None,
    tpot_ms: Annotated[
        float | None, typer.Option(min=0, help="Limit on TPOT of goodput, with --percentiles.")
    ] = None,
    *,
    columns: Mapping[str, str],
) -> None:
    """Predict TTFT, TPOT, throughput, energy and price of served models.

    TTFT is the mean from sending a request to its first token, with the wait for KV-cache capacity
    and the burst at the beginning of a run; TPOT is (total - TTFT) / (output tokens - 1), tpot_with_first_ms
    total / output tokens. Of throughput, per chip counts output tokens, total also input tokens.
    concurrency users send their next request when one is answered (mode serving), or start
    together (static_batch); requests_per_s in its place has requests come whatever is open.
    Who finds no KV-cache capacity waits, which is in TTFT; running says how many decode at once.

    Mode disaggregated has two pools, on n_chips together: prefill_chip, prefill_workers, prefill_tp,
    prefill_pp, prefill_ep, prefill_dp, and the same with decode_. What is empty is chosen. With ffn_chip
    (ffn_tp, ffn_pp, ffn_ep, ffn_dp, link_gb_per_s, link_us) feed-forward layers are on chips of their own.

    --percentiles adds ttft_ms_p50, _p90, _p99 and those of tpot_ms and end_to_end_ms from a simulation of the
    framework's scheduler (perfmodel simulate), under --ttft-ms and --tpot-ms also goodput_requests_per_s and
    goodput_share. Means stay those of the closed form.

    Without ROWS.csv each column is an option; of several values, with commas between, every combination
    is a row.

    Example: perfmodel predict serving rows.csv --out predictions.csv

    Example: perfmodel predict serving --chip h100-sxm,b200-sxm --n-chips 8 --model llama-3.3-70b
    --isl 8192 --osl 1024 --concurrency 16,64
    """
    _check_asked(rows, out, columns)
    options.check_places(file=out, report=report)
    if not percentiles and (ttft_ms, tpot_ms) != (None, None):
        raise InputError("--ttft-ms and --tpot-ms are limits of goodput; give --percentiles too.")
    limits = (ttft_ms, tpot_ms) if percentiles else None
    cells = _predicted(rows, out, columns, options.fitted(calibration), limits)
    if json_:
        _print_json(rows, out, cells)
    else:
        _print_tables(rows, out, cells)
        if explain:
            options.show_definitions()
    if report is not None:
        from perfmodel.interface.pages.predict import serving_page

        name = "the rows asked for" if rows is None else rows.name
        options.write_report(report, serving_page(name, cells), silent=json_)


def _check_asked(rows: Path | None, out: Path | None, columns: Mapping[str, str]) -> None:
    """Either a file and a place for its predictions, or columns."""
    given = [flag(name) for name in columns]
    if rows is None and not given:
        raise InputError(
            "there are no rows; give a CSV file, or columns as options: --chip, --n-chips, --model, "
            "--isl, --osl, --concurrency."
        )
    if rows is not None and given:
        raise InputError(
            f"{rows} and {given[0]} are both given; write {', '.join(columns)} as columns of the "
            "file, or leave the file out."
        )
    if rows is not None and out is None:
        raise InputError(f"--out is missing; give the file for the predictions of {rows}.")


def _predicted(
    rows: Path | None,
    out: Path | None,
    columns: Mapping[str, str],
    calibration: Path,
    limits: tuple[float | None, float | None] | None,
) -> dict[str, list[str]]:
    """Rows of a file or of options, with their predictions, and percentiles where there are limits."""
    from perfmodel.interface.predict import Percentiles, predict_columns
    from perfmodel.interface.predict import predict_serving as run
    from perfmodel.interface.simulate import limits_of

    with bar("rows alike") as update:
        asked = limits and Percentiles(
            limits_of(*limits), functools.partial(update, description="simulated rows")
        )
        if rows is not None and out is not None:
            return run(rows, out, calibration, update, asked)
        return predict_columns(product(columns), out, calibration, update, asked)


ROWS_SHOWN, OPTION_ROWS_SHOWN = 10, 100
"""Rows of a file, and of options, that are printed, at most."""


def _print_tables(rows: Path | None, out: Path | None, cells: dict[str, list[str]]) -> None:
    """The first rows, what is wrong with some, and how far off measured rows are."""
    from perfmodel.interface.serving_tables import (
        WIDTH,
        measured_errors,
        shared_cells,
        table_of_percentiles,
        table_of_rows,
    )
    from perfmodel.units import percent

    most = OPTION_ROWS_SHOWN if rows is None else ROWS_SHOWN
    table = table_of_rows(cells, most)
    show_table(table, WIDTH)
    if table.names[0] == "row" and (beside := table_of_percentiles(cells, most)):
        show_table(beside, WIDTH)
    if table.names[0] == "row" and (shared := shared_cells(cells)):
        say(*textwrap.wrap(shared, WIDTH))
    if out is not None:
        _show_outcome(out, cells["error"], False)
    else:
        wrong = [f"Row {i}: {error}" for i, error in enumerate(cells["error"], 1) if error]
        say(*wrong[:ROWS_SHOWN])
    for name, error in measured_errors(cells).items():
        say(f"{name}: median error {percent(error.median)} of {error.rows:,} measured rows.")


def _print_json(rows: Path | None, out: Path | None, cells: dict[str, list[str]]) -> None:
    """Rows with their numbers; of a file also the outcome, and how far off measured rows are."""
    from perfmodel.interface.serving_tables import measured_errors, records

    if rows is None or out is None:
        show_json({"rows": records(cells)})
        return
    medians = {name: error.median for name, error in measured_errors(cells).items()}
    more = {"predictions": records(cells)} | ({"median_errors": medians} if medians else {})
    show_json(options.outcome(out, *_counts(cells["error"])) | more)


def _show_outcome(out: Path, errors: Any, json_: bool) -> None:
    options.show_outcome(out, *_counts(errors), json_)


def _counts(errors: Any) -> tuple[int, int, str]:
    """Rows, those with an error, and the first error."""
    said = [str(error) for error in errors if error]
    return len(errors), len(said), said[0] if said else ""
