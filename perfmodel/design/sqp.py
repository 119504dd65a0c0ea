r"""Sequential quadratic programming in a trust region, many starts at once.

In the joints of optimistix: a step that is proposed, a test that accepts it, a result that says why a
start ended. Its own solvers know neither constraints nor a batch whose model is evaluated outside the
step, over many devices.

Each start keeps a quadratic model of its Lagrangian (damped BFGS: Powell, 1978) and takes the best step of
it under its constraints, linearised, within its radius and the box; so an optimum on a bound is reached, not
approached.
"""

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from perfmodel.design.abstract_problem import (
    AbstractProblem,
    Choice,
    Linearisation,
    linearise_batch,
)
from perfmodel.design.qp import REGULARISATION, QuadraticProgram, solve
from perfmodel.units import Scalar, Values

INITIAL_RADIUS = 0.2
"""Of the trust region: a fifth of each variable's range."""

MAX_RADIUS = 0.5
"""No radius grows beyond half of each range."""

MIN_RADIUS = 2e-4
"""A start whose radius has shrunk below this has ended."""

INITIAL_CURVATURE = 1.0
"""Of the first quadratic model, for each range squared."""

CONSTRAINT_TOLERANCE = 1e-4
"""A constraint violated by less than this, relative, counts as kept."""

EXPAND_ABOVE, SHRINK_BELOW = 0.75, 0.25
"""Decrease over its prediction above which the radius grows, and below which it shrinks."""

FTOL = 3e-7
"""A predicted decrease below this is lost in single precision."""

MAX_PENALTY = 100.0
"""Of a violated constraint: all are logarithms, so multipliers are elasticities, of order one."""


class RESULTS(eqx.Enumeration):
    """Why a start ended, if it has."""

    running = "It may still win more than ftol."
    converged = "Its quadratic model predicts a decrease below ftol."
    stalled = (
        "Its trust region has shrunk below the least radius: the model cannot be trusted here."
    )


class Start(NamedTuple):
    """Where starts begin, one a row: coordinates, their bounds, choices, shifts of the constraints."""

    unit: Values
    low: Values
    high: Values
    choice: Choice
    shift: Values | float = 0.0


class SQPState(NamedTuple):
    """Starts on their way, one a row.

    - `unit`: where one is, between 0 and 1; `low`, `high`: between which it may move.
    - `choice`: its discrete choices; `shift`: by how much each of its constraints is moved.
    - `linearisation`: value and slopes there, slacks after the shift.
    - `hessian`, `multipliers`, `radius`: of its quadratic model; `penalty`: of each constraint.
    - `predicted_decrease`: of the merit, by its last step.
    - `best`, `best_value`: the best place that kept every constraint, and the value there.
    """

    unit: Values
    low: Values
    high: Values
    choice: Choice
    shift: Values
    linearisation: Linearisation
    hessian: Values
    multipliers: Values
    radius: Scalar
    penalty: Values
    predicted_decrease: Scalar
    best: Values
    best_value: Scalar


class Proposal(NamedTuple):
    """A step to try, and what the quadratic model says of it.

    - `step`; `unit`: where it leads; `multipliers`: of the constraints.
    - `value`: change of the value; `constraints`: slacks after it.
    """

    step: Values
    unit: Values
    multipliers: Values
    value: Scalar
    constraints: Values


def init(problem: AbstractProblem, starts: Start, sharpness: Scalar) -> SQPState:
    """Starts before their first step."""
    found = linearise_batch(problem, starts.unit, starts.choice, sharpness)
    shift = jnp.zeros_like(found.constraints) + starts.shift
    return _init(Start(*starts[:4], shift), _shifted(found, shift))


def relinearise(problem: AbstractProblem, states: SQPState, sharpness: Scalar) -> SQPState:
    """Starts where they are, on a problem of another sharpness; they keep their quadratic models."""
    fresh = init(problem, Start(*states[:5]), sharpness)
    return fresh._replace(hessian=states.hessian, multipliers=states.multipliers)


