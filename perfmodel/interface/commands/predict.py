"""`perfmodel predict kernels` and `predict serving`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.interface.commands.options import (
    Calibration,
    Out,
    Report,
    check_places,
    fitted,
    show_definitions,
    write_report,
)
from perfmodel.interface.terminal import bar, say


def predict_kernels(
    rows: Annotated[
        Path, typer.Argument(help="CSV of the kernel schema: op, chip, dtype, and sizes by op.")
    ],
    out: Out,
    calibration: Calibration = None,
    cold: Annotated[
        bool,
        typer.Option(
            "--cold",
            help="Operands come from memory, as in service; not replayed, as in benchmarks.",
        ),
    ] = False,
    report: Report = None,
) -> None:
    """Predict the time of kernels, with a 90 % interval and what binds.

    Example: perfmodel predict kernels rows.csv --out predictions.csv
    """
    from perfmodel.interface.kernels import predict_kernels as run

    check_places(file=out, report=report)
    with bar("kernels") as update:
        result = run(rows, out, fitted(calibration), not cold, update)
    _said(out, result.error)
    if report is not None:
        from perfmodel.interface.pages import kernels_page

        write_report(report, kernels_page(rows, out))


def predict_serving(
    rows: Annotated[
        Path,
        typer.Argument(help="CSV of the serving schema: chip, model, isl, osl, concurrency ..."),
    ],
    out: Out,
    calibration: Calibration = None,
    report: Report = None,
) -> None:
    """Predict TTFT, TPOT, throughput, energy and price of served models.

    TTFT is the mean from sending a request to its first token, with the wait for room and the
    burst at the beginning of a run; TPOT is (total - TTFT) / (output tokens - 1), tpot_with_first_ms
    total / output tokens. Of throughput, per chip counts output tokens, total also input tokens.
    concurrency users send their next request when one is answered (mode serving), or start
    together (static_batch); requests_per_s in its place has requests come whatever is open.

    Example: perfmodel predict serving rows.csv --out predictions.csv
    """
    from perfmodel.interface.serving import predict_serving as run

    check_places(file=out, report=report)
    with bar("rows alike") as update:
        result = run(rows, out, fitted(calibration), update)
    _said(out, result["error"])
    show_definitions()
    if report is not None:
        from perfmodel.interface.pages import serving_page

        write_report(report, serving_page(rows, out))


def _said(out: Path, found: Any) -> None:
    wrong = [str(error) for error in found if error]
    say(f"{len(found)} rows in {out}, {len(wrong)} with an error.")
    if wrong:
        say(f"The first: {wrong[0]}")
