"""A model as rows of the kernel schema: each kernel, its sizes, and how often it runs."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.breakdown import Breakdown
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.registry import OPERATIONS, cost
from perfmodel.units import Scalar
from perfmodel.workload.plan import Plan


class KernelCall(NamedTuple):
    """One kernel of a pass through a model.

    - `label`: what it is to the model.
    - `op`: a key of `OPERATIONS`.
    - `dtype`: format of its matrix product.
    - `sizes`: columns of its row; `residency` among them where an operand has one.
    - `runs`: how often it runs.
    """

    label: str
    op: str
    dtype: str
    sizes: dict[str, Any]
    runs: Scalar


def price_calls(chip: Chip, plan: Plan, tasks: Sequence[KernelCall]) -> Breakdown:
    """What each task costs, all its runs together: a breakdown with an axis of tasks, in their order.

    Tasks of one kind are stacked and priced in one `vmap`: each kernel is compiled once,
    however often a model runs it.
    """
    groups: dict[tuple, list[int]] = {}
    for place, task in enumerate(tasks):
        groups.setdefault((task.op, task.dtype, *sorted(task.sizes)), []).append(place)
    priced = [_price_alike(chip, plan, [tasks[i] for i in places]) for places in groups.values()]
    order = np.argsort(np.concatenate(list(groups.values())))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[order], *priced)


def _price_alike(chip: Chip, plan: Plan, tasks: Sequence[KernelCall]) -> Breakdown:
    first = tasks[0]
    in_format = dataclasses.replace(plan, weights=first.dtype)
    if first.dtype == plan.unquantised:
        chip = eqx.tree_at(lambda c: c.efficiency.gemm, chip, chip.efficiency.unquantised)
    rows = jax.tree.map(lambda *x: jnp.stack(x), *[task.sizes for task in tasks])
    counts = jnp.stack([task.runs for task in tasks])
    count = OPERATIONS[first.op].works
    return jax.vmap(lambda row, n: cost(chip, count(chip, in_format, row)) * n)(rows, counts)
