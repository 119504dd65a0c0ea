r"""Kernels that read, do little, and write: bound by launch and by memory."""

from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.kernels.kernel import AbstractKernel, column, extra, or_default
from perfmodel.kernels.occupancy import mesh_traversal_time
from perfmodel.kernels.residency import on_chip, spilled
from perfmodel.resources import Resources
from perfmodel.roofline import Work
from perfmodel.smooth import soft_min
from perfmodel.units import Scalar, Values
from perfmodel.workload.plan import MATRIX, Plan


class Traffic(NamedTuple):
    """What one output element of a kind costs.

    - `read`, `written`: bytes.
    - `flops`, `exponentials`: operations.
    - `traversals`: times that data cross the cores of a dataflow machine.
    - `uncached`: 1 where what is read was not just written, so that no SRAM holds it.
    """

    read: float
    written: float
    flops: float
    exponentials: float
    traversals: float
    uncached: float


KINDS = {
    "norm": Traffic(
        4.0, 4.0, 6.0, 0.0, 1.0, 0.0
    ),  # adds the residual, keeps the sum, and normalises it
    "rope": Traffic(2.0, 2.0, 3.0, 0.0, 0.0, 0.0),
    "activation": Traffic(4.0, 2.0, 4.0, 1.0, 0.0, 0.0),  # gate and value in, one product out
    "add": Traffic(4.0, 2.0, 1.0, 0.0, 0.0, 0.0),
    "softmax": Traffic(2.0, 2.0, 4.0, 1.0, 2.0, 0.0),
    "quantise": Traffic(4.0, 1.0, 2.0, 0.0, 0.0, 0.0),  # once for the largest value, once to scale
    "embedding": Traffic(2.0, 2.0, 0.0, 0.0, 0.0, 1.0),
    "sample": Traffic(
        8.0, 0.0, 6.0, 1.0, 1.0, 0.0
    ),  # fp32 logits, read for the maximum and for the sum
}

STEP = 5e-8
"""Seconds of one step of a chain that a token waits for: a sum of a few numbers and a division, 100 cycles.

The last kernel of DeepSeek-V4's hyper-connections, 40 such steps and a norm, takes 4.4 us on RTX PRO 6000
(SGLang, pull request 34019, 2026-08: 85 of them 0.377 ms), and a norm alone 2.4.
"""

BLOCK_ELEMENTS = 2048
"""Elements that one core takes at a time: 256 threads with a vector of 8 each."""


def elementwise(
    chip: Chip,
    plan: Plan,
    tokens: Scalar,
    hidden: Scalar,
    traffic: Traffic | Values,
    steps: Scalar | float = 0.0,
) -> Work:
    """Count the work of one kernel over `tokens` rows of `hidden` outputs.

    **Arguments:**

    - `traffic`: an entry of `KINDS`, or its numbers as an array.
    - `steps`: that each row takes one after the other.

    Only launched machines launch it; on others it is fused into its neighbours, and costs
    what crosses the cores.
    """
    read, written, flops, exponentials, traversals, uncached = traffic
    fitted, launched = chip.efficiency.elementwise, chip.execution == "launched"
    elements = tokens * hidden
    size = elements * (read + written)
    outside = size * spilled(chip, size) + elements * read * uncached
    inside = on_chip(chip, size)
    return Work(
        demand=Resources(
            vector=flops * elements,
            exponential=exponentials * elements,
            private=None if launched else inside["private"],
            shared=size if launched else inside["shared"],
            main=outside if launched else None,
        ),
        shares=Resources(private=fitted.private, shared=fitted.feed, main=fitted.streaming),
        occupancy=soft_min(elements / BLOCK_ELEMENTS / chip.cores, jnp.ones_like(elements))
        if launched
        else 1.0,
        latency=(fitted.launch if launched else mesh_traversal_time(chip, traversals))
        + STEP * steps,
        dtype=plan.format.matrix,
    )


class Elementwise(AbstractKernel):
    """One kernel over `tokens` rows of `hidden` outputs.

    - `tokens`: rows; `hidden`: outputs of each; `kind`: what is computed.
    - `steps`: that each row takes one after the other, each of a few numbers.
    """

    op = "elementwise"
    family = "elementwise"
    reads = (MATRIX,)

    tokens: Scalar = column()
    hidden: Scalar = column()
    kind: Scalar = column(words=tuple(KINDS))
    steps: Scalar | None = extra()

    @classmethod
    def rates(cls, plan: Plan) -> set[str]:
        """Of the weights' format alone."""
        return {plan.format.matrix}

    def count(self, chip: Chip, plan: Plan) -> list[Work]:
        table = jnp.array(list(KINDS.values()), dtype=float)
        traffic = jnp.take(table, self.kind.astype(int), axis=0)
        return [
            elementwise(chip, plan, self.tokens, self.hidden, traffic, or_default(self.steps, 0.0))
        ]
