"""One design optimised again: with an integer fixed, where a fact doubles, or from a given start.

Integers are relaxed at first, then rounded, as in a search; other choices are not tried. Where integers are
fixed, slopes tell what is left over from rounding, not what one more of a thing is worth: that is told by
its two neighbours alone. Where a fact doubles, a design that no longer fits would be lost to first order:
so each family begins in the number of chips and of users that suits it best then, and is designed again.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from perfmodel.cluster import Runner, here, in_order
from perfmodel.design.abstract_problem import (
    AbstractProblem,
    evaluate_all,
    integer_bounds,
    merit,
    unit_coordinates,
    variable_values,
)
from perfmodel.design.facts import facts_of, shifted
from perfmodel.design.integers import best_neighbour, round_integers
from perfmodel.design.multistart import LocalOptimum, MultiStart, SearchResult
from perfmodel.design.problem import Problem
from perfmodel.design.sqp import SQPState, init, step, terminated
from perfmodel.design.starting_points import start_at, variants
from perfmodel.design.state import MIN_GAIN, integers_fixed
from perfmodel.design.uncertainty import Family
from perfmodel.design.variables import PARALLELISM, Space, plain_name
from perfmodel.units import as_scalar

STEPS = 24
"""Of descent before each rounding and after it, at most."""

ROUNDINGS = 2
"""Small integers first, large ones after the rest has adapted."""

MAX_IMPROVEMENTS = 4
"""Times that a neighbour which is better takes the place of the best design, at most."""

INTEGER_MOVES = 2
"""Times that the other integers move together by one, at most."""

FIXED_WIDTH = 1e-5
"""Share of a fixed integer by which its bounds lie apart: a range of nothing has no coordinates."""

MAX_FAMILIES = 3
"""Families that are designed again for each fact, at most: the best where each begins."""

MAX_VARIANTS = 256
"""Numbers of chips and of users among which each family begins, at most."""


def reoptimise(solver: MultiStart, start: LocalOptimum, moves: int = 0) -> LocalOptimum | None:
    """The best design that a descent from `start` finds; `None` where none keeps every limit.

    **Arguments:**

    - `solver`: of the search: as many starts descend as there, for which slopes are compiled; all alike.
    - `moves`: times that integers then move together by one, while that is better.
    """
    count = solver.options.batch_size
    unit, choice = (np.tile(part, (count, 1)) for part in (start.unit, start.choice))
    now = _rounded(solver, init(solver.problem, start_at(unit, choice), as_scalar(1.0)))
    for _ in range(moves):
        moved = _rounded(solver, best_neighbour(solver.problem, now, solver.integer)[0])
        if not np.min(moved.best_value) < np.min(now.best_value) - MIN_GAIN:
            break
        now = moved
    values = np.asarray(now.best_value, float)
    i = int(np.argmin(values))
    if not np.isfinite(values[i]):
        return None
    return optimum_at(solver.problem, np.asarray(now.best[i], float), np.asarray(now.choice[i]))


def optimum_at(problem: AbstractProblem, unit: np.ndarray, choice: np.ndarray) -> LocalOptimum:
    """A design where it is."""
    value, slack = evaluate_all(problem, unit[None], choice[None])
    return LocalOptimum(unit, choice, float(value[0]), slack[0])


def _rounded(solver: MultiStart, states: SQPState) -> SQPState:
    """Starts at rest, their integers fixed."""
    states = _descended(solver.problem, states)
    for _ in range(ROUNDINGS):
        if np.all(integers_fixed(states, solver.integer)):
            break
        rounded = round_integers(solver.problem, states, solver.integer)[0]
        states = _descended(solver.problem, rounded)
    return states


def _descended(problem: AbstractProblem, states: SQPState) -> SQPState:
    for _ in range(STEPS):
        states = step(problem, states, as_scalar(1.0))
        if bool(jnp.all(terminated(states, MIN_GAIN))):
            break
    return states


class IntegerNeighbours(NamedTuple):
    """An integer at the best design, and the designs with one fewer and one more.

    - `number`: at the best design; `fewer`, `more`: `None` where there is no design that keeps every limit.
    - `bound`: whether one more lies outside the study's bounds.
    """

    number: int
    fewer: LocalOptimum | None
    more: LocalOptimum | None
    bound: bool


def improve_by_neighbours(
    solver: MultiStart, names: Sequence[str], result: SearchResult
) -> tuple[SearchResult, dict[str, IntegerNeighbours]]:
    """A result whose best design has no better neighbour in its stacks; and these neighbours, by name.

    **Arguments:**

    - `names`: of the variables.
    """
    near: dict[str, IntegerNeighbours] = {}
    for _ in range(MAX_IMPROVEMENTS):
        near = integer_neighbours(solver, names, result.designs[0])
        better = _better(near, result.designs[0].value - MIN_GAIN)
        if not better:
            break
        result = with_designs(result, better)
    return result, near


def with_designs(result: SearchResult, more: Sequence[LocalOptimum | None]) -> SearchResult:
    """A result with further designs, the best first."""
    found = [one for one in more if one is not None]
    return result._replace(designs=sorted([*found, *result.designs], key=lambda one: one.value))


def _better(near: dict[str, IntegerNeighbours], value: float) -> list[LocalOptimum]:
    inside = [one for n in near.values() for one in (n.fewer, None if n.bound else n.more)]
    return [one for one in inside if one is not None and one.value < value]


def integer_neighbours(
    solver: MultiStart, names: Sequence[str], best: LocalOptimum
) -> dict[str, IntegerNeighbours]:
    """Of each pool's stacks or channels, where they are free."""
    counts, (least, most) = (
        variable_values(solver.problem, best.unit),
        integer_bounds(solver.problem),
    )
    found = {}
    for i, name in enumerate(names):
        if plain_name(name) in DEVICES and _matters(solver.problem, best, i):
            count = round(float(counts[i]))
            fewer = _with(solver, best, i, count - 1) if count > max(least[i], 1) else None
            more = _with(solver, best, i, count + 1)
            found[name] = IntegerNeighbours(count, fewer, more, bool(count >= most[i]))
    return found


