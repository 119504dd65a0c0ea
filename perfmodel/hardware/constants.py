"""All fitted constants of area, power and cost together, so that they are drawn and passed as one."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

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
    leaves, form = jax.tree.flatten(constants)
    keys = jax.tree.unflatten(form, list(jax.random.split(key, len(leaves))))

    def one(value: Array, spread: Array, seed: PRNGKeyArray) -> Array:
        return value * jnp.exp(spread * jax.random.normal(seed, value.shape, value.dtype))

    return jax.tree.map(one, constants, spreads, keys)
