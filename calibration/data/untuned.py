"""Groups of rows whose kernel was not tuned: they break what holds for any kernel that was.

A group is one model on one split over tensor and expert ranks. A rank with no more of the work than another
may take `MAX_SLOWDOWN` times as long, and no more. A rank with n times the work of another could do it in n
turns: n times as long, times `MAX_SLOWDOWN`, is the most. Launches hide that among few tokens: a quarter of
the sizes is enough.
"""

import numpy as np

from perfmodel.calibration.data.measurements import Measurements
from perfmodel.calibration.split import MODEL_COLUMNS

MAX_SLOWDOWN = 1.25
"""What noise and another tile may add."""

TURNS_QUANTILE = 0.75
"""Of the ratios of a rank to one with a part of its work, over the numbers of tokens, that is compared."""

SAME_WORK = (*MODEL_COLUMNS, "routing")
"""Columns in which the ranks that are compared agree."""


def without_slow_groups(table: Measurements, turns: bool) -> Measurements:
    """Without groups that are slower than a rank with more of the work, or than the turns of one with less.

    **Arguments:**

    - `turns`: whether the second rule holds: not where a part stays in an L2 from one replay to the next, and
      main memory is many times slower (GDDR).
    """
    columns = table.columns
    models = np.stack([columns[name] for name in SAME_WORK], 1)
    _, model = np.unique(models, axis=0, return_inverse=True)
    tokens, place = np.unique(columns["tokens"], return_inverse=True)
    sound = np.ones(len(table.time), bool)
    for which in range(model.max() + 1):
        rows = np.flatnonzero(model.ravel() == which)
        ranks = np.stack([columns["tp"][rows], columns["ep"][rows]], 1)
        splits, group = np.unique(ranks, axis=0, return_inverse=True)
        times = np.full((len(splits), len(tokens)), np.nan)
        times[group.ravel(), place.ravel()[rows]] = table.time[rows]
        slow = slower_than_whole(splits, times)
        if turns:
            slow |= slower_than_turns(splits, times)
        sound[rows] = ~slow[group.ravel()]
    return table.take(np.flatnonzero(sound))


def slower_than_whole(splits: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Which splits are too slow beside one with no more ranks of either kind, on the tokens of both."""
    return _slow(times, _at_least(splits), np.ones((len(splits), len(splits))), 0.5)


def slower_than_turns(splits: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Which splits are slower than one with no fewer ranks of either kind would do their work in turns."""
    ranks = np.prod(splits, axis=1)
    return _slow(times, _at_least(splits).T, ranks / ranks[:, None], TURNS_QUANTILE)


def _at_least(splits: np.ndarray) -> np.ndarray:
    """Whether the first of two splits has no fewer ranks of either kind than the second."""
    return np.all(splits[:, None] >= splits, axis=2) & ~np.eye(len(splits), dtype=bool)


def _slow(times: np.ndarray, compared: np.ndarray, most: np.ndarray, quantile: float) -> np.ndarray:
    """Which splits take over `most` times as long as one compared, at a quantile of the ratios."""
    slow = np.zeros(len(times), bool)
    for a, b in zip(*np.nonzero(compared), strict=True):
        both = np.isfinite(times[a]) & np.isfinite(times[b])
        ratios = times[a][both] / times[b][both]
        slow[a] |= both.any() and np.quantile(ratios, quantile) > MAX_SLOWDOWN * most[a, b]
    return slow
