r"""Integers: rounded, moved together by one, and other discrete choices, with few evaluations.

A start that has come to rest knows a quadratic model of its surroundings. Every way to round its
integers is a quadratic program in the variables that are left; the ways that promise most are evaluated,
and the best of them goes on with its integers fixed (after the mixed-integer quadratic programs of
Exler and Schittkowski, Optimization Letters 1, 2007).

The best integers are often none of those around a relaxed optimum, and each moved by itself makes a design
worse: fewer ranks want more stacks and more workers. Of all ways to move some by one, those that promise most
descend for a few steps, and the best goes on. Another node or memory wants another design too: each is
compared after steps of its own.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.design.abstract_problem import AbstractLandscape
from perfmodel.design.qp import Program, solve
from perfmodel.design.sqp import Lane, Start, begin, step
from perfmodel.design.starting_points import (
    PENALTY,
    combinations,
    coordinates,
    evaluate,
    merit,
    numbers,
    whole_bounds,
)
from perfmodel.units import Scalar, Values, as_scalar, as_values

MOST_WAYS = 2**6
"""Ways to round that are compared for each start, at most."""

LARGE = 20
"""A number of things above this is rounded last: one more of it changes it by less than a twentieth."""

TRIED = 4
"""Ways that are evaluated for each start, the most promising."""

REACH = 0.3
"""The model of a start is believed within this share of each range."""


def rounded(land: AbstractLandscape, lanes: Lane, whole: np.ndarray) -> tuple[Lane, int]:
    """As many lanes as before, small numbers of things whole and held; at the second call all of them.

    Large numbers adapt first to what the small ones became.

    **Arguments:**

    - `lanes`: at rest; those with numbers held keep these.

    **Returns:**

    Lanes that begin, and evaluations spent.
    """
    again = bool(np.any(np.asarray(lanes.low) == np.asarray(lanes.high)))
    moves, fixed = _moves(land, lanes, whole, again)
    base, way = np.divmod(np.arange(moves.shape[0] * moves.shape[1]), moves.shape[1])
    parents = jax.tree.map(lambda leaf: leaf[base], lanes)
    choice = np.asarray(parents.choice)
    goal, hoped = promised(parents, moves[base, way], fixed[base])
    order = distinct(hoped, goal, choice)[: TRIED * len(lanes.unit)]
    found = merit(*evaluate(land, goal[order], choice[order]))
    best = order[np.resize(np.argsort(found, kind="stable")[: len(lanes.unit)], len(lanes.unit))]
    begun = held(land, lanes, goal[best], choice[best], fixed[base[best]])
    kept = jax.tree.map(lambda leaf: leaf[best], parents)
    begun = begun._replace(hessian=kept.hessian, penalty=kept.penalty, prices=kept.prices)
    return begun, len(order)


def _moves(
    land: AbstractLandscape, lanes: Lane, whole: np.ndarray, every: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Of each lane every way to the whole numbers below and above, and which numbers it fixes."""
    here, least, largest = (numbers(land, x) for x in (lanes.unit, lanes.low, lanes.high))
    fixed = whole & (every | (here < LARGE))
    tried = np.floor(here + 1e-4)[:, None] + steps(whole, (0, 1), MOST_WAYS)
    tried = np.clip(tried, np.ceil(least - 1e-3)[:, None], np.floor(largest + 1e-3)[:, None])
    return moves_to(land, lanes, tried, fixed[:, None]), fixed


def moves_to(
    land: AbstractLandscape, lanes: Lane, tried: np.ndarray, fixed: np.ndarray
) -> np.ndarray:
    """From each lane to all its ways, in coordinates: to `tried` where a number is fixed."""
    goal = coordinates(land, np.where(fixed, tried, 1.0))
    return np.where(fixed, goal - np.asarray(lanes.unit, float)[:, None], 0.0)


