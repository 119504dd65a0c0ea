r"""Numbers of things made whole, with few evaluations.

A start that has come to rest knows a quadratic model of its surroundings. Every way to round its
numbers is a quadratic program in the variables that are left; the ways that promise most are evaluated,
and the best of them goes on with its numbers held (after the mixed-integer quadratic programs of
Exler and Schittkowski, Optimization Letters 1, 2007).
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.design.descent import Lane, Start, begin
from perfmodel.design.landscape import AbstractLandscape
from perfmodel.design.quadratic import Program, solve
from perfmodel.design.starts import PENALTY, coordinates, evaluate, merit, numbers
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
