r"""Integers and discrete choices of starts at rest, with few evaluations: rounded, moved by one, exchanged.

A start at rest knows a quadratic model of its surroundings. Every way to round its integers is a
quadratic program in the variables that are left; the ways that promise most are evaluated, and the
best of them goes on with its integers fixed (after the mixed-integer quadratic programs of
Exler and Schittkowski, Optimization Letters 1, 2007).

The best integers are often none of those around a relaxed optimum, and each moved by itself makes a design
worse: fewer ranks want more stacks and more workers. Of all ways to move some by one, those that promise most
descend for a few steps, and the best goes on. Another node or memory wants another design too: each is
compared after steps of its own.
"""

import itertools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.design.abstract_problem import (
    DEFAULT_PENALTY,
    AbstractProblem,
    evaluate_all,
    integer_bounds,
    merit,
    unit_coordinates,
    variable_values,
)
from perfmodel.design.qp import QuadraticProgram, solve
from perfmodel.design.sqp import SQPState, Start, init, step, violation
from perfmodel.design.starting_points import combinations
from perfmodel.units import Scalar, Values, as_scalar, as_values

MAX_ROUNDINGS = 2**6
"""Ways to round that are compared for each start, at most."""

ROUNDED_LAST_ABOVE = 20
"""An integer above this is rounded last: one more of it changes it by less than a twentieth."""

EVALUATED_PER_START = 4
"""Ways that are evaluated for each start, the most promising."""

MODEL_RADIUS = 0.3
"""The quadratic model of a start is believed within this share of each range."""

MAX_CHOICES = 32
"""Choices that are compared for each start, at most."""

MAX_NEIGHBOURS = 3**6
"""Ways to move that are compared by the quadratic model, at most."""

DESCENDED_NEIGHBOURS, NEIGHBOUR_STEPS = 64, 5
"""Ways that descend, and their steps: among two pools' 320, the optimum ranked up to 51st by promise, and
first after five steps."""

CHOICE_STEPS = 2
"""Steps of another choice: the first follows its own slopes, the second what it found."""


class Candidates(NamedTuple):
    """Places to begin at, one a row: coordinates, choices, which integers are fixed; the start each is of."""

    unit: np.ndarray
    choice: np.ndarray
    fixed: np.ndarray
    parent: np.ndarray

    def at(self, rows: np.ndarray) -> "Candidates":
        """Some of them."""
        return Candidates(*(part[rows] for part in self))


def round_integers(
    problem: AbstractProblem, states: SQPState, integer: np.ndarray
) -> tuple[SQPState, int]:
    """As many starts as before, small integers rounded and fixed; at the second call all of them.

    Large ones adapt first to what the small ones became.

    **Arguments:**

    - `states`: at rest; integers that are fixed stay so.

    **Returns:**

    Starts that begin, and evaluations spent.
    """
    batch_size, every = len(states.unit), _any_fixed(states)
    moves, fixed = _roundings(problem, states, integer, every)
    found = _most_promising(states, moves, fixed, EVALUATED_PER_START * batch_size)
    merits = merit(*evaluate_all(problem, found.unit, found.choice))
    best = found.at(np.resize(np.argsort(merits, kind="stable")[:batch_size], batch_size))
    begun, parents = _init(problem, best), _rows(states, best.parent)
    begun = begun._replace(
        hessian=parents.hessian, penalty=parents.penalty, multipliers=parents.multipliers
    )
    return begun, len(found.unit)


def best_neighbour(
    problem: AbstractProblem, states: SQPState, integer: np.ndarray
) -> tuple[SQPState, int]:
    """As many starts as before, the best of those whose small integers differ by one or none.

    Large ones are left to adapt, and are rounded later.

    **Arguments:**

    - `states`: at rest, with all integers fixed.

    **Returns:**

    Starts on their way, and evaluations with slopes spent.
    """
    moves, fixed = _neighbours(problem, states, integer)
    still = np.all(np.abs(moves) < 1e-6, axis=-1)
    found = _most_promising(states, moves, fixed, DESCENDED_NEIGHBOURS, still.ravel())
    return _best_descended(problem, found, len(states.unit), NEIGHBOUR_STEPS)


def best_other_choice(problem: AbstractProblem, states: SQPState) -> tuple[SQPState, int]:
    """As many starts as before, the best that begin where these are with another choice.

    **Arguments:**

    - `states`: at rest, with all integers relaxed.

    **Returns:**

    Starts on their way, and evaluations with slopes spent.
    """
    some = combinations(problem.options, min(int(np.prod(problem.options)), MAX_CHOICES), 0)
    own, unit = np.asarray(states.choice), np.asarray(states.unit, float)
    parent, which = np.nonzero(np.any(own[:, None] != some, axis=-1))
    relaxed = np.zeros_like(unit[parent], bool)
    found = Candidates(unit[parent], some[which], relaxed, parent)
    return _best_descended(problem, found, len(unit), CHOICE_STEPS)


