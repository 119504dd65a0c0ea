"""Tables: printed, put into pages, and written as JSON."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Table(NamedTuple):
    """A table: its title, names of columns, rows of text, and a note that a page has below it."""

    title: str
    names: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def records(self) -> list[dict[str, str]]:
        """A dictionary for each row."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]


def width_of(table: Table) -> int:
    """Characters of the longest printed line, with two between columns."""
    columns = zip(*(table.names, *table.rows), strict=True)
    return sum(
        2 + max(len(line) for text in column for line in text.split("\n")) for column in columns
    )


def table_of(title: str, records: Sequence[Mapping[str, str]], note: str = "") -> Table:
    """A table of rows, one at least, each with a text for each column's name."""
    return Table(title, list(records[0]), [tuple(record.values()) for record in records], note)


def cell(value: Any) -> str:
    """A number, also one that is written as text, in four digits; other words as they are."""
    from perfmodel.units import figures  # JAX comes with it, for which help does not wait

    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value or "")
    return figures(number) if math.isfinite(number) else str(value)
