"""Draws of what is not known exactly: the answers of a study are a share of them."""

from typing import Any, NamedTuple

import numpy as np

from perfmodel.library.fitted import Interval
from perfmodel.library.market import Spread

COUNT = 2000
"""Draws: the share of a verdict is then known to about one in a hundred."""

NINE_TENTHS = 1.6449
"""Standard deviations within which nine of ten values of a normal distribution lie."""


class Draws:
    """A stream of draws that is the same whenever a study runs."""

    def __init__(self, seed: int = 0):
        self._random = np.random.default_rng(seed)

    def of(self, known: Spread) -> np.ndarray:
        """Draws around a number, log-normal on each side: its median is `value`, nine of ten within."""
        normal = self._random.standard_normal(COUNT) / NINE_TENTHS
        low, high = np.log(known.value / known.low), np.log(known.high / known.value)
        return known.value * np.exp(normal * np.where(normal < 0, low, high))

    def factor(self, interval: Interval) -> np.ndarray:
        """Draws of a factor on predictions, from the interval that the fit gives them."""
        return self.of(Spread(1.0, interval.low, interval.high))


class Middle(NamedTuple):
    """The median of draws, and between what nine of ten lie."""

    median: float
    low: float
    high: float


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