def _roundings(
    problem: AbstractProblem, states: SQPState, integer: np.ndarray, every: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Of each start every way to the integers below and above, and which it fixes."""
    here, least, largest = (
        variable_values(problem, x) for x in (states.unit, states.low, states.high)
    )
    fixed = integer & (every | (here < ROUNDED_LAST_ABOVE))
    tried = np.floor(here + 1e-4)[:, None] + integer_moves(integer, (0, 1), MAX_ROUNDINGS)
    tried = np.clip(tried, np.ceil(least - 1e-3)[:, None], np.floor(largest + 1e-3)[:, None])
    return _moves_to(problem, states, tried, fixed[:, None]), fixed


def _neighbours(
    problem: AbstractProblem, states: SQPState, integer: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each start all ways to move its small integers by one or none, and which these are."""
    least, most = integer_bounds(problem)
    here = np.round(variable_values(problem, states.unit))
    small = integer & (here < ROUNDED_LAST_ABOVE)
    tried = here[:, None] + integer_moves(integer, (-1, 0, 1), MAX_NEIGHBOURS)
    tried = np.clip(tried, np.maximum(least, 1.0), most)
    return _moves_to(problem, states, tried, small[:, None]), small


def _moves_to(
    problem: AbstractProblem, states: SQPState, tried: np.ndarray, fixed: np.ndarray
) -> np.ndarray:
    """From each start to all its ways, in coordinates: to `tried` where an integer is fixed."""
    goal = unit_coordinates(problem, np.where(fixed, tried, 1.0))
    return np.where(fixed, goal - np.asarray(states.unit, float)[:, None], 0.0)


def integer_moves(integer: np.ndarray, sizes: tuple[int, ...], most: int) -> np.ndarray:
    """Ways to move integers by one of some sizes, in a row: all, or `most` of them at random."""
    count = int(integer.sum())
    every = len(sizes) ** count
    moves = np.zeros((min(every, most), len(integer)))
    if every <= most:
        moves[:, integer] = np.reshape(list(itertools.product(sizes, repeat=count)), (every, count))
    else:
        random = np.random.default_rng(0)
        moves[:, integer] = random.integers(sizes[0], sizes[-1] + 1, (most, count))
    return moves


def _most_promising(
    states: SQPState,
    moves: np.ndarray,
    fixed: np.ndarray,
    count: int,
    excluded: np.ndarray | bool = False,
) -> Candidates:
    """Of all moves of all starts, `(starts, moves, variables)`, those of the least predicted merit."""
    parent = np.repeat(np.arange(moves.shape[0]), moves.shape[1])
    goal, predicted = predict(_rows(states, parent), moves.reshape(len(parent), -1), fixed[parent])
    found = Candidates(goal, np.asarray(states.choice)[parent], fixed[parent], parent)
    order = distinct(np.where(excluded, np.inf, predicted), found.unit, found.choice)
    return found.at(order[:count])


def predict(
    parents: SQPState, move: np.ndarray, fixed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where each move leads by its parent's quadratic model, the rest adapted, and the merit there."""
    stiff = parents._replace(penalty=jnp.maximum(parents.penalty, DEFAULT_PENALTY))
    goal, predicted = _predict(stiff, as_values(move), as_values(fixed))
    return np.array(goal), np.array(predicted)


@eqx.filter_jit
@jax.vmap
def _predict(state: SQPState, move: Values, fixed: Values) -> tuple[Values, Scalar]:
    value, g, slack, A = state.linearisation
    free, B = 1 - fixed, state.hessian
    moved, reached = g + B @ move, slack + A @ move
    program = QuadraticProgram(
        hessian=B * jnp.outer(free, free) + jnp.diag(fixed),
        gradient=moved * free,
        jacobian=A * free[None],
        constraints=reached,
        multipliers=state.multipliers,
        low=jnp.where(free > 0, jnp.maximum(-MODEL_RADIUS, -state.unit), -1.0),
        high=jnp.where(free > 0, jnp.minimum(MODEL_RADIUS, 1 - state.unit), 1.0),
    )
    d = solve(program)[0] * free
    predicted = value + g @ move + 0.5 * move @ (B @ move) + moved @ d + 0.5 * d @ (B @ d)
    added = violation(reached + A @ d, state.penalty)
    return jnp.clip(state.unit + move + d, 0.0, 1.0), predicted + added


def distinct(predicted: np.ndarray, points: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Places of the points, the most promising first, each once."""
    rows = np.round(np.concatenate([points, choices], axis=1), 4)
    first = np.unique(rows, axis=0, return_index=True)[1]
    score = np.where(np.isfinite(predicted), predicted, np.inf)[first]
    return first[np.argsort(score, kind="stable")]


def _best_descended(
    problem: AbstractProblem, found: Candidates, batch_size: int, count: int
) -> tuple[SQPState, int]:
    """The best of all candidates after `count` steps, `batch_size` of them at a time."""
    many = len(found.unit)
    groups = [np.arange(i, i + batch_size) % many for i in range(0, many, batch_size)]
    ends = [_descended(problem, _init(problem, found.at(group)), count) for group in groups]
    every = jax.tree.map(lambda *leaves: np.concatenate(leaves), *ends)
    best = np.argsort(merits_of(every), kind="stable")[:batch_size]
    spent = (1 + count) * len(groups) * batch_size
    return jax.tree.map(jnp.asarray, _rows(every, best)), spent


def _descended(problem: AbstractProblem, states: SQPState, count: int) -> SQPState:
    for _ in range(count):
        states = step(problem, states, as_scalar(1.0))
    return states


def _init(problem: AbstractProblem, found: Candidates) -> SQPState:
    """Starts at candidates, some integers fixed."""
    low, high = (as_values(np.where(found.fixed, found.unit, end)) for end in (0.0, 1.0))
    start = Start(as_values(found.unit), low, high, jnp.asarray(found.choice))
    return init(problem, start, as_scalar(1.0))


def _rows(states: SQPState, rows: np.ndarray) -> SQPState:
    return jax.tree.map(lambda leaf: leaf[rows], states)


def _any_fixed(states: SQPState) -> bool:
    return bool(np.any(np.asarray(states.low) == np.asarray(states.high)))


def merits_of(states: SQPState) -> np.ndarray:
    """Of each start where it is now."""
    found = states.linearisation
    return merit(np.asarray(found.value), np.asarray(found.constraints))
