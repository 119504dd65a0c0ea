"""How far predictions lie from measurements, in the terms of the protocol."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy.stats import rankdata

from perfmodel.calibration.data.measurements import Measurements

K = TypeVar("K")
T = TypeVar("T")


def grouped(pairs: Iterable[tuple[K, T]]) -> dict[K, list[T]]:
    """Items by their keys, in the order of the keys."""
    groups: dict[K, list[T]] = {}
    for key, item in pairs:
        groups.setdefault(key, []).append(item)
    return groups


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


def relative_errors(predicted: Sequence[float] | np.ndarray, known: Any) -> np.ndarray:
    """|predicted / known - 1|."""
    return np.abs(np.asarray(predicted, float) / np.asarray(known, float) - 1)


def errors(predicted: np.ndarray, measured: np.ndarray) -> Errors:
    """Errors of predictions; all zero where there are no rows."""
    if len(measured) == 0:
        return Errors(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    relative = relative_errors(predicted, measured)
    return Errors(
        rows=len(measured),
        mean=float(relative.mean()),
        median=float(np.median(relative)),
        p90=float(np.quantile(relative, 0.9)),
        bias=float(np.mean(np.log(predicted / measured))),
        rank=_rank_correlation(predicted, measured),
    )


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Zero where it is not defined: of two rows, or where all are equal."""
    defined = len(a) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1]) if defined else 0.0


def rounded(record: dict[str, Any], digits: int = 5) -> dict[str, Any]:
    """A record with its figures rounded."""
    return {k: round(v, digits) if isinstance(v, float) else v for k, v in record.items()}


def interval(predicted: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """Factors on a prediction between which 90 % of the measured times lie."""
    low, high = np.quantile(measured / predicted, [LOW, HIGH])
    return float(low), float(high)


def coverage(predicted: np.ndarray, measured: np.ndarray, factors: tuple[float, float]) -> float:
    """Share of measured times inside the interval."""
    if len(measured) == 0:
        return 0.0
    ratio = measured / predicted
    return float(np.mean((ratio >= factors[0]) & (ratio <= factors[1])))


def weighted_quantile(
    values: np.ndarray, weights: np.ndarray, shares: float | Sequence[float]
) -> np.ndarray:
    """The values at some shares of the weight; a value's own lies at the middle of its weight."""
    order = np.argsort(values, stable=True)
    order = order[weights[order] > 0]
    below = np.cumsum(weights[order]) - weights[order] / 2
    return np.asarray(np.interp(np.multiply(shares, weights.sum()), below, values[order]))


class Scored(NamedTuple):
    """A quantity of a chip, as predicted without it and as known: a row of the report.

    - `kind`: of die, or form of product; `split`: what the prediction has not seen.
    """

    chip: str
    quantity: str
    kind: str
    predicted: float
    known: float
    split: str = "leave-one-out"

    @property
    def error(self) -> float:
        """Relative."""
        return self.predicted / self.known - 1


# What frameworks disagree by

MIN_COMMON_SHAPES = 20
"""Shapes that two frameworks must share, for what they disagree by to be said."""


def common_ratios(one: Measurements, other: Measurements) -> np.ndarray:
    """Measured time of `other` over that of `one`, on the shapes that both have."""
    both = [np.stack([t.columns[n] for n in one.columns], axis=1) for t in (one, other)]
    keys = [np.ascontiguousarray(x).view(f"V{x.itemsize * x.shape[1]}").ravel() for x in both]
    _, mine, theirs = np.intersect1d(keys[0], keys[1], return_indices=True)
    return other.time[theirs] / one.time[mine]


def disagreement(rows: Measurements, others: Sequence[Measurements]) -> float | None:
    """Mean |a/b - 1| of other frameworks on these rows, once the median ratio is taken out.

    `None` where no other framework ran them.
    """
    ratios = [common_ratios(rows, other) for other in others]
    known = [ratio for ratio in ratios if len(ratio) >= MIN_COMMON_SHAPES]
    found = [errors(ratio, np.full_like(ratio, np.median(ratio))).mean for ratio in known]
    return float(np.mean(found)) if found else None
