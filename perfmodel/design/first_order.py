r"""Descents of first order: Adam and L-BFGS of optax on an augmented Lagrangian, projected onto the box.

With value $f$, slacks $s$ (negative: violated), multipliers $\lambda$ and a penalty $\rho$, an inner descent
lowers $f + \sum (\max(0, \lambda - \rho s)^2 - \lambda^2) / 2 \rho$; after it $\lambda$ becomes
$\max(0, \lambda - \rho s)$ (Nocedal and Wright, Numerical Optimization, 17.4). Many starts at once.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from perfmodel.design.abstract_problem import AbstractProblem, Choice, evaluate
from perfmodel.design.sqp import CONSTRAINT_TOLERANCE, SQPState, Start, init
from perfmodel.units import Scalar, Values, as_scalar

ROUNDS = 8
"""Updates of the multipliers in a descent; an estimate."""

INITIAL_PENALTY, PENALTY_GROWTH = 10.0, 1.5
"""Of the augmented Lagrangian, and its growth from one round to the next; estimates."""

MARGIN = 2 * CONSTRAINT_TOLERANCE
"""By which a descent keeps away from each limit: an augmented Lagrangian meets them only in the end."""

ADAM_RATES = (0.03, 0.001)
"""Step of Adam in the first and the last round, in each variable's range; estimates."""


class Descent(NamedTuple):
    """One start on its way: where it is, multipliers, the best place that kept every limit, its value."""

    unit: Values
    multipliers: Values
    best: Values
    best_value: Scalar


class Fixed(NamedTuple):
    """What stays in a descent: the box, the discrete choices, shifts of the constraints."""

    low: Values
    high: Values
    choice: Choice
    shift: Values


Lagrangian = Callable[[Values], tuple[Scalar, tuple[Scalar, Values]]]


def descend(
    problem: AbstractProblem, states: SQPState, method: str, steps: int
) -> tuple[SQPState, int]:
    """All starts after `ROUNDS` times `steps` steps of `method` (`adam` or `lbfgs`).

    **Returns:**

    Starts at rest where each found its best place (where it ended, if it kept no limit), and evaluations
    with slopes spent; tries of a line search are not among them.
    """
    fixed = Fixed(states.low, states.high, states.choice, states.shift)
    unscored = jnp.full_like(states.best_value, jnp.inf)  # their best may be of a smoothed model
    begun = Descent(states.unit, states.multipliers, states.unit, unscored)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes types of numbers
        found = _descend(problem, fixed, begun, method, steps)
    kept = jnp.isfinite(found.best_value)[:, None]
    place = jnp.where(kept, found.best, found.unit)
    ended = init(problem, Start(place, *fixed), as_scalar(1.0))
    rests = jnp.zeros_like(ended.predicted_decrease)
    spent = len(place) * (ROUNDS * steps + 1)
    return ended._replace(multipliers=found.multipliers, predicted_decrease=rests), spent


@eqx.filter_jit
@functools.partial(jax.vmap, in_axes=(None, 0, 0, None, None))
def _descend(
    problem: AbstractProblem, fixed: Fixed, begun: Descent, method: str, steps: int
) -> Descent:
    """Rounds of inner descents, each with multipliers, penalty and rate of its own."""

    def one_round(now: Descent, which: Scalar) -> tuple[Descent, None]:
        penalty = INITIAL_PENALTY * PENALTY_GROWTH**which
        lagrangian = _augmented(problem, fixed, now.multipliers, penalty)
        now = _inner(lagrangian, fixed, now, _optimiser(method, which), steps)
        slack = lagrangian(now.unit)[1][1] - MARGIN
        raised = jnp.maximum(0.0, now.multipliers - penalty * slack)
        settled = jnp.where(jnp.isfinite(raised), raised, now.multipliers)
        return now._replace(multipliers=settled), None

    return jax.lax.scan(one_round, begun, jnp.arange(ROUNDS, dtype=begun.unit.dtype))[0]


def _optimiser(method: str, which: Scalar) -> Any:
    """Of optax, for one round."""
    first, last = ADAM_RATES
    if method == "adam":
        return optax.adam(first * (last / first) ** (which / (ROUNDS - 1)))
    search = optax.scale_by_backtracking_linesearch(max_backtracking_steps=10)
    return optax.lbfgs(linesearch=search)


def _augmented(
    problem: AbstractProblem, fixed: Fixed, multipliers: Values, penalty: Scalar
) -> Lagrangian:
    """The augmented Lagrangian by coordinates; beside it the value and the slacks."""

    def lagrangian(unit: Values) -> tuple[Scalar, tuple[Scalar, Values]]:
        inside = jnp.clip(unit, fixed.low, fixed.high)
        value, slack = evaluate(problem, inside, fixed.choice, as_scalar(1.0))
        slack = slack - fixed.shift
        pushed = jnp.maximum(0.0, multipliers - penalty * (slack - MARGIN))
        return value + jnp.sum(pushed**2 - multipliers**2) / (2 * penalty), (value, slack)

    return lagrangian


def _inner(
    lagrangian: Lagrangian, fixed: Fixed, now: Descent, optimiser: Any, steps: int
) -> Descent:
    """`steps` steps of one optimiser, each projected onto the box."""
    slopes = jax.value_and_grad(lagrangian, has_aux=True)

    def one_step(carry: tuple[Descent, Any], _: None) -> tuple[tuple[Descent, Any], None]:
        now, memory = carry
        (total, (value, slack)), gradient = slopes(now.unit)
        now = _with_best(now, value, slack)
        g = _projected(gradient, now.unit, fixed)
        told = {"value": total, "grad": g, "value_fn": lambda unit: lagrangian(unit)[0]}
        update, memory = optax.with_extra_args_support(optimiser).update(
            g, memory, now.unit, **told
        )
        unit = jnp.clip(jnp.add(now.unit, jnp.asarray(update)), fixed.low, fixed.high)
        moved = jnp.where(jnp.isfinite(unit), unit, now.unit)
        return (now._replace(unit=moved), memory), None

    return jax.lax.scan(one_step, (now, optimiser.init(now.unit)), None, steps)[0][0]


def _with_best(now: Descent, value: Scalar, slack: Values) -> Descent:
    """With the place where it is, if that keeps every limit and is better than the best."""
    kept: Bool[Array, ""] = jnp.all(slack > -CONSTRAINT_TOLERANCE) & jnp.isfinite(value)
    better = kept & (value < now.best_value)
    return now._replace(
        best=jnp.where(better, now.unit, now.best),
        best_value=jnp.where(better, value, now.best_value),
    )


def _projected(gradient: Values, unit: Values, fixed: Fixed) -> Values:
    """The gradient without what leads out of the box, and without what is no number."""
    out = ((unit <= fixed.low) & (gradient > 0)) | ((unit >= fixed.high) & (gradient < 0))
    return jnp.where(out | ~jnp.isfinite(gradient), 0.0, gradient)
