"""What USD a row of the serving schema asks for: a basis, or a quote."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from perfmodel.errors import InputError
from perfmodel.inference.serving_row import number
from perfmodel.library.files import word_of
from perfmodel.library.ledger import ASKED_BASES, COST_BASES, NOTHING_ASKED, AskedCost, chip_cost

READ = ("cost_basis", "usd_per_chip_hour")
"""Columns."""

HOUR = 3600.0
"""Seconds."""


def asked_cost(cells: Mapping[str, str], stems: Iterable[str]) -> AskedCost:
    """What a row asks for, of chips that can give it; empty stems are passed over.

    **Raises:**

    - `InputError`: for an unknown basis or one that a chip does not give, and for a quote that is missing
      or not above zero.
    """
    asked = _asked(*(cells.get(name, "").strip() for name in READ))
    for stem in filter(None, stems):
        chip_cost(stem, asked)
    return asked


def _asked(cell: str, price: str) -> AskedCost:
    """A price beside another basis than `quote` is that of an earlier prediction."""
    basis = asked_basis(cell) or ("quote" if price and not cell else "")
    if basis != "quote":
        return AskedCost(basis)
    hour = number("usd_per_chip_hour", price)
    if np.isnan(hour):
        raise InputError(
            "cost_basis is quote, but usd_per_chip_hour is missing; give USD for each hour of a chip."
        )
    return AskedCost(basis, hour / HOUR)


def asked_basis(cell: str) -> str:
    """The basis that a cell asks for; empty where it does not, or where a prediction wrote several.

    **Raises:**

    - `InputError`: for an unknown one.
    """
    words = [word.strip() for word in cell.split("+")]
    if words in ([""], ["unknown"]) or (len(words) > 1 and set(words) <= {*COST_BASES}):
        return NOTHING_ASKED.basis
    return word_of(cell, ASKED_BASES, "cost_basis")


def asked_cells(cells: Mapping[str, Sequence[str]], count: int) -> dict[str, list[str]]:
    """The columns without the prices that an earlier prediction wrote: a row with an error has none."""
    bases, prices = (cells.get(name, [""] * count) for name in READ)
    quoted = [basis.strip().lower() in ("", "quote") for basis in bases]
    kept = [price if quote else "" for price, quote in zip(prices, quoted, strict=True)]
    return dict(zip(READ, ([*bases], kept), strict=True))
