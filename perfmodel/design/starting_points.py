"""Where lanes begin: spread over the space and over the discrete choices; and rounded designs."""

import itertools

import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from perfmodel.design.abstract_problem import AbstractLandscape, values
from perfmodel.design.sqp import Start
from perfmodel.design.variables import Space
from perfmodel.units import Values, as_scalar, as_values

GROUP = 16
"""Points that are looked at for each start, of which the best is taken."""

HOPS = (0.03, 0.5)
"""Standard deviation of a hop, in each variable's range: from short to long, spread evenly in logarithms."""

PENALTY = 10.0
"""Of a broken limit when points are compared before anything is known of its price."""

BATCH = 512
"""Points evaluated at a time: always as many, so that they are compiled once."""


def evaluate(
    land: AbstractLandscape, unit: np.ndarray, choice: np.ndarray, batch: int = BATCH
) -> tuple[np.ndarray, np.ndarray]:
    """Values and slacks of many points, `batch` at a time."""
    count = len(unit)
    size = -(-count // batch) * batch
    padded, choices = (np.resize(x, (size, x.shape[1])) for x in (unit, choice))
    found = [
        values(
            land,
            as_values(padded[at : at + batch]),
            jnp.asarray(choices[at : at + batch]),
            as_scalar(1.0),
        )
        for at in range(0, size, batch)
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


def spread(land: AbstractLandscape, count: int, seed: int, wave: int) -> tuple[np.ndarray, ...]:
    """Coordinates and choices of `count` starts: the best of more points, the next of a Sobol sequence.

    In the first wave each point has choices of its own, so that these are compared too; later
    ones, every second of which comes here, take choices in turn.
    """
    many = count * GROUP
    sequence = qmc.Sobol(land.low.shape[0], rng=np.random.default_rng(seed))
    points = sequence.fast_forward(wave * many).random(many) if wave else sequence.random(many)
    every = combinations(land.options, int(np.prod(land.options)), seed)
    turns = np.arange(many) if wave == 0 else wave // 2 * count + np.arange(many) % count
    choice = every[turns % len(every)]
    best = np.argsort(merit(*evaluate(land, points, choice)), kind="stable")[:count]
    return points[best], choice[best]


def beside(
    unit: np.ndarray,
    choice: np.ndarray,
    options: tuple[int, ...],
    ranks: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Starts beside a design: first with one choice changed, one after the other; then near and far.

    **Arguments:**

    - `ranks`: how many such starts came before each of them.
    """
    changed = neighbours(choice, options)
    least, most = HOPS
    size = least * (most / least) ** rng.random((len(ranks), 1))
    moved = np.clip(unit + size * rng.normal(size=(len(ranks), len(unit))), 0, 1)
    old = (ranks < len(changed))[:, None]
    return np.where(old, unit, moved), np.concatenate([changed, choice[None]])[
        np.minimum(ranks, len(changed))
    ]


def neighbours(choice: np.ndarray, options: tuple[int, ...]) -> np.ndarray:
    """Choices that differ in one place, one a row."""
    rows = [
        [*choice[:i], other, *choice[i + 1 :]]
        for i, count in enumerate(options)
        for other in range(count)
        if other != choice[i]
    ]
    return np.array(rows, np.int32).reshape(-1, len(options))


def at(unit: np.ndarray, choice: np.ndarray, slacks: int) -> Start:
    """Starts at given places, free to move over the whole box, with no limit moved."""
    place = as_values(unit)
    nothing = as_values(np.zeros((len(unit), slacks)))
    return Start(place, as_values(0 * unit), as_values(0 * unit + 1), jnp.asarray(choice), nothing)


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


def numbers(land: AbstractLandscape, unit: Values | np.ndarray) -> np.ndarray:
    """Variables themselves, from coordinates between 0 and 1."""
    low, high = np.asarray(land.low, float), np.asarray(land.high, float)
    return np.exp(low + (high - low) * np.asarray(unit, float))


def coordinates(land: AbstractLandscape, numbers: np.ndarray) -> np.ndarray:
    """Coordinates between 0 and 1, from the variables themselves."""
    low, high = np.asarray(land.low, float), np.asarray(land.high, float)
    return (np.log(numbers) - low) / (high - low)


def whole_bounds(land: AbstractLandscape) -> tuple[np.ndarray, np.ndarray]:
    """The least and the most whole number of each variable."""
    low, high = np.asarray(land.low, float), np.asarray(land.high, float)
    return np.ceil(np.exp(low) - 1e-4), np.floor(np.exp(high) + 1e-4)


def nearest_whole(land: AbstractLandscape, unit: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Points with numbers of things rounded."""
    rounded = np.clip(np.round(numbers(land, unit)), *whole_bounds(land))
    return np.where(whole, coordinates(land, np.maximum(rounded, 1e-9)), unit)


def ways(space: Space, vector: np.ndarray, names: tuple[str, ...], most: int) -> np.ndarray:
    """A design with other numbers of things: powers of two within their bounds, and its own."""
    plain = [name.rsplit(".", 1)[-1] for name in space.names]
    free = [i for i, name in enumerate(plain) if name in names]
    axes = [_powers(float(space.low[i]), float(space.high[i]), float(vector[i])) for i in free]
    every = np.array(list(itertools.product(*axes)))
    if len(every) > most:
        every = np.random.default_rng(0).permutation(every)[:most]
    found = np.tile(np.asarray(vector, float), (len(every), 1))
    found[:, free] = every
    return found


def _powers(low: float, high: float, own: float) -> list[float]:
    inside = np.arange(np.ceil(low / np.log(2) - 1e-6), np.floor(high / np.log(2) + 1e-6) + 1)
    return sorted({*(float(n) for n in inside * np.log(2)), own})
