"""Parts, technologies and constants that several tests of area, power and cost use."""

import jax
import jax.numpy as jnp

from perfmodel.hardware.parts import Parts
from perfmodel.hardware.technology import Technology
from perfmodel.library.technology import load_technology
from perfmodel.units import Scalar, as_scalar


def number(value: float) -> Scalar:
    return as_scalar(value)


def gpu(**changes: float) -> Parts:
    """Near the H100: 144 cores, six sites of HBM."""
    sizes = {
        "sram": 100e6, "registers": 38e6, "matrix": 590e3, "vector": 37e3, "double": 18e3,
        "cores": 144, "stacks": 6, "link": 514e9, "crossbar": 17e12, "clock": 1.83e9,
        "threaded": 1,
    }  # fmt: skip
    return Parts(**(sizes | changes))


def nothing() -> Parts:
    """A die without any part."""
    return Parts(sram=0.0)


def made_of(node: str = "n5", memory: str = "hbm3e", year: str = "2026") -> Technology:
    return load_technology(node, memory, year=year)


def slope(function, x: float, step: float = 1e-3) -> tuple[float, float]:
    """The gradient of `function` in the logarithm of its argument, and the same by differences."""

    def at(log: Scalar) -> Scalar:
        return function(jnp.exp(log))

    point = as_scalar(jnp.log(x))
    middle = (at(point + step) - at(point - step)) / (2 * step)
    return float(jax.grad(at)(point)), float(middle)
