"""Rows of a batch over all devices, of this process and of others that search with it.

Every process runs the same search; what takes time, the model at a batch of points, is shared out, and
each gets all that was found. So what follows is the same everywhere.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def over_devices(
    function: Callable[..., Any], land: Any, unit: Any, choice: Any, sharp: Any
) -> Any:
    """`function` of rows, as many on each device; on one where they cannot be shared out evenly."""
    devices = jax.devices()
    if len(devices) == 1 or len(unit) % len(devices):
        return function(land, unit, choice, sharp)
    mesh = Mesh(np.array(devices), ("starts",))
    rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("starts",), ()))
    units, choices = (jax.device_put(np.asarray(part), rows) for part in (unit, choice))
    arrays, rest = eqx.partition((land, sharp), eqx.is_array)
    # All at once: hundreds of small arrays one by one would take as long as the function.
    placed = jax.device_put(jax.tree.map(np.asarray, arrays), everywhere)
    whole_land, whole_sharp = eqx.combine(placed, rest)
    return jax.tree.map(_here, function(whole_land, units, choices, whole_sharp))


def _here(found: jax.Array) -> jax.Array:
    """All rows, on the first device of this process."""
    if found.is_fully_addressable:
        return jnp.asarray(np.asarray(found))
    return jnp.asarray(process_allgather(found, tiled=True))


def shared_out(lanes: int) -> int:
    """As many starts at once as can be shared out evenly over all devices."""
    count = jax.device_count()
    return -(-lanes // count) * count
