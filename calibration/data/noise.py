"""How far a measured time may be from its own repeats, as columns `spread` and `repeats` say."""

from collections.abc import Mapping, Sequence

import numpy as np

from perfmodel.kernels.kernel_table import number_of

MEDIAN_OF_QUARTILES = 1.2533 / 1.349
"""Standard error of a median of n normal numbers, over their interquartile range and times sqrt(n): that of a
median is sqrt(pi / 2) of a mean's, and the range is 1.349 standard deviations."""

MAX_NOISE = 0.02
"""Relative standard error of a measured median that is as good as none: fits leave 4 % and more."""


def standard_error(spread: np.ndarray, repeats: np.ndarray) -> np.ndarray:
    """Relative standard error of medians.

    **Arguments:**

    - `spread`: interquartile range of the calls over their median; `repeats`: how many calls.
    """
    return MEDIAN_OF_QUARTILES * spread / np.sqrt(np.maximum(repeats, 1.0))


def noise_of(cells: Mapping[str, Sequence[str]], count: int) -> np.ndarray:
    """Relative standard error of each of `count` rows; 0 where a row does not say its spread."""
    spread, repeats = (
        np.array([number_of(text.strip()) for text in cells.get(name, [""] * count)])
        for name in ("spread", "repeats")
    )
    known = np.where(np.isfinite(spread) & (spread > 0), spread, 0.0)
    return standard_error(known, np.where(np.isfinite(repeats), repeats, 1.0))
