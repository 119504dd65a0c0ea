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
from perfmodel.smooth import piece_count
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.plan import Plan

COLUMN_TILE = 128.0


class RankShare(NamedTuple):
    """What the busiest rank has.

    - `pairs`: of token and expert; `experts`: that it touches.
    - `hidden`, `columns`: numbers of a token, and between an expert's products, of one chip.
    - `up`: matrices of the product up: two where an expert has a gate.
    """

    pairs: Scalar
    experts: Scalar
    hidden: Scalar
    columns: Scalar
    up: Scalar

    @property
    def products(self) -> Scalar:
        """Multiply-adds of all products, without padding."""
        return (self.up + 1) * self.pairs * self.hidden * self.columns


class Moved(NamedTuple):
    """Bytes of activations: permuted to and from the experts, between their products, summed."""

    permuted: Scalar
    between: Scalar
    summed: Scalar

    @property
    def total(self) -> Scalar:
        """Of all passes."""
        return self.permuted + self.between + self.summed


def _moved(plan: Plan, tokens: Scalar, share: RankShare) -> Moved:
    """Written and read: in the format of activations on the way in, in bf16 on the way back."""
    activation = plan.format.activation
    return Moved(
        permuted=(2.0 + 2 * activation + 2 * 2.0) * share.pairs * share.hidden,
        between=(2 * 2.0 * share.up + 2 * activation) * share.pairs * share.columns,
        summed=2.0 * tokens * share.hidden,
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
    main_time = out / (chip.main.bandwidth * fitted.streaming + 1.0)
    return traffic * (main_time + (1 - out) / (chip.shared.bandwidth * fitted.l2_bandwidth + 1.0))


def _row_tiles(plan: Plan, rows: Values, share: RankShare, balanced: Scalar) -> Values:
    """Tiles that the rows of all experts fill: each expert pads its last one, half of it on average."""
    pairs, experts = share.pairs, share.experts
    balanced_tiles = experts * piece_count(pairs / experts / rows, plan.exact)
    other_tiles = jnp.maximum(experts, pairs / rows + experts / 2)
    return balanced * balanced_tiles + (1 - balanced) * other_tiles


class Tiles(NamedTuple):
    """Of both products, for each height of tile.

    - `useful`: share of what is multiplied that is not padding.
    - `fed`: bytes read into tiles.
    - `rounds`: of tiles on each core.
    - `occupancy`: share of the cores at work, over both products.
    - `height`: rows of a tile.
    """

    useful: Values
    fed: Values
    rounds: Values
    occupancy: Values
    height: Values


def _tiles(chip: Chip, plan: Plan, rows: Values, row_tiles: Values, share: RankShare) -> Tiles:
    if chip.execution != "launched":
        ones, zeros = jnp.ones(()), jnp.zeros(())
        return Tiles(ones, zeros, zeros, ones, zeros)
    up = row_tiles * piece_count(share.up * share.columns / COLUMN_TILE, plan.exact)
    down = row_tiles * piece_count(share.hidden / COLUMN_TILE, plan.exact)
    steps = up * share.hidden + down * share.columns
    return Tiles(
        useful=share.products / (rows * COLUMN_TILE * steps),
        fed=steps * (rows * plan.format.activation + COLUMN_TILE * plan.format.weight),
        rounds=(up + down) / chip.cores,
        occupancy=_occupancy(chip, plan, share, up, down),
        height=rows,
    )


def _occupancy(chip: Chip, plan: Plan, share: RankShare, up: Values, down: Values) -> Values:
    """Share of the cores at work: each product has waves of its own, of tiles with its own dot products.

    **Arguments:**

    - `up`, `down`: tiles of each product.
    """
    quantisation = chip.efficiency.moe.wave_quantisation
    rounds = up / chip.cores, down / chip.cores
    waves = [one / wave_occupancy(one, quantisation, plan.exact) for one in rounds]
    needed = rounds[0] * share.hidden + rounds[1] * share.columns
    return needed / (waves[0] * share.hidden + waves[1] * share.columns)


class Moe(AbstractKernel):
    """The busiest rank's mixture of experts, its routing and the return of tokens included.

    - `tokens`: of all ranks together; `topk`: experts that each goes through; `experts`: of the layer.
    - `hidden`, `inter`: numbers of a token, and between an expert's products.
    - `tp`: chips that share an expert; `ep`: groups of experts.
    - `routing`: how tokens spread over experts.
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
        fitted, share = chip.efficiency.moe, self._share()
        moved, tiles = _moved(plan, self.tokens, share), self._tiles(chip, plan, share)
        work = Work(
            demand=self._demand(chip, plan, share, moved, tiles),
            shares=Resources(
                matrix=fitted.sustained * tiles.useful,
                private=fitted.private,
                shared=fitted.feed,
                main=fitted.streaming,
            ),
            occupancy=tiles.occupancy,
            latency=fitted.launch
            + fitted.per_pair * self.tokens * self.topk
            + fitted.per_dot_element
            * (share.hidden + share.columns)
            * plan.moe_backend.step_time(plan.weights, tiles.height)
            + fitted.per_expert * self.experts / self.ep
            + fitted.prologue * tiles.rounds / blocks_per_start(chip, tiles.rounds)
            + _passes(chip, fitted, moved)
            + mesh_traversal_time(chip, 6.0),
            selection_sharpness=fitted.selection_sharpness,
            dtype=plan.format.matrix,
        )
        return [work]

    def _share(self) -> RankShare:
        sizes = (self.tokens, self.topk, self.experts, self.ep)
        pairs, experts = loads(self.routing, *sizes)
        return RankShare(pairs, experts, self.hidden, self.inter / self.tp, 1.0 + self.gated)

    def _tiles(self, chip: Chip, plan: Plan, share: RankShare) -> Tiles:
        balanced = jnp.where(self.routing == ROUTINGS.index("balanced"), 1.0, 0.0)
        expected = self.tokens * self.topk * self.ep / self.experts
        rows = plan.moe_backend.tiles_tried(plan.weights, expected)
        rows = tile_height(chip, rows, share.pairs / share.experts, plan.exact)
        return _tiles(chip, plan, rows, _row_tiles(plan, rows, share, balanced), share)

    def _demand(
        self, chip: Chip, plan: Plan, share: RankShare, moved: Moved, tiles: Tiles
    ) -> Resources:
        residency = native(chip) if self.residency is None else self.residency
        matrices = share.experts * (share.up + 1) * share.hidden * share.columns
        weights = matrices * plan.format.weight
        reads, inside = residency.traffic(weights), on_chip(chip, moved.total)
        launched = chip.execution == "launched"
        replay = plan.replay and not plan.moe_backend.timed_alone
        missed = replay_read_time(chip, chip.efficiency.moe, weights) if replay else 1.0
        return Resources(
            matrix=2 * share.products,
            vector=4.0 * share.pairs * share.columns,
            exponential=share.pairs * share.columns,
            private=reads["private"] + (0.0 if launched else inside["private"]),
            shared=tiles.fed if launched else reads["shared"] + inside["shared"],
            main=reads["main"] * missed,
            far=reads["far"],
        )
