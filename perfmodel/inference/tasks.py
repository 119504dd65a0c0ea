"""A model as kernels: what each is to it, its format, and how often it runs."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.breakdown import Breakdown
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.kernel import AbstractKernel
from perfmodel.kernels.registry import cost
from perfmodel.units import Scalar
from perfmodel.workload.plan import Plan


class KernelCall(NamedTuple):
    """One kernel of a pass through a model.

    - `label`: what it is to the model.
    - `dtype`: format of its matrix product.
    - `runs`: how often it runs.
    """

    label: str
    kernel: AbstractKernel
    dtype: str
    runs: Scalar


def price_calls(chip: Chip, plan: Plan, tasks: Sequence[KernelCall]) -> Breakdown:
    """What each task costs, all its runs together: a breakdown with an axis of tasks, in their order.

    Tasks of one kind are stacked and priced in one `vmap`: each kernel is compiled once,
    however often a model runs it.
    """
    groups: dict[tuple, list[int]] = {}
    for place, task in enumerate(tasks):
        form = jax.tree.structure(task.kernel)
        groups.setdefault((form, task.dtype), []).append(place)
    priced = [_price_alike(chip, plan, [tasks[i] for i in places]) for places in groups.values()]
    order = np.argsort(np.concatenate(list(groups.values())))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[order], *priced)


def _price_alike(chip: Chip, plan: Plan, tasks: Sequence[KernelCall]) -> Breakdown:
    first = tasks[0]
    in_format = dataclasses.replace(plan, weights=first.dtype)
    if first.dtype == plan.unquantised:
        chip = eqx.tree_at(lambda c: c.efficiency.gemm, chip, chip.efficiency.unquantised)
    kernels = jax.tree.map(lambda *x: jnp.stack(x), *[task.kernel for task in tasks])
    counts = jnp.stack([task.runs for task in tasks])
    price = jax.vmap(lambda kernel, n: cost(chip, kernel.count(chip, in_format)) * n)
    return price(kernels, counts)
