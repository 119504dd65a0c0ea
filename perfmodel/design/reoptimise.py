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

from perfmodel.design.abstract_problem import AbstractLandscape
from perfmodel.design.facts import facts_of, shifted
from perfmodel.design.integers import neighbour, rounded
from perfmodel.design.multistart import Found, Result
from perfmodel.design.problem import Problem
from perfmodel.design.sqp import Lane, begin, rests, step
from perfmodel.design.starting_points import (
    at,
    coordinates,
    evaluate,
    merit,
    numbers,
    ways,
    whole_bounds,
)
from perfmodel.design.state import BETTER, is_whole
from perfmodel.design.uncertainty import Family
from perfmodel.design.variables import RANKS, Space
from perfmodel.units import as_scalar

STEPS = 24
"""Of descent before each rounding and after it, at most."""

ROUNDINGS = 2
"""Small numbers of things first, large ones after the rest has adapted."""


def reoptimised(
    land: AbstractLandscape, start: Found, whole: np.ndarray, lanes: int, moves: int = 0
) -> Found | None:
    """The best design that a descent from `start` finds; `None` where none keeps every limit.

    **Arguments:**

    - `whole`: which variables are numbers of things.
    - `lanes`: as many as the search had, for which slopes are compiled; all begin alike.
    - `moves`: times that numbers of things then move together by one, while that is better.
    """
    now = _made_whole(land, _at_rest(land, _begun(land, start, lanes)), whole)
    for _ in range(moves):
        moved = _made_whole(land, _at_rest(land, neighbour(land, now, whole)[0]), whole)
        if not np.min(moved.lowest) < np.min(now.lowest) - BETTER:
            break
        now = moved
    lowest = np.asarray(now.lowest, float)
    i = int(np.argmin(lowest))
    if not np.isfinite(lowest[i]):
        return None
    return found_at(land, np.asarray(now.best[i], float), np.asarray(now.choice[i]))


def _made_whole(land: AbstractLandscape, lanes: Lane, whole: np.ndarray) -> Lane:
    for _ in range(ROUNDINGS):
        if np.all(is_whole(lanes, whole)):
            break
        lanes = _at_rest(land, rounded(land, lanes, whole)[0])
    return lanes


def found_at(land: AbstractLandscape, unit: np.ndarray, choice: np.ndarray) -> Found:
    """A design where it is."""
    value, slack = evaluate(land, unit[None], choice[None])
    return Found(unit, choice, float(value[0]), slack[0])


def _begun(land: AbstractLandscape, start: Found, lanes: int) -> Lane:
    unit, choice = (np.tile(part, (lanes, 1)) for part in (start.unit, start.choice))
    return begin(land, at(unit, choice, len(start.slack)), as_scalar(1.0))


def _at_rest(land: AbstractLandscape, lanes: Lane) -> Lane:
    for _ in range(STEPS):
        lanes = step(land, lanes, as_scalar(1.0))
        if bool(jnp.all(rests(lanes, BETTER))):
            break
    return lanes


MOST_MOVES = 4
"""Times that a neighbour which is better takes the place of the best design, at most."""


MOVES = 2
"""Times that the other numbers of things move together by one, at most."""

SLIGHT = 1e-5
"""Share of a held number by which its bounds lie apart: a range of nothing has no coordinates."""


class Nearby(NamedTuple):
    """A number of things at the best design, and the designs with one fewer and one more.

    - `number`: at the best design; `fewer`, `more`: `None` where there is no design that keeps every limit.
    - `bound`: whether one more lies outside the study's bounds.
    """

    number: int
    fewer: Found | None
    more: Found | None
    bound: bool


def settled(
    problem: Problem, whole: np.ndarray, result: Result, lanes: int
) -> tuple[Result, dict[str, Nearby]]:
    """A result whose best design has no better neighbour in its stacks; and these neighbours, by name."""
    near: dict[str, Nearby] = {}
    for _ in range(MOST_MOVES):
        near = nearby(problem, whole, result.designs[0], lanes)
        better = _better(near, result.designs[0].value - BETTER)
        if not better:
            break
        result = with_designs(result, better)
    return result, near


def with_designs(result: Result, more: list[Found]) -> Result:
    """A result with further designs, the best first."""
    designs = sorted([*more, *result.designs], key=lambda one: one.value)
    return result._replace(designs=designs)


