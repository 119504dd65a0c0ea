"""How far predictions lie from measurements, in the terms of the protocol."""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

LOW, HIGH = 0.05, 0.95
"""Ends of the 90 % interval."""


class Errors(NamedTuple):
    """Errors of predicted against measured times.

    - `rows`: how many.
    - `mean`, `median`, `p90`: of |predicted / measured - 1|.
    - `bias`: mean of ln(predicted / measured).
    - `rank`: Spearman's rank correlation of predicted and measured.
    """

    rows: int
    mean: float
    median: float
    p90: float
    bias: float
    rank: float


def errors(predicted: np.ndarray, measured: np.ndarray) -> Errors:
    """Errors of predictions; all zero where there are no rows."""
    if len(measured) == 0:
        return Errors(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    relative = np.abs(predicted / measured - 1)
    return Errors(
        rows=len(measured),
        mean=float(relative.mean()),
        median=float(np.median(relative)),
        p90=float(np.quantile(relative, 0.9)),
        bias=float(np.mean(np.log(predicted / measured))),
        rank=_rank_correlation(predicted, measured),
    )


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 3:
        return 0.0
    of_a, of_b = (rankdata(x) for x in (a, b))  # equal values share their mean rank
    spread = of_a.std() * of_b.std()
    return float(np.mean((of_a - of_a.mean()) * (of_b - of_b.mean())) / spread) if spread else 0.0


def interval(predicted: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """Factors on a prediction between which 90 % of the measured times lie."""
    ratio = measured / predicted
    return float(np.quantile(ratio, LOW)), float(np.quantile(ratio, HIGH))


def coverage(predicted: np.ndarray, measured: np.ndarray, factors: tuple[float, float]) -> float:
    """Share of measured times inside the interval."""
    if len(measured) == 0:
        return 0.0
    ratio = measured / predicted
    return float(np.mean((ratio >= factors[0]) & (ratio <= factors[1])))
