"""The command line. Commands import what they need when they run, so that help is instant."""

import contextlib
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from perfmodel.errors import InputError

app = typer.Typer(
    name="perfmodel",
    help="A differentiable, calibrated performance model of LLM inference that designs hardware.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
predict = typer.Typer(help="Predict rows of a CSV file.", no_args_is_help=True)
app.add_typer(predict, name="predict")

PIPED = None if sys.stdout.isatty() else 400
"""Width of what is printed, in characters: the terminal's, or wide enough to wrap nothing."""

# Names and sources may hold brackets and colons: they are no markup and no emoji.
console = Console(highlight=False, markup=False, emoji=False, width=PIPED)
errors = Console(stderr=True, highlight=False, markup=False, emoji=False)

Out = Annotated[Path, typer.Option("--out", help="File to write.")]
Calibration = Annotated[
    Path | None,
    typer.Option("--calibration", help="Folder of fitted parameters; as shipped if not given."),
]
Report = Annotated[
    Path | None,
    typer.Option("--report", help="Page to write (.html): tables, pictures, sources."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main() -> None:
    """Run a command; a mistake of the user is one sentence and exit status 2."""
    _cache_compiled()
    sys.unraisablehook = _once_more
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        status = app(standalone_mode=False) or 0
        sys.stdout.flush()
    except _NO_COMMAND:
        status = 2
    except (InputError, UsageError) as error:
        status = _wrong(_words(error))
    except (KeyboardInterrupt, typer.Abort):
        status = STOPPED
    except BrokenPipeError:
        status = _deaf(1)
    except OSError as error:
        what = f"{error.filename or 'the output'} cannot be used: {error.strerror or error}"
        status = _deaf(_wrong(f"{what}; give a path that can be read and written."))
    if status == STOPPED:
        errors.print("perfmodel: stopped.")
    sys.exit(status)


def _once_more(lost: Any) -> None:
    """A Ctrl-C that came where Python cannot raise it, as in JAX's callback on garbage, comes again."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


STOPPED = 130
"""Exit status after Ctrl-C, as shells have it."""

# Typer may carry a Click of its own, whose classes are reached through what Typer exports.
UsageError = cast(type[Exception], typer.BadParameter.__base__)


class _NeverRaisedError(Exception):
    """What is never raised, where this Typer's Click has no such class."""


_NO_COMMAND = getattr(sys.modules[UsageError.__module__], "NoArgsIsHelpError", _NeverRaisedError)
"""A command group without a command: its help has been printed."""

MOST_SAID = 2000
"""Characters of a sentence, at most."""


def _words(error: Exception) -> str:
    """What an error says; a usage error does not say where to look."""
    if not isinstance(error, UsageError):
        return str(error)
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "perfmodel"
    said = error.format_message()  # pyright: ignore[reportAttributeAccessIssue]
    return f"{said.rstrip('.')}; `{command} --help` shows what is allowed."


def _wrong(said: str) -> int:
    """Say it on one line of stderr, whatever is in it; the exit status of bad input."""
    plain = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in said)
    line = " ".join(plain.split())
    short = line if len(line) <= MOST_SAID else f"{line[:MOST_SAID]} ..."
    errors.print(f"perfmodel: {short}", soft_wrap=True)
    return 2


def _deaf(status: int) -> int:
    """Write no more to stdout, which nobody reads or which is full: not even when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _cache_compiled() -> None:
    """Keep compiled functions between runs, in the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / "perfmodel" / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")


@contextlib.contextmanager
def _bar(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr; the function it gives takes how many are done, of how many."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=errors, transient=True, disable=not errors.is_terminal
    ) as progress:
        task = progress.add_task(what, total=total)

        def update(done: int, of: int | None = None, description: str | None = None) -> None:
            progress.update(
                task, completed=done, total=of or total, description=description or what
            )

        yield update


def _table(title: str, names: list[str], rows: list[tuple[str, ...]]) -> None:
    console.print(title, style="bold", soft_wrap=True)
    table = Table(header_style="bold", box=None)
    for i, name in enumerate(names):
        justify = "right" if i and not any(_is_prose(row[i]) for row in rows) else "left"
        table.add_column(name, justify=justify)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _is_prose(cell: str) -> bool:
    """Whether a cell holds words rather than a number with its unit."""
    return cell.count(" ") > 2


def _json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def _fitted(calibration: Path | None) -> Path:
    from perfmodel.library.efficiency import FITTED, check_fitted

    if calibration is not None:
        check_fitted(calibration)
    return calibration or FITTED


def _chip_names(begun: str) -> list[str]:
    """For tab completion."""
    return _begins("chips", begun)


def _model_names(begun: str) -> list[str]:
    """For tab completion."""
    return _begins("models", begun)


def _begins(folder: str, begun: str) -> list[str]:
    from perfmodel.library.files import stems

    return [stem for stem in stems(folder) if stem.startswith(begun.lower())]


@predict.command("kernels")
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
    from perfmodel.files import check_place
    from perfmodel.interface.kernels import predict_kernels as run

    check_place(out)
    _check_report(report)
    with _bar("kernels") as update:
        result = run(rows, out, _fitted(calibration), not cold, update)
    _said(out, result.error)
    if report is not None:
        from perfmodel.interface.pages import kernels_page

        _report(report, kernels_page(rows, out))


@predict.command("serving")
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
    from perfmodel.files import check_place
    from perfmodel.interface.serving import predict_serving as run

    check_place(out)
    _check_report(report)
    with _bar("rows alike") as update:
        result = run(rows, out, _fitted(calibration), update)
    _said(out, result["error"])
    _defined()
    if report is not None:
        from perfmodel.interface.pages import serving_page

        _report(report, serving_page(rows, out))


def _check_report(path: Path | None) -> None:
    if path is not None:
        from perfmodel.interface.report import check_report

        check_report(path)


def _report(path: Path, page: Any) -> None:
    from perfmodel.interface.report import write_report

    write_report(path, page)
    console.print(f"The report is {path}.", soft_wrap=True)


def _defined() -> None:
    from perfmodel.interface.serving import DEFINITIONS

    for word, meaning in DEFINITIONS.items():
        console.print(f"{word}: {meaning}.", style="dim", soft_wrap=True, highlight=False)


def _said(out: Path, found: Any) -> None:
    wrong = [str(error) for error in found if error]
    console.print(f"{len(found)} rows in {out}, {len(wrong)} with an error.", soft_wrap=True)
    if wrong:
        console.print(f"The first: {wrong[0]}", soft_wrap=True)


@app.command()
def calibrate(
    data: Annotated[
        str,
        typer.Option(
            "--data", help="aiconfigurator, the path of its wheel, or a CSV with latency_us."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
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
    json_: Json = False,
) -> None:
    """Fit the model's parameters to measured kernel times.

    With --ops serving, fit instead what the host adds in service, to the measured serving runs.

    Example: perfmodel calibrate --data aiconfigurator --out fitted --chips h100-sxm --ops gemm

    Example: perfmodel calibrate --data aiconfigurator --out fitted --ops serving
    """
    from perfmodel.calibration.calibrate import Options, sections, warnings_of
    from perfmodel.calibration.calibrate import calibrate as run
    from perfmodel.calibration.fit import check_solver
    from perfmodel.calibration.sources import read_source
    from perfmodel.files import check_folder

    check_solver()
    check_folder(out)
    if _list(ops) == [SERVING]:
        _hosts(data, out, _fitted(prior), json_)
        return
    options = Options(out, rows, seed, _fitted(prior), resume, chip_file)
    wanted = (_list(chips), _list(exclude_chips), _list(ops))
    tables, left_out = read_source(data, *wanted, chip_file, options.prior)
    for said in warnings_of(tables, left_out):
        errors.print(f"perfmodel: {said}", soft_wrap=True)
    with _bar("fits", len(sections(tables))) as update:
        count = iter(range(len(tables)))
        found = run(
            tables, options, lambda table: update(next(count), description=table.key.op), left_out
        )
    if json_:
        _json([one.key._asdict() | one.report for one in found])
        return
    names = ["table", "train", "held out", "mean", "median", "p90", "bias", "coverage"]
    _table("Error on held-out rows", names, [_fit_row(one) for one in found])
    console.print(
        f"Parameters, the split with residuals, and versions are in {out}.", soft_wrap=True
    )


SERVING = "serving"
"""The operation that stands for the host."""


def _hosts(data: str, out: Path, prior: Path, json_: bool) -> None:
    from perfmodel.calibration.calibrate import in_units
    from perfmodel.calibration.serving import calibrate_hosts

    with _bar("hosts", 4) as update:
        count = iter(range(4))
        found = calibrate_hosts(
            data, out, prior, lambda name: update(next(count), description=name)
        )
    rows = [(name, {"runs": one.runs} | in_units(one.host)) for name, one in found.items()]
    if json_:
        _json([{"framework": name} | values for name, values in rows])
        return
    names = ["framework", *rows[0][1]]
    _table("What the host adds", names, [(name, *map(str, row.values())) for name, row in rows])
    console.print(f"The parameters are in {out / 'serving.toml'}.", soft_wrap=True)


@app.command()
def measure(
    out: Out,
    ops: Annotated[
        str, typer.Option(help="Operations, with commas.")
    ] = "gemm,attention_prefill,attention_decode,elementwise",
    dtype: Annotated[
        str, typer.Option(help="Formats, with commas: bf16, fp16, fp32, fp8, int8.")
    ] = "bf16",
    chip: Annotated[
        str, typer.Option(help="Name to write for this machine's chip; JAX's if not given.")
    ] = "",
    rows: Annotated[
        int, typer.Option(min=1, max=10_000, help="Of each operation and format, at most.")
    ] = 64,
    seconds: Annotated[float, typer.Option(min=1, help="For all of it, about.")] = 180,
    seed: Annotated[int, typer.Option(min=0, help="Of the shapes.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the rows OUT holds.")] = False,
) -> None:
    """Time this machine's own kernels with JAX, and write the rows that `calibrate` reads.

    Example: perfmodel measure --out rows.csv --ops gemm,attention_decode --seconds 120
    """
    from perfmodel.files import check_place

    check_place(out)
    from perfmodel.calibration.measure import Asked, advice
    from perfmodel.calibration.measure import measure as run

    asked = Asked(_list(ops), _list(dtype), chip.strip(), rows, seconds, seed)
    with _bar("kernels") as update:
        found = run(asked, out, resume, update)
    console.print(f"{found.rows} rows in {out}, {found.new} of them new.", soft_wrap=True)
    for said in (*found.failed[:3], advice(found, out)):
        console.print(said, soft_wrap=True)


def _fit_row(found: Any) -> tuple[str, ...]:
    key, report = found.key, found.report
    formats = key.dtype if key.cache in ("", key.dtype) else f"{key.dtype}, {key.cache} cache"
    name = f"{key.op} {key.chip} {key.framework or 'smooth'} {formats}"
    shares = [
        f"{100 * report[field]:.1f} %" for field in ("mean", "median", "p90", "bias", "coverage")
    ]
    return (name, str(report["train_rows"]), str(report["rows"]), *shares)


def _list(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


@app.command()
def validate(
    protocol: Annotated[
        str, typer.Option("--protocol", help="quick (three minutes) or full (hours).")
    ] = "quick",
    chips: Annotated[str, typer.Option(help="Only these chips, with commas.")] = "",
    ops: Annotated[
        str,
        typer.Option(help="Only these operations, with commas; technology: chips, not kernels."),
    ] = "",
    json_: Annotated[
        Path | None, typer.Option("--json", help="File of the report to write.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for pictures, every row, and the report."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what the report already holds.")
    ] = False,
    data: Annotated[
        str, typer.Option("--data", help="aiconfigurator, or the path of its wheel.")
    ] = "aiconfigurator",
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of rows.")] = 0,
    calibration: Calibration = None,
    report: Report = None,
) -> None:
    """Say how far predictions lie from kernels that no fit has seen, beside three rivals.

    The rivals, on the same rows: a plain roofline, a random forest, and what frameworks
    disagree by on one chip. Then the same of area, power and cost of chips, each left out once.

    Example: perfmodel validate --protocol quick --json quick.json

    Example: perfmodel validate --ops technology

    Example: perfmodel validate --protocol full --out validation --resume
    """
    from perfmodel.calibration.splits import protocol as named
    from perfmodel.files import check_folder, check_place
    from perfmodel.interface import musts, technology
    from perfmodel.interface import validate as protocol_

    for place, check in ((json_, check_place), (out, check_folder)):
        if place is not None:
            check(place)
    how = named(protocol, _fitted(calibration), seed)
    request = protocol_.Request(how, data, _list(chips), _list(ops), json_, out, resume)
    _check_report(report)
    with _bar("validate") as update:
        found = protocol_.validate(request, update)
    records, chips_ = found["kernels"], found["technology"]
    if records and how.quick:
        _table("Rows that no fit has seen", musts.TABLE, musts.lines(records))
        console.print()
    if records:
        _table("What must be reached", musts.SUMMARY, musts.summary(records))
    if chips_:
        _table("Chips that a fit has not seen", technology.TABLE, technology.lines(chips_))
        console.print()
        _table("Technology: what must be reached", technology.SUMMARY, technology.summary(chips_))
    for note in protocol_.notes(found):
        console.print(note, soft_wrap=True)
    if request.report is not None:
        console.print(f"The report is {request.report}.", soft_wrap=True)
    if report is not None:
        from perfmodel.interface.pages import validate_page

        charts = protocol_.charts(request.out) if request.out else []
        _report(report, validate_page(found, protocol_.notes(found), charts))


@app.command()
def reproduce(
    sets: Annotated[
        str,
        typer.Option(help="throughput, single-stream, serving (needs the data extra), or closed."),
    ] = "throughput,single-stream,serving",
    json_: Annotated[
        Path | None, typer.Option("--json", help="File of the report to write.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for pictures, every row, and the report.")
    ] = None,
    data: Annotated[
        str, typer.Option("--data", help="aiconfigurator, or the path of its wheel.")
    ] = "aiconfigurator",
    calibration: Calibration = None,
    report: Report = None,
) -> None:
    """Put published and measured results beside predictions.

    TTFT is the mean from sending a request to its first token, with the wait for room and the
    burst at the beginning of a run; TPOT is (total - TTFT) / (output tokens - 1). Throughput counts
    output tokens, or input and output where the published value does.

    Example: perfmodel reproduce --sets single-stream

    Example: perfmodel reproduce --out reproduced
    """
    from perfmodel.calibration.aiconfigurator import locate
    from perfmodel.files import check_folder, check_place
    from perfmodel.interface import reproduce as made

    for place, check in ((json_, check_place), (out, check_folder)):
        if place is not None:
            check(place)
    asked = _list(sets)
    made.check_sets(asked)
    if {"serving", made.CLOSED} & set(asked):
        locate(data)
    _check_report(report)
    with _bar("rows alike") as update:
        found, rows, tables = made.reproduce(asked, data, _fitted(calibration), update)
    if found["published"]:
        _table("Published", made.PUBLISHED_TABLE, made.published_lines(found))
    if found["left_out"]:
        _table("Each from the other models alone", made.LEFT_TABLE, made.left_lines(found))
    if found["serving"]:
        _table("Serving", made.SERVING_TABLE, made.serving_lines(found))
    _defined()
    if out is not None:
        made.write(found, rows, tables, out)
    if json_ is not None:
        made.write_json(found, json_)
    if report is not None:
        from perfmodel.interface.pages import reproduce_page

        _report(report, reproduce_page(found, rows))


@app.command()
def search(
    study: Annotated[
        Path | None,
        typer.Argument(help="Study in TOML, or the name of a preset."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the presets.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT's checkpoint.")] = False,
    starts: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Starts, instead of the study's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed, instead of the study's.")] = None,
    json_: Json = False,
) -> None:
    """Search a chip, or a system of two pools of chips, by gradient, under limits.

    The winner is priced again in whole tiles, waves and cores, and limits that bind get a price.

    Example: perfmodel search --list

    Example: perfmodel search cheap-tokens --out found
    """
    from perfmodel.files import check_folder
    from perfmodel.interface.search import listed, prices, run_search, summary

    if list_:
        rows = listed()
        _json([dict(zip(("preset", "question"), row, strict=True)) for row in rows]) if json_ else (
            _table("Presets", ["preset", "question"], rows)
        )
        return
    if study is None or out is None:
        raise InputError(
            "give a study and --out, a folder to write; `perfmodel search --list` lists the presets."
        )
    check_folder(out)
    with _bar("steps of descent") as update:
        report = run_search(study, out, resume, starts, seed, update)
    if json_:
        _json(report)
    else:
        _table("The design found", *summary(report))
        _table("What limits are worth", *prices(report))
        console.print(f"result.json, designs.csv and report.html are in {out}.", soft_wrap=True)
    if report["stopped"]:
        raise KeyboardInterrupt


@app.command()
def study(
    name: Annotated[
        str, typer.Argument(help="A study, or the number of its claim, such as Q1.")
    ] = "",
    list_: Annotated[bool, typer.Option("--list", help="List the studies.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the answer, its table and its figure.")
    ] = None,
    json_: Json = False,
) -> None:
    """Test a public claim about SRAM, HBM and inference: an answer with numbers, and how sure it is.

    Example: perfmodel study --list

    Example: perfmodel study peak-bandwidth --out studies
    """
    from perfmodel.files import check_folder
    from perfmodel.interface import studies as shown
    from perfmodel.studies.contents import find, studies

    if list_ or not name:
        names, rows = shown.listing(studies())
        _json([dict(zip(names, row, strict=True)) for row in rows]) if json_ else _table(
            "Studies", names, rows
        )
        return
    asked = find(name)
    if out is not None:
        check_folder(out)
    with _bar("machines alike") as update:
        answer = asked.run(update)
    written = shown.write(asked, answer, out) if out is not None else []
    if json_:
        _json(shown.as_dict(asked, answer))
        return
    for line in shown.lines(asked, answer):
        console.print(line, soft_wrap=True)
    console.print()
    _table(f"{asked.question}: {asked.title}", list(answer.table.names), shown.cells(answer))
    for caveat in answer.caveats:
        console.print(f"Caveat: {caveat}", soft_wrap=True)
    for path in written:
        console.print(f"Written: {path}", soft_wrap=True)


@app.command()
def sweep(
    grid: Annotated[
        Path, typer.Argument(help="Grid in TOML: values of chip, model, isl, osl, concurrency ...")
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write: .csv or .parquet.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the parts of a run that was stopped.")
    ] = False,
    calibration: Calibration = None,
    report: Report = None,
) -> None:
    """Predict every point of a grid of chips, models, plans and traffic: millions of them.

    A grid names columns of `predict serving`, each with one value, a list, or a range; and under
    [hardware] factors on what the chips' files say.

    isl = [1000, 8000]

    concurrency = {low = 1, high = 256, points = 9, spacing = "log"}

    Example: perfmodel sweep grid.toml --out points.parquet
    """
    from perfmodel.interface.sweep import sweep as run
    from perfmodel.interface.sweep import use_all_cores

    use_all_cores()
    _check_report(report)
    with _bar("points") as update:
        found = run(grid, out, _fitted(calibration), resume, update)
    console.print(
        f"{found.points:,} points in {out}, {found.wrong:,} with an error.", soft_wrap=True
    )
    if found.wrong:
        console.print(f"The first: {found.first}", soft_wrap=True)
    if report is not None:
        from perfmodel.interface.sweep_page import sweep_page

        _report(report, sweep_page(grid, out))


@app.command()
def explain(
    row: Annotated[
        list[str],
        typer.Argument(help="FILE.csv:NUMBER, or words such as chip=h100 op=gemm m=32 ..."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Picture to write: .png, .svg or .html.")
    ] = None,
    calibration: Calibration = None,
    report: Report = None,
    json_: Json = False,
) -> None:
    """Explain a prediction: what binds, kernel by kernel and term by term.

    Example: perfmodel explain chip=h100 op=gemm dtype=bf16 m=32 n=8192 k=8192

    Example: perfmodel explain chip=h100 n_chips=8 model=llama-3.1-70b isl=4096 osl=256 concurrency=32
    """
    from perfmodel.interface.explain import as_dict, read_asked
    from perfmodel.interface.explain import explain as run

    if out is not None:
        from perfmodel.interface.plots import check_picture

        check_picture(out)
    _check_report(report)
    cells = read_asked(row)
    with _bar("compiling"):
        found = run(cells, _fitted(calibration))
    if out is not None:
        from perfmodel.interface.pages import drawn
        from perfmodel.interface.plots import save

        save(drawn(found), out)
    if report is not None:
        from perfmodel.interface.pages import explain_page
        from perfmodel.interface.report import write_report

        write_report(report, explain_page(found, cells))
    if json_:
        _json(as_dict(found))
    else:
        from perfmodel.interface.explain import lines_of, terms_of

        title = f"{found.title}: {found.time * 1e6:,.4g} us"
        _table(title, ["kernel", "us", "share", "bound"], lines_of(found))
        _table("by term", ["term", "us", "share"], terms_of(found))


@app.command()
def chips(
    name: Annotated[
        str,
        typer.Argument(
            help="A chip, or a chip file to check; all chips if not given.",
            autocompletion=_chip_names,
        ),
    ] = "",
    json_: Json = False,
) -> None:
    """List chips, show one with the source of every number, or check a chip file.

    Example: perfmodel chips h100

    Example: perfmodel chips my_chip.toml
    """
    from perfmodel.interface.listing import chip_rows, facts, read_chip

    if not name:
        names = [
            "chip",
            "maker",
            "year",
            "execution",
            "bf16",
            "SRAM",
            "main",
            "bandwidth",
            "parameters",
        ]
        rows = chip_rows()
        _json([dict(zip(names, row, strict=True)) for row in rows]) if json_ else _table(
            "Chips", names, rows
        )
        return
    stem, file = read_chip(name)
    found = facts(file)
    if json_:
        _json(
            {
                "chip": stem,
                "name": file.name,
                "note": file.note,
                "facts": [fact._asdict() for fact in found],
            }
        )
        return
    _table(
        f"{file.name} ({stem})",
        ["fact", "value", "trust", "source"],
        [tuple(fact) for fact in found],
    )
    if file.note:
        console.print(file.note, soft_wrap=True)


@app.command()
def models(
    name: Annotated[
        str,
        typer.Argument(
            help="A model, or the path of a config.json; all models if not given.",
            autocompletion=_model_names,
        ),
    ] = "",
    json_: Json = False,
) -> None:
    """List models, or show one: a library name, or a Hugging Face config.json.

    Example: perfmodel models llama-3.1-70b

    Example: perfmodel models path/to/config.json
    """
    from perfmodel.interface.listing import model_facts, model_rows, model_sources

    names = ["model", "parameters", "active", "cache a token", "layers", "format"]
    if not name:
        rows = model_rows()
        _json([dict(zip(names, row, strict=True)) for row in rows]) if json_ else _table(
            "Models", names, rows
        )
        return
    found = model_facts(name)
    if json_:
        _json(found._asdict() | {"sources": model_sources(name)})
        return
    counts = (f"{found.parameters:,}", f"{found.active:,}", f"{found.cache_bytes:,.0f} B in bf16")
    _table(found.name, names, [(found.name, *counts, str(found.layers), found.native)])
    for source in model_sources(name).values():
        console.print(f"Source: {source}", soft_wrap=True)


@app.command()
def explore(
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Of this machine.")] = 8501,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Drag SRAM, bandwidth, stacks and prices of up to four machines, and see what that does.

    A page on this machine alone (127.0.0.1); Ctrl-C ends it. Needs the extra `app`.

    Example: perfmodel explore
    """
    from perfmodel.interface.explore.serve import run

    run(port, browser)


@app.command()
def doctor(json_: Json = False) -> None:
    """Say what this installation has and lacks: versions, devices, extras, data, caches.

    Example: perfmodel doctor
    """
    from perfmodel.interface.doctor import examine, lines

    found = examine()
    if json_:
        _json([one._asdict() for one in found])
        return
    _table("This installation", ["", "", "found", "what to do"], lines(found))


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")] = Path(
        "quickstart"
    ),
    json_: Json = False,
) -> None:
    """Answer a real question in two minutes: Llama-3.1-70B on H100, B200, WSE-3 and LPU.

    How fast and how dear is it, what binds, and which split of SRAM and HBM would the
    gradient choose for a chip of the same area?

    Example: perfmodel quickstart
    """
    from perfmodel.interface.quickstart import CAVEATS, NAMES, STEPS, as_dict, run

    with _bar("quickstart", STEPS) as update:
        answer = run(out, update)
    if json_:
        _json(as_dict(answer))
        return
    _table("Llama-3.1-70B, 4,096 tokens of context, decoding", NAMES, answer.machines)
    console.print()
    _table(
        "A chip of the H100's area and power, eight of them, searched by gradient", *answer.designs
    )
    console.print()
    for line in (
        *answer.said,
        *CAVEATS,
        f"Pictures: {', '.join(str(path) for path in answer.pictures)}.",
    ):
        console.print(line, soft_wrap=True)
