"""How wide a 90 % range is where no fit is used: from chips that were left out of every fit.

`protocol.csv` says of each table of a chip that was left out how far its measurements lie from what other
chips' fits predict: the mean of ln(predicted / measured), and the 90th percentile of
|predicted / measured - 1|. ln(measured / predicted) is taken as normal, with that mean and that percentile.
The tables of a chip weigh equally, and so do the chips; the range is between the 5th and the 95th percentile
of all together.

`python -m perfmodel.calibration.intervals` prints what `prior.toml` holds.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from perfmodel.calibration.metrics import HIGH, LOW, grouped
from perfmodel.calibration.protocol import read_result
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.fitted import FITTED
from perfmodel.library.fitted_intervals import Interval

WITHIN = 0.9
"""Share of a table's rows whose error is at most its `p90`."""

UNSEEN = "architecture"
"""The split of chips of whose architecture no chip was fitted."""

GRID = np.linspace(-4.0, 4.0, 8001)
"""Logarithms of measured over predicted among which percentiles are sought."""

NARROWEST, WIDEST = 1e-3, 10.0
"""Spread of a table's logarithms, at least and at most."""


class TableErrors(NamedTuple):
    """Errors of one table of a chip: mean of ln(predicted / measured), and the 90th percentile of
    |predicted / measured - 1|.
    """

    chip: str
    bias: float
    p90: float


def tables_of(protocol: Path, split: str) -> dict[str, list[TableErrors]]:
    """Tables of a split of the protocol, by family of kernels."""
    return grouped(
        (KERNELS[one["op"]].family, TableErrors(one["chip"], one["bias"], one["p90"]))
        for one in read_result(protocol)
        if one["split"] == split and one["p90"] is not None
    )


def range_of(tables: Sequence[TableErrors]) -> Interval:
    """Factors on a prediction between which 90 % of the measurements of a chip like these are expected."""
    chips = [table.chip for table in tables]
    below = [norm.cdf(GRID, -table.bias, spread_of(table)) for table in tables]
    share = sum(one / chips.count(chip) for one, chip in zip(below, chips, strict=True))
    low, high = np.exp(np.interp([LOW, HIGH], share / len(set(chips)), GRID))
    return Interval(float(low), float(high))


def spread_of(table: TableErrors) -> float:
    """Standard deviation with which 90 % of a table's errors are at most its `p90`."""

    def missed(spread: float) -> float:
        return _inside(table, spread) - WITHIN

    if missed(NARROWEST) < 0:
        return NARROWEST
    return float(brentq(missed, NARROWEST, WIDEST))  # pyright: ignore[reportArgumentType]


def _inside(table: TableErrors, spread: float) -> float:
    """Share of |predicted / measured - 1| at most `p90` where ln(predicted / measured) is normal."""
    least = math.log1p(-table.p90) if table.p90 < 1 else -np.inf
    ends = norm.cdf([least, math.log1p(table.p90)], table.bias, spread)
    return float(ends[1] - ends[0])


def kernel_ranges(protocol: Path = FITTED / "protocol.csv") -> dict[str, Interval]:
    """Of a chip that no fit is of: by family, and of all families together under `interval`."""
    tables = tables_of(protocol, UNSEEN)
    found = {family: range_of(own) for family, own in sorted(tables.items())}
    return found | {"interval": range_of([one for own in tables.values() for one in own])}


def lines(found: Iterable[tuple[str, Interval]]) -> list[str]:
    """Ranges as `prior.toml` has them."""
    return [f"{name}: low = {one.low:.4g}, high = {one.high:.4g}" for name, one in found]


if __name__ == "__main__":
    print("\n".join(lines(kernel_ranges().items())))
