"""Pareto fronts by continuation: the same objective with one figure held at rising targets.

All targets are lanes of one descent. Each begins at the best design; after every few steps a lane
takes its neighbour's design where that keeps its own target and is better, or where it has none yet. The
front is done when no lane takes another's design and all rest.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.design.descent import Lane, Start, begin, rests, step
from perfmodel.design.problem import Problem
from perfmodel.design.search import Found
from perfmodel.design.study import LARGER
from perfmodel.units import as_scalar, as_values

WIDEST = 100.0
"""Targets reach this many times the figure of the best design, as far as any design does."""

SWEEPS, STEPS = 12, 8
"""Exchanges between neighbours at most, and steps before each."""

MOST_CHOICES = 8
"""Combinations of node and memory that a front is traced for, at most: those of the best designs."""

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
    problem: Problem, designs: list[Found], name: str, points: int, lanes: int
) -> list[Point]:
    """The best objective at each value of a figure, for each node and memory, numbers of things left loose.

    **Arguments:**

    - `designs`: of a search, the best first; `name`: of the figure, limited in the problem.
    - `points`: wanted of each node and memory; `lanes`: as many as the search had, which are compiled.
    """
    rows = [i for i, row in enumerate(problem.checked) if row.split(" of workload")[0] == name]
    bases: dict[tuple, Found] = {}
    for one in designs:
        bases.setdefault(tuple(one.choice), one)
    larger = name in LARGER
    fronts = [
        _thinned(_best(_traced(problem, base, name, rows, lanes), larger), points)
        for base in list(bases.values())[:MOST_CHOICES]
    ]
    found = [point for front in fronts for point in front]
    ahead = {id(point) for point in _best(found, larger)}
    return [point._replace(beaten=id(point) not in ahead) for point in found]


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
