"""All fitted constants of area, power and cost together, so that they are drawn and passed as one."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import PRNGKeyArray

from perfmodel.hardware.area import AreaConstants
from perfmodel.hardware.cost import CostConstants
from perfmodel.hardware.power import PowerConstants


class Constants(eqx.Module):
    """Of area, power and cost. The same form holds their spreads: standard deviations of logarithms."""

    area: AreaConstants
    power: PowerConstants
    cost: CostConstants


def draw(constants: Constants, spreads: Constants, key: PRNGKeyArray) -> Constants:
    """One possible set of constants, log-normal around the fitted ones; `vmap` over keys for many."""
    values, unravel = ravel_pytree(constants)
    away = jax.random.normal(key, values.shape, values.dtype)
    return unravel(values * jnp.exp(ravel_pytree(spreads)[0] * away))
