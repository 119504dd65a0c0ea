r"""Linear attention: a state of fixed size, updated token by token or chunk by chunk.

Gated delta net, Kimi delta attention and Mamba-2 all read and write a state of
`key x value` numbers for each head; prompts are taken in chunks (Yang et al., "Gated
Delta Networks", arXiv 2412.06464, section 3.3).
"""

from perfmodel.hardware.chip import Chip
from perfmodel.kernels.home import Home, native, on_chip, spilled
from perfmodel.kernels.launch import crossing_time
from perfmodel.resources import Resources
from perfmodel.roofline import Work
from perfmodel.smooth import at_least_one, soft_min
from perfmodel.units import Scalar
from perfmodel.workload.plan import Plan

CHUNK = 64.0
"""Tokens of a chunk (flash-linear-attention)."""

STATE_BYTES = 4.0
"""A state is kept in fp32."""


def recurrent(
    chip: Chip,
    plan: Plan,
    batch: Scalar,
    queries: Scalar,
    heads: Scalar,
    key: Scalar,
    value: Scalar,
    home: Home | None = None,
) -> Work:
    """Count the work of `queries` new tokens for each of `batch` sequences.

    **Arguments:**

    - `heads`, `key`, `value`: of the state.
    - `home`: where the states live; the chip's native memory if not given.
    """
    home = native(chip) if home is None else home
    fitted, launched = chip.efficiency.elementwise, chip.execution == "launched"
    chunk = soft_min(queries, CHUNK * queries / queries)
    state = batch * heads * key * value
    moved = 2.0 * batch * queries * heads * (2 * key + 2 * value)
    traffic = home.traffic(2 * STATE_BYTES * state)
    inside = on_chip(chip, moved)
    within = 2 * chunk * (key + value)
    across = 4 * key * value
    return Work(
        demand=Resources(
            matrix=batch * queries * heads * (within + across),
            private=traffic["private"] + (0.0 if launched else inside["private"]),
            shared=traffic["shared"] + (traffic["main"] + moved if launched else inside["shared"]),
            main=traffic["main"] + (moved * spilled(chip, moved) if launched else 0.0),
            far=traffic["far"],
        ),
        shares=Resources(private=fitted.private, shared=fitted.feed, main=fitted.streaming),
        occupancy=soft_min(batch * heads / chip.cores, 1.0 * heads / heads) if launched else 1.0,
        latency=fitted.launch * at_least_one(queries / CHUNK / 64) + crossing_time(chip, 2.0),
        dtype="bf16",
    )
