r"""Mixture of experts: routing, the experts touched, their grouped products, the return.

The dense and the gated layer are two matrix products and an activation; see
`perfmodel.inference.layer`.
"""

import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.efficiency import MixtureEfficiency
from perfmodel.kernels.home import Home, native, on_chip, spilled
from perfmodel.kernels.launch import crossing_time, occupied
from perfmodel.kernels.routing import ROUTINGS, loads
from perfmodel.resources import Resources
from perfmodel.roofline import Work
from perfmodel.smooth import whole
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.plan import Plan

ROWS = (16.0, 32.0, 64.0, 128.0)
"""Rows of the tiles tried: an expert's tokens are padded to them."""

COLUMNS = 128.0


def mixture(
    chip: Chip,
    plan: Plan,
    tokens: Scalar,
    hidden: Scalar,
    inter: Scalar,
    active: Scalar,
    experts: Scalar,
    tensor: Scalar,
    ranks: Scalar,
    routing: Scalar,
    gated: Scalar | float = 1.0,
    home: Home | None = None,
) -> Work:
    """Count the work of one rank's mixture of experts, the busiest one.

    **Arguments:**

    - `tokens`: of all ranks together; each goes through `active` of `experts`.
    - `tensor`, `ranks`: chips that share an expert; groups of experts.
    - `routing`: a place in `ROUTINGS`.
    - `gated`: 1 where an expert has a gate, else 0.
    - `home`: where the experts live; the chip's native memory if not given.
    """
    home = native(chip) if home is None else home
    fitted, wide = chip.efficiency.mixture, as_scalar(1.0 + gated)
    columns = inter / tensor
    pairs, local = loads(routing, tokens, active, experts, ranks)
    weights = local * (wide + 1) * hidden * columns * plan.format.weight
    moved = _moved(plan, tokens, pairs, hidden, columns, wide)
    reads = home.traffic(weights)
    even = jnp.where(routing == ROUTINGS.index("balanced"), 1.0, 0.0)
    heights = _heights(plan, pairs, local, even)
    useful, occupancy, feed = _grouped(chip, plan, fitted, pairs, heights, hidden, columns, wide)
    launched, inside = chip.execution == "launched", on_chip(chip, moved)
    return Work(
        demand=Resources(
            matrix=2 * (wide + 1) * pairs * hidden * columns,
            vector=4.0 * pairs * columns,
            exponential=pairs * columns,
            private=reads["private"] + (0.0 if launched else inside["private"]),
            shared=feed if launched else reads["shared"] + inside["shared"],
            main=reads["main"],
            far=reads["far"],
        ),
        shares=Resources(
            matrix=fitted.sustained * useful,
            private=fitted.private,
            shared=fitted.feed,
            main=fitted.streaming,
        ),
        occupancy=occupancy,
        latency=fitted.launch
        + fitted.route * tokens * active
        + fitted.local * local
        + _passes(chip, fitted, moved)
        + crossing_time(chip, 6.0),
        choice=fitted.choice,
        dtype=plan.format.matrix,
    )


def _moved(
    plan: Plan, tokens: Scalar, pairs: Scalar, hidden: Scalar, columns: Scalar, wide: Scalar
) -> Scalar:
    """Bytes of activations: permuted in, between the products, weighed and summed out."""
    activation = plan.format.activation
    permuted = (2.0 + 2 * activation) * pairs * hidden
    between = (2 * 2.0 * wide + 2 * activation) * pairs * columns
    returned = 2 * 2.0 * pairs * hidden + 2.0 * tokens * hidden
    return permuted + between + returned


def _passes(chip: Chip, fitted: MixtureEfficiency, moved: Scalar) -> Scalar:
    """Time of the passes between the products, kernels of their own on launched chips."""
    if chip.execution != "launched":
        return as_scalar(0.0)
    out = spilled(chip, moved)
    slow = out / (chip.main.bandwidth * fitted.streaming + 1.0)
    return fitted.passes * moved * (slow + (1 - out) / (chip.shared.bandwidth + 1.0))


def _heights(plan: Plan, pairs: Scalar, local: Scalar, even: Scalar) -> Values:
    """Tiles that the rows of all experts fill: each expert pads its last one, half of it on average."""
    rows = jnp.array(ROWS)
    alike = local * whole(pairs / local / rows, plan.exact)
    uneven = jnp.maximum(local, pairs / rows + local / 2)
    return even * alike + (1 - even) * uneven


def _grouped(
    chip: Chip,
    plan: Plan,
    fitted: MixtureEfficiency,
    pairs: Scalar,
    heights: Values,
    hidden: Scalar,
    columns: Scalar,
    wide: Scalar,
) -> tuple[Values, Values, Values]:
    """Useful share of what is multiplied, occupancy, and fed bytes, for each height of tile."""
    if chip.execution != "launched":
        return jnp.ones(()), jnp.ones(()), jnp.zeros(())
    rows = jnp.array(ROWS)
    tiles_up = heights * whole(wide * columns / COLUMNS, plan.exact)
    tiles_down = heights * whole(hidden / COLUMNS, plan.exact)
    steps = tiles_up * hidden + tiles_down * columns
    filled = steps / (steps + (tiles_up + tiles_down) * fitted.prologue)
    rounds = (tiles_up + tiles_down) / 2 / chip.cores
    feed = steps * (rows * plan.format.activation + COLUMNS * plan.format.weight)
    useful = (wide + 1) * pairs * hidden * columns / (rows * COLUMNS * steps)
    return useful, filled * occupied(rounds, fitted.rounding, plan.exact), feed
