r"""Communication between chips: steps times latency, bytes over bandwidth.

| | steps | bytes sent by a chip |
|---|---|---|
| one shot (each sends all to all) | 1 | $S(n-1)$ |
| two shots (scatter, then gather) | 2 | $2S(n-1)/n$ |
| in the switch (NVLink SHARP) | 2 | $S(n+1)/n$ |
| ring | $2(n-1)$ | $2S(n-1)/n$ |
| two rings across a torus or mesh | $4(\sqrt n - 1)$ | $2S(n-1)/n$ |

for an all-reduce of $S$ bytes over $n$ chips; a gather or a scatter is half of it
(Thakur, Rabenseifner and Gropp, IJHPCA 19(1), 2005).
"""

from typing import Literal

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.network import Network
from perfmodel.resources import Resources
from perfmodel.roofline import Work
from perfmodel.units import Scalar, Values
from perfmodel.workload.plan import Plan

Kind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "point_to_point"]

UNSHARED = ("all_to_all", "point_to_point")
"""Kinds whose bytes differ on every chip, so that those of a domain cannot share the way out."""


def collective(
    chip: Chip, plan: Plan, kind: Kind, ranks: Scalar, nodes: Scalar, size: Scalar
) -> Work:
    """Count the work of a collective over `ranks` chips; of one chip it costs nothing.

    **Arguments:**

    - `nodes`: domains that the chips are in, at least; a domain holds no more than its network joins.
    - `size`: bytes of the whole vector; for a gather, of what is gathered.

    Domains are joined by the outer network, each chip with its part of the vector, or with
    all of it where nobody else has it.
    """
    fitted = chip.efficiency.collective
    inner = jnp.clip(chip.scale_up.size, 1.0, ranks / nodes)
    outer = ranks / inner
    by_nccl = plan.framework == "nccl"
    ways = _rings_and_trees if by_nccl and kind != "point_to_point" else _within
    steps, sent = ways(chip.scale_up, kind, inner, size)
    starts = steps * (chip.scale_up.latency + fitted.step)
    if by_nccl:
        # With a flag beside each word a receiver needs no word from the sender, at half the rate;
        # the switch, which adds up whole blocks, can send none.
        flagged = 2 if kind == "all_reduce" else 1
        starts = jnp.concatenate([starts[:flagged], starts + steps * fitted.handshake])
        sent = jnp.concatenate([2 * sent[:flagged], sent])
    part = size if kind in UNSHARED else size / inner
    outer_steps, outer_sent = _within(chip.scale_out, kind, outer, part)
    active = jnp.minimum(ranks - 1, 1.0)
    latency = active * fitted.launch + starts
    return Work(
        demand=Resources(network=sent, fabric=outer_sent[-1]),
        shares=Resources(network=fitted.sustained, fabric=fitted.sustained),
        latency=latency + outer_steps[-1] * (chip.scale_out.latency + fitted.step),
        choice=fitted.choice,
        dtype=plan.format.matrix,
    )


def _within(network: Network, kind: Kind, n: Scalar, size: Scalar) -> tuple[Values, Values]:
    """Steps, and bytes sent by a chip, of each algorithm that the network allows; the plainest last."""
    several = jnp.minimum(n - 1, 1.0)
    if kind == "point_to_point":
        return jnp.stack([several]), jnp.stack([size * several])
    halves = 2.0 if kind == "all_reduce" else 1.0
    part = size * (n - 1) / n
    steps = {
        "switch": halves * several,
        "link": halves * (n - 1),
        "torus": 2 * halves * (jnp.sqrt(n) - 1),
        "mesh": 2 * halves * (jnp.sqrt(n) - 1),
    }[network.topology]
    ways = [(steps, halves * part)]
    if kind == "all_reduce" and network.topology == "switch":
        ways.insert(0, (several, size * (n - 1)))
        if network.reduces:
            ways.insert(0, (2 * several, several * size * (n + 1) / n))
    return jnp.stack([w[0] for w in ways]), jnp.stack([w[1] for w in ways])


def _rings_and_trees(
    network: Network, kind: Kind, n: Scalar, size: Scalar
) -> tuple[Values, Values]:
    """What NCCL tries: rings; for an all-reduce also trees, and the switch where it adds up."""
    halves = 2.0 if kind == "all_reduce" else 1.0
    several = jnp.minimum(n - 1, 1.0)
    ways = [(halves * (n - 1), halves * size * (n - 1) / n)]
    if kind == "all_reduce":
        ways.append((2 * jnp.log2(n), 2 * several * size))
        if network.reduces:
            ways.append((2 * several, several * size * (n + 1) / n))
    return jnp.stack([w[0] for w in ways]), jnp.stack([w[1] for w in ways])
