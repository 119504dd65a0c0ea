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

from typing import Literal, cast

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.network import Network
from perfmodel.kernels.kernel import TOPOLOGY, AbstractKernel, column
from perfmodel.resources import Resources
from perfmodel.roofline import Work
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.plan import MATRIX, Plan

Kind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "point_to_point"]

NCCL_LL_CHUNK = 8192.0
"""Bytes that NCCL's LL protocol sends to one receiver in one step: seen in its times."""

DISTINCT_PARTS = ("all_to_all", "point_to_point")
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
    latency, sent = _latency_and_bytes(chip, plan, kind, inner, size)
    part = size if kind in DISTINCT_PARTS else size / inner
    outer_steps, outer_sent = _algorithms(chip.scale_out, kind, outer, part)
    return Work(
        demand=Resources(network=sent, fabric=outer_sent[-1]),
        shares=Resources(
            network=fitted.sustained * _host_bridge_share(chip, inner), fabric=fitted.sustained
        ),
        latency=jnp.minimum(ranks - 1, 1.0) * fitted.launch
        + latency
        + outer_steps[-1] * chip.scale_out.latency * fitted.step_latency,
        selection_sharpness=fitted.selection_sharpness,
        dtype=plan.format.matrix,
    )


def _host_bridge_share(chip: Chip, n: Scalar) -> Scalar:
    r"""Share of a link's rate that is left when `n` chips send at once: $\beta^{\log_2 n - 1}$.

    Pairs behind one PCIe switch have all of it; each doubling adds a level to the tree of
    host bridges and sockets, which all share. Other networks lose nothing.
    """
    if chip.scale_up.topology != "link":
        return as_scalar(1.0)
    return chip.efficiency.collective.host_bridge_rate ** jnp.maximum(jnp.log2(n) - 1, 0.0)


def _latency_and_bytes(
    chip: Chip, plan: Plan, kind: Kind, n: Scalar, size: Scalar
) -> tuple[Values, Values]:
    """Time before data flow, and bytes sent by a chip, of each algorithm of whoever communicates."""
    backend = plan.collective_backend
    if backend.is_nccl and kind != "point_to_point":
        return _nccl(chip, kind, n, size)
    framework_kernels = _framework_kernels(chip, kind, n, size)
    if kind != "all_reduce" or backend.largest is None:
        return framework_kernels
    if chip.scale_up.topology == "link":
        return _nccl(chip, kind, n, size)
    if chip.scale_up.topology != "switch":
        return framework_kernels
    itself = backend.reduces_itself(n, size)
    latency, sent = (
        jnp.where(itself, a, b)
        for a, b in zip(framework_kernels, _nccl(chip, kind, n, size), strict=True)
    )
    return latency, sent


def _framework_kernels(chip: Chip, kind: Kind, n: Scalar, size: Scalar) -> tuple[Values, Values]:
    """The same for a framework's own kernels: each algorithm that the network allows."""
    steps, sent = _algorithms(chip.scale_up, kind, n, size)
    return steps * chip.scale_up.latency * chip.efficiency.collective.step_latency, sent


def _nccl(chip: Chip, kind: Kind, n: Scalar, size: Scalar) -> tuple[Values, Values]:
    r"""The same for NCCL: rings with flags beside words (LL), without (Simple), and the switch that adds.

    With flags a receiver needs no word from the sender, at half the rate. Without, each
    pass over the vector costs a handshake, and filling the pipeline $2\sqrt{f\,t}$, where $f$ is
    the cost of a piece and $t$ the time on the links: the least over all numbers of pieces.
    """
    fitted, network = chip.efficiency.collective, chip.scale_up
    more_than_one = jnp.minimum(n - 1, 1.0)
    passes = 2.0 if kind == "all_reduce" else 1.0
    hop = network.latency * fitted.step_latency
    # Messages for all go out at once, but flagged ones in pieces, through one channel for each receiver.
    steps = more_than_one if kind == "all_to_all" else passes * (n - 1)
    pieces = size / n / NCCL_LL_CHUNK * more_than_one if kind == "all_to_all" else 0.0
    latency, sent = steps * hop + _self_copy_time(chip, kind, n, size), passes * size * (n - 1) / n
    protocols = [
        (latency + pieces * hop, 2 * sent),
        (latency + _handshake_time(chip, passes, sent), sent),
    ]
    if kind == "all_reduce" and network.reduces:
        added = more_than_one * size * (n + 1) / n
        protocols.append(
            (passes * hop * more_than_one + _handshake_time(chip, passes, added), added)
        )
    return jnp.stack([w[0] for w in protocols]), jnp.stack([w[1] for w in protocols])


