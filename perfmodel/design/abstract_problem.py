"""What a search needs to know of a problem: values, slopes, bounds; nothing of chips."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from perfmodel.design.devices import over_devices
from perfmodel.units import Scalar, Values

Choice = Int[Array, " choices"]
"""For each discrete choice, the place of what is chosen."""


Choices = Int[Array, "points choices"] | Int[np.ndarray, "points choices"]
"""One a row."""


class AbstractLandscape(eqx.Module):
    """A function to minimise under limits, over a box and some discrete choices.

    - `low`, `high`: ends of the box, one for each variable.
    - `options`: how many there are of each discrete choice.
    """

    low: eqx.AbstractVar[Values]
    high: eqx.AbstractVar[Values]
    options: eqx.AbstractVar[tuple[int, ...]]

    @abc.abstractmethod
    def dear(self, x: Values, choice: Choice, sharpness: Scalar) -> Values:
        """What takes the whole model: the value to minimise, then slacks; negative slack: broken.

        **Arguments:**

        - `sharpness`: 1 for the model as it is, less for a smoother one.
        """

    @abc.abstractmethod
    def cheap(self, x: Values, choice: Choice) -> Values:
        """Slacks that take little."""


class Look(NamedTuple):
    """A point seen from close by: value, its slope, slacks and theirs, by the unit coordinates."""

    value: Scalar
    gradient: Values
    slack: Values
    slopes: Values


def place(land: AbstractLandscape, unit: Values) -> Values:
    """A point of the box, from coordinates between 0 and 1."""
    return land.low + (land.high - land.low) * unit


def value(
    land: AbstractLandscape, unit: Values, choice: Choice, sharpness: Scalar
) -> tuple[Scalar, Values]:
    """The value to minimise, and all slacks."""
    x = place(land, unit)
    dear = land.dear(x, choice, sharpness)
    return dear[0], jnp.concatenate([dear[1:], land.cheap(x, choice)])


def look(land: AbstractLandscape, unit: Values, choice: Choice, sharpness: Scalar) -> Look:
    """Value, slacks and their slopes: in reverse what is dear, forward what is cheap."""
    dear, pull = jax.vjp(lambda u: land.dear(place(land, u), choice, sharpness), unit)
    (dear_slopes,) = jax.vmap(pull)(jnp.eye(len(dear), dtype=dear.dtype))
    cheap, cheap_slopes = _with_jacobian(lambda u: land.cheap(place(land, u), choice), unit)
    return Look(
        dear[0],
        dear_slopes[0],
        jnp.concatenate([dear[1:], cheap]),
        jnp.concatenate([dear_slopes[1:], cheap_slopes]),
    )


def _with_jacobian(function: Callable[[Values], Values], at: Values) -> tuple[Values, Values]:
    def both(u: Values):
        found = function(u)
        return found, found

    slopes, found = jax.jacfwd(both, has_aux=True)(at)
    return found, slopes


QUICK = {"xla_llvm_disable_expensive_passes": True}
"""For CPUs: compiles twice as fast, and what is compiled is as fast (a search runs it for a second)."""

_JIT: Any = eqx.filter_jit  # its type leaves out that it hands options on to JAX
_looks = _JIT(jax.vmap(look, (None, 0, 0, None)), compiler_options=QUICK)
_values = _JIT(jax.vmap(value, (None, 0, 0, None)), compiler_options=QUICK)


def looks(land: AbstractLandscape, unit: Values, choice: Choices, sharpness: Scalar) -> Look:
    """Many points seen from close by, one a row."""
    return over_devices(_looks, land, unit, choice, sharpness)


def values(
    land: AbstractLandscape, unit: Values, choice: Choices, sharpness: Scalar
) -> tuple[Values, Values]:
    """Values and slacks of many points, one a row."""
    return over_devices(_values, land, unit, choice, sharpness)
