"""Rows whose time can be, but is not believed: beyond a peak, lost in noise, or contradicted."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.calibration.data.noise import MAX_NOISE
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.registry import KERNELS
from perfmodel.resources import NAMES, Resources
from perfmodel.roofline import Work, busy
from perfmodel.units import Scalar, Values
from perfmodel.workload.plan import Plan

MIN_OF_MATRIX_PEAK = 0.8
"""Of the time that the matrix units' peak allows: clocks go some percent above its own (estimated)."""

MAX_CONTRADICTION = 1.5
"""Factor between a row and the median of its shape's rows: more is no noise, something else was timed."""

BEYOND_PEAK = f"the time is less than {MIN_OF_MATRIX_PEAK:g} of what the matrix units' peak allows"
NOISY = "its calls differ by more than its time does from what the model says before the fit"
CONTRADICTED = (
    f"other rows of its shape have times that differ by a factor of {MAX_CONTRADICTION:g} or more"
)


ALL_BUT_CACHES = tuple(name for name in NAMES if name not in ("private", "shared"))
"""Resources whose peaks bound a time; not the tiers on the chip, which a fit may pass."""


@eqx.filter_jit
def lower_bound(
    op: str,
    chip: Chip,
    plan: Plan,
    columns: dict[str, Values],
    counted: tuple[str, ...] = ALL_BUT_CACHES,
) -> Values:
    """Time that the peak rates of some resources allow for each row, in s.

    Of each kernel the best alternative counts, by the longest of its `counted` resources.
    """

    def longest(work: Work) -> Scalar:
        terms = dict(busy(chip, Work(work.demand, Resources(), dtype=work.dtype)).items())
        some = [term for name, term in terms.items() if name in counted]
        return jnp.min(functools.reduce(jnp.maximum, some, jnp.zeros(())))

    def of_row(row: dict) -> Scalar:
        works = KERNELS[op](**row).count(chip, plan)
        return jnp.sum(jnp.stack([longest(work) for work in works]))

    return jax.vmap(of_row)(columns)


def lost_in_noise(time: np.ndarray, expected: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Which rows are noisier than what they would change.

    **Arguments:**

    - `time`, `expected`: measured, and as the model says before the fit, in s.
    - `noise`: relative standard error of each.
    """
    effect = np.abs(np.log(time / expected))
    return (noise > MAX_NOISE) & (noise > effect)


def contradicted(columns: dict[str, np.ndarray], time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows differ from the median of their shape's rows by more than `MAX_CONTRADICTION`, and that
    median in s. Of two rows that differ so nobody can say which is right: both do.
    """
    values = np.stack([np.asarray(column, float) for column in columns.values()], axis=1)
    shape = np.unique(values, axis=0, return_inverse=True)[1].ravel()
    middle = np.array([np.median(time[shape == i]) for i in range(shape.max() + 1)])[shape]
    pairs = np.array([_is_torn(time[shape == i]) for i in range(shape.max() + 1)])[shape]
    ratio = np.maximum(time / middle, middle / time)
    return (ratio > MAX_CONTRADICTION) | pairs, middle


def _is_torn(times: np.ndarray) -> bool:
    """Whether there are two, which contradict each other."""
    return len(times) == 2 and times.max() / times.min() > MAX_CONTRADICTION
