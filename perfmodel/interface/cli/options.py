"""Options that commands share, and what they come to."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from perfmodel.interface.terminal import console, say, show_json

Out = Annotated[Path, typer.Option("--out", help="File to write.")]
Folder = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Calibration = Annotated[
    Path | None,
    typer.Option("--calibration", help="Folder of fitted parameters; as shipped if not given."),
]
Cluster = Annotated[
    str,
    typer.Option(
        "--cluster", help="Ray cluster that does the work: auto, local or ray://HOST:PORT."
    ),
]

Report = Annotated[
    Path | None,
    typer.Option("--report", help="Page to write (.html): tables, pictures, sources."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables or sentences.")]
Explain = Annotated[bool, typer.Option("--explain", help="Say what the columns mean, too.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="File of the report to write.")]
ReportFolder = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for pictures, every row, and the report."),
]
Measured = Annotated[str, typer.Option("--data", help="aiconfigurator, or the path of its wheel.")]


def listed(words: str) -> list[str]:
    """The words of an option, which stand between commas."""
    return [word.strip() for word in words.split(",") if word.strip()]


def fitted(calibration: Path | None) -> Path:
    """The folder of fitted parameters that was asked for, or the shipped one."""
    from perfmodel.library.fitted import FITTED
    from perfmodel.library.fitted_check import check_fitted

    if calibration is not None:
        check_fitted(calibration)
    return calibration or FITTED


Place = Path | None


def check_places(
    *, file: Place = None, folder: Place = None, report: Place = None, picture: Place = None
) -> None:
    """Find out before any work whether these may be written, where they are asked for."""
    from perfmodel.files import check_folder, check_place

    if file is not None:
        check_place(file)
    if folder is not None:
        check_folder(folder)
    if report is not None:
        from perfmodel.interface.pages.page import check_report

        check_report(report)
    if picture is not None:
        from perfmodel.interface.plots.theme import check_picture

        check_picture(picture)


def show_definitions() -> None:
    """Print what TTFT, TPOT and throughput mean."""
    from perfmodel.inference.serving_predictions import DEFINITIONS

    for word, meaning in DEFINITIONS.items():
        console.print(f"{word}: {meaning}.", style="dim", soft_wrap=True)


def show_outcome(out: Path | str, rows: int, errors: int, first_error: str, json_: bool) -> None:
    """Print what a file holds: how many rows, how many of them with an error, and the first error."""
    if json_:
        show_json(outcome(out, rows, errors, first_error))
        return
    say(f"{rows:,} rows in {out}, {errors:,} with an error.")
    if errors:
        say(f"The first: {first_error}")


def outcome(out: Path | str, rows: int, errors: int, first_error: str) -> dict[str, Any]:
    """The same as JSON has it."""
    return {"out": str(out), "rows": rows, "errors": errors, "first_error": first_error}


def write_report(path: Path, page: Any, silent: bool = False) -> None:
    """Write a page, and say where it is."""
    from perfmodel.interface.pages.page import write_report as write

    write(path, page)
    if not silent:
        say(f"The report is {path}.")


def chip_names(begun: str) -> list[str]:
    """Chips whose name begins so, for tab completion."""
    from perfmodel.library.files import stems

    return _beginning(begun, stems("chips"))


def model_names(begun: str) -> list[str]:
    """Models whose name begins so, for tab completion."""
    from perfmodel.library.files import stems

    return _beginning(begun, stems("models"))


def study_names(begun: str) -> list[str]:
    """Studies of claims whose name begins so, for tab completion."""
    from perfmodel.studies.claim import names

    return _beginning(begun, names())


def preset_names(begun: str) -> list[str]:
    """Presets of a search whose name begins so, for tab completion."""
    from perfmodel.design.resolve import presets

    return _beginning(begun, presets())


def _beginning(begun: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(begun.lower())]