def step(problem: AbstractProblem, states: SQPState, sharpness: Scalar) -> SQPState:
    """One step of every start; one that has ended stays."""
    proposal = propose(states)
    found = linearise_batch(problem, proposal.unit, states.choice, sharpness)
    return accept(states, proposal, _shifted(found, states.shift))


def result(states: SQPState, ftol: float = FTOL) -> RESULTS:
    """Why each start ended, if it has."""
    return _result(states.radius, states.predicted_decrease, ftol)


@eqx.filter_jit
@functools.partial(jax.vmap, in_axes=(0, 0, None))
def _result(radius: Scalar, predicted_decrease: Scalar, ftol: float) -> RESULTS:
    ended = RESULTS.where(radius < MIN_RADIUS, RESULTS.stalled, RESULTS.running)
    return RESULTS.where(predicted_decrease < ftol, RESULTS.converged, ended)


def terminated(states: SQPState, ftol: float = FTOL) -> Bool[Array, "..."]:
    """Which starts have ended."""
    return result(states, ftol) != RESULTS.running


def is_feasible(found: Linearisation) -> Bool[Array, "..."]:
    """Whether a point has a value and keeps every constraint."""
    return jnp.all(found.constraints > -CONSTRAINT_TOLERANCE, axis=-1) & jnp.isfinite(found.value)


@jax.jit
def _shifted(found: Linearisation, shift: Values) -> Linearisation:
    return found._replace(constraints=found.constraints - shift)


@jax.jit
def _init(starts: Start, found: Linearisation) -> SQPState:
    count, size = starts.unit.shape
    zeros = jnp.zeros_like(found.constraints)
    return SQPState(
        unit=starts.unit,
        low=starts.low,
        high=starts.high,
        choice=starts.choice,
        shift=jnp.asarray(starts.shift),
        linearisation=found,
        hessian=jnp.broadcast_to(INITIAL_CURVATURE * jnp.eye(size), (count, size, size)),
        multipliers=zeros,
        radius=jnp.full(count, INITIAL_RADIUS),
        penalty=zeros + 1.0,
        predicted_decrease=jnp.full(count, jnp.inf),
        best=starts.unit,
        best_value=jnp.where(is_feasible(found), found.value, jnp.inf),
    )


@eqx.filter_jit
@jax.vmap
def propose(state: SQPState) -> Proposal:
    """The best step of each start's quadratic model; variables that are fixed stay."""
    here, free = state.linearisation, (state.high > state.low).astype(state.unit.dtype)
    radius = jnp.maximum(state.radius, MIN_RADIUS)
    program = QuadraticProgram(
        hessian=state.hessian * jnp.outer(free, free) + jnp.diag(1 - free),
        gradient=here.gradient * free,
        jacobian=here.jacobian * free[None],
        constraints=here.constraints,
        multipliers=state.multipliers,
        low=jnp.where(free > 0, jnp.maximum(-radius, state.low - state.unit), -1.0),
        high=jnp.where(free > 0, jnp.minimum(radius, state.high - state.unit), 1.0),
    )
    d, multipliers = solve(program)
    d = d * free
    return Proposal(
        step=d,
        unit=jnp.clip(state.unit + d, state.low, state.high),
        multipliers=multipliers,
        value=here.gradient @ d + 0.5 * d @ (state.hessian @ d),
        constraints=here.constraints + program.jacobian @ d,
    )


