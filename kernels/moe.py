r"""Mixture of experts: routing, the experts touched, their grouped products, the return.

The dense and the gated layer are two matrix products and an activation; see
`perfmodel.inference.operations`.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import MoeEfficiency
from perfmodel.kernels.kernel import AbstractKernel, column
from perfmodel.kernels.occupancy import (
    blocks_per_start,
    mesh_traversal_time,
    tile_height,
    wave_occupancy,
)
from perfmodel.kernels.residency import Residency, native, on_chip, replay_read_time, spilled
from perfmodel.kernels.routing import ROUTINGS, loads
from perfmodel.resources import Resources
from perfmodel.roofline import Work
from perfmodel.smooth import whole
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.plan import Plan

COLUMN_TILE = 128.0


def moe(
    chip: Chip,
    plan: Plan,
    tokens: Scalar,
    hidden: Scalar,
    inter: Scalar,
    topk: Scalar,
    experts: Scalar,
    tp: Scalar,
    ep: Scalar,
    routing: Scalar,
    gated: Scalar | float = 1.0,
    residency: Residency | None = None,
) -> Work:
    """Count the work of one rank's mixture of experts, the busiest one.

    **Arguments:**

    - `tokens`: of all ranks together; each goes through `topk` of `experts`.
    - `tp`, `ep`: chips that share an expert; groups of experts.
    - `routing`: a place in `ROUTINGS`.
    - `gated`: 1 where an expert has a gate, else 0.
    - `residency`: where the experts live; the chip's native memory if not given.
    """
    residency = native(chip) if residency is None else residency
    fitted, wide = chip.efficiency.moe, as_scalar(1.0 + gated)
    columns = inter / tp
    pairs, local = loads(routing, tokens, topk, experts, ep)
    weights = local * (wide + 1) * hidden * columns * plan.format.weight
    moved = _moved(plan, tokens, pairs, hidden, columns, wide)
    reads = residency.traffic(weights)
    balanced = jnp.where(routing == ROUTINGS.index("balanced"), 1.0, 0.0)
    rows = plan.moe_backend.tiles_tried(plan.weights, tokens * topk * ep / experts)
    rows = tile_height(chip, rows, pairs / local, plan.exact)
    row_tiles = _row_tiles(plan, rows, pairs, local, balanced)
    tiles = _tiles(chip, plan, rows, row_tiles, pairs, hidden, columns, wide)
    launched, inside = chip.execution == "launched", on_chip(chip, moved.total)
    return Work(
        demand=Resources(
            matrix=2 * (wide + 1) * pairs * hidden * columns,
            vector=4.0 * pairs * columns,
            exponential=pairs * columns,
            private=reads["private"] + (0.0 if launched else inside["private"]),
            shared=tiles.fed if launched else reads["shared"] + inside["shared"],
            main=reads["main"] * (replay_read_time(chip, fitted, weights) if plan.replay else 1.0),
            far=reads["far"],
        ),
        shares=Resources(
            matrix=fitted.sustained * tiles.useful,
            private=fitted.private,
            shared=fitted.feed,
            main=fitted.streaming,
        ),
        occupancy=wave_occupancy(tiles.rounds / 2, fitted.wave_quantisation, plan.exact)
        if launched
        else 1.0,
        latency=fitted.launch
        + fitted.per_pair * tokens * topk
        + fitted.per_dot_element * (hidden + columns)
        + fitted.per_expert * experts / ep
        + fitted.prologue * tiles.rounds / blocks_per_start(chip, tiles.rounds)
        + _passes(chip, fitted, moved)
        + mesh_traversal_time(chip, 6.0),
        selection_sharpness=fitted.selection_sharpness,
        dtype=plan.format.matrix,
    )


class Moved(NamedTuple):
    """Bytes of activations: permuted to and from the experts, between their products, summed."""

    permuted: Scalar
    between: Scalar
    summed: Scalar

    @property
    def total(self) -> Scalar:
        """Of all passes."""
        return self.permuted + self.between + self.summed


def _moved(
    plan: Plan, tokens: Scalar, pairs: Scalar, hidden: Scalar, columns: Scalar, wide: Scalar
) -> Moved:
    """Written and read: in the format of activations on the way in, in bf16 on the way back."""
    activation = plan.format.activation
    return Moved(
        permuted=(2.0 + 2 * activation + 2 * 2.0) * pairs * hidden,
        between=(2 * 2.0 * wide + 2 * activation) * pairs * columns,
        summed=2.0 * tokens * hidden,
    )


def _passes(chip: Chip, fitted: MoeEfficiency, moved: Moved) -> Scalar:
    """Time of the passes around the products, kernels of their own on launched chips."""
    if chip.execution != "launched":
        return as_scalar(0.0)
    traffic = (
        fitted.permute_passes * moved.permuted
        + fitted.intermediate_passes * moved.between
        + moved.summed
    )
    out = spilled(chip, moved.total)
    slow = out / (chip.main.bandwidth * fitted.streaming + 1.0)
    return traffic * (slow + (1 - out) / (chip.shared.bandwidth * fitted.l2_bandwidth + 1.0))


def _row_tiles(plan: Plan, rows: Values, pairs: Scalar, local: Scalar, balanced: Scalar) -> Values:
    """Tiles that the rows of all experts fill: each expert pads its last one, half of it on average."""
    balanced_tiles = local * whole(pairs / local / rows, plan.exact)
    other_tiles = jnp.maximum(local, pairs / rows + local / 2)
    return balanced * balanced_tiles + (1 - balanced) * other_tiles


class Tiles(NamedTuple):
    """Of both products, for each height of tile.

    - `useful`: share of what is multiplied that is not padding.
    - `fed`: bytes read into tiles.
    - `rounds`: of tiles on each core.
    """

    useful: Values
    fed: Values
    rounds: Values


def _tiles(
    chip: Chip,
    plan: Plan,
    rows: Values,
    row_tiles: Values,
    pairs: Scalar,
    hidden: Scalar,
    columns: Scalar,
    wide: Scalar,
) -> Tiles:
    if chip.execution != "launched":
        return Tiles(jnp.ones(()), jnp.zeros(()), jnp.zeros(()))
    up = row_tiles * whole(wide * columns / COLUMN_TILE, plan.exact)
    down = row_tiles * whole(hidden / COLUMN_TILE, plan.exact)
    steps = up * hidden + down * columns
    return Tiles(
        useful=(wide + 1) * pairs * hidden * columns / (rows * COLUMN_TILE * steps),
        fed=steps * (rows * plan.format.activation + COLUMN_TILE * plan.format.weight),
        rounds=(up + down) / chip.cores,
    )


class Moe(AbstractKernel):
    """The busiest rank's mixture of experts, its routing and the return of tokens included.

    - `tokens`: of all ranks together; each goes through `topk` of `experts`.
    - `tp`, `ep`: chips that share an expert; groups of experts.
    - `gated`: 1 where an expert has a gate, else 0.
    - `residency`: where the experts live, if not in the chip's native memory.
    """

    op = "moe"
    family = "moe"
    reads = ("weights", "moe_backend", "replay")

    tokens: Scalar = column()
    hidden: Scalar = column()
    inter: Scalar = column()
    topk: Scalar = column()
    experts: Scalar = column()
    tp: Scalar = column(default=1.0)
    ep: Scalar = column(default=1.0)
    routing: Scalar = column(words=ROUTINGS)
    gated: Scalar = eqx.field(converter=as_scalar, default=1.0)
    residency: Residency | None = None

    @classmethod
    def rates(cls, plan: Plan) -> set[str]:
        """Of the weights' format alone."""
        return {plan.format.matrix}

    def count(self, chip: Chip, plan: Plan) -> list[Work]:
        sizes = (self.tokens, self.hidden, self.inter, self.topk, self.experts)
        ep = (self.tp, self.ep, self.routing, self.gated)
        return [moe(chip, plan, *sizes, *ep, self.residency)]
