"""Designs beside another: with numbers of things moved together by one, or with other choices.

The best whole numbers are often none of those around a loose optimum, and each number moved by
itself makes a design worse: fewer ranks want more stacks and more workers. Of all ways to move
some by one, those that promise most by the quadratic model descend for a few steps; the best of
them goes on. Another node or memory also wants another design: each is compared after steps of its own.
"""

import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.design.descent import Lane, step
from perfmodel.design.landscape import AbstractLandscape
from perfmodel.design.rounding import LARGE, distinct, held, moves_to, promised, steps
from perfmodel.design.starts import combinations, merit, numbers, whole_bounds
from perfmodel.units import as_scalar

MOST_CHOICES = 32
"""Choices that are compared for each start, at most."""

MOST_WAYS = 3**6
"""Ways to move that are compared by the quadratic model, at most."""

NEAR, SHORT = 64, 5
"""Ways that descend, and their steps: among two pools' 320, the optimum ranked up to 51st by promise, and
first after five steps."""

QUICK = 2
"""Steps of another choice: the first follows its own slopes, the second what it found."""


def neighbour(land: AbstractLandscape, lanes: Lane, whole: np.ndarray) -> tuple[Lane, int]:
    """As many lanes as before, the best of those beside them in numbers of things.

    Large numbers are left to adapt, and are rounded later.

    **Arguments:**

    - `lanes`: at rest, with all numbers of things held.

    **Returns:**

    Lanes on their way, and evaluations with slopes spent.
    """
    goal, base, fixed = _most_promising(land, lanes, whole)
    return _best_of(land, lanes, (goal, np.asarray(lanes.choice)[base], fixed), SHORT)


def other_choice(land: AbstractLandscape, lanes: Lane) -> tuple[Lane, int]:
    """As many lanes as before, the best that begin where these are with another choice.

    **Arguments:**

    - `lanes`: at rest, with all numbers of things loose.

    **Returns:**

    Lanes on their way, and evaluations with slopes spent.
    """
    some = combinations(land.options, min(int(np.prod(land.options)), MOST_CHOICES), 0)
    own, unit = np.asarray(lanes.choice), np.asarray(lanes.unit, float)
    base, which = np.nonzero(np.any(own[:, None] != some, axis=-1))
    loose = np.zeros_like(unit[base], bool)
    return _best_of(land, lanes, (unit[base], some[which], loose), QUICK)


def _best_of(
    land: AbstractLandscape, lanes: Lane, ways: tuple[np.ndarray, ...], count: int
) -> tuple[Lane, int]:
    """The best lanes after `count` steps of all ways; as many at a time as there are `lanes`.

    **Arguments:**

    - `ways`: places to begin at, choices, and which numbers are fixed; one a row.
    """
    size, many = len(lanes.unit), len(ways[0])
    groups = [np.arange(i, i + size) % many for i in range(0, many, size)]
    ends = [_descended(land, held(land, lanes, *(w[i] for w in ways)), count) for i in groups]
    every = jax.tree.map(lambda *leaves: np.concatenate(leaves), *ends)
    best = np.argsort(merits(every), kind="stable")[:size]
    spent = (1 + count) * len(groups) * size
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[best]), every), spent


def _descended(land: AbstractLandscape, lanes: Lane, count: int) -> Lane:
    for _ in range(count):
        lanes = step(land, lanes, as_scalar(1.0))
    return lanes


def merits(lanes: Lane) -> np.ndarray:
    """Of each lane where it is now."""
    return merit(np.asarray(lanes.seen.value), np.asarray(lanes.seen.slack))


def _most_promising(
    land: AbstractLandscape, lanes: Lane, whole: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of all ways from all lanes, `NEAR`: where each leads, the lane that it comes from, what it fixes."""
    moves, some = _moves(land, lanes, whole)
    base = np.repeat(np.arange(moves.shape[0]), moves.shape[1])
    move, fixed = moves.reshape(-1, len(whole)), some[base]
    parents = jax.tree.map(lambda leaf: leaf[base], lanes)
    goal, hoped = promised(parents, move, fixed)
    still = np.all(np.abs(move) < 1e-6, axis=1)
    hoped = np.where(still, np.inf, hoped)
    order = distinct(hoped, goal, np.asarray(parents.choice))[:NEAR]
    return goal[order], base[order], fixed[order]


def _moves(
    land: AbstractLandscape, lanes: Lane, whole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each lane all ways to move its small numbers by one or none, and which these are."""
    least, most = whole_bounds(land)
    here = np.round(numbers(land, lanes.unit))
    small = whole & (here < LARGE)
    tried = np.clip(
        here[:, None] + steps(whole, (-1, 0, 1), MOST_WAYS), np.maximum(least, 1.0), most
    )
    return moves_to(land, lanes, tried, small[:, None]), small
