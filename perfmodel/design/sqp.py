r"""Descent of many starts at once: sequential quadratic programs in a trust region.

Each start keeps a quadratic model of its Lagrangian (damped BFGS: Powell, 1978) and takes the
best step of it under its limits, linear, within its radius and the box; so an optimum on a
bound is reached, not approached. A step is kept where it lowers
$f + \sum_i \mu_i \max(0, -s_i)$ (Fletcher's exact penalty); the radius grows where
the model is good and shrinks where it is not (Nocedal and Wright, Numerical Optimization,
chapter 18).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from perfmodel.design.abstract_problem import AbstractLandscape, Choice, Look, looks
from perfmodel.design.qp import SOFTNESS, Program, solve
from perfmodel.units import Scalar, Values

RADIUS = 0.2
"""Of the first step: a fifth of each variable's range."""

LONGEST = 0.5
"""No radius grows beyond half of each range."""

CURVATURE = 1.0
"""Of the first quadratic model, for each range squared."""

TOLERANCE = 1e-4
"""A limit broken by less than this, relative, counts as kept."""

SETTLED = 2e-4
"""A start whose radius has shrunk to this has come to rest."""

GOOD, BAD = 0.75, 0.25
"""Decrease over its prediction above which the radius grows, and below which it shrinks."""

FLAT = 3e-7
"""A predicted decrease below this is lost in single precision."""

STEEPEST = 100.0
"""Most that a broken limit is weighted by: all are logarithms, so prices are elasticities, of order one."""


class Lane(NamedTuple):
    """One start on its way.

    - `unit`: where it is, between 0 and 1; `low`, `high`: between which it may move.
    - `choice`: its discrete choices; `shift`: by how much each of its limits is moved.
    - `seen`: value and slopes there, slacks after the shift.
    - `hessian`, `prices`, `radius`: of its quadratic model; `penalty`: of each limit.
    - `hoped`: decrease that its last step promised.
    - `best`, `lowest`: the best place that kept every limit, and the value there.
    """

    unit: Values
    low: Values
    high: Values
    choice: Choice
    shift: Values
    seen: Look
    hessian: Values
    prices: Values
    radius: Scalar
    penalty: Values
    hoped: Scalar
    best: Values
    lowest: Scalar


class Start(NamedTuple):
    """Where a lane begins: coordinates, between which it may move, choices, moved limits."""

    unit: Values
    low: Values
    high: Values
    choice: Choice
    shift: Values


def begin(land: AbstractLandscape, starts: Start, sharpness: Scalar) -> Lane:
    """Lanes at their starts, one a row."""
    seen = looks(land, starts.unit, starts.choice, sharpness)
    return _fresh(starts, _shifted(seen, starts.shift))


def look_again(land: AbstractLandscape, lanes: Lane, sharpness: Scalar) -> Lane:
    """Lanes where they are, on a landscape of another sharpness."""
    seen = looks(land, lanes.unit, lanes.choice, sharpness)
    fresh = _fresh(Start(*lanes[:5]), _shifted(seen, lanes.shift))
    return fresh._replace(hessian=lanes.hessian, prices=lanes.prices)


@jax.jit
def _shifted(seen: Look, shift: Values) -> Look:
    return seen._replace(slack=seen.slack - shift)


@jax.jit
def _fresh(starts: Start, seen: Look) -> Lane:
    count, size = starts.unit.shape
    lowest = jnp.where(_kept(seen), seen.value, jnp.inf)
    hessian = jnp.broadcast_to(CURVATURE * jnp.eye(size), (count, size, size))
    nothing = jnp.zeros_like(seen.slack)
    radius, hoped = jnp.full(count, RADIUS), jnp.full(count, jnp.inf)
    penalty = nothing + 1.0
    return Lane(*starts, seen, hessian, nothing, radius, penalty, hoped, starts.unit, lowest)


def _kept(seen: Look) -> Bool[Array, "..."]:
    return jnp.all(seen.slack > -TOLERANCE, axis=-1) & jnp.isfinite(seen.value)


def step(land: AbstractLandscape, lanes: Lane, sharpness: Scalar) -> Lane:
    """One step of every lane; one at rest stays."""
    trial, prices, drop = _propose(lanes)
    seen = _shifted(looks(land, trial, lanes.choice, sharpness), lanes.shift)
    return _judge(lanes, trial, prices, drop, seen)


def rests(lane: Lane, enough: float = FLAT) -> Bool[Array, "..."]:
    """Whether a lane has nothing more to win than `enough`, or has lost its way."""
    return (lane.radius < SETTLED) | (lane.hoped < enough)