@eqx.filter_jit
@jax.vmap
def accept(state: SQPState, proposal: Proposal, found: Linearisation) -> SQPState:
    r"""Each start after its proposed step was tried: taken or not, its radius, penalties and model renewed.

    With value $f$, slacks $s$, their Jacobian $A$ and multipliers $z$, a step $d$ is taken where it lowers
    the merit (Fletcher's exact penalty)

    $$\phi(x) = f(x) + \sum_i \mu_i \max(0, -s_i(x)), \quad
    \mu_i \leftarrow \min(\max(\mu_i, 2 z_i), \mu_\text{max})$$

    of which the quadratic model predicted a decrease of

    $$p = \phi(x) - \Big(f + g^T d + \tfrac12 d^T B d + \sum_i \mu_i \max(0, -s_i - A_i d)\Big)$$

    With $\rho = (\phi(x) - \phi(x + d)) / p$ the radius doubles above 0.75 if the step went nearly as far
    as it could, stays above 0.25, and else shrinks to 0.4 of the step. A start whose model predicts less
    than `FTOL` ends, unless its multipliers still move (Nocedal and Wright, Numerical Optimization, 2006,
    chapter 18).

    **Arguments:**

    - `state`: starts, on a leading axis in every field; of one, `unit` is `(variables,)`, `hessian`
      `(variables, variables)`, `multipliers` and `penalty` `(constraints,)`, `radius` a number.
    - `found`: at `proposal.unit`: `value` a number, `gradient` `(variables,)`, `constraints` after their
      shift `(constraints,)`, `jacobian` `(constraints, variables)`.
    """
    here, multipliers = state.linearisation, jnp.minimum(proposal.multipliers, MAX_PENALTY)
    penalty = jnp.minimum(jnp.maximum(state.penalty, 2 * multipliers), MAX_PENALTY)
    before = here.value + violation(here.constraints, penalty)
    after = found.value + violation(found.constraints, penalty)
    predicted = (
        violation(here.constraints, penalty)
        - proposal.value
        - violation(proposal.constraints, penalty)
    )
    finite = jnp.isfinite(after) & jnp.all(jnp.isfinite(found.gradient))
    accepted = finite & (after < before)
    ratio = jnp.where(finite, (before - after) / jnp.maximum(predicted, FTOL), -jnp.inf)
    # A program keeps its limits but for REGULARISATION times what multipliers move: solved when they rest.
    moved = jnp.max(jnp.abs(multipliers - state.multipliers), initial=0.0)
    unsettled = REGULARISATION * moved > CONSTRAINT_TOLERANCE
    ended = (predicted < FTOL) & ~unsettled
    better = finite & is_feasible(found) & (found.value < state.best_value)
    return state._replace(
        unit=jnp.where(accepted, proposal.unit, state.unit),
        linearisation=jax.tree.map(lambda new, old: jnp.where(accepted, new, old), found, here),
        hessian=jnp.where(
            finite, _bfgs_update(state, proposal.unit, multipliers, found), state.hessian
        ),
        multipliers=jnp.where(accepted | (predicted < FTOL), multipliers, state.multipliers),
        radius=_next_radius(state.radius, proposal.step, ratio, unsettled, ended),
        penalty=penalty,
        predicted_decrease=jnp.where(unsettled, jnp.inf, predicted),
        best=jnp.where(better, proposal.unit, state.best),
        best_value=jnp.where(better, found.value, state.best_value),
    )


def violation(slack: Values, penalty: Values) -> Scalar:
    """What violated constraints add to the merit."""
    return jnp.sum(penalty * jnp.maximum(-slack, 0.0))


def _next_radius(
    radius: Scalar,
    step: Values,
    ratio: Scalar,
    unsettled: Bool[Array, ""],
    ended: Bool[Array, ""],
) -> Scalar:
    length = jnp.max(jnp.abs(step))
    larger = jnp.where((ratio > EXPAND_ABOVE) & (length > 0.8 * radius), 2 * radius, radius)
    new = jnp.where(ratio > SHRINK_BELOW, larger, 0.4 * jnp.minimum(length, radius))
    new = jnp.where(unsettled, jnp.maximum(new, 4 * MIN_RADIUS), new)
    return jnp.minimum(jnp.where(ended, 0.0, new), MAX_RADIUS)


def _bfgs_update(
    state: SQPState, unit: Values, multipliers: Values, found: Linearisation
) -> Values:
    """The quadratic model after it has seen the slopes at `unit`, kept positive (Powell's damping)."""
    d, here = unit - state.unit, state.linearisation
    B, Bd = state.hessian, state.hessian @ d
    y = (found.gradient - found.jacobian.T @ multipliers) - (
        here.gradient - here.jacobian.T @ multipliers
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
