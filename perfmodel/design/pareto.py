"""Pareto fronts by continuation: the same objective with one figure limited to rising targets.

All targets are starts of one descent. Each begins at the best design; after every few steps it
takes its neighbour's design where that keeps its own target and is better, or where it has none yet. The
front is done when none takes another's design and all rest. Descents from easy targets miss designs for
hard ones, so the search is made again for two hard ones, and the front traced from what it finds, too.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.cluster import Runner, here, in_order
from perfmodel.design.multistart import LocalOptimum, MultiStart, search
from perfmodel.design.objectives import LARGER
from perfmodel.design.problem import Problem
from perfmodel.design.sqp import SQPState, init, step, terminated
from perfmodel.design.starting_points import start_at
from perfmodel.units import as_scalar, as_values

TARGET_RANGE = 100.0
"""Targets reach this many times the figure of the best design, as far as any design does."""

EXCHANGES, STEPS = 12, 8
"""Exchanges between neighbours at most, and steps before each."""

MAX_CHOICES = 8
"""Combinations of node and memory that a front is traced for, at most: those of the best designs."""

RESTARTS = (2 / 3, 5 / 6)
"""Where searches begin again: of the way from the best design's figure to the hardest target reached."""

FTOL = 1e-5
"""A target with less than this to win, relative, rests."""


class ParetoPoint(NamedTuple):
    """One place of a front: the figure's value, minus the logarithm of the objective, and the design.

    - `dominated`: whether another node or memory is better in both.
    """

    figure: float
    value: float
    unit: np.ndarray
    choice: np.ndarray
    dominated: bool = False


def trace_front(
    solver: MultiStart[Problem],
    designs: list[LocalOptimum],
    name: str,
    run: Runner[Any, Any] = here,
) -> list[ParetoPoint]:
    """The best objective at each value of a figure, for each node and memory, integers relaxed.

    **Arguments:**

    - `designs`: of the search, the best first; `name`: of the figure, limited in the problem.
    - `run`: who traces the front of each node and memory, and searches again.

    **Raises:**

    - `KeyboardInterrupt`: where a search is stopped.
    """
    larger = name in LARGER
    found = _fronts(solver, designs, name, run)
    again = functools.partial(_searched_again, solver, name)
    for harder, more in in_order(run(again, _restart_targets(found, larger))):
        found += _fronts(solver._replace(problem=harder), more, name, run)
    return _merged(found, larger, solver.options.points)


def _searched_again(
    solver: MultiStart[Problem], name: str, target: float
) -> tuple[Problem, list[LocalOptimum]]:
    """The problem with another limit on the figure, and the designs of its search."""
    harder = eqx.tree_at(lambda p: p.limits.figures[name], solver.problem, as_scalar(target))
    again = search(harder, solver.integer, solver.options)
    if again.stopped:
        raise KeyboardInterrupt
    return harder, again.designs


def _merged(found: list[ParetoPoint], larger: bool, count: int) -> list[ParetoPoint]:
    """The front of each node and memory, about `count` points each, and which points others beat."""
    choices = dict.fromkeys(tuple(one.choice) for one in found)
    fronts = [
        _nondominated([p for p in found if tuple(p.choice) == own], larger) for own in choices
    ]
    thinned = [point for front in fronts for point in _thinned(front, count)]
    ahead = {id(point) for point in _nondominated(thinned, larger)}
    return [point._replace(dominated=id(point) not in ahead) for point in thinned]


def _fronts(
    solver: MultiStart[Problem], designs: list[LocalOptimum], name: str, run: Runner[Any, Any]
) -> list[ParetoPoint]:
    """From the best design of each node and memory; as many targets as a search has starts."""
    problem = solver.problem
    rows = [
        i for i, row in enumerate(problem.constraint_names) if row.split(" of workload")[0] == name
    ]
    bases: dict[tuple, LocalOptimum] = {}
    for one in designs:
        bases.setdefault(tuple(one.choice), one)
    chosen = list(bases.values())[:MAX_CHOICES]
    traced = functools.partial(_traced, problem, name, rows, solver.options.starts)
    return [point for points in in_order(run(traced, chosen)) for point in points]


def _restart_targets(found: list[ParetoPoint], larger: bool) -> list[float]:
    """Targets for which the search is made again."""
    if not found:
        return []
    first = min(found, key=lambda one: one.value).figure
    last = (max if larger else min)(one.figure for one in found)
    return [first + share * (last - first) for share in RESTARTS]


def _traced(
    problem: Problem, name: str, rows: list[int], batch_size: int, base: LocalOptimum
) -> list[ParetoPoint]:
    """Once to find how far it goes, and once within."""
    span, found = np.log(TARGET_RANGE), []
    for _ in range(2):
        shifts = base.slack[rows].min() + np.linspace(0, span, batch_size)
        last = _descended(problem, base, rows, shifts)
        found = _points(problem, last, name, rows)
        reached = [i for i, low in enumerate(np.asarray(last.best_value)) if np.isfinite(low)]
        span = shifts[max(reached, default=0)] - shifts[0]
    return found


def _descended(
    problem: Problem, base: LocalOptimum, rows: list[int], shifts: np.ndarray
) -> SQPState:
    """All targets at once, a start each, with exchanges between neighbours until all rest."""
    unit, choice = (np.repeat(x[None], len(shifts), axis=0) for x in (base.unit, base.choice))
    shift = np.zeros((len(shifts), len(problem.constraint_names)))
    shift[:, rows] = shifts[:, None]

    def begun(unit: np.ndarray) -> SQPState:
        start = start_at(unit, choice)._replace(shift=as_values(shift))
        return init(problem, start, as_scalar(1.0))

    states = begun(unit)
    for _ in range(EXCHANGES):
        for _ in range(STEPS):
            states = step(problem, states, as_scalar(1.0))
        best, value = np.asarray(states.best), np.asarray(states.best_value)
        place = _exchanged(best, value)
        moved = np.any(place != best, axis=1)
        if not moved.any() and np.all(terminated(states, FTOL) | np.isinf(value)):
            break
        fresh = begun(place)
        states = _where(moved & (np.asarray(fresh.best_value) <= value), fresh, states)
    return states


def _where(which: np.ndarray, new: SQPState, old: SQPState) -> SQPState:
    """Starts that begin anew, and the others, which keep what they know of their surroundings."""
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


def _points(problem: Problem, states: SQPState, name: str, rows: list[int]) -> list[ParetoPoint]:
    """What each target reached: the figure from its slack."""
    limit, sign = float(problem.limits.figures[name]), 1.0 if name in LARGER else -1.0
    shifts = np.asarray(states.shift)[:, rows[0]]
    return [
        ParetoPoint(
            limit * float(np.exp(sign * shifts[i])),
            float(states.best_value[i]),
            np.asarray(states.best[i], float),
            np.asarray(states.choice[i]),
        )
        for i in np.flatnonzero(np.isfinite(np.asarray(states.best_value)))
    ]


def _nondominated(points: list[ParetoPoint], larger: bool) -> list[ParetoPoint]:
    """Points that no other beats in both, from the easiest target to the hardest."""
    order = sorted(points, key=lambda one: one.figure, reverse=larger)
    kept: list[ParetoPoint] = []
    for point in order:
        if not kept or point.value < kept[-1].value - 1e-6:
            kept.append(point)
    return kept[::-1]


def _thinned(points: list[ParetoPoint], count: int) -> list[ParetoPoint]:
    """About `count` of them, evenly spread, both ends included."""
    if len(points) <= count:
        return points
    places = np.unique(np.linspace(0, len(points) - 1, count).round().astype(int))
    return [points[i] for i in places]