class _Drop(NamedTuple):
    """The step, and what the quadratic model says of it: change of the value, of broken limits."""

    d: Values
    value: Scalar
    slack: Values


@eqx.filter_jit
@jax.vmap
def _propose(lane: Lane) -> tuple[Values, Values, _Drop]:
    free = (lane.high > lane.low).astype(lane.unit.dtype)
    radius = jnp.maximum(lane.radius, SETTLED)
    low = jnp.where(free > 0, jnp.maximum(-radius, lane.low - lane.unit), -1.0)
    high = jnp.where(free > 0, jnp.minimum(radius, lane.high - lane.unit), 1.0)
    hessian = lane.hessian * jnp.outer(free, free) + jnp.diag(1 - free)
    slopes = lane.seen.slopes * free[None]
    program = Program(
        hessian, lane.seen.gradient * free, slopes, lane.seen.slack, lane.prices, low, high
    )
    d, prices = solve(program)
    d = d * free
    value = lane.seen.gradient @ d + 0.5 * d @ (lane.hessian @ d)
    drop = _Drop(d, value, lane.seen.slack + slopes @ d)
    return jnp.clip(lane.unit + d, lane.low, lane.high), prices, drop


def _broken(slack: Values, penalty: Values) -> Scalar:
    return jnp.sum(penalty * jnp.maximum(-slack, 0.0))


@eqx.filter_jit
@jax.vmap
def _judge(lane: Lane, trial: Values, prices: Values, drop: _Drop, seen: Look) -> Lane:
    prices = jnp.minimum(prices, STEEPEST)
    penalty = jnp.minimum(jnp.maximum(lane.penalty, 2 * prices), STEEPEST)
    before = lane.seen.value + _broken(lane.seen.slack, penalty)
    after = seen.value + _broken(seen.slack, penalty)
    hoped = _broken(lane.seen.slack, penalty) - drop.value - _broken(drop.slack, penalty)
    ratio = (before - after) / jnp.maximum(hoped, FLAT)
    sound = jnp.isfinite(after) & jnp.all(jnp.isfinite(seen.gradient))
    taken = sound & (after < before)
    length = jnp.max(jnp.abs(drop.d))
    radius = jnp.where((ratio > GOOD) & (length > 0.8 * lane.radius), 2 * lane.radius, lane.radius)
    radius = jnp.where(sound & (ratio > BAD), radius, 0.4 * jnp.minimum(length, lane.radius))
    # A program keeps its limits but for SOFTNESS times what prices move: it is solved when they rest.
    unpriced = SOFTNESS * jnp.max(jnp.abs(prices - lane.prices), initial=0.0) > TOLERANCE
    radius = jnp.where(unpriced, jnp.maximum(radius, 4 * SETTLED), radius)
    radius = jnp.minimum(jnp.where((hoped < FLAT) & ~unpriced, 0.0, radius), LONGEST)
    better = sound & jnp.all(seen.slack > -TOLERANCE) & (seen.value < lane.lowest)
    learnt = jnp.where(sound, _updated(lane, trial, prices, seen), lane.hessian)
    return lane._replace(
        unit=jnp.where(taken, trial, lane.unit),
        seen=jax.tree.map(lambda new, old: jnp.where(taken, new, old), seen, lane.seen),
        hessian=learnt,
        prices=jnp.where(taken | (hoped < FLAT), prices, lane.prices),
        radius=radius,
        penalty=penalty,
        hoped=jnp.where(unpriced, jnp.inf, hoped),
        best=jnp.where(better, trial, lane.best),
        lowest=jnp.where(better, seen.value, lane.lowest),
    )


def _updated(lane: Lane, trial: Values, prices: Values, seen: Look) -> Values:
    """The quadratic model after it has seen the slopes at `trial`, kept positive (Powell's damping)."""
    d = trial - lane.unit
    B, Bd = lane.hessian, lane.hessian @ d
    y = (seen.gradient - seen.slopes.T @ prices) - (
        lane.seen.gradient - lane.seen.slopes.T @ prices
    )
    curved, expected = d @ y, d @ Bd
    enough = expected > 1e-12
    share = jnp.where(
        curved < 0.2 * expected, 0.8 * expected / jnp.where(enough, expected - curved, 1.0), 1.0
    )
    y = share * y + (1 - share) * Bd
    along = jnp.where(enough, d @ y, 1.0)
    new = B - jnp.outer(Bd, Bd) / jnp.where(enough, expected, 1.0) + jnp.outer(y, y) / along
    return jnp.where(enough & jnp.all(jnp.isfinite(new)), new, B)
