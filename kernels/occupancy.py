"""How blocks of work fill the cores, and what it costs to reach them and main memory."""

import jax.numpy as jnp

from perfmodel.hardware.chip import MATRIX_ROWS, Chip
from perfmodel.smooth import at_least_one, piece_count
from perfmodel.units import Scalar, Values, as_scalar


def wave_occupancy(rounds: Values, quantisation: Scalar, exact: bool) -> Values:
    r"""Share of the cores at work: $r / (\rho\lceil r\rceil + (1-\rho)\max(r, 1))$.

    **Arguments:**

    - `rounds`: blocks of work for each core, on average.
    - `quantisation`: weight $\rho$ of whole waves.
    - `exact`: whether waves are counted in whole numbers; if not, there are at least one.
    """
    if not exact:
        return rounds / at_least_one(rounds)
    return rounds / (
        quantisation * piece_count(rounds, exact) + (1 - quantisation) * jnp.maximum(rounds, 1.0)
    )


def blocks_in_flight(chip: Chip, share: Values) -> Values:
    r"""Blocks that a core needs at once to read all that it can: $\max(1, c/(\phi b))$, by Little's law.

    What a block draws is what it has in flight over the latency of memory. On most chips one block on each
    core takes all that the tier has: such a chip tells no $b$.

    **Arguments:**

    - `share`: $\phi$ of the peak $b$ of one block that is reached; of a core $c$ is reached.
    """
    one = share * chip.shared.block_bandwidth
    several = jnp.maximum(chip.shared.core_bandwidth / (one + 1.0), 1.0)
    return jnp.where(one > 0, several, 1.0)


def in_flight_gain(chip: Chip, rounds: Values, most: Values) -> Values:
    r"""Rate of a core over an even share $B/n$ of the shared tier's: $\min(\max(r, 1), r_\text{most})\,bn/B$.

    **Arguments:**

    - `rounds`: blocks $r$ of work for each core, on average.
    - `most`: blocks that add to the rate, as `blocks_in_flight` says.
    """
    tier = chip.shared
    one = tier.block_bandwidth * chip.cores / (tier.bandwidth + 1.0)
    return jnp.where(tier.block_bandwidth > 0, jnp.clip(rounds, 1.0, most) * one, 1.0)


def blocks_per_start(chip: Chip, rounds: Values) -> Values:
    r"""Blocks of a core for which one start is paid: $1 + s(\max(r, 1) - 1)$.

    A core that fills a scratchpad itself ($s = 1$) fetches the next block during this one, so only its
    first block waits; a thread block over a cache ($s = 0$) starts when another has ended.

    **Arguments:**

    - `rounds`: blocks $r$ of work for each core, on average.
    """
    return 1 + chip.shared.staged * (jnp.maximum(rounds, 1.0) - 1)


def tile_height(chip: Chip, tile: Values, rows: Values, exact: bool) -> Values:
    """Rows of a tile: as many as there are, where units multiply so few; matrix units pad to the whole of it.

    **Arguments:**

    - `tile`: rows of a full tile.
    - `rows`: that there are.
    """
    if chip.matrix_rows >= MATRIX_ROWS:
        return tile
    return jnp.minimum(tile, chip.matrix_rows * piece_count(rows / chip.matrix_rows, exact))


def memory_fill_time(chip: Chip, fill: Scalar, main: Values) -> Values:
    r"""Time until main memory serves at its full rate: $\tau(1 - e^{-b/(\beta\tau)})$, in s.

    **Arguments:**

    - `fill`: the time $\tau$ until as many bytes are on their way as full rate takes, in s.
    - `main`: bytes $b$ from main memory, of bandwidth $\beta$; what few wait for is part of a launch.
    """
    return fill * (1 - jnp.exp(-main / (chip.main.bandwidth * fill + 1.0)))


def mesh_traversal_time(chip: Chip, times: Scalar | float) -> Scalar:
    r"""Time for data to cross a square of cores: $n\,\kappa\sqrt{A}/f$, in s.

    Zero on machines other than dataflow, whose launch time holds it.
    """
    if chip.execution != "dataflow":
        return as_scalar(0.0)
    return times * chip.efficiency.hop_cycles * jnp.sqrt(chip.cores) / chip.clock
