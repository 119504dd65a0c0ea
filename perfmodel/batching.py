"""Rows that share a compiled function: chips of one structure are stacked, and each row takes its own.

Chips differ in numbers, not in form; so rows of many chips are priced in one `vmap`, in
blocks of fixed sizes, and nothing is compiled twice. Where there are several devices, each
takes its share of every block.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.errors import InputError

BLOCKS = (64, 512, 4096)
"""Rows of a block: the smallest that holds all rows is taken, else the largest again and again."""

Numbers = dict[str, Any]
"""Of a row, by column; of many rows on a leading axis."""

T = TypeVar("T")
R = TypeVar("R")


def structure(tree: Any) -> Hashable:
    """What a compiled function depends on: everything but the numbers."""
    leaves, form = jax.tree.flatten(tree)
    return form, tuple(jnp.shape(leaf) for leaf in leaves)


def stack(trees: Sequence[T]) -> T:
    """Trees of one structure as one tree with a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *trees)


def gather(stacked: T, which: np.ndarray | slice | int) -> T:
    """The tree of each row, or of one, from trees that are stacked."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[which], stacked)


def map_rows(function: Callable[..., Any], rows: Any) -> Any:
    """Apply a compiled `function` of rows to a tree of arrays, block by block, and join what comes out."""
    return by_blocks(function, len(jax.tree.leaves(rows)[0]), lambda places: gather(rows, places))


def by_blocks(
    function: Callable[..., Any], count: int, take: Callable[[np.ndarray], Any], size: int = 0
) -> Any:
    """The same for `count` rows that are made when they are needed: `take` gives those at some places.

    **Arguments:**

    - `size`: rows of a block; of `BLOCKS` what suits the count if not given.
    """
    size = size or block_size(count)
    parts = []
    for start in range(0, count, size):
        places = np.minimum(np.arange(start, start + size), count - 1)
        filled = min(size, count - start)
        found = function(spread(take(places)))
        parts.append(jax.tree.map(lambda leaf, filled=filled: np.asarray(leaf)[:filled], found))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def one_by_one_on_error(
    price: Callable[[list[T]], Sequence[R]], rows: list[T], failed: Callable[[str], R]
) -> list[R]:
    """What `price` finds for rows together; where it cannot, what it finds for each alone.

    **Arguments:**

    - `failed`: what is found for a row that cannot be priced, from the sentence that says why.
    """
    try:
        return list(price(rows))
    except InputError as wrong:
        if len(rows) == 1:
            return [failed(str(wrong))]
    return [one for row in rows for one in one_by_one_on_error(price, [row], failed)]


def block_size(count: int) -> int:
    """Rows of the blocks in which `count` rows are priced."""
    return next((size for size in BLOCKS if count <= size), BLOCKS[-1])


def spread(rows: T) -> T:
    """A tree of rows over all devices, as many on each; as it is where they cannot be shared out evenly."""
    devices = jax.devices()
    if len(devices) == 1 or len(jax.tree.leaves(rows)[0]) % len(devices):
        return rows
    mesh = jax.sharding.Mesh(np.array(devices), ("rows",))
    return jax.device_put(
        rows, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    )