DEVICES = ("stacks", "channels")
"""Numbers of memory devices, of which the memory that is chosen has one or the other."""


def _matters(problem: AbstractProblem, best: LocalOptimum, i: int) -> bool:
    """Whether a variable changes anything at a design."""
    unit = np.tile(best.unit, (2, 1))
    unit[1, i] = 0.5 * (unit[0, i] + (unit[0, i] < 0.5))
    value, slack = evaluate_all(problem, unit, np.tile(best.choice, (2, 1)))
    return bool(value[0] != value[1] or np.any(slack[0] != slack[1]))


def _with(solver: MultiStart, best: LocalOptimum, i: int, count: int) -> LocalOptimum | None:
    """The design with another value of one integer, also where that is more than its bound."""
    problem = solver.problem
    fixed = _fixed(problem, i, count)
    unit = unit_coordinates(fixed, variable_values(problem, best.unit))
    unit[i] = 0.5
    start = best._replace(unit=unit)
    found = reoptimise(solver._replace(problem=fixed), start, INTEGER_MOVES)
    if found is None:
        return None
    return found._replace(unit=unit_coordinates(problem, variable_values(fixed, found.unit)))


def _fixed(problem: AbstractProblem, i: int, count: int) -> AbstractProblem:
    """The problem whose bounds leave one integer no choice."""
    low = problem.low.at[i].set(float(np.log(count * (1 - FIXED_WIDTH))))
    high = problem.high.at[i].set(float(np.log(count * (1 + FIXED_WIDTH))))
    return eqx.tree_at(lambda p: (p.low, p.high), problem, (low, high))


class DoubledFact(NamedTuple):
    """The best design where a fact doubles, and the name of its family."""

    design: LocalOptimum
    family: str


def search_doubled(
    solver: MultiStart[Problem],
    space: Space,
    known: list[Family],
    facts: dict[str, int],
    run: Runner[Any, Any] = here,
) -> dict[str, DoubledFact | None]:
    """For each fact, by its name and its place among all, the best where it doubles; `run`: who searches."""
    names = (*PARALLELISM, "batch")
    begins = [variants(space, one.designs[0].unit, names, MAX_VARIANTS) for one in known]
    found = run(functools.partial(_doubled, solver, known, begins), facts.values())
    return dict(zip(facts, in_order(found), strict=True))


def _doubled(
    solver: MultiStart[Problem], known: list[Family], begins: list[np.ndarray], place: int
) -> DoubledFact | None:
    """The best where one fact doubles."""
    count = len(ravel_pytree(facts_of(solver.problem))[0])
    logs = jnp.zeros(count).at[place].set(jnp.log(2.0))
    changed = solver._replace(problem=shifted(solver.problem, logs))
    designs = [
        DoubledFact(design, known[k].name)
        for k, start in _starts(changed.problem, known, begins).items()
        if (design := reoptimise(changed, start)) is not None
    ]
    return min(designs, key=lambda one: one.design.value, default=None)


def _starts(
    problem: AbstractProblem, known: list[Family], begins: list[np.ndarray]
) -> dict[int, LocalOptimum]:
    """Where the families begin that begin best, by their places."""
    unit, choices = np.concatenate(begins), np.array([one.designs[0].choice for one in known])
    owner = np.repeat(np.arange(len(known)), [len(each) for each in begins])
    choice = choices[owner]
    value, slack = evaluate_all(problem, unit, choice)
    starts: dict[int, LocalOptimum] = {}
    for i in np.argsort(merit(value, slack), kind="stable"):
        if int(owner[i]) not in starts and len(starts) < MAX_FAMILIES:
            starts[int(owner[i])] = LocalOptimum(unit[i], choice[i], float(value[i]), slack[i])
    return starts
