"""USD of a million tokens over the price of HBM, as `perfmodel sweep memory-price` writes and prints them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from perfmodel.errors import InputError
from perfmodel.files import write_csv
from perfmodel.inference.serving_row import number
from perfmodel.inference.sweep import check_out
from perfmodel.interface.tables import Table
from perfmodel.library.model import load_model

if TYPE_CHECKING:  # other sweeps need no search of designs, which this is made of
    from perfmodel.studies.memory_break_even import Asked

NAME = "memory-price"
"""What stands in place of a grid."""

PRICES = tuple(float(one) for one in np.geomspace(2, 200, 41).round(3))
"""USD/GB of HBM where none are given."""

PICTURE = ".svg"
"""Format of the picture, which lies beside the table."""


def asked_of(model: str, speed: str, isl: float, osl: float) -> "Asked":
    """What is asked.

    **Raises:**

    - `InputError`: for an unknown model, and for what is missing or no number above zero.
    """
    from perfmodel.studies.memory_break_even import Asked

    for name, given in (("--model", model), ("--speed", speed)):
        if not given:
            raise InputError(f"{name} is missing; `perfmodel sweep {NAME}` needs it.")
    load_model(model)
    sizes = (number(name, f"{x}") for name, x in (("isl", isl), ("osl", osl), ("speed", speed)))
    return Asked(model, *sizes)


def prices_of(words: Sequence[str]) -> list[float]:
    """Prices of HBM in USD/GB, in their order.

    **Raises:**

    - `InputError`: for one that is no number above zero.
    """
    return sorted(number("usd_per_gb", word) for word in words) or list(PRICES)


def run(
    asked: "Asked", prices: Sequence[float], out: Path, progress: Callable[[int, int], None]
) -> Table:
    """Write a line for each price and memory, and their picture beside; and the break-even prices.

    **Raises:**

    - `InputError`: for a place that cannot be written, and for a speed that no machine with HBM gives.
    """
    from perfmodel.interface.plots import theme
    from perfmodel.interface.plots.studies import draw
    from perfmodel.studies.memory_break_even import break_even_table, lines, picture, price_rows

    if out.suffix != ".csv":
        raise InputError(f"{out} does not end in .csv; give --out a name that does.")
    check_out(out)
    found = lines(asked, progress)
    rows = price_rows(found, prices)
    write_csv(out, pa.Table.from_pylist(rows))
    theme.save(draw(picture(asked, rows)), out.with_suffix(PICTURE))
    table = break_even_table(found)
    title = f"{asked.model} at {asked.speed:g} tokens/s a user (cost_basis owner)"
    return Table(title, list(table.names), list(table.rows))
