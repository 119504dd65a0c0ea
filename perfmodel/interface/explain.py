"""`perfmodel explain`: what binds, kernel by kernel and term by term."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv
from perfmodel.inference.explanation import Explanation
from perfmodel.inference.kernel_predictions import read_columns
from perfmodel.inference.serving_predictions import COLUMNS
from perfmodel.interface.tables import Table
from perfmodel.library.files import nearest
from perfmodel.units import figures


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
    columns = sorted({*COLUMNS, *read_columns()})
    close = [] if name in columns else nearest(name, columns)
    if close:
        raise InputError(f"there is no column {name[:60]!r}; the nearest are {', '.join(close)}.")


def _from_file(word: str) -> dict[str, str]:
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


def tables_of(found: Explanation) -> list[Table]:
    """Kernels by time, with what binds them, and terms of time, the largest first."""
    terms = sorted(((n, s) for n, s in found.terms.items() if s > 0), key=lambda one: -one[1])
    kernels = [(x.label, *_time(x.time, found), x.bound) for x in found.lines]
    return [
        Table("Kernels", ["kernel", "us", "share", "bound by"], kernels),
        Table("Terms", ["term", "us", "share"], [(name, *_time(s, found)) for name, s in terms]),
    ]


def _time(seconds: float, found: Explanation) -> tuple[str, str]:
    """In us, and its share of all."""
    return figures(seconds * 1e6), f"{100 * seconds / found.time:.1f} %"


def as_dict(explanation: Explanation) -> dict[str, Any]:
    """For JSON."""
    lines = [
        {"kernel": x.label, "time_us": x.time * 1e6, "share": x.share, "bound": x.bound}
        for x in explanation.lines
    ]
    terms = {name: seconds * 1e6 for name, seconds in explanation.terms.items()}
    return {
        "title": explanation.title,
        "time_us": explanation.time * 1e6,
        "kernels": lines,
        "terms_us": terms,
    }
