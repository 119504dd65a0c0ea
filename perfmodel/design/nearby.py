"""One stack fewer and one more than the best design has, all else designed again.

Where numbers of things are held, slopes tell what is left over from rounding, not what one more of a thing is
worth: that is told by its two neighbours alone.
"""

from typing import NamedTuple

import equinox as eqx
import numpy as np

from perfmodel.design.problem import Problem
from perfmodel.design.reoptimise import reoptimised
from perfmodel.design.search import Found, Result
from perfmodel.design.starts import coordinates, numbers, whole_bounds
from perfmodel.design.state import BETTER

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
