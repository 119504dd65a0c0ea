"""Smooth twins of max, min and ceil, safe in float32 and in every gradient."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from perfmodel.units import Values

ROUNDNESS = 0.1
"""Width of the bend in `at_least_one`, relative to one; it lifts the value there by 5 %."""


def _fourth(x: Values) -> Values:
    return jnp.square(jnp.square(x))


def soft_max(times: Sequence[Values]) -> Values:
    r"""Time taken when `times` partly overlap: $(\sum_i t_i^4)^{1/4}$.

    It lies between their maximum (the roofline) and their sum. Exponents fitted on every chip measured lie
    between 3 and 6, and 4 costs two multiplications and two square roots instead of a logarithm and an
    exponential.

    **Arguments:**

    - `times`: what each resource would need alone, in seconds; at least one.

    **Returns:**

    The combined time, in seconds.
    """
    return _norm(tuple(times))


@jax.custom_jvp
def _norm(times: tuple[Values, ...]) -> Values:
    # Microseconds to the fourth power underflow in float32: divide first.
    largest = functools.reduce(jnp.maximum, times)
    positive = largest > 0
    scale = jnp.where(positive, largest, 1.0)
    total = functools.reduce(jnp.add, [_fourth(t / scale) for t in times])
    root = jnp.sqrt(jnp.sqrt(jnp.where(positive, total, 1.0)))
    return jnp.where(positive, scale * root, 0.0)


@_norm.defjvp
def _slope_of_norm(
    primals: tuple[tuple[Values, ...]], tangents: tuple[tuple[Values, ...]]
) -> tuple[Values, Values]:
    r"""$\partial t/\partial t_i = (t_i/t)^3$: by hand, for it needs no more than $t$ itself."""
    (times,), (changes,) = primals, tangents
    norm = _norm(times)
    inverse = 1 / jnp.where(norm > 0, norm, 1.0)
    cubes = [jnp.square(t * inverse) * (t * inverse) for t in times]
    return norm, functools.reduce(jnp.add, [c * d for c, d in zip(cubes, changes, strict=True)])


def soft_min(a: Values, b: Values) -> Values:
    r"""Smaller of two numbers, smoothly and from below: $ab/(a^4+b^4)^{1/4}$; zero where both are zero."""
    largest = soft_max([a, b])
    # The square of the smallest float underflows, and the slope of a quotient has it below.
    return a * (b / jnp.where(largest > 0, largest, 1.0))


def at_least_one(x: Values) -> Values:
    r"""$\max(x, 1)$, smoothly and from above: $\tfrac12(x + 1 + \sqrt{(x-1)^2 + r^2})$."""
    return 0.5 * (x + 1 + jnp.sqrt(jnp.square(x - 1) + ROUNDNESS**2))


def piece_count(x: Values, exact: bool) -> Values:
    """How many whole pieces cover `x`: `ceil(x)` when `exact`, else its smooth twin; at least one."""
    return jnp.maximum(jnp.ceil(x), 1.0) if exact else at_least_one(x)


def power_of_two(size: Values) -> Values:
    """The next power of two that is not less; no slope but at its steps."""
    return 2 ** jnp.ceil(jnp.log2(size))
