"""Trees of arrays: what jax and equinox do to them, with the type of the tree that is given."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax

T = TypeVar("T")


def map_leaves(function: Callable[[Any], Any], tree: T) -> T:
    """`tree` with `function` of each leaf in its place."""
    return jax.tree.map(function, tree)


def replace(where: Callable[[T], Any], tree: T, value: Any) -> T:
    """`tree` with `value` in the place, or a value in each of the places, that `where` picks."""
    return eqx.tree_at(where, tree, value)


def leaf_names(tree: Any) -> list[str]:
    """Names of the numbers of a tree, such as a chip, in the order of its leaves."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
