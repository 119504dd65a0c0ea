"""`perfmodel explain`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from perfmodel.errors import InputError
from perfmodel.interface.cli import options
from perfmodel.interface.terminal import (
    bar,
    say,
    show_json,
    show_table,
    warn_assumed,
    warn_unsupported,
)


def explain(
    row: Annotated[
        list[str],
        typer.Argument(help="FILE.csv:NUMBER, or words such as chip=h100 op=gemm m=32 ..."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Picture to write: .png, .svg or .html.")
    ] = None,
    calibration: options.Calibration = None,
    report: options.Report = None,
    json_: options.Json = False,
) -> None:
    """Explain a prediction: what binds, kernel by kernel and term by term.

    Example: perfmodel explain chip=h100 op=gemm dtype=bf16 m=32 n=8192 k=8192

    Example: perfmodel explain chip=h100 n_chips=8 model=llama-3.1-70b isl=4096 osl=256 concurrency=32
    """
    from perfmodel.inference.explanation import explain as run
    from perfmodel.interface.pages.explain import as_dict, explain_page, kernel_times, tables_of
    from perfmodel.interface.plots.theme import save
    from perfmodel.units import figures

    options.check_places(picture=out, report=report)
    cells = read_asked(row)
    with bar("compiling"):
        found = run(cells, options.fitted(calibration))
    warn_assumed([cells.get("model", "")])
    warn_unsupported([cells.get("chip", "")], [cells.get("framework", "")])
    if out is not None:
        save(kernel_times(found), out)
    if report is not None:
        options.write_report(report, explain_page(found, cells), silent=True)
    if json_:
        show_json(as_dict(found))
    else:
        say(f"{found.title}: {figures(found.time * 1e6)} us")
        for table in tables_of(found):
            show_table(table)


def read_asked(words: Sequence[str]) -> dict[str, str]:
    """A row given as `FILE.csv:NUMBER`, or as `column=value` words.

    **Raises:**

    - `InputError`: for anything else.
    """
    if len(words) == 1 and "=" not in words[0]:
        return _from_file(words[0])
    cells: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise InputError(
                f"{word!r} is not column=value; write for example chip=h100 op=gemm m=32."
            )
        _known(name.strip().lower())
        if name.strip().lower() in cells:
            raise InputError(f"{name.strip()} is given twice; give it once.")
        cells[name.strip().lower()] = value
    return cells


def _known(name: str) -> None:
    """Refuse a column that is not read, but nearly the name of one: a slip."""
    from perfmodel.inference.kernel_predictions import read_columns
    from perfmodel.inference.serving_predictions import COLUMNS
    from perfmodel.library.files import nearest

    columns = sorted({*COLUMNS, *read_columns()})
    close = [] if name in columns else nearest(name, columns)
    if close:
        raise InputError(f"there is no column {name[:60]!r}; the nearest are {', '.join(close)}.")


def _from_file(word: str) -> dict[str, str]:
    from perfmodel.files import cells_of, read_csv

    path, colon, number = word.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,9}", number):
        raise InputError(
            f"{word[:200]!r} names no row; write FILE.csv:NUMBER (1 is the first), or column=value ..."
        )
    table = read_csv(Path(path))
    if not 1 <= int(number) <= len(table):
        raise InputError(
            f"{path} has {len(table)} rows; there is no row {number}, give one from 1 to {len(table)}."
        )
    return {name: column[int(number) - 1] for name, column in cells_of(table).items()}
