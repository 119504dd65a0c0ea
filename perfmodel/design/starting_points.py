"""Where starts begin: a Sobol sequence over box and choices, hops from a design, powers of two."""

import itertools

import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

from perfmodel.design.abstract_problem import AbstractProblem, evaluate_all, merit, nearest_integer
from perfmodel.design.sqp import Start
from perfmodel.design.variables import Space, plain_name
from perfmodel.units import as_values

POINTS_PER_START = 16
"""Points that are looked at for each start, of which the best is taken."""

PERTURBATIONS = (0.03, 0.5)
"""Standard deviation of a hop, in each variable's range: from short to long, spread evenly in logarithms."""


def combinations(options: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    """`count` rows of discrete choices: all in turn, or as many of them, at random, as there is place for."""
    every = np.array(list(itertools.product(*map(range, options))), np.int32)
    order = (
        np.random.default_rng(seed).permutation(len(every)) if len(every) > count else slice(None)
    )
    return np.resize(every[order], (count, len(options)))


def sampled_starts(
    problem: AbstractProblem, count: int, seed: int, wave: int
) -> tuple[np.ndarray, ...]:
    """Coordinates and choices of `count` starts: the best of more points, the next of a Sobol sequence.

    In the first wave each point has choices of its own, so that these are compared too; later
    ones, every second of which comes here, take choices in turn.
    """
    many = count * POINTS_PER_START
    sequence = qmc.Sobol(problem.low.shape[0], rng=np.random.default_rng(seed))
    points = sequence.fast_forward(wave * many).random(many) if wave else sequence.random(many)
    every = combinations(problem.options, int(np.prod(problem.options)), seed)
    turns = np.arange(many) if wave == 0 else wave // 2 * count + np.arange(many) % count
    choice = every[turns % len(every)]
    best = np.argsort(merit(*evaluate_all(problem, points, choice)), kind="stable")[:count]
    return points[best], choice[best]


def perturbed_starts(
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
    changed = single_changes(choice, options)
    least, most = PERTURBATIONS
    size = least * (most / least) ** rng.random((len(ranks), 1))
    moved = np.clip(unit + size * rng.normal(size=(len(ranks), len(unit))), 0, 1)
    old = (ranks < len(changed))[:, None]
    return np.where(old, unit, moved), np.concatenate([changed, choice[None]])[
        np.minimum(ranks, len(changed))
    ]


def single_changes(choice: np.ndarray, options: tuple[int, ...]) -> np.ndarray:
    """Choices that differ in one place, one a row."""
    rows = [
        [*choice[:i], other, *choice[i + 1 :]]
        for i, count in enumerate(options)
        for other in range(count)
        if other != choice[i]
    ]
    return np.array(rows, np.int32).reshape(-1, len(options))


def start_at(unit: np.ndarray, choice: np.ndarray) -> Start:
    """Starts at given places, free to move over the whole box."""
    place = as_values(unit)
    return Start(place, jnp.zeros_like(place), jnp.ones_like(place), jnp.asarray(choice))


GRID_POINTS = 12**4
"""Points of a grid, or of a sequence where a grid would have too many."""


def grid_best(problem: AbstractProblem, integer: np.ndarray, slack: float) -> tuple[float, int]:
    """The best of a grid over the same space, integers where they are asked, and how many points it has.

    With more than four variables a Sobol sequence takes its place. Infinite where no point keeps
    all limits to `slack`.
    """
    size = problem.low.shape[0]
    if size <= 4:
        axis = np.linspace(0, 1, int(GRID_POINTS ** (1 / size) + 1e-9))
        unit = np.stack(np.meshgrid(*[axis] * size), -1).reshape(-1, size)
    else:
        unit = qmc.Sobol(size, rng=np.random.default_rng(0)).random(2**14)
    unit = nearest_integer(problem, unit, integer)
    value, slacks = evaluate_all(problem, unit, combinations(problem.options, len(unit), 0))
    kept = np.all(slacks > -slack, axis=1) & np.isfinite(value)
    return float(np.min(value[kept], initial=np.inf)), len(unit)


def variants(space: Space, unit: np.ndarray, names: tuple[str, ...], most: int) -> np.ndarray:
    """A design with other numbers of some things: powers of two within their bounds, and its own."""
    own = space.logarithms(unit)
    free = [i for i, name in enumerate(space.names) if plain_name(name) in names]
    axes = [_powers_of_two(space.low[i], space.high[i], own[i]) for i in free]
    every = np.array(list(itertools.product(*axes)))
    if len(every) > most:
        every = np.random.default_rng(0).permutation(every)[:most]
    found = np.tile(own, (len(every), 1))
    found[:, free] = every
    return space.unit(found)


def _powers_of_two(low: float, high: float, own: float) -> list[float]:
    inside = np.arange(np.ceil(low / np.log(2) - 1e-6), np.floor(high / np.log(2) + 1e-6) + 1)
    return sorted({*(float(n) for n in inside * np.log(2)), float(own)})
