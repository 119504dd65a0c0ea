"""One design optimised again: with an integer fixed, where a fact doubles, or from a given start.

Integers are relaxed at first, then rounded, as in a search; other choices are not tried. Where integers are
fixed, slopes tell what is left over from rounding, not what one more of a thing is worth: that is told by
its two neighbours alone. Where a fact doubles, a design that no longer fits would be lost to first order:
so each family begins in the number of chips and of users that suits it best then, and is designed again.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

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
from perfmodel.design.multistart import LocalOptimum, SearchResult
from perfmodel.design.problem import Problem
from perfmodel.design.sqp import SQPState, init, step, terminated
from perfmodel.design.starting_points import start_at, variants
from perfmodel.design.state import MIN_GAIN, integers_fixed
from perfmodel.design.uncertainty import Family
from perfmodel.design.variables import PARALLELISM, Space
from perfmodel.units import as_scalar

STEPS = 24
"""Of descent before each rounding and after it, at most."""

ROUNDINGS = 2
"""Small numbers of things first, large ones after the rest has adapted."""


def reoptimise(
    land: AbstractProblem, start: LocalOptimum, integer: np.ndarray, batch_size: int, moves: int = 0
) -> LocalOptimum | None:
    """The best design that a descent from `start` finds; `None` where none keeps every limit.

    **Arguments:**

    - `integer`: which variables are numbers of things.
    - `batch_size`: as many as the search had, for which slopes are compiled; all begin alike.
    - `moves`: times that numbers of things then move together by one, while that is better.
    """
    now = _made_whole(land, _at_rest(land, _begun(land, start, batch_size)), integer)
    for _ in range(moves):
        moved = _made_whole(land, _at_rest(land, best_neighbour(land, now, integer)[0]), integer)
        if not np.min(moved.best_value) < np.min(now.best_value) - MIN_GAIN:
            break
        now = moved
    lowest = np.asarray(now.best_value, float)
    i = int(np.argmin(lowest))
    if not np.isfinite(lowest[i]):
        return None
    return found_at(land, np.asarray(now.best[i], float), np.asarray(now.choice[i]))


def _made_whole(land: AbstractProblem, states: SQPState, integer: np.ndarray) -> SQPState:
    for _ in range(ROUNDINGS):
        if np.all(integers_fixed(states, integer)):
            break
        states = _at_rest(land, round_integers(land, states, integer)[0])
    return states


def found_at(land: AbstractProblem, unit: np.ndarray, choice: np.ndarray) -> LocalOptimum:
    """A design where it is."""
    value, slack = evaluate_all(land, unit[None], choice[None])
    return LocalOptimum(unit, choice, float(value[0]), slack[0])


def _begun(land: AbstractProblem, start: LocalOptimum, batch_size: int) -> SQPState:
    unit, choice = (np.tile(part, (batch_size, 1)) for part in (start.unit, start.choice))
    return init(land, start_at(unit, choice), as_scalar(1.0))


def _at_rest(land: AbstractProblem, states: SQPState) -> SQPState:
    for _ in range(STEPS):
        states = step(land, states, as_scalar(1.0))
        if bool(jnp.all(terminated(states, MIN_GAIN))):
            break
    return states


MAX_IMPROVEMENTS = 4
"""Times that a neighbour which is better takes the place of the best design, at most."""


INTEGER_MOVES = 2
"""Times that the other numbers of things move together by one, at most."""

PINNED_WIDTH = 1e-5
"""Share of a held number by which its bounds lie apart: a range of nothing has no coordinates."""


class IntegerNeighbours(NamedTuple):
    """A number of things at the best design, and the designs with one fewer and one more.

    - `number`: at the best design; `fewer`, `more`: `None` where there is no design that keeps every limit.
    - `bound`: whether one more lies outside the study's bounds.
    """

    number: int
    fewer: LocalOptimum | None
    more: LocalOptimum | None
    bound: bool


def improve_by_neighbours(
    problem: Problem, integer: np.ndarray, result: SearchResult, batch_size: int
) -> tuple[SearchResult, dict[str, IntegerNeighbours]]:
    """A result whose best design has no better neighbour in its stacks; and these neighbours, by name."""
    near: dict[str, IntegerNeighbours] = {}
    for _ in range(MAX_IMPROVEMENTS):
        near = integer_neighbours(problem, integer, result.designs[0], batch_size)
        better = _better(near, result.designs[0].value - MIN_GAIN)
        if not better:
            break
        result = with_designs(result, better)
    return result, near


def with_designs(result: SearchResult, more: list[LocalOptimum]) -> SearchResult:
    """A result with further designs, the best first."""
    designs = sorted([*more, *result.designs], key=lambda one: one.value)
    return result._replace(designs=designs)


def _better(near: dict[str, IntegerNeighbours], value: float) -> list[LocalOptimum]:
    inside = [
        one for place in near.values() for one in (place.fewer, None if place.bound else place.more)
    ]
    return [one for one in inside if one is not None and one.value < value]


def integer_neighbours(
    problem: Problem, integer: np.ndarray, best: LocalOptimum, batch_size: int
) -> dict[str, IntegerNeighbours]:
    """Of each pool's stacks, where they are free."""
    places = [i for i, name in enumerate(problem.names) if name.rsplit(".", 1)[-1] == "stacks"]
    return {problem.names[i]: _nearby(problem, integer, best, batch_size, i) for i in places}


