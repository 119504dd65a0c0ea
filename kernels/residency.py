"""Where operands live: shares of the four memory tiers."""

import equinox as eqx
import jax
import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import GemmEfficiency, MoeEfficiency
from perfmodel.resources import TIERS
from perfmodel.smooth import soft_max
from perfmodel.units import Scalar, Values, as_scalar


class Residency(eqx.Module):
    """Share of an operand's bytes in each tier; they sum to one."""

    private: Scalar = eqx.field(converter=as_scalar, default=0.0)
    shared: Scalar = eqx.field(converter=as_scalar, default=0.0)
    main: Scalar = eqx.field(converter=as_scalar, default=0.0)
    far: Scalar = eqx.field(converter=as_scalar, default=0.0)

    @classmethod
    def main_memory(cls) -> "Residency":
        """Everything in main memory."""
        return cls(main=1.0)

    def traffic(self, size: Values) -> dict[str, Values]:
        """Bytes through each tier when an operand of `size` bytes is read once."""
        return {tier: size * getattr(self, tier) for tier in TIERS}


def native(chip: Chip) -> Residency:
    """Where a chip keeps operands that fit: its main memory, else the SRAM that it has."""
    capacities = [tier.usable_capacity for tier in chip.tiers]
    in_main = jnp.where(capacities[2] > 0, 1.0, 0.0)
    in_shared = jnp.where(capacities[1] > capacities[0], 1.0, 0.0) * (1 - in_main)
    return Residency(private=1 - in_main - in_shared, shared=in_shared, main=in_main)


def spilled(chip: Chip, size: Values) -> Values:
    r"""Share of fleeting data of `size` bytes that does not stay in SRAM.

    $1 - \min(1, S/x)$, smoothly, for $S$ bytes of SRAM and $x$ bytes of data.
    """
    sram = chip.shared.capacity + chip.private.capacity
    fits = sram / soft_max([sram * jnp.ones_like(size), size, jnp.ones_like(size)])
    return 1 - fits


def l2_hit_rate(chip: Chip, sharpness: Scalar, capacity: Scalar, size: Values) -> Values:
    r"""Share of what a benchmark replays that the shared tier still has: $\sigma(c \log(S/x))$.

    None in a scratchpad, which each kernel fills anew.

    **Arguments:**

    - `sharpness`: how sharply $c$ that falls where data outgrow it.
    - `capacity`, `size`: bytes $S$ that it holds, and bytes $x$ of data.
    """
    return (1 - chip.shared.staged) * jax.nn.sigmoid(sharpness * jnp.log(capacity / size))


def replay_read_time(chip: Chip, fitted: GemmEfficiency | MoeEfficiency, size: Values) -> Values:
    """Time to read operands that a benchmark replays, as a share of reading main memory.

    The shared tier holds them from the replay before, if `size` bytes fit a part of it.
    """
    capacity = chip.shared.capacity / chip.shared.parts + 1.0
    hit_rate = l2_hit_rate(chip, fitted.l2_hit_sharpness, capacity * fitted.l2_hit_capacity, size)
    rate = (
        chip.main.bandwidth * fitted.streaming / (chip.shared.bandwidth * fitted.l2_bandwidth + 1.0)
    )
    return 1 - hit_rate + hit_rate * rate


def on_chip(chip: Chip, size: Values) -> dict[str, Values]:
    """Bytes through each SRAM tier for data that stay on the chip, by their bandwidths."""
    private, shared = chip.private.bandwidth, chip.shared.bandwidth
    has_sram = private + shared > 0
    both = jnp.where(has_sram, private + shared, 1.0)
    # Nothing goes through a tier that is not there: at one byte/s even a rounding error takes long.
    return {
        "private": size * private / both,
        "shared": size * jnp.where(has_sram, shared / both, 1.0),
    }
