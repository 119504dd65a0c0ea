"""How wide a 90 % range is where no fit speaks: from chips that were left out of every fit.

`protocol.csv` says of each table of a chip that was left out how far its measurements lie from what other
chips' fits predict: the mean of ln(predicted / measured), and the 90th percentile of
|predicted / measured - 1|. ln(measured / predicted) is taken as normal, with that mean and that percentile.
The tables of a chip weigh equally, and so do the chips; the range is between the 5th and the 95th percentile
of all together.

`python -m perfmodel.calibration.ranges` prints what `prior.toml` holds.
"""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perfmodel.calibration.errors import HIGH, LOW
from perfmodel.kernels.registry import OPERATIONS
from perfmodel.library.fitted import FITTED, Interval

WITHIN = 0.9
"""Share of a table's rows whose error is at most its `p90`."""

UNSEEN = "architecture"
"""The split of chips of whose architecture no chip was fitted."""

GRID = np.linspace(-4.0, 4.0, 8001)
"""Logarithms of measured over predicted among which percentiles are sought."""

NARROWEST = 1e-3
"""Spread of a table's logarithms, at least."""


class Table(NamedTuple):
    """Errors of one table of a chip: mean of ln(predicted / measured), and the 90th percentile of
    |predicted / measured - 1|.
    """

    chip: str
    bias: float
    p90: float


def tables_of(protocol: Path, split: str) -> dict[str, list[Table]]:
    """Tables of a split of the protocol, by family of kernels."""
    found: dict[str, list[Table]] = {}
    with protocol.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["split"] == split and row["p90"]:
                table = Table(row["chip"], float(row["bias"]), float(row["p90"]))
                found.setdefault(OPERATIONS[row["op"]].family, []).append(table)
    return found


def range_of(tables: Sequence[Table]) -> Interval:
    """Factors on a prediction between which 90 % of the measurements of a chip like these are expected."""
    chips = [table.chip for table in tables]
    share = sum(_below(table) / chips.count(table.chip) for table in tables) / len(set(chips))
    low, high = np.exp(np.interp([LOW, HIGH], share, GRID))
    return Interval(float(low), float(high))


def _below(table: Table) -> np.ndarray:
    """Share of a table's logarithms of measured over predicted below each of `GRID`."""
    return _normal((GRID + table.bias) / spread_of(table))


def spread_of(table: Table) -> float:
    """Standard deviation with which 90 % of a table's errors are at most its `p90`."""
    low, high = NARROWEST, 10.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        wide = _inside(table, middle) < WITHIN
        low, high = (low, middle) if wide else (middle, high)
    return math.sqrt(low * high)


def _inside(table: Table, spread: float) -> float:
    """Share of |predicted / measured - 1| at most `p90` where ln(predicted / measured) is normal."""
    most = _normal(np.array([(math.log1p(table.p90) - table.bias) / spread]))
    least = 0.0
    if table.p90 < 1:
        least = _normal(np.array([(math.log1p(-table.p90) - table.bias) / spread]))
    return float((most - least)[0])


def _normal(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * (1 + math.erf(one / math.sqrt(2))) for one in x])


STUDENT = {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015}
"""95th percentile of Student's distribution by degrees of freedom."""


def range_of_few(factors: Sequence[float]) -> Interval:
    """The 90 % range of one more of few independent factors of measured over predicted times.

    Their logarithms are taken as normal, of unknown mean and spread: Student's prediction interval.
    """
    logs, count = np.log(factors), len(factors)
    half = STUDENT[count - 1] * float(np.std(logs, ddof=1)) * math.sqrt(1 + 1 / count)
    low, high = np.exp(np.mean(logs) + np.array([-half, half]))
    return Interval(float(low), float(high))


def kernel_ranges(protocol: Path = FITTED / "protocol.csv") -> dict[str, Interval]:
    """Of a chip that no fit speaks for: by family, and of all families together under `interval`."""
    tables = tables_of(protocol, UNSEEN)
    found = {family: range_of(own) for family, own in sorted(tables.items())}
    return found | {"interval": range_of([one for own in tables.values() for one in own])}


def lines(found: Iterable[tuple[str, Interval]]) -> list[str]:
    """Ranges as `prior.toml` has them."""
    return [f"{name}: low = {one.low:.4g}, high = {one.high:.4g}" for name, one in found]


if __name__ == "__main__":
    print("\n".join(lines(kernel_ranges().items())))
