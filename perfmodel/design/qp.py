r"""Quadratic programs in a box, many at once: the step that each start of a search takes.

$$\min_d \tfrac12 d^T B d + g^T d, \quad A d + c + \delta(z - z_0) \ge 0, \quad
\text{low} \le d \le \text{high}$$

with $z$ the multipliers of the rows of $A$. The term with $\delta$ lets every program have a
solution, however its limits clash, and vanishes as the multipliers settle (a proximal
augmented Lagrangian: Rockafellar, Mathematics of Operations Research 1(2), 1976). Solved by
a primal-dual interior-point method (Wright, Primal-Dual Interior-Point Methods, 1997) of a
fixed number of steps, so that it runs under `vmap`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from perfmodel.units import Scalar, Values

REGULARISATION = 1e-3
r"""$\delta$: a limit that cannot be kept is broken as a penalty of $1/2\delta$ times its square would."""

NEWTON_STEPS = 22
"""Newton steps: each brings the complementarity to about a quarter."""

CENTRING = 0.2
"""Share of the mean complementarity that a step aims for."""

FRACTION_TO_BOUNDARY = 0.95
"""Share of the way to the nearest bound that a step may go."""

MIN_POSITIVE = 1e-12
"""Least room and least multiplier: single precision divides by them."""


class QuadraticProgram(NamedTuple):
    """One quadratic program.

    - `hessian`, `gradient`: $B$, positive definite, and $g$.
    - `jacobian`, `constraints`, `multipliers`: $A$, $c$ and $z_0$.
    - `low`, `high`: the box, with zero in it.
    """

    hessian: Values
    gradient: Values
    jacobian: Values
    constraints: Values
    multipliers: Values
    low: Values
    high: Values


class _Point(NamedTuple):
    """Step; slack and multiplier of each limit; room to both sides of the box, and their multipliers.

    The rooms are carried along: their difference to the bounds cancels in single precision.
    """

    d: Values
    y: Values
    z: Values
    p: Values
    q: Values
    a: Values
    b: Values


def solve(program: QuadraticProgram) -> tuple[Values, Values]:
    """The best step, and the multiplier of each constraint."""
    middle = 0.5 * (program.low + program.high)
    limits, box = jnp.ones_like(program.constraints), jnp.ones_like(middle)
    half = 0.5 * (program.high - program.low)
    first = _Point(middle, limits, limits, half, half, box, box)
    last, _ = jax.lax.scan(lambda at, _: (_newton(program, at), None), first, length=NEWTON_STEPS)
    return jnp.clip(last.d, program.low, program.high), last.z


def _newton(program: QuadraticProgram, at: _Point) -> _Point:
    """One step towards the central path, damped so that all stays positive."""
    B, g, A, c, z0, _, _ = program
    d, y, z, p, q, a, b = at
    aim = CENTRING * jnp.mean(jnp.concatenate([z * y, a * p, b * q]))
    wrong = B @ d + g - A.T @ z - a + b
    short = A @ d + c + REGULARISATION * (z - z0) - y
    weight = 1 / (y + REGULARISATION * z)
    pull = (aim - z * y - z * short) * weight
    matrix = B + jnp.diag(a / p + b / q) + A.T @ ((z * weight)[:, None] * A)
    right = -wrong + A.T @ pull + (aim - a * p) / p - (aim - b * q) / q
    dd = _symmetric_solve(matrix, right)
    dz = pull - z * weight * (A @ dd)
    dy = A @ dd + REGULARISATION * dz + short
    da, db = (aim - a * p - a * dd) / p, (aim - b * q + b * dd) / q
    change = _Point(dd, dy, dz, dd, -dd, da, db)
    size = jnp.min(
        jnp.stack([_step_length(*pair) for pair in zip(at[1:], change[1:], strict=True)])
    )
    return _Point(
        at.d + size * dd, *(_advanced(*pair, size) for pair in zip(at[1:], change[1:], strict=True))
    )


def _advanced(value: Values, change: Values, size: Scalar) -> Values:
    return jnp.maximum(value + size * change, MIN_POSITIVE)


def _symmetric_solve(matrix: Values, right: Values) -> Values:
    """By Cholesky, after scaling to a diagonal of one: bounds that bind make large entries."""
    scale = jax.lax.rsqrt(jnp.diag(matrix))
    scaled = matrix * scale[:, None] * scale[None, :]
    factor = jax.scipy.linalg.cho_factor(scaled + 1e-6 * jnp.eye(len(right)))
    return scale * jax.scipy.linalg.cho_solve(factor, scale * right)


def _step_length(value: Values, change: Values) -> Scalar:
    """How far a step may go, at most one, with `value` still positive."""
    falling = change < 0
    ratio = jnp.where(
        falling, -value / jnp.where(falling, change, -1.0), 1.0 / FRACTION_TO_BOUNDARY
    )
    return jnp.minimum(
        1.0, FRACTION_TO_BOUNDARY * jnp.min(ratio, initial=1.0 / FRACTION_TO_BOUNDARY)
    )
