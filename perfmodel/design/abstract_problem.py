"""What an optimiser needs to know of a problem: values, slopes, bounds; nothing of chips."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from perfmodel.design.devices import over_devices
from perfmodel.units import Scalar, Values, as_scalar, as_values

Choice = Int[Array, " choices"]
"""For each discrete choice, the place of what is chosen."""

Choices = Int[Array, "points choices"] | Int[np.ndarray, "points choices"]
"""One a row."""

DEFAULT_PENALTY = 10.0
"""Of a violated constraint when points are compared before anything is known of its multiplier."""

EVALUATED_AT_ONCE = 512
"""Points evaluated at a time: always as many, so that they are compiled once."""


class AbstractProblem(eqx.Module):
    """A function to minimise under constraints, over a box and some discrete choices.

    - `low`, `high`: ends of the box, one for each variable, in logarithms.
    - `options`: how many there are of each discrete choice.
    """

    low: eqx.AbstractVar[Values]
    high: eqx.AbstractVar[Values]
    options: eqx.AbstractVar[tuple[int, ...]]

    @abc.abstractmethod
    def model_terms(self, x: Values, choice: Choice, sharpness: Scalar) -> Values:
        """What takes the whole model: the value to minimise, then slacks; negative slack: violated.

        **Arguments:**

        - `sharpness`: 1 for the model as it is, less for a smoother one.
        """

    @abc.abstractmethod
    def static_constraints(self, x: Values, choice: Choice) -> Values:
        """Slacks that take little."""


class Linearisation(NamedTuple):
    """A point with slopes by the unit coordinates: value, gradient; slacks of constraints, their Jacobian."""

    value: Scalar
    gradient: Values
    constraints: Values
    jacobian: Values


def point(problem: AbstractProblem, unit: Values) -> Values:
    """A point of the box, from coordinates between 0 and 1."""
    return problem.low + (problem.high - problem.low) * unit


def evaluate(
    problem: AbstractProblem, unit: Values, choice: Choice, sharpness: Scalar
) -> tuple[Scalar, Values]:
    """The value to minimise, and all slacks."""
    x = point(problem, unit)
    terms = problem.model_terms(x, choice, sharpness)
    return terms[0], jnp.concatenate([terms[1:], problem.static_constraints(x, choice)])


def linearise(
    problem: AbstractProblem, unit: Values, choice: Choice, sharpness: Scalar
) -> Linearisation:
    """Value, slacks and their slopes: of the model in reverse, of static constraints forward."""
    terms, pull = jax.vjp(lambda u: problem.model_terms(point(problem, u), choice, sharpness), unit)
    (slopes,) = jax.vmap(pull)(jnp.eye(len(terms), dtype=terms.dtype))
    static, static_slopes = _with_jacobian(
        lambda u: problem.static_constraints(point(problem, u), choice), unit
    )
    return Linearisation(
        terms[0],
        slopes[0],
        jnp.concatenate([terms[1:], static]),
        jnp.concatenate([slopes[1:], static_slopes]),
    )


def _with_jacobian(function: Callable[[Values], Values], unit: Values) -> tuple[Values, Values]:
    def both(u: Values):
        found = function(u)
        return found, found

    slopes, found = jax.jacfwd(both, has_aux=True)(unit)
    return found, slopes


COMPILER_OPTIONS = {"xla_llvm_disable_expensive_passes": True}
"""For CPUs: compiles twice as fast, and what is compiled is as fast (a search runs it for a second)."""

_JIT: Any = eqx.filter_jit  # its type leaves out that it hands options on to JAX
_linearise = _JIT(jax.vmap(linearise, (None, 0, 0, None)), compiler_options=COMPILER_OPTIONS)
_evaluate = _JIT(jax.vmap(evaluate, (None, 0, 0, None)), compiler_options=COMPILER_OPTIONS)


def linearise_batch(
    problem: AbstractProblem, unit: Values, choice: Choices, sharpness: Scalar
) -> Linearisation:
    """Many points with their slopes, one a row."""
    return over_devices(_linearise, problem, unit, choice, sharpness)


def evaluate_all(
    problem: AbstractProblem, unit: np.ndarray, choice: np.ndarray, batch: int = EVALUATED_AT_ONCE
) -> tuple[np.ndarray, np.ndarray]:
    """Values and slacks of any number of points, `batch` at a time."""
    count = len(unit)
    size = -(-count // batch) * batch
    padded, choices = (np.resize(x, (size, x.shape[1])) for x in (unit, choice))
    found = [
        over_devices(
            _evaluate,
            problem,
            as_values(padded[i : i + batch]),
            jnp.asarray(choices[i : i + batch]),
            as_scalar(1.0),
        )
        for i in range(0, size, batch)
    ]
    value, slack = (np.concatenate(parts)[:count] for parts in zip(*found, strict=True))
    return value, slack


def merit(
    value: np.ndarray, slack: np.ndarray, penalty: float | np.ndarray = DEFAULT_PENALTY
) -> np.ndarray:
    """Value and what violated constraints add to it."""
    found = value + np.sum(penalty * np.maximum(-slack, 0.0), axis=-1)
    return np.where(np.isfinite(found), found, np.inf)


def variable_values(problem: AbstractProblem, unit: Values | np.ndarray) -> np.ndarray:
    """Variables themselves, from coordinates between 0 and 1."""
    low, high = np.asarray(problem.low, float), np.asarray(problem.high, float)
    return np.exp(low + (high - low) * np.asarray(unit, float))


def unit_coordinates(problem: AbstractProblem, values: np.ndarray) -> np.ndarray:
    """Coordinates between 0 and 1, from the variables themselves."""
    low, high = np.asarray(problem.low, float), np.asarray(problem.high, float)
    return (np.log(values) - low) / (high - low)


def integer_bounds(problem: AbstractProblem) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest integer of each variable."""
    low, high = np.asarray(problem.low, float), np.asarray(problem.high, float)
    return np.ceil(np.exp(low) - 1e-4), np.floor(np.exp(high) + 1e-4)


def nearest_integer(problem: AbstractProblem, unit: np.ndarray, integer: np.ndarray) -> np.ndarray:
    """Points with their integers rounded."""
    rounded = np.clip(np.round(variable_values(problem, unit)), *integer_bounds(problem))
    return np.where(integer, unit_coordinates(problem, np.maximum(rounded, 1e-9)), unit)
