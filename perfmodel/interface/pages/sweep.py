"""The report of a sweep: the best of its points, and the front of each machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet

from perfmodel.interface.pages.page import (
    FITTED_BASIS,
    SERVING_TERMS,
    Page,
    Picture,
    sources_of,
    usd_note,
)
from perfmodel.interface.plots import lines
from perfmodel.interface.tables import Table, cell

pc: Any = pyarrow.compute  # its functions are made when it is imported

SPEED, PRICE, ENERGY = (
    "output_tokens_per_s_per_user",
    "usd_per_million_output_tokens",
    "joules_per_output_token",
)
ORDERS = {
    "fastest": (SPEED, "descending"),
    "cheapest": (PRICE, "ascending"),
    "least energy": (ENERGY, "ascending"),
}
"""What the tables are sorted by."""

MAX_ROWS, MAX_MACHINES = 10, 6
"""Rows of a table, and machines of the picture, at most."""

COLUMNS_SHOWN = (
    "chip",
    "n_chips",
    "model",
    "precision",
    "isl",
    "osl",
    "concurrency",
    SPEED,
    PRICE,
    "cost_basis",
    ENERGY,
    "bound",
)


def sweep_page(grid: Path, out: Path) -> Page:
    """The best points of a sweep's file that fit, and speed against price by machine."""
    table = _read(out)
    count, good = len(table), _fitting(table)
    said = [f"{len(good):,} of {count:,} points of {grid.name} fit on their machines."]
    parts: list[Table | Picture] = []
    points = list(_fronts(good))
    if points:
        caption = "Points that no other of the same machine beats in both."
        parts.append(Picture(lines.speed_against_price(points), caption))
    parts += [_best(good, f"The {word}", *by) for word, by in ORDERS.items() if len(good)]
    names = [pc.unique(good[name]).to_pylist() for name in ("chip", "model")]
    return Page(
        f"Sweep of {grid.name}",
        said,
        parts,
        (*SERVING_TERMS, usd_note(), *FITTED_BASIS),
        sources_of(*names),
    )


def _read(out: Path) -> pa.Table:
    if out.suffix == ".parquet":
        return pyarrow.parquet.read_table(out)
    return pyarrow.csv.read_csv(out)


def _fitting(table: pa.Table) -> pa.Table:
    """Points that fit; a file of text says it in words."""
    return table.filter(pc.equal(pc.utf8_lower(pc.cast(table["fits"], pa.string())), "true"))


def _best(table: pa.Table, title: str, column: str, order: str) -> Table:
    names = [name for name in COLUMNS_SHOWN if name in table.column_names]
    known = table.filter(pc.is_finite(pc.cast(table[column], pa.float64())))
    rows = (
        known.select(names).take(pc.sort_indices(known, [(column, order)])[:MAX_ROWS]).to_pylist()
    )
    return Table(title, names, [tuple(cell(row[name]) for name in names) for row in rows])


def _fronts(table: pa.Table) -> Iterator[lines.FrontPoint]:
    """The points of each machine that none of its own beats; the machines with the cheapest points."""
    keys = [name for name in ("chip", "n_chips", "model") if name in table.column_names]
    known = table.filter(pc.is_finite(pc.cast(table[PRICE], pa.float64())))
    cheapest = known.group_by(keys).aggregate([(PRICE, "min")]).sort_by(f"{PRICE}_min")
    for machine in cheapest.select(keys).slice(0, MAX_MACHINES).to_pylist():
        own = known
        for name, value in machine.items():
            own = own.filter(pc.equal(own[name], value))
        for speed, price, users in _front(own):
            yield lines.FrontPoint(_name(**machine), speed, price, f"{users:g} users")


def _name(chip: str, model: str, n_chips: float | None = None) -> str:
    """A machine and its model, as in other pictures."""
    return f"{chip}, {model}" if n_chips is None else f"{n_chips:g} x {chip}, {model}"


def _front(table: pa.Table) -> list[tuple[float, float, float]]:
    """From the fastest on, each that is cheaper than all that are faster."""
    speed, price, users = (
        table[name].to_numpy().astype(float) for name in (SPEED, PRICE, "concurrency")
    )
    order = np.lexsort((price, -speed))
    least = np.minimum.accumulate(price[order])
    kept = order[np.r_[True, price[order][1:] < least[:-1]]]
    return [(float(speed[i]), float(price[i]), float(users[i])) for i in kept]
