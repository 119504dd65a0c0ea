r"""Matrix product $(m \times k)(k \times n)$: tiles, waves and split-K.

Launched chips cut the output into tiles, one per core at a time, and may split k when
there are few. Scheduled and dataflow chips keep the weights where they are and stream
activations past them.
"""

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import GemmEfficiency
from perfmodel.kernels.elementwise import KINDS, elementwise
from perfmodel.kernels.kernel import AbstractKernel, column
from perfmodel.kernels.occupancy import (
    blocks_in_flight,
    blocks_per_start,
    in_flight_gain,
    memory_fill_time,
    mesh_traversal_time,
    tile_height,
    wave_occupancy,
)
from perfmodel.kernels.residency import Residency, native, on_chip, replay_read_time, spilled
from perfmodel.resources import Resources
from perfmodel.roofline import Work
from perfmodel.smooth import piece_count, soft_max
from perfmodel.trees import replace
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.plan import Plan

TILES = ((64, 16), (16, 64), (64, 32), (64, 64), (64, 128), (128, 128), (128, 256), (256, 128))
"""Rows and columns of the output tiles tried, each with k whole and with k split."""

MIN_SPLIT = 128
"""Steps of k below which splitting stops paying: about one trip to memory."""

MAX_SPLITS = 64
"""As many as any library measured here uses."""

MAX_COPIES = 5
"""Copies of the weights that a benchmark rotates through, at most (AIConfigurator's collector)."""


def product_format(plan: Plan) -> str:
    """Format in which the matrix units multiply: the weights', unless a library takes another."""
    return plan.gemm_backend.product_format(plan.weights)


def _shares(fitted: GemmEfficiency, matrix: Values, carried: Values | float = 1.0) -> Resources:
    """Shares of the peak rates; feeding a tile carries `carried` bytes for each one read."""
    return Resources(
        matrix=matrix,
        private=fitted.private,
        shared=fitted.feed * carried,
        main=fitted.streaming,
    )


def _tiled(chip: Chip, plan: Plan, m: Scalar, n: Scalar, k: Scalar, residency: Residency) -> Work:
    fitted = chip.efficiency.gemm
    rows, columns, split = _alternatives()
    rows = tile_height(chip, rows, m, plan.exact)
    activation = plan.format.activation
    fed = rows * activation + columns * plan.format.weight
    carried = chip.shared.multicast * fed / (fed + fitted.step_overhead)
    most = blocks_in_flight(chip, fitted.feed * carried)
    outputs = piece_count(m / rows, plan.exact) * piece_count(n / columns, plan.exact)
    unsplit = plan.gemm_backend.leaves_k_whole(plan.weights, m, n, k)
    split = jnp.where(unsplit, 0.0, split)
    splits = 1 + split * (_splits(chip, plan, outputs / most, k) - 1)
    rounds = outputs * splits / chip.cores
    steps = k / splits * blocks_per_start(chip, rounds)
    filled = steps / (steps + fitted.prologue)
    weights, inputs, results = n * k * plan.format.weight, m * k * activation, 2.0 * m * n
    memory = _memory(chip, plan, residency, weights, inputs + results)
    matrix = _matrix_share(chip, plan, m * n * k, outputs * rows * columns * k)
    return Work(
        demand=Resources(
            matrix=2.0 * m * n * k,
            private=memory["private"],
            shared=outputs * k * fed,
            main=memory["main"],
            far=memory["far"],
        ),
        shares=_shares(fitted, matrix, carried * in_flight_gain(chip, rounds, most)),
        occupancy=filled * wave_occupancy(rounds, fitted.wave_quantisation, plan.exact),
        latency=fitted.launch
        + memory_fill_time(chip, fitted.memory_ramp, memory["main"])
        + _reduction_time(chip, fitted, splits, m * n),
        selection_sharpness=fitted.selection_sharpness,
        dtype=product_format(plan),
    )


def _matrix_share(chip: Chip, plan: Plan, products: Scalar, padded: Values) -> Values:
    """Share of the matrix peak left by padding, by issue, and by power in work that lasts."""
    fitted, kind = chip.efficiency.gemm, product_format(plan)
    peak, energy = (as_scalar(of(kind).matrix) for of in (chip.rates, chip.energies))
    drawn = fitted.energy_factor * energy * peak / chip.headroom
    limited = 1 / soft_max([1 / fitted.sustained, drawn])
    lasting = (
        2.0 * products / (2.0 * products + peak * fitted.power_limit_onset) if plan.replay else 1.0
    )
    return (fitted.sustained + lasting * (limited - fitted.sustained)) * products / padded


def _alternatives() -> tuple[Values, Values, Values]:
    rows, columns = jnp.array(TILES, dtype=float).T
    split = jnp.array([0.0, 1.0])
    return jnp.repeat(rows, 2), jnp.repeat(columns, 2), jnp.tile(split, len(TILES))