def _better(near: dict[str, Nearby], value: float) -> list[Found]:
    inside = [
        one for place in near.values() for one in (place.fewer, None if place.bound else place.more)
    ]
    return [one for one in inside if one is not None and one.value < value]


def nearby(problem: Problem, whole: np.ndarray, best: Found, lanes: int) -> dict[str, Nearby]:
    """Of each pool's stacks, where they are free."""
    places = [i for i, name in enumerate(problem.names) if name.rsplit(".", 1)[-1] == "stacks"]
    return {problem.names[i]: _nearby(problem, whole, best, lanes, i) for i in places}


def _nearby(problem: Problem, whole: np.ndarray, best: Found, lanes: int, i: int) -> Nearby:
    count = round(float(numbers(problem, best.unit)[i]))
    least, most = (ends[i] for ends in whole_bounds(problem))
    fewer = _with(problem, whole, best, lanes, (i, count - 1)) if count > max(least, 1) else None
    more = _with(problem, whole, best, lanes, (i, count + 1))
    return Nearby(count, fewer, more, bool(count >= most))


def _with(
    problem: Problem, whole: np.ndarray, best: Found, lanes: int, change: tuple[int, int]
) -> Found | None:
    """The design with another number of one thing, also where that is more than its bound."""
    i, count = change
    land = _pinned(problem, i, count)
    unit = coordinates(land, numbers(problem, best.unit))
    unit[i] = 0.5
    found = reoptimised(land, best._replace(unit=unit), whole, lanes, MOVES)
    if found is None:
        return None
    return found._replace(unit=coordinates(problem, numbers(land, found.unit)))


def _pinned(problem: Problem, i: int, count: int) -> Problem:
    """The problem whose bounds leave one number of things no choice."""
    low = problem.low.at[i].set(float(np.log(count * (1 - SLIGHT))))
    high = problem.high.at[i].set(float(np.log(count * (1 + SLIGHT))))
    return eqx.tree_at(lambda p: (p.low, p.high), problem, (low, high))


MOST_FAMILIES = 3
"""Families that are designed again for each fact, at most: the best where each begins."""

MOST_WAYS = 256
"""Numbers of chips and of users among which each family begins, at most."""


class Doubled(NamedTuple):
    """The best design where a fact doubles, and the name of its family."""

    design: Found
    family: str


def doubled(
    problem: Problem, space: Space, known: list[Family], facts: dict[str, int], lanes: int
) -> dict[str, Doubled | None]:
    """For each fact, by its name and its place among all, the best where it doubles."""
    begins = [ways(space, _vector(space, one), (*RANKS, "batch"), MOST_WAYS) for one in known]
    count = len(ravel_pytree(facts_of(problem))[0])
    found = {}
    for name, i in facts.items():
        land = shifted(problem, jnp.zeros(count).at[i].set(jnp.log(2.0)))
        starts = _starts(land, space, known, begins)
        found[name] = _best(land, space, known, starts, lanes)
    return found


def _vector(space: Space, one: Family) -> np.ndarray:
    return space.low + (space.high - space.low) * one.designs[0].unit


def _starts(
    land: Problem, space: Space, known: list[Family], begins: list[np.ndarray]
) -> dict[int, Found]:
    """Where the families begin that begin best, by their places."""
    unit = (np.concatenate(begins) - space.low) / (space.high - space.low)
    owner = np.repeat(np.arange(len(known)), [len(each) for each in begins])
    choice = np.array([one.designs[0].choice for one in known])[owner]
    value, slack = evaluate(land, unit, choice)
    score, starts = merit(value, slack), {}
    for i in np.argsort(score, kind="stable"):
        if int(owner[i]) not in starts and len(starts) < MOST_FAMILIES:
            starts[int(owner[i])] = Found(unit[i], choice[i], float(value[i]), slack[i])
    return starts


def _best(
    land: Problem, space: Space, known: list[Family], starts: dict[int, Found], lanes: int
) -> Doubled | None:
    """The best of what descents from all starts find."""
    found = [
        Doubled(design, known[i].name)
        for i, start in starts.items()
        for design in [reoptimised(land, start, space.whole, lanes)]
        if design is not None
    ]
    return min(found, key=lambda one: one.design.value, default=None)
