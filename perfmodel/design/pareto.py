"""Pareto fronts by continuation: the same objective with one figure held at rising targets.

All targets are lanes of one descent. Each begins at the best design; after every few steps a lane
takes its neighbour's design where that keeps its own target and is better, or where it has none yet. The
front is done when no lane takes another's design and all rest. Descents from easy targets miss designs for
hard ones, so the search is made again for two hard ones, and the front traced from what it finds, too.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.design.multistart import Found, search
from perfmodel.design.problem import Problem
from perfmodel.design.sqp import Lane, Start, begin, rests, step
from perfmodel.design.study import LARGER, OptimiserTable
from perfmodel.units import as_scalar, as_values

WIDEST = 100.0
"""Targets reach this many times the figure of the best design, as far as any design does."""

SWEEPS, STEPS = 12, 8
"""Exchanges between neighbours at most, and steps before each."""

MOST_CHOICES = 8
"""Combinations of node and memory that a front is traced for, at most: those of the best designs."""

AGAIN = (2 / 3, 5 / 6)
"""Where searches begin again: of the way from the best design's figure to the hardest target reached."""

ENOUGH = 1e-5
"""A lane with less than this to win, relative, rests."""


class Point(NamedTuple):
    """One place of a front: the figure's value, minus the logarithm of the objective, and the design.

    - `beaten`: whether another node or memory is better in both.
    """

    figure: float
    value: float
    unit: np.ndarray
    choice: np.ndarray
    beaten: bool = False


def trace(
    problem: Problem, designs: list[Found], name: str, whole: np.ndarray, options: OptimiserTable
) -> list[Point]:
    """The best objective at each value of a figure, for each node and memory, numbers of things left loose.

    **Arguments:**

    - `designs`: of a search, the best first; `name`: of the figure, limited in the problem.
    - `whole`, `options`: of the search.

    **Raises:**

    - `KeyboardInterrupt`: where a search is stopped.
    """
    larger = name in LARGER
    found = _fronts(problem, designs, name, options.starts)
    for target in _hard(found, larger):
        harder = _limited(problem, name, target)
        again = search(harder, whole, options)
        if again.stopped:
            raise KeyboardInterrupt
        found += _fronts(harder, again.designs, name, options.starts)
    return _merged(found, larger, options.points)


def _merged(found: list[Point], larger: bool, count: int) -> list[Point]:
    """The front of each node and memory, about `count` points each, and which points others beat."""
    choices = dict.fromkeys(tuple(one.choice) for one in found)
    fronts = [_best([p for p in found if tuple(p.choice) == own], larger) for own in choices]
    thinned = [point for front in fronts for point in _thinned(front, count)]
    ahead = {id(point) for point in _best(thinned, larger)}
    return [point._replace(beaten=id(point) not in ahead) for point in thinned]


def _fronts(problem: Problem, designs: list[Found], name: str, lanes: int) -> list[Point]:
    """From the best design of each node and memory; as many targets as a search has starts."""
    rows = [i for i, row in enumerate(problem.checked) if row.split(" of workload")[0] == name]
    bases: dict[tuple, Found] = {}
    for one in designs:
        bases.setdefault(tuple(one.choice), one)
    chosen = list(bases.values())[:MOST_CHOICES]
    return [point for one in chosen for point in _traced(problem, one, name, rows, lanes)]


def _hard(found: list[Point], larger: bool) -> list[float]:
    """Targets for which the search is made again."""
    if not found:
        return []
    first = min(found, key=lambda one: one.value).figure
    last = (max if larger else min)(one.figure for one in found)
    return [first + share * (last - first) for share in AGAIN]


def _limited(problem: Problem, name: str, target: float) -> Problem:
    """The problem with the figure held at a target."""
    return eqx.tree_at(lambda p: p.limits.figures[name], problem, as_scalar(target))


def _traced(problem: Problem, base: Found, name: str, rows: list[int], lanes: int) -> list[Point]:
    """Once to find how far it goes, and once within."""
    span, found = np.log(WIDEST), []
    for _ in range(2):
        shifts = base.slack[rows].min() + np.linspace(0, span, lanes)
        last = _descended(problem, base, rows, shifts)
        found = _points(problem, last, name, rows)
        reached = [i for i, low in enumerate(np.asarray(last.lowest)) if np.isfinite(low)]
        span = shifts[max(reached, default=0)] - shifts[0]
    return found


def _descended(problem: Problem, base: Found, rows: list[int], shifts: np.ndarray) -> Lane:
    count = len(shifts)
    unit, choice = (np.repeat(part[None], count, axis=0) for part in (base.unit, base.choice))
    shift = np.zeros((count, len(problem.checked)))
    shift[:, rows] = shifts[:, None]
    fixed = (jnp.asarray(choice), as_values(shift))
    box = (as_values(0 * unit), as_values(0 * unit + 1))
    lanes = begin(problem, Start(as_values(unit), *box, *fixed), as_scalar(1.0))
    for _ in range(SWEEPS):
        for _ in range(STEPS):
            lanes = step(problem, lanes, as_scalar(1.0))
        place = _exchanged(np.asarray(lanes.best), np.asarray(lanes.lowest))
        moved = np.any(place != np.asarray(lanes.best), axis=1)
        if not moved.any() and bool(jnp.all(rests(lanes, ENOUGH) | jnp.isinf(lanes.lowest))):
            break
        fresh = begin(problem, Start(as_values(place), *box, *fixed), as_scalar(1.0))
        lanes = _where(moved & np.asarray(fresh.lowest <= lanes.lowest), fresh, lanes)
    return lanes


def _where(which: np.ndarray, new: Lane, old: Lane) -> Lane:
    """Lanes that begin anew, and the others, which keep what they know of their surroundings."""
    return jax.tree.map(
        lambda a, b: jnp.where(which.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, old
    )


def _exchanged(best: np.ndarray, lowest: np.ndarray) -> np.ndarray:
    """For each target, where to go on: the best of all stricter ones, or of the last that was reached."""
    place = best.copy()
    reached = np.flatnonzero(np.isfinite(lowest))
    for i in range(len(lowest)):
        stricter = reached[reached >= i]
        if len(stricter):
            place[i] = best[stricter[np.argmin(lowest[stricter])]]
        elif len(reached):
            place[i] = best[reached[-1]]
    return place


def _points(problem: Problem, lanes: Lane, name: str, rows: list[int]) -> list[Point]:
    """What each target reached: the figure from its slack."""
    limit, sign = float(problem.limits.figures[name]), 1.0 if name in LARGER else -1.0
    shifts = np.asarray(lanes.shift)[:, rows[0]]
    return [
        Point(
            limit * float(np.exp(sign * shifts[i])),
            float(lanes.lowest[i]),
            np.asarray(lanes.best[i], float),
            np.asarray(lanes.choice[i]),
        )
        for i in np.flatnonzero(np.isfinite(np.asarray(lanes.lowest)))
    ]


def _best(points: list[Point], larger: bool) -> list[Point]:
    """Points that no other beats in both, from the easiest target to the hardest."""
    order = sorted(points, key=lambda one: one.figure, reverse=larger)
    kept: list[Point] = []
    for point in order:
        if not kept or point.value < kept[-1].value - 1e-6:
            kept.append(point)
    return kept[::-1]


def _thinned(points: list[Point], count: int) -> list[Point]:
    """About `count` of them, evenly spread, both ends included."""
    if len(points) <= count:
        return points
    places = np.unique(np.linspace(0, len(points) - 1, count).round().astype(int))
    return [points[i] for i in places]