def _nearby(
    problem: Problem, integer: np.ndarray, best: LocalOptimum, batch_size: int, i: int
) -> IntegerNeighbours:
    count = round(float(variable_values(problem, best.unit)[i]))
    least, most = (ends[i] for ends in integer_bounds(problem))
    fewer = (
        _with(problem, integer, best, batch_size, (i, count - 1)) if count > max(least, 1) else None
    )
    more = _with(problem, integer, best, batch_size, (i, count + 1))
    return IntegerNeighbours(count, fewer, more, bool(count >= most))


def _with(
    problem: Problem,
    integer: np.ndarray,
    best: LocalOptimum,
    batch_size: int,
    change: tuple[int, int],
) -> LocalOptimum | None:
    """The design with another number of one thing, also where that is more than its bound."""
    i, count = change
    land = _pinned(problem, i, count)
    unit = unit_coordinates(land, variable_values(problem, best.unit))
    unit[i] = 0.5
    found = reoptimise(land, best._replace(unit=unit), integer, batch_size, INTEGER_MOVES)
    if found is None:
        return None
    return found._replace(unit=unit_coordinates(problem, variable_values(land, found.unit)))


def _pinned(problem: Problem, i: int, count: int) -> Problem:
    """The problem whose bounds leave one number of things no choice."""
    low = problem.low.at[i].set(float(np.log(count * (1 - PINNED_WIDTH))))
    high = problem.high.at[i].set(float(np.log(count * (1 + PINNED_WIDTH))))
    return eqx.tree_at(lambda p: (p.low, p.high), problem, (low, high))


MAX_FAMILIES = 3
"""Families that are designed again for each fact, at most: the best where each begins."""

MAX_VARIANTS = 256
"""Numbers of chips and of users among which each family begins, at most."""


class DoubledFact(NamedTuple):
    """The best design where a fact doubles, and the name of its family."""

    design: LocalOptimum
    family: str


def search_doubled(
    problem: Problem, space: Space, known: list[Family], facts: dict[str, int], batch_size: int
) -> dict[str, DoubledFact | None]:
    """For each fact, by its name and its place among all, the best where it doubles."""
    begins = [
        variants(space, _vector(space, one), (*PARALLELISM, "batch"), MAX_VARIANTS) for one in known
    ]
    count = len(ravel_pytree(facts_of(problem))[0])
    found = {}
    for name, i in facts.items():
        land = shifted(problem, jnp.zeros(count).at[i].set(jnp.log(2.0)))
        starts = _starts(land, space, known, begins)
        found[name] = _best(land, space, known, starts, batch_size)
    return found


def _vector(space: Space, one: Family) -> np.ndarray:
    return space.low + (space.high - space.low) * one.designs[0].unit


def _starts(
    land: Problem, space: Space, known: list[Family], begins: list[np.ndarray]
) -> dict[int, LocalOptimum]:
    """Where the families begin that begin best, by their places."""
    unit = (np.concatenate(begins) - space.low) / (space.high - space.low)
    owner = np.repeat(np.arange(len(known)), [len(each) for each in begins])
    choice = np.array([one.designs[0].choice for one in known])[owner]
    value, slack = evaluate_all(land, unit, choice)
    score, starts = merit(value, slack), {}
    for i in np.argsort(score, kind="stable"):
        if int(owner[i]) not in starts and len(starts) < MAX_FAMILIES:
            starts[int(owner[i])] = LocalOptimum(unit[i], choice[i], float(value[i]), slack[i])
    return starts


def _best(
    land: Problem,
    space: Space,
    known: list[Family],
    starts: dict[int, LocalOptimum],
    batch_size: int,
) -> DoubledFact | None:
    """The best of what descents from all starts find."""
    found = [
        DoubledFact(design, known[i].name)
        for i, start in starts.items()
        for design in [reoptimise(land, start, space.integer, batch_size)]
        if design is not None
    ]
    return min(found, key=lambda one: one.design.value, default=None)
