"""`perfmodel validate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.errors import InputError
from perfmodel.interface.cli import options
from perfmodel.interface.terminal import bar, say, show_table, warn


def validate(
    protocol: Annotated[
        str, typer.Option("--protocol", help="quick (three minutes) or full (hours).")
    ] = "quick",
    chips: Annotated[str, typer.Option(help="Only these chips, with commas.")] = "",
    ops: Annotated[
        str,
        typer.Option(help="Only these operations, with commas; technology: chips, not kernels."),
    ] = "",
    splits: Annotated[
        str,
        typer.Option(
            help="Only these splits, with commas: shape, size, model, chip, architecture, vendor, version "
            "(of a framework), fewshot, framework."
        ),
    ] = "",
    json_: options.JsonFile = None,
    out: options.ReportFolder = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what the report already holds.")
    ] = False,
    data: options.Measured = "aiconfigurator",
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of rows.")] = 0,
    calibration: options.Calibration = None,
    report: options.Report = None,
    fit_ranges: Annotated[
        bool,
        typer.Option(
            "--fit-ranges",
            help="Fit the 90 % ranges of services to measured runs, and write them to OUT.",
        ),
    ] = False,
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --sets serving and --fit-ranges: more runs, rows of predict serving as measured."
        ),
    ] = None,
    sets: Annotated[
        str,
        typer.Option(
            help="kernels, or serving (measured runs, each kind of them left out once), decisions (which "
            "measured deployment is chosen under a limit on TPOT)."
        ),
    ] = "kernels",
    left_out: Annotated[
        str,
        typer.Option(
            help="With --sets serving: what is left out, one at a time: model, chip, framework, vendor."
        ),
    ] = "model,chip,framework,vendor",
    cluster: options.Cluster = "",
) -> None:
    """Say how far predictions lie from held-out kernels, beside three baselines.

    The baselines, on the same rows: a plain roofline, a random forest, and what frameworks
    disagree by on one chip. Then the same of area, power and cost of chips, each left out once.

    Example: perfmodel validate --protocol quick --json quick.json

    Example: perfmodel validate --ops technology

    Example: perfmodel validate --protocol full --splits version --json versions.json

    Example: perfmodel validate --protocol full --out validation --resume

    With --sets serving, say instead how far measured runs of InferenceX lie from predictions when their
    model, chip, framework or vendor is left out of the fits: a quarter of an hour. With --sets decisions, how
    good the deployments are that predictions choose.

    Example: perfmodel validate --sets serving --left-out model --json left-out.json

    With --fit-ranges, fit instead how wide the 90 % ranges of TPOT and TTFT are, by what a prediction
    rests on, and say which share of runs they hold where a model, chip or framework is left out.

    Example: perfmodel validate --fit-ranges --runs runs.csv --out fitted
    """
    if cluster and (fit_ranges or options.listed(sets) not in (["kernels"], ["serving"])):
        raise InputError("--cluster is for --sets kernels or --sets serving, alone; leave it out.")
    if fit_ranges:
        _fit_ranges(runs or [], out, options.fitted(calibration), json_)
        return
    from perfmodel.library.files import word_of

    asked = [word_of(name, SETS, "set") for name in options.listed(sets) or [""]]
    if runs and "serving" not in asked:
        raise InputError("--runs is for --sets serving and for --fit-ranges; give one of them.")
    if asked != ["kernels"]:
        if report is not None or chips or ops or splits or resume:
            raise InputError(
                "--report, --chips, --ops, --splits and --resume are for --sets kernels; leave them out."
            )
        given = (runs or [], data, options.fitted(calibration))
        _of_runs(asked, options.listed(left_out), *given, json_, out, cluster)
        return
    from perfmodel.calibration.protocol import named_protocol
    from perfmodel.calibration.run_protocol import ValidationRequest, notes, run_protocol
    from perfmodel.interface.pages.validate import charts_of, tables_of, validate_page
    from perfmodel.interface.plots.theme import altair, save

    options.check_places(file=json_, folder=out, report=report)
    how = named_protocol(protocol, options.fitted(calibration), seed, options.listed(splits))
    request = ValidationRequest(
        how, data, options.listed(chips), options.listed(ops), json_, out, resume, cluster
    )
    if out is not None:
        altair()
    with bar("validate") as update:
        found = run_protocol(request, update)
    charts = charts_of(out) if out is not None else {}
    for name, chart in charts.items():
        save(chart, Path(f"{out}/{name}.png"))
    summary, kernels, chips_summary, chips_left_out = tables_of(found)
    shown = [kernels, summary] if how.quick else [summary]
    for table in (*shown, chips_left_out, chips_summary):
        if table.rows:
            show_table(table)
    said = notes(found)
    say(*said)
    if request.report is not None:
        say(f"The report is {request.report}.")
    if report is not None:
        options.write_report(report, validate_page(found, said, list(charts.values())))


SETS = ("kernels", "serving", "decisions")
"""What is held beside predictions."""


def _of_runs(
    sets: list[str],
    left_out: list[str],
    runs: list[Path],
    data: str,
    folder: Path,
    json_: Path | None,
    out: Path | None,
    cluster: str,
) -> None:
    """Serving runs, without kernels."""
    from perfmodel.calibration.published_results import reproduce
    from perfmodel.calibration.serving_left_out import (
        RESULT,
        runs_of,
        score_left_out,
        write_left_out,
    )
    from perfmodel.files import write_json
    from perfmodel.interface.pages.reproduce import decisions_table, left_out_runs_table

    if "kernels" in sets:
        raise InputError(
            "kernels take hours and runs minutes; give --sets kernels, or others, alone."
        )
    options.check_places(file=json_, folder=out)
    found: dict[str, Any] = {}
    if "serving" in sets:
        with bar("left out") as update:
            taken = runs_of(data, runs, folder, warn)
            found["serving"] = score_left_out(taken, left_out, folder, update, cluster)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            write_left_out(out / RESULT, found["serving"])
        show_table(left_out_runs_table(found["serving"]))
    if "decisions" in sets:
        with bar("rows alike") as update:
            found["decisions"] = reproduce(["decisions"], data, folder, update)[0]["decisions"]
        show_table(decisions_table(found["decisions"]))
    if json_ is not None:
        write_json(json_, found)


def _fit_ranges(runs: list[Path], out: Path | None, prior: Path, json_: Path | None) -> None:
    """Ranges of services from measured runs."""
    from perfmodel.calibration.serving_ranges import calibrate_ranges
    from perfmodel.files import write_json
    from perfmodel.interface.tables import table_of

    if out is None:
        raise InputError("--fit-ranges writes a folder of fitted parameters; give --out DIR.")
    options.check_places(file=json_, folder=out)
    with bar("runs") as update:
        found = calibrate_ranges(runs, out, prior, update)
    if json_ is not None:
        write_json(json_, {"ranges": found.ranges._asdict(), "coverage": found.coverage})
    rows = [{n: _share(x) for n, x in row.items()} for row in found.coverage]
    show_table(table_of("Runs whose TPOT lies in the 90 % range", rows))
    say(f"The ranges are in {out / 'ranges.toml'}.")


def _share(value: object) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, float) else f"{value}"
