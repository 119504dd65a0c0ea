"""`perfmodel predict kernels` and `predict serving`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.interface.cli import options
from perfmodel.interface.terminal import bar


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
    _show_outcome(out, result.error, json_)
    if report is not None:
        from perfmodel.interface.pages.predict import kernels_page

        options.write_report(report, kernels_page(rows, out), silent=json_)


def predict_serving(
    rows: Annotated[
        Path,
        typer.Argument(help="CSV of the serving schema: chip, model, isl, osl, concurrency ..."),
    ],
    out: options.Out,
    calibration: options.Calibration = None,
    report: options.Report = None,
    json_: options.Json = False,
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

    Example: perfmodel predict serving rows.csv --out predictions.csv
    """
    from perfmodel.interface.predict import predict_serving as run

    options.check_places(file=out, report=report)
    with bar("rows alike") as update:
        result = run(rows, out, options.fitted(calibration), update)
    _show_outcome(out, result["error"], json_)
    if not json_:
        options.show_definitions()
    if report is not None:
        from perfmodel.interface.pages.predict import serving_page

        options.write_report(report, serving_page(rows, out), silent=json_)


def _show_outcome(out: Path, errors: Any, json_: bool) -> None:
    said = [str(error) for error in errors if error]
    options.show_outcome(out, len(errors), len(said), said[0] if said else "", json_)