def _splits(chip: Chip, plan: Plan, outputs: Values, k: Scalar) -> Values:
    """As many parts of k as leave no core idle, while each part is worth its start."""
    most = jnp.clip(jnp.minimum(chip.cores / outputs, k / MIN_SPLIT), 1.0, float(MAX_SPLITS))
    return jnp.floor(most) if plan.exact else most


def _reduction_time(chip: Chip, fitted: GemmEfficiency, splits: Values, outputs: Scalar) -> Values:
    """Partial sums in fp32 go through the shared tier and come back."""
    extra = 1 - jnp.exp(-4 * (splits - 1))
    traffic = 8.0 * outputs * splits / (chip.shared.bandwidth + 1.0)
    return extra * (fitted.splitk_reduction + traffic)


def _memory(
    chip: Chip, plan: Plan, residency: Residency, weights: Scalar, activation_bytes: Scalar
) -> dict[str, Scalar]:
    """Bytes through each tier: weights from their residency, what spills to main memory."""
    traffic = residency.traffic(weights)
    if not plan.replay:
        return traffic | {
            "main": traffic["main"] + activation_bytes * spilled(chip, activation_bytes)
        }
    if _alone(plan):
        return traffic | {"main": traffic["main"] + activation_bytes}
    fitted = chip.efficiency.gemm
    copies = jnp.minimum(float(MAX_COPIES), jnp.ceil(chip.shared.capacity / weights))
    rereads = replay_read_time(chip, fitted, copies * weights + activation_bytes)
    return traffic | {"main": (traffic["main"] + activation_bytes) * rereads}


def _resident(
    chip: Chip, plan: Plan, m: Scalar, n: Scalar, k: Scalar, residency: Residency
) -> Work:
    """Weights are read once where they live; inputs go in, sums come out: two crossings."""
    fitted = chip.efficiency.gemm
    moved = on_chip(chip, (m * k + m * n) * plan.format.activation)
    memory = residency.traffic(n * k * plan.format.weight)
    return Work(
        demand=Resources(
            matrix=2.0 * m * n * k,
            private=memory["private"] + moved["private"],
            shared=memory["shared"] + moved["shared"],
            main=memory["main"],
            far=memory["far"],
        ),
        shares=_shares(fitted, fitted.sustained),
        latency=fitted.launch + mesh_traversal_time(chip, 2.0),
        dtype=plan.format.matrix,
    )


class Gemm(AbstractKernel):
    """A matrix product, after the pass that quantises its activations.

    - `m`: rows of activations (tokens); `n`: columns of weights; `k`: rows of weights.
    - `residency`: where the weights live, if not in the chip's native memory.
    """

    op = "gemm"
    family = "gemm"
    reads = ("weights", "gemm_backend", "replay")

    m: Scalar = column()
    n: Scalar = column()
    k: Scalar = column()
    residency: Residency | None = None

    @classmethod
    def rates(cls, plan: Plan) -> set[str]:
        """The product's, and that of the pass which quantises activations."""
        return {product_format(plan), plan.format.matrix}

    def count(self, chip: Chip, plan: Plan) -> list[Work]:
        work, passes = self.product(chip, plan), _passes(plan)
        return [_quantised(chip, plan, self.m, self.k, passes), work] if passes else [work]

    def product(self, chip: Chip, plan: Plan) -> Work:
        """The product itself, with an axis of alternatives on launched chips."""
        residency = native(chip) if self.residency is None else self.residency
        count = _tiled if chip.execution == "launched" else _resident
        return count(chip, plan, self.m, self.n, self.k, residency)


PER_TENSOR_PASSES = 2
"""Passes of a format whose scale is of the whole tensor."""


def _alone(plan: Plan) -> bool:
    """Whether a benchmark times the product alone."""
    return plan.replay and plan.gemm_backend.timed_alone


def _passes(plan: Plan) -> int:
    """Over activations that are quantised, in kernels of their own; none where the product is timed alone.

    A benchmark finds the scale of a tensor anew. In service a checkpoint brings it along, so that
    one pass is left, or none where a framework quantises as it writes.
    """
    most = 0 if _alone(plan) else plan.format.passes
    if most < PER_TENSOR_PASSES or plan.replay:
        return most
    return 0 if plan.gemm_backend.fuses_quantisation else 1


def _quantised(chip: Chip, plan: Plan, m: Scalar, k: Scalar, passes: int) -> Work:
    """The pass that quantises activations: it reads them in bf16 and writes them in their format."""
    traffic = KINDS["quantise"]._replace(read=2.0 * passes, written=plan.format.activation)
    work, rate = elementwise(chip, plan, m, k, traffic), chip.efficiency.gemm.quantise_bandwidth
    return replace(lambda w: w.shares.shared, work, rate)
