"""Rows of a batch over all devices, of this process and of others that search with it.

Every process runs the same search; what takes time, the model at a batch of points, is shared out, and
each gets all that was found. So what follows is the same everywhere.
"""

import functools
import zlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from perfmodel.errors import InputError


def over_devices(
    function: Callable[..., Any], problem: Any, unit: Any, choice: Any, sharp: Any
) -> Any:
    """`function` of rows, as many on each device; on one where they cannot be shared out evenly."""
    devices = jax.devices()
    if len(devices) == 1 or len(unit) % len(devices):
        return function(problem, unit, choice, sharp)
    mesh = Mesh(np.array(devices), ("starts",))
    rows, everywhere = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("starts",), ()))
    arrays, rest = eqx.partition((problem, sharp), eqx.is_array)
    given = jax.tree.map(np.asarray, (arrays, unit, choice))
    if jax.process_count() > 1:
        _check_alike(given)
    placed, units, choices = _placed(given, (everywhere, rows, rows))
    whole_land, whole_sharp = eqx.combine(placed, rest)
    return jax.tree.map(_here, function(whole_land, units, choices, whole_sharp))


def _placed(given: tuple[Any, ...], shardings: tuple[NamedSharding, ...]) -> tuple[Any, ...]:
    """Trees of whole arrays, which every process has, each on the devices of its sharding."""
    if jax.process_count() == 1:
        # All at once: hundreds of small arrays one by one would take as long as the function.
        return jax.device_put(given, shardings)
    # Across processes `device_put` compares by ==, which NaN (the price of a chip, not known) fails.
    return tuple(
        jax.tree.map(
            lambda leaf, on=on: jax.make_array_from_process_local_data(on, leaf, leaf.shape), tree
        )
        for tree, on in zip(given, shardings, strict=True)
    )


def _check_alike(given: Any) -> None:
    """Stop where another process holds other bytes: what each finds would no longer belong together.

    **Raises:**

    - `InputError`: in every process.
    """
    own = functools.reduce(
        lambda crc, leaf: zlib.crc32(leaf.tobytes(), crc), jax.tree.leaves(given), 0
    )
    if len(set(process_allgather(np.uint32(own)).tolist())) > 1:
        raise InputError(
            "the processes hold different numbers; start the same command with the same files and the same "
            "version everywhere, on processors of one kind."
        )


def _here(found: jax.Array) -> jax.Array:
    """All rows, on the first device of this process."""
    if found.is_fully_addressable:
        return jnp.asarray(np.asarray(found))
    return jnp.asarray(process_allgather(found, tiled=True))


def rounded_to_devices(batch_size: int) -> int:
    """As many starts at once as can be shared out evenly over all devices."""
    count = jax.device_count()
    return -(-batch_size // count) * count
