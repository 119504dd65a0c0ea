"""The report of a sweep: the best of its points, and the front of each machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from perfmodel.inference.serving_row import RANKS
from perfmodel.interface.pages.page import (
    FITTED_BASIS,
    SERVING_TERMS,
    Page,
    Picture,
    sources_of,
    usd_note,
)
from perfmodel.interface.plots import lines
from perfmodel.interface.sweep_tables import (
    CHIP,
    ENERGY,
    ORDERS,
    PRICE,
    SPEED,
    best_points,
    fitting,
    known_points,
    read_points,
)
from perfmodel.interface.tables import Table, cell

pc: Any = pyarrow.compute  # its functions are made when it is imported

MAX_ROWS, MAX_MACHINES = 10, 60
"""Rows of a table, and machines of a picture, at most."""

COLUMNS_SHOWN = (
    "chip",
    "n_chips",
    "model",
    "precision",
    "framework",
    "isl",
    "osl",
    "concurrency",
    *RANKS[1:],
    SPEED,
    CHIP,
    PRICE,
    "cost_basis",
    ENERGY,
    "bound",
)


def sweep_page(grid: Path, out: Path) -> Page:
    """The best points of a sweep's file that fit, and speed against price by machine."""
    table = read_points(out)
    count, good = len(table), fitting(table)
    said = [f"{len(good):,} of {count:,} points of {grid.name} fit on their machines."]
    parts: list[Table | Picture] = _pictures(good)
    parts += [
        _best(good, f"The {word}", *by)
        for word, by in ORDERS.items()
        if len(good) and by[0] in good.column_names
    ]
    names = [pc.unique(good[name]).to_pylist() for name in ("chip", "model")]
    return Page(
        f"Sweep of {grid.name}",
        said,
        parts,
        (*SERVING_TERMS, usd_note(), *FITTED_BASIS),
        sources_of(*names),
    )


def _best(table: pa.Table, title: str, column: str, order: str) -> Table:
    names = [name for name in COLUMNS_SHOWN if name in table.column_names]
    rows = best_points(table, column, order, MAX_ROWS).select(names).to_pylist()
    return Table(title, names, [tuple(cell(row[name]) for name in names) for row in rows])


def _pictures(table: pa.Table) -> list[Table | Picture]:
    """Speed of a user against throughput of a chip, and against price: a line for each machine."""
    found: list[Table | Picture] = []
    for column, draw in DRAWN.items():
        points = list(_fronts(table, column)) if column in table.column_names else []
        if points:
            found.append(Picture(draw(points), _caption(table, column)))
    return found


DRAWN = {CHIP: lines.speed_against_throughput, PRICE: lines.speed_against_price}
"""What speed is drawn against; of throughput more is better, of a price less."""


def _caption(table: pa.Table, column: str) -> str:
    more = len(_machines(known_points(table, column), column)) - MAX_MACHINES
    not_drawn = f" {more:,} machines are not drawn: the worst at their best." if more > 0 else ""
    return f"Points that no other of the same machine beats in both.{not_drawn}"


def _machines(known: pa.Table, column: str) -> list[dict[str, Any]]:
    """Every machine with its model, the one with the best point of a column first."""
    keys = [name for name in ("chip", "n_chips", "model") if name in known.column_names]
    best, order = ("max", "descending") if column == CHIP else ("min", "ascending")
    found = known.group_by(keys).aggregate([(column, best)])
    return found.sort_by([(f"{column}_{best}", order)]).select(keys).to_pylist()


def _fronts(table: pa.Table, column: str) -> Iterator[lines.FrontPoint]:
    """The points of each machine that none of its own beats."""
    known = known_points(table, column)
    for machine in _machines(known, column)[:MAX_MACHINES]:
        own = known
        for name, value in machine.items():
            own = own.filter(pc.equal(own[name], value))
        for speed, value, users in _front(own, column):
            yield lines.FrontPoint(_name(**machine), speed, value, f"{users:g} users")


def _name(chip: str, model: str, n_chips: float | None = None) -> str:
    """A machine and its model, as in other pictures."""
    return f"{chip}, {model}" if n_chips is None else f"{n_chips:g} x {chip}, {model}"


def _front(table: pa.Table, column: str = PRICE) -> list[tuple[float, float, float]]:
    """From the fastest on, each that is better in a column than all that are faster."""
    speed, value, users = (
        table[name].to_numpy().astype(float) for name in (SPEED, column, "concurrency")
    )
    worse = -value if column == CHIP else value
    order = np.lexsort((worse, -speed))
    least = np.minimum.accumulate(worse[order])
    kept = order[np.r_[True, worse[order][1:] < least[:-1]]]
    return [(float(speed[i]), float(value[i]), float(users[i])) for i in kept]