def _self_copy_time(chip: Chip, kind: Kind, n: Scalar, size: Scalar) -> Scalar:
    """Time in which NCCL's few cores copy a chip's own part from the input to the output."""
    if kind == "all_reduce":
        return jnp.zeros_like(size)
    return (
        jnp.minimum(n - 1, 1.0)
        * size
        / n
        / (chip.main.bandwidth * chip.efficiency.collective.copy_bandwidth + 1.0)
    )


def _handshake_time(chip: Chip, passes: float, sent: Scalar) -> Scalar:
    """Handshakes, and the filling of the pipeline, of blocks without flags."""
    fitted = chip.efficiency.collective
    any_sent = sent / (sent + 1.0)
    time = (sent + 1.0) / (chip.scale_up.bandwidth * fitted.sustained + 1.0)
    return any_sent * (passes * fitted.handshake + 2 * jnp.sqrt(fitted.pipeline_fill * time))


def _algorithms(network: Network, kind: Kind, n: Scalar, size: Scalar) -> tuple[Values, Values]:
    """Steps, and bytes sent by a chip, of each algorithm that the network allows; the plainest last."""
    more_than_one = jnp.minimum(n - 1, 1.0)
    if kind == "point_to_point":
        return jnp.stack([more_than_one]), jnp.stack([size * more_than_one])
    passes = 2.0 if kind == "all_reduce" else 1.0
    part = size * (n - 1) / n
    steps = {
        "switch": passes * more_than_one,
        "link": passes * (n - 1),
        "torus": 2 * passes * (jnp.sqrt(n) - 1),
        "mesh": 2 * passes * (jnp.sqrt(n) - 1),
    }[network.topology]
    algorithms = [(steps, passes * part)]
    if kind == "all_reduce" and network.topology == "switch":
        algorithms.insert(0, (more_than_one, size * (n - 1)))
        if network.reduces:
            algorithms.insert(0, (2 * more_than_one, more_than_one * size * (n + 1) / n))
    return jnp.stack([w[0] for w in algorithms]), jnp.stack([w[1] for w in algorithms])


class Collective(AbstractKernel):
    """A collective over `n_gpus` chips in `n_nodes` domains at least, of a vector of `bytes`.

    - `n_gpus`: chips; `bytes`: of the whole vector; `n_nodes`: domains that they are in, at least.
    """

    family = "collective"
    reads = (MATRIX, "collective_backend", TOPOLOGY)

    n_gpus: Scalar = column()
    bytes: Scalar = column()
    n_nodes: Scalar = column(default=1.0)

    @classmethod
    def rates(cls, plan: Plan) -> set[str]:
        """Of the weights' format alone."""
        return {plan.format.matrix}

    def count(self, chip: Chip, plan: Plan) -> list[Work]:
        return [collective(chip, plan, cast(Kind, self.op), self.n_gpus, self.n_nodes, self.bytes)]


class AllReduce(Collective):
    """Sums a vector over all, for all."""

    op = "all_reduce"


class AllGather(Collective):
    """Joins the parts of all, for all."""

    op = "all_gather"


class ReduceScatter(Collective):
    """Sums a vector over all, a part for each."""

    op = "reduce_scatter"


class AllToAll(Collective):
    """Sends each a part of its own."""

    op = "all_to_all"


class PointToPoint(Collective):
    """Sends a vector from one to another."""

    op = "point_to_point"
