"""Served rows as they are printed: tables of 100 characters, JSON, and how far off what was measured is."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from perfmodel.inference.percentiles import SIMULATED
from perfmodel.inference.serving_predictions import ATTENTION_FFN_OUTPUTS, OUTPUTS
from perfmodel.inference.serving_row import RANKS
from perfmodel.interface.serving_columns import SERVING_COLUMNS, holds_numbers
from perfmodel.interface.tables import Table, cell, width_of

Cells = Mapping[str, Sequence[str]]
"""Rows, given and predicted, by column."""

WIDTH = 100
"""Characters of a printed line of a table."""

WRITTEN_OUT = ("cost_basis", "usd_per_chip_hour", *RANKS[1:])
"""Columns that a prediction fills in where they were empty: of inputs they are shown last."""

WORDS = ("cost_basis", "basis", "fits", "bound")
"""Outputs that are words."""

NUMBERS = tuple(name for name in OUTPUTS if name not in WORDS)
"""Outputs that are numbers."""

MAX_TALL_ROWS = 4
"""Rows that stand beside each other, at most."""

HEADINGS = {
    "ttft_ms": "TTFT\n(ms)",
    "tpot_ms": "TPOT\n(ms)",
    "output_tokens_per_s_per_user": "tokens/s\nper user",
    "output_tokens_per_s_per_chip": "tokens/s\nper chip",
    "usd_per_million_output_tokens": "USD/M\ntokens",
    "joules_per_output_token": "J/token",
    "bound": "bound",
}
"""Main outputs, and what a table of many rows calls them."""


def table_of_rows(cells: Cells, most: int) -> Table:
    """The first rows: a column for each where these fit the width, else a line with the main numbers."""
    count = len(cells["error"])
    shown = min(count, most)
    title = f"Rows 1 to {shown:,} of {count:,}" if count > 1 else "Prediction"
    first = {name: [cell(text) for text in column[:shown]] for name, column in cells.items()}
    tall = _tall(title, first)
    few = width_of(tall) <= WIDTH and shown <= MAX_TALL_ROWS
    return tall if few else _wide(title, first)


def _tall(title: str, cells: Cells) -> Table:
    """A line for each column that has a cell, and a column for each row."""
    lines = [(name, *column) for name, column in cells.items() if any(column) and name != "error"]
    count = len(cells["error"])
    names = [f"row {place + 1}" for place in range(count)] if count > 1 else ["value"]
    return Table(title, ["column", *names], lines)


def _wide(title: str, cells: Cells) -> Table:
    """A line for each row: in what they differ, as far as the width goes, and the main numbers."""
    varied = [name for name in SERVING_COLUMNS if len(set(cells.get(name, ()))) > 1]
    inputs = sorted((name for name in varied if name not in HEADINGS), key=WRITTEN_OUT.__contains__)
    tables = (_lines(title, cells, inputs[:most]) for most in range(len(inputs), 0, -1))
    return next((one for one in tables if width_of(one) <= WIDTH), _lines(title, cells, inputs[:1]))


def _lines(title: str, cells: Cells, inputs: Sequence[str]) -> Table:
    places = [str(place + 1) for place in range(len(cells["error"]))]
    columns = [places, *(cells[name] for name in (*inputs, *HEADINGS))]
    names = ["row", *(name.replace("_", "\n") for name in inputs), *HEADINGS.values()]
    return Table(title, names, list(zip(*columns, strict=True)))


def table_of_percentiles(cells: Cells, most: int) -> Table | None:
    """Percentiles of the first rows, a line for each that has them; `None` where none has."""
    names = [name for name in SIMULATED if name in cells]
    places = [i for i in range(min(len(cells["error"]), most)) if any(cells[x][i] for x in names)]
    if not places:
        return None
    lines = [(str(i + 1), *(cell(cells[name][i]) for name in names)) for i in places]
    return Table("Percentiles (ms) and goodput", ["row", *map(_heading, names)], lines)


def _heading(name: str) -> str:
    """A percentile's name in two lines: the time, then its share."""
    what, _, share = name.replace("end_to_end", "end to end").rpartition("_ms_")
    return (
        f"{what.upper() if len(what) == 4 else what}\n{share}" if what else name.replace("_", "\n")
    )


def shared_cells(cells: Cells) -> str:
    """What all rows have in common of what is asked, in one sentence."""
    shared = {
        name: cells[name][0] for name in SERVING_COLUMNS if len(set(cells.get(name, ()))) == 1
    }
    said = ", ".join(f"{name} {cell(text)}" for name, text in shared.items() if text)
    return f"All rows: {said}." if said and len(cells["error"]) > 1 else ""


class MeasuredError(NamedTuple):
    """How far predictions of a column are from `measured_` values: the median |error|, of so many rows."""

    median: float
    rows: int


def measured_errors(cells: Cells) -> dict[str, MeasuredError]:
    """By output, of rows that hold a measured value of it."""
    found = {name: compared(cells, name) for name in NUMBERS if f"measured_{name}" in cells}
    return {
        name: MeasuredError(
            float(np.median([abs(predicted / measured - 1) for _, measured, predicted in values])),
            len(values),
        )
        for name, values in found.items()
        if values
    }


def compared(cells: Cells, name: str) -> list[tuple[int, float, float]]:
    """Places of rows with a measured and a predicted value of an output, and both."""
    both = zip(cells[f"measured_{name}"], cells[name], strict=True)
    numbers = [
        (i, number(measured), number(predicted)) for i, (measured, predicted) in enumerate(both)
    ]
    return [one for one in numbers if one[1] > 0 and math.isfinite(one[1]) and one[2] > 0]


def number(text: str) -> float:
    """The number in a cell; `nan` where there is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def records(cells: Cells) -> list[dict[str, float | str | None]]:
    """A dictionary for each row: numbers as numbers, words as words, and null for what is empty."""
    columns = {
        name: [_value(text) for text in column] if _is_number(name) else [x or None for x in column]
        for name, column in cells.items()
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _is_number(name: str) -> bool:
    if name in SERVING_COLUMNS:
        return holds_numbers(name)
    return name in (*NUMBERS, *ATTENTION_FFN_OUTPUTS, *SIMULATED) or name.startswith("measured_")


def _value(text: str) -> float | str | None:
    """The number of a cell; what is none as it stands, for its row says what is wrong."""
    value = number(text)
    if not math.isfinite(value):
        return text or None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
