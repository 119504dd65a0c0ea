"""The best points of a sweep's file, as tables and JSON."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from perfmodel.inference.serving_row import RANKS
from perfmodel.interface.serving_tables import HEADINGS
from perfmodel.interface.tables import Table, cell

pc: Any = pyarrow.compute  # its functions are made when it is imported

SPEED, CHIP, PRICE, ENERGY = (
    "output_tokens_per_s_per_user",
    "output_tokens_per_s_per_chip",
    "usd_per_million_output_tokens",
    "joules_per_output_token",
)
ORDERS = {
    "fastest": (SPEED, "descending"),
    "most tokens/s per chip": (CHIP, "descending"),
    "cheapest": (PRICE, "ascending"),
    "least energy": (ENERGY, "ascending"),
}
"""What points are sorted by."""


def read_points(out: Path, columns: list[str] | None = None) -> pa.Table:
    """The points of a file, or some of their columns, in their order."""
    if out.suffix == ".parquet":
        return pyarrow.parquet.read_table(out, columns=columns)
    table = pyarrow.csv.read_csv(out)
    return table if columns is None else table.select(columns)


def fitting(table: pa.Table) -> pa.Table:
    """Points that fit; a file of text says it in words."""
    return table.filter(pc.equal(pc.utf8_lower(pc.cast(table["fits"], pa.string())), "true"))


def known_points(table: pa.Table, column: str) -> pa.Table:
    """Points with a number in a column."""
    return table.filter(pc.is_finite(pc.cast(table[column], pa.float64())))


def best_points(table: pa.Table, column: str, order: str, most: int) -> pa.Table:
    """The first points of an order."""
    known = known_points(table, column)
    return known.take(pc.sort_indices(known, [(column, order)])[:most])


ASKED = ("chip", "n_chips", "model", "precision", "framework", "isl", "osl", "concurrency")
"""Columns that say of a point what it is of, but for its ranks."""

RESULTS = (SPEED, CHIP, PRICE, ENERGY)


def winners(out: Path) -> list[dict[str, Any]]:
    """The best point of a sweep's file by each order: its columns with their numbers, and `best`."""
    there = names_of(out)
    names = [name for name in (*ASKED, *RANKS[1:], *RESULTS, "fits") if name in there]
    good = fitting(read_points(out, names))
    found = []
    for word, (column, order) in ORDERS.items():
        found += [{"best": word} | row for row in best_points(good, column, order, 1).to_pylist()]
    return [{name: value for name, value in row.items() if name != "fits"} for row in found]


def names_of(out: Path) -> list[str]:
    """Columns of a file."""
    if out.suffix == ".parquet":
        return pyarrow.parquet.read_schema(out).names
    with pyarrow.csv.open_csv(out) as file:
        return file.schema.names


def table_of_winners(rows: list[dict[str, Any]]) -> Table:
    """The same as a table of 100 characters, without what all have alike."""
    varied = [name for name in ASKED if len({str(row.get(name)) for row in rows}) > 1]
    lines = [
        (
            row["best"],
            *(cell(row.get(name)) for name in varied),
            _ranks(row),
            *(cell(row.get(name)) for name in RESULTS),
        )
        for row in rows
    ]
    heads = [name.replace("_", "\n") for name in varied]
    return Table(
        "Best points", ["best", *heads, "ranks", *map(HEADINGS.__getitem__, RESULTS)], lines
    )


def _ranks(row: dict[str, Any]) -> str:
    """Ranks above one."""
    above = [f"{name} {row[name]:g}" for name in RANKS[1:] if (row.get(name) or 0) > 1]
    return ", ".join(above) or "tp 1"
