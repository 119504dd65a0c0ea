"""Where lanes begin: spread over the space and over the discrete choices; and rounded designs."""

import itertools

import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from perfmodel.design.descent import Start
from perfmodel.design.landscape import AbstractLandscape, values
from perfmodel.units import as_scalar, as_values

GROUP = 8
"""Points that are looked at for each start, of which the best is taken."""

PENALTY = 10.0
"""Of a broken limit when points are compared before anything is known of its price."""

BATCH = 512
"""Points evaluated at a time: always as many, so that they are compiled once."""

MOST_ROUNDED = 16
"""Ways to round that are compared, at most, for each that is taken."""


def evaluate(
    land: AbstractLandscape, unit: np.ndarray, choice: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values and slacks of many points."""
    count = len(unit)
    size = -(-count // BATCH) * BATCH
    padded, choices = (np.resize(x, (size, x.shape[1])) for x in (unit, choice))
    found = [
        values(
            land,
            as_values(padded[at : at + BATCH]),
            jnp.asarray(choices[at : at + BATCH]),
            as_scalar(1.0),
        )
        for at in range(0, size, BATCH)
    ]
    value, slack = (np.concatenate(parts)[:count] for parts in zip(*found, strict=True))
    return value, slack


def merit(
    value: np.ndarray, slack: np.ndarray, penalty: float | np.ndarray = PENALTY
) -> np.ndarray:
    """Value and what broken limits add to it."""
    found = value + np.sum(penalty * np.maximum(-slack, 0.0), axis=-1)
    return np.where(np.isfinite(found), found, np.inf)


def combinations(options: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    """`count` rows of discrete choices: all in turn, or as many of them, at random, as there is place for."""
    every = np.array(list(itertools.product(*map(range, options))), np.int32)
    order = (
        np.random.default_rng(seed).permutation(len(every)) if len(every) > count else slice(None)
    )
    return np.resize(every[order], (count, len(options)))


def spread(
    land: AbstractLandscape, count: int, slacks: int, seed: int, first: np.ndarray | None = None
) -> Start:
    """`count` starts, each the best of a few points of a Sobol sequence with the same choices.

    **Arguments:**

    - `first`: a start that is wanted beside the others.
    """
    size = land.low.shape[0]
    points = qmc.Sobol(size, rng=np.random.default_rng(seed)).random_base2(
        max(int(np.ceil(np.log2(count * GROUP))), 1)
    )[: count * GROUP]
    choice = combinations(land.options, count, seed)
    found = merit(*evaluate(land, points, np.repeat(choice, GROUP, axis=0)))
    best = np.argmin(found.reshape(count, GROUP), axis=1) + GROUP * np.arange(count)
    unit = points[best]
    if first is not None:
        unit[0] = first
    return at(unit, choice, slacks)


def at(unit: np.ndarray, choice: np.ndarray, slacks: int) -> Start:
    """Starts at given places, free to move over the whole box, with no limit moved."""
    place = as_values(unit)
    nothing = as_values(np.zeros((len(unit), slacks)))
    return Start(place, as_values(0 * unit), as_values(0 * unit + 1), jnp.asarray(choice), nothing)


def rounded(
    land: AbstractLandscape,
    unit: np.ndarray,
    choice: np.ndarray,
    penalty: np.ndarray,
    whole: np.ndarray,
    count: int,
) -> tuple[Start, int]:
    """The `count` best ways to make variables whole, each held there, of some designs.

    Every way down and up of each whole variable is tried on each design, and compared by its
    value and what its broken limits cost by their prices; descent then repairs it.

    **Arguments:**

    - `unit`, `choice`, `penalty`: of the designs, the best first.
    - `whole`: which variables are numbers of things.

    **Returns:**

    Starts, and how many ways were compared.
    """
    low, high = np.asarray(land.low, float), np.asarray(land.high, float)
    places = np.flatnonzero(whole)
    ways = _ways(len(places), MOST_ROUNDED * count)
    bases = max(1, min(len(unit), MOST_ROUNDED * count // len(ways)))
    numbers = np.exp(low + (high - low) * unit[:bases])[:, places]
    least, most = np.ceil(np.exp(low[places]) - 1e-4), np.floor(np.exp(high[places]) + 1e-4)
    tried = np.clip(np.floor(numbers + 1e-4)[:, None] + ways[None], least, most)
    points = np.repeat(unit[:bases, None], len(ways), axis=1)
    points[..., places] = (np.log(tried) - low[places]) / (high[places] - low[places])
    points = points.reshape(-1, unit.shape[1])
    choices = np.repeat(choice[:bases], len(ways), axis=0)
    prices = np.repeat(penalty[:bases], len(ways), axis=0)
    points, index = np.unique(points, axis=0, return_index=True)
    choices, prices = choices[index], prices[index]
    found = merit(*evaluate(land, points, choices), prices)
    best = np.resize(np.argsort(found, kind="stable")[:count], count)
    start = at(points[best], choices[best], penalty.shape[1])
    held = np.where(whole, points[best], np.nan)
    ends = (as_values(np.nan_to_num(held, nan=end)) for end in (0.0, 1.0))
    low_end, high_end = ends
    return start._replace(low=low_end, high=high_end), len(points)


def _ways(count: int, most: int) -> np.ndarray:
    """Down or up for each of some variables, all ways, or as many as are compared."""
    if 2**count <= most:
        return np.array(list(itertools.product((0.0, 1.0), repeat=count)))
    return np.random.default_rng(0).integers(0, 2, (most, count)).astype(float)


MOST_POINTS = 12**4
"""Points of a grid, or of a sequence where a grid would have too many."""


def sampled(land: AbstractLandscape, whole: np.ndarray, slack: float) -> tuple[float, int]:
    """The best of a grid over the same space, whole where things are whole, and how many points it has.

    With more than four variables a Sobol sequence takes its place. Infinite where no point keeps
    all limits to `slack`.
    """
    size = land.low.shape[0]
    if size <= 4:
        axis = np.linspace(0, 1, int(MOST_POINTS ** (1 / size) + 1e-9))
        unit = np.stack(np.meshgrid(*[axis] * size), -1).reshape(-1, size)
    else:
        unit = qmc.Sobol(size, rng=np.random.default_rng(0)).random(2**14)
    unit = nearest_whole(land, unit, whole)
    value, slacks = evaluate(land, unit, combinations(land.options, len(unit), 0))
    kept = np.all(slacks > -slack, axis=1) & np.isfinite(value)
    return float(np.min(value[kept], initial=np.inf)), len(unit)


def nearest_whole(land: AbstractLandscape, unit: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Points with numbers of things rounded."""
    low, high = np.asarray(land.low, float), np.asarray(land.high, float)
    numbers = np.exp(low + (high - low) * unit)
    least, most = np.ceil(np.exp(low) - 1e-4), np.floor(np.exp(high) + 1e-4)
    rounded = np.log(np.maximum(np.clip(np.round(numbers), least, most), 1e-9))
    return np.where(whole, (rounded - low) / (high - low), unit)
