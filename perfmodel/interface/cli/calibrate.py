"""`perfmodel calibrate`."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.errors import InputError
from perfmodel.interface.cli.options import Cluster, Folder, Json, check_places, fitted, listed
from perfmodel.interface.tables import table_of
from perfmodel.interface.terminal import bar, say, show_json, show_table, warn


def calibrate(
    out: Folder,
    data: Annotated[
        str,
        typer.Option(
            "--data", help="aiconfigurator, the path of its wheel, or a CSV with latency_us."
        ),
    ] = "",
    anchor: Annotated[
        Path | None,
        typer.Option(
            "--anchor",
            help="CSV of serving runs with measured_tpot_ms, measured_ttft_ms or both.",
        ),
    ] = None,
    chips: Annotated[str, typer.Option(help="Only these chips, with commas.")] = "",
    exclude_chips: Annotated[str, typer.Option(help="Not these chips, with commas.")] = "",
    ops: Annotated[str, typer.Option(help="Only these operations, with commas.")] = "",
    rows: Annotated[int, typer.Option(min=1, help="Training rows of each table, at most.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of training rows.")] = 0,
    prior: Annotated[
        Path | None, typer.Option(help="Folder of an earlier fit to start from.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep what OUT already holds.")] = False,
    chip_file: Annotated[
        Path | None, typer.Option(help="File of a chip that the library does not have.")
    ] = None,
    releases: Annotated[
        bool,
        typer.Option(
            "--releases", help="Of the package, other releases of frameworks than the newest."
        ),
    ] = False,
    leave_out: Annotated[
        str,
        typer.Option(
            help="Columns, with commas: all rows train, and each group of rows that agree in them is "
            "predicted by a fit without it."
        ),
    ] = "",
    pool_formats: Annotated[
        bool, typer.Option("--pool-formats", help="Fit all formats of a kernel as one.")
    ] = False,
    joint: Annotated[
        bool,
        typer.Option("--joint", help="Fit what fits of all chips say of a chip without rows."),
    ] = False,
    cluster: Cluster = "",
    json_: Json = False,
) -> None:
    """Fit the model's parameters to measured kernel times.

    With --ops serving, fit instead what the host adds in service, to the measured serving runs, or to your
    own: a CSV of rows of predict serving with measured_tpot_ms and measured_ttft_ms, as perfmodel ingest
    makes them. One run moves the host of its framework and two factors of its model as far as it can tell;
    with runs of all loads they are your server's.

    With --ops power, fit what boards draw while they serve: a CSV of rows of predict serving with
    measured_power_w (all boards together) or measured_joules_per_output_token, and with
    measured_output_tokens_per_s where it is known, so that errors of speed do not enter; measured_window says
    run where the mean is of a whole run, beginning and end included.

    Where few shapes or models were measured, --leave-out n,k says how well others are predicted, and
    --pool-formats makes a fit of all formats from which those of each can start with --prior.

    With --anchor in place of --data, scale decode steps and prompts as your own serving runs were measured:
    rows of predict serving with measured_tpot_ms, measured_ttft_ms or both. One run serves all deployments
    of its chip, framework, model and format; each further one narrows their 90 % ranges.

    With --cluster, the workers of a Ray cluster fit the sections; the files are the same, byte for byte.

    With --joint, leave the parameters of every chip as they are and fit, by gradient to the tables of all
    chips together, how much fits of others say of a chip that was never measured; the file is shared.toml.

    Example: perfmodel calibrate --data aiconfigurator --out fitted --chips h100-sxm --ops gemm

    Example: perfmodel calibrate --data aiconfigurator --out fitted --ops all_reduce --releases

    Example: perfmodel calibrate --data rows.csv --out fitted --ops gemm --leave-out n,k

    Example: perfmodel calibrate --data aiconfigurator --out fitted --cluster auto --resume

    Example: perfmodel calibrate --data aiconfigurator --out fitted --joint

    Example: perfmodel calibrate --data aiconfigurator --out fitted --ops serving

    Example: perfmodel calibrate --data runs.csv --out fitted --ops serving

    Example: perfmodel calibrate --data boards.csv --out fitted --ops power

    Example: perfmodel calibrate --anchor runs.csv --out fitted, then perfmodel predict serving rows.csv
    --out predictions.csv --calibration fitted
    """
    _check_source(data, anchor)
    if cluster and (anchor or joint or listed(ops) in ([SERVING], [POWER])):
        raise InputError(
            "--cluster is for fits to kernel times, section by section; leave out --cluster, or --anchor, "
            f"--joint, --ops {SERVING} and --ops {POWER}."
        )
    check_places(folder=out)
    if anchor is not None:
        _anchors(anchor, out, fitted(prior), json_)
        return
    from perfmodel.calibration.calibrate import Options, warnings_of
    from perfmodel.calibration.calibrate import calibrate as run
    from perfmodel.calibration.data.sources import read_source
    from perfmodel.calibration.fit import check_solver
    from perfmodel.calibration.sections import sections

    if joint:
        _joint(
            data,
            out,
            fitted(prior),
            (listed(chips), listed(exclude_chips), listed(ops)),
            seed,
            json_,
        )
        return
    check_solver()
    if listed(ops) in ([SERVING], [POWER]):
        fit = _hosts if listed(ops) == [SERVING] else _boards
        fit(data, out, fitted(prior), json_)
        return
    left_out_by = tuple(listed(leave_out))
    options = Options(out, rows, seed, fitted(prior), resume, chip_file, left_out_by, pool_formats)
    wanted = (listed(chips), listed(exclude_chips), listed(ops))
    tables, left_out = read_source(data, *wanted, chip_file, options.start, releases)
    for line in warnings_of(tables, left_out):
        warn(line)
    with bar("fits", len(sections(tables, pool_formats))) as update:
        count = itertools.count(1)
        found = run(
            tables,
            options,
            lambda table: update(next(count), description=table.key.op),
            left_out,
            cluster,
        )
    if json_:
        show_json([one.key._asdict() | one.report for one in found])
        return
    show_table(table_of("Error on held-out rows", [_fit_row(one) for one in found]))
    say(f"Parameters, the split with residuals, and versions are in {out}.")


def _check_source(data: str, anchor: Path | None) -> None:
    """Either kernel times or serving runs."""
    if bool(data) == (anchor is not None):
        said = "are both given; give one of them" if data else "are both missing; give one of them"
        raise InputError(f"--data and --anchor {said}: kernel times, or serving runs.")


def _anchors(rows: Path, out: Path, prior: Path, json_: bool) -> None:
    from perfmodel.calibration.anchors import calibrate_anchors
    from perfmodel.interface.anchors import anchor_records, table_of_anchors

    with bar("rows alike") as update:
        stacks, left_out = calibrate_anchors(rows, out, prior, update)
    if json_:
        show_json({"stacks": anchor_records(stacks), "left_out": left_out})
        return
    _warn_of(left_out, "; --json names them")
    show_table(table_of_anchors(stacks))
    say(f"The folder {out} is whole: predict with --calibration {out}.")


def _joint(
    data: str, out: Path, prior: Path, wanted: tuple[Sequence[str], ...], seed: int, json_: bool
) -> None:
    from perfmodel.calibration.data.sources import read_source
    from perfmodel.calibration.joint import calibrate_joint, joint_choice
    from perfmodel.calibration.sections import copy_fitted

    tables, _ = read_source(data, *joint_choice(*wanted), None, prior)
    copy_fitted(prior, out)
    with bar("curvatures", len(tables) + 1) as update:
        count = itertools.count()
        before, after = calibrate_joint(
            tables, prior, out, seed, lambda name: update(next(count), description=name)
        )
    if json_:
        show_json({"tables": len(tables), "before": before, "after": after})
        return
    say(f"Error on chips that are left out: {before:.3f}, and after the fit {after:.3f}.")
    say(f"The folder {out} is whole; its shared.toml starts chips without rows.")


def _warn_of(left_out: Sequence[str], where: str = "") -> None:
    """Say which rows are left out, and where the others are named that are not said."""
    for line in left_out[:MAX_NAMED_ROWS]:
        warn(line)
    if len(left_out) > MAX_NAMED_ROWS:
        warn(f"{len(left_out) - MAX_NAMED_ROWS} more rows are left out{where}.")


MAX_NAMED_ROWS = 5
"""Rows that are left out and named on the screen, at most."""

SERVING = "serving"
"""The operation that stands for the host."""

POWER = "power"
"""The operation that stands for what boards draw."""


def _boards(data: str, out: Path, prior: Path, json_: bool) -> None:
    from perfmodel.calibration.power import calibrate_power

    with bar("rows alike") as update:
        found = calibrate_power(Path(data), out, prior, update)
    if json_:
        show_json(
            {"errors": found.errors, "chips": found.content["chips"], "left_out": found.left_out}
        )
        return
    _warn_of(found.left_out, "; --json names them")
    show_table(
        table_of("Median error of a board's power", [_board_row(one) for one in found.errors])
    )
    say(f"The parameters are in {out}.")


def _board_row(one: dict[str, Any]) -> dict[str, str]:
    """A chip, and the errors of fits that have seen its runs, or have not."""
    names = {
        "inside": "fitted",
        "without_model": "its model unseen",
        "without_chip": "the chip unseen",
    }
    shares = {word: f"{100 * one[name]:.1f} %" for name, word in names.items()}
    return {"chip": one["chip"], "runs": str(one["runs"])} | shares


def _hosts(data: str, out: Path, prior: Path, json_: bool) -> None:
    from perfmodel.calibration.ingest.tools import refuse_results
    from perfmodel.calibration.sections import in_units
    from perfmodel.calibration.serving import calibrate_hosts

    refuse_results(Path(data))
    if data.lower().endswith(".csv"):
        _own_hosts(Path(data), out, prior, json_)
        return
    with bar("hosts", 4) as update:
        count = itertools.count()
        found = calibrate_hosts(
            data, out, prior, lambda name: update(next(count), description=name)
        )
    rows = [
        {"framework": name, "runs": one.runs} | in_units(one.host) for name, one in found.items()
    ]
    if json_:
        show_json(rows)
        return
    texts = [{name: str(value) for name, value in row.items()} for row in rows]
    show_table(table_of("What the host adds", texts))
    say(f"The parameters are in {out}.")


def _own_hosts(rows: Path, out: Path, prior: Path, json_: bool) -> None:
    from perfmodel.calibration.own_hosts import calibrate_own
    from perfmodel.interface.anchors import (
        anchor_records,
        host_records,
        table_of_anchors,
        table_of_hosts,
    )

    left_out: list[str] = []
    with bar("runs") as update:
        found = calibrate_own(rows, out, prior, left_out.append, update)
    if json_:
        hosts = host_records(found.hosts)
        show_json({"hosts": hosts, "stacks": anchor_records(found.stacks), "left_out": left_out})
        return
    _warn_of(left_out)
    show_table(table_of_hosts(found.hosts))
    show_table(table_of_anchors(found.stacks))
    say(f"The folder {out} is whole: predict with --calibration {out}.")


def _fit_row(found: Any) -> dict[str, str]:
    key, report = found.key, found.report
    formats = key.dtype if key.cache in ("", key.dtype) else f"{key.dtype}, {key.cache} cache"
    software = f"{key.framework or 'smooth'} {key.release}".strip()
    name = f"{key.op} {key.chip} {software} {formats}"
    shares = ("mean", "median", "p90", "bias", "coverage")
    row = {"table": name, "train": str(report["train_rows"]), "held out": str(report["rows"])}
    return row | {share: f"{100 * report[share]:.1f} %" for share in shares}
