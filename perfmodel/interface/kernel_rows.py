"""Predicted kernels as they are printed: the first rows of a file in 100 characters."""

import csv
import itertools
from collections.abc import Mapping
from pathlib import Path

from perfmodel.interface.tables import Table, cell

ROWS_SHOWN = 10
"""Rows that are printed, at most."""

NAMED = ("op", "chip", "dtype")
"""Columns of words that stand by themselves."""

PREDICTED = ("predicted_us", "low_us", "high_us", "bound", "basis", "error")
"""Columns that a prediction writes."""

NAMES = ("row", *NAMED, "sizes", "us", "90 % range (us)", "bound")

MAX_SIZES = 44
"""Characters of the sizes of a row."""


def table_of_kernels(out: Path) -> Table:
    """The first kernels of a file of predictions."""
    with out.open(encoding="utf-8", newline="") as file:
        rows = [*itertools.islice(csv.DictReader(file), ROWS_SHOWN)]
    lines = [(str(place), *_line(row)) for place, row in enumerate(rows, 1)]
    return Table(f"The first {len(rows)} rows of {out.name}", NAMES, lines)


def _line(row: Mapping[str, str]) -> tuple[str, ...]:
    time, low, high = (cell(row[name]) for name in PREDICTED[:3])
    bound = row["bound"] or "error"
    words = (row.get(name) or "" for name in NAMED)
    return (*words, _sizes(row), time, f"{low} to {high}" if low else "", bound)


def _sizes(row: Mapping[str, str]) -> str:
    """Sizes that are given, as far as the width goes."""
    numbers = {n: v for n, v in row.items() if n not in (*NAMED, *PREDICTED) and _is_number(v)}
    words = ", ".join(f"{name} {value}" for name, value in numbers.items())
    return words if len(words) <= MAX_SIZES else f"{words[: MAX_SIZES - 4]} ..."


def _is_number(text: str | None) -> bool:
    return bool(text) and str(text).strip().isdigit()
