"""A chip made of free parameters: what is free, and the chip it makes."""

import equinox as eqx
import jax
import jax.numpy as jnp

from perfmodel.hardware.chip import Chip
from perfmodel.hardware.memory import Memory
from perfmodel.library.floorplan import Floorplan
from perfmodel.units import Scalar, Values, as_scalar

VARIABLES = ("sram", "sram_bandwidth", "stacks", "compute")
"""What is free, in this order in every vector of logarithms."""

SRAM_USABLE = 0.9
"""Share of a searched chip's SRAM open to weights and cache: a tenth for programs and buffers (assumed)."""


class Design(eqx.Module):
    """The free parameters of a chip.

    - `sram`: bytes of SRAM that cores share, a scratchpad; `sram_bandwidth`: in bytes/s.
    - `stacks`: of main memory.
    - `compute`: dense bf16, in FLOP/s.
    """

    sram: Scalar = eqx.field(converter=as_scalar)
    sram_bandwidth: Scalar = eqx.field(converter=as_scalar)
    stacks: Scalar = eqx.field(converter=as_scalar)
    compute: Scalar = eqx.field(converter=as_scalar)

    def logarithms(self) -> Values:
        """As a vector."""
        return jnp.log(jnp.stack([getattr(self, name) for name in VARIABLES]))


def from_logarithms(vector: Values) -> Design:
    """A design from a vector of logarithms."""
    return Design(*jnp.exp(vector))


def area(design: Design, base: Chip, floor: Floorplan) -> Scalar:
    """Die area in m2: the sum of its parts. The links are those of `base`."""
    return (
        design.sram / floor.sram
        + design.sram_bandwidth * floor.port
        + design.stacks * floor.stack
        + design.compute * floor.compute
        + base.scale_up.bandwidth * floor.link
    )


def build(design: Design, base: Chip, floor: Floorplan, power: Scalar) -> Chip:
    """The chip of a design: cores of the kind of `base`, as many as its compute asks for.

    **Arguments:**

    - `power`: limit, in W; a chip at its limit slows down.
    """
    scale = design.compute / base.matrix["bf16"]
    die = area(design, base, floor)
    cores = jax.tree.map(
        lambda x: x * scale, (base.cores, base.vector, base.exponential, base.matrix)
    )
    private = eqx.tree_at(
        lambda m: (m.capacity, m.bandwidth), base.private, replace_fn=lambda x: x * scale
    )
    shared = Memory(
        design.sram,
        design.sram_bandwidth,
        base.shared.energy,
        SRAM_USABLE,
        base.shared.multicast,
    )
    main = Memory(
        design.stacks * floor.stack_capacity,
        design.stacks * floor.stack_bandwidth,
        floor.stack_energy,
        base.main.usable,
    )
    parts = (*cores, private, shared, main, die, floor.idle * die, power, as_scalar(jnp.nan))
    return eqx.tree_at(_free, base, tuple(jax.tree.map(as_scalar, part) for part in parts))


def _free(chip: Chip):
    return (
        chip.cores,
        chip.vector,
        chip.exponential,
        chip.matrix,
        chip.private,
        chip.shared,
        chip.main,
        chip.area,
        chip.idle_power,
        chip.peak_power,
        chip.price,
    )