def steps(whole: np.ndarray, sizes: tuple[int, ...], most: int) -> np.ndarray:
    """Ways to move numbers of things by one of some sizes, in a row: all, or `most` of them at random."""
    count = int(whole.sum())
    every = len(sizes) ** count
    ways = np.zeros((min(every, most), len(whole)))
    if every <= most:
        ways[:, whole] = np.array(list(itertools.product(sizes, repeat=count))).reshape(
            every, count
        )
    else:
        random = np.random.default_rng(0)
        ways[:, whole] = random.integers(sizes[0], sizes[-1] + 1, (most, count))
    return ways


def promised(parents: Lane, move: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each way leads by its parent's model, the rest adapted, and its merit there."""
    stiff = parents._replace(penalty=jnp.maximum(parents.penalty, PENALTY))
    goal, hoped = _promised(stiff, as_values(move), as_values(fixed))
    return np.array(goal), np.array(hoped)


@eqx.filter_jit
@jax.vmap
def _promised(lane: Lane, move: Values, fixed: Values) -> tuple[Values, Scalar]:
    value, slack = lane.seen.value, lane.seen.slack
    free, B, g, A = 1 - fixed, lane.hessian, lane.seen.gradient, lane.seen.slopes
    low = jnp.where(free > 0, jnp.maximum(-REACH, -lane.unit), -1.0)
    high = jnp.where(free > 0, jnp.minimum(REACH, 1 - lane.unit), 1.0)
    moved, reached = g + B @ move, slack + A @ move
    alone = B * jnp.outer(free, free) + jnp.diag(fixed)
    program = Program(alone, moved * free, A * free[None], reached, lane.prices, low, high)
    d = solve(program)[0] * free
    hoped = value + g @ move + 0.5 * move @ (B @ move) + moved @ d + 0.5 * d @ (B @ d)
    missed = jnp.sum(lane.penalty * jnp.maximum(-(reached + A @ d), 0.0))
    return jnp.clip(lane.unit + move + d, 0.0, 1.0), hoped + missed


def distinct(promised: np.ndarray, points: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Places of the ways, the most promising first, each once."""
    rows = np.round(np.concatenate([points, choices], axis=1), 4)
    first = np.unique(rows, axis=0, return_index=True)[1]
    score = np.where(np.isfinite(promised), promised, np.inf)[first]
    return first[np.argsort(score, kind="stable")]


def held(
    land: AbstractLandscape, lanes: Lane, unit: np.ndarray, choice: np.ndarray, fixed: np.ndarray
) -> Lane:
    """Lanes that begin where they are told, some numbers fixed."""
    low, high = (as_values(np.where(fixed, unit, end)) for end in (0.0, 1.0))
    start = Start(as_values(unit), low, high, jnp.asarray(choice), jnp.zeros_like(lanes.shift))
    return begin(land, start, as_scalar(1.0))


MOST_CHOICES = 32
"""Choices that are compared for each start, at most."""

MAX_NEIGHBOURS = 3**6
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
    moves, some = _neighbour_moves(land, lanes, whole)
    base = np.repeat(np.arange(moves.shape[0]), moves.shape[1])
    move, fixed = moves.reshape(-1, len(whole)), some[base]
    parents = jax.tree.map(lambda leaf: leaf[base], lanes)
    goal, hoped = promised(parents, move, fixed)
    still = np.all(np.abs(move) < 1e-6, axis=1)
    hoped = np.where(still, np.inf, hoped)
    order = distinct(hoped, goal, np.asarray(parents.choice))[:NEAR]
    return goal[order], base[order], fixed[order]


def _neighbour_moves(
    land: AbstractLandscape, lanes: Lane, whole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each lane all ways to move its small numbers by one or none, and which these are."""
    least, most = whole_bounds(land)
    here = np.round(numbers(land, lanes.unit))
    small = whole & (here < LARGE)
    tried = np.clip(
        here[:, None] + steps(whole, (-1, 0, 1), MAX_NEIGHBOURS), np.maximum(least, 1.0), most
    )
    return moves_to(land, lanes, tried, small[:, None]), small
