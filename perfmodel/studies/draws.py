"""Draws of what is not known exactly: the answers of a study are a share of them."""

from typing import Any, NamedTuple

import numpy as np

from perfmodel.design.uncertainty import NINE_TENTHS
from perfmodel.library.economics import Spread, spread
from perfmodel.library.fitted_intervals import Interval
from perfmodel.library.schema import Quantity

COUNT = 2000
"""Draws: the share of a verdict is then known to about one in a hundred."""


class Draws:
    """A stream of draws that is the same whenever a study runs."""

    def __init__(self, seed: int = 0):
        self._random = np.random.default_rng(seed)

    def of(self, known: Spread) -> np.ndarray:
        """Draws around a number, log-normal on each side: its median is `value`, nine of ten within."""
        normal = self._random.standard_normal(COUNT) / NINE_TENTHS
        low, high = np.log(known.value / known.low), np.log(known.high / known.value)
        return known.value * np.exp(normal * np.where(normal < 0, low, high))

    def fact(self, known: Quantity | None, dimension: str) -> np.ndarray:
        """Draws of a number of the library in SI, which must be known."""
        assert known is not None
        return self.of(spread(known, dimension))

    def factor(self, interval: Interval) -> np.ndarray:
        """Draws of a factor on predictions, from the interval that the fit gives them."""
        return self.of(Spread(1.0, interval.low, interval.high))


class Middle(NamedTuple):
    """The median of draws, and between what nine of ten lie."""

    median: float
    low: float
    high: float

    @property
    def range(self) -> str:
        """Between what nine of ten lie, for a sentence."""
        return f"{show(self.low)} to {show(self.high)} in 90 %"

    def columns(self, name: str) -> dict[str, float]:
        """Of a table or a figure: the median by its name, and the edges of the band."""
        return {name: self.median, "low": self.low, "high": self.high}

    def numbers(self, name: str) -> dict[str, float]:
        """For the numbers of an answer."""
        return {name: self.median, f"{name}_low": self.low, f"{name}_high": self.high}


def middle(draws: np.ndarray) -> Middle:
    """Of draws, of which some may be infinite: what cannot be had."""
    return Middle(*map(float, np.quantile(draws, [0.5, 0.05, 0.95], method="inverted_cdf")))


def within(draws: np.ndarray) -> Middle:
    """The same, with an upper end that is no higher than what can be had, to be drawn."""
    found, known = middle(draws), draws[np.isfinite(draws)]
    return found._replace(high=min(found.high, float(np.max(known, initial=found.low))))


def share(holds: Any) -> float:
    """Of draws in which something holds."""
    return float(np.mean(holds))


def show(value: float, digits: int = 2) -> str:
    """A number for a sentence: `digits` significant digits, no exponent, commas between thousands."""
    if not np.isfinite(value):
        return "unknown"
    if value == 0:
        return "0"
    places = digits - 1 - int(np.floor(np.log10(abs(value))))
    return f"{round(value, places):,.{max(places, 0)}f}"


def or_nan(value: float) -> float:
    """A number for a table; not a number where it cannot be had."""
    return value if np.isfinite(value) else float("nan")
