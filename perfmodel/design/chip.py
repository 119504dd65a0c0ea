"""A chip made of free parameters: what a design says, and the chip it makes."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from perfmodel.hardware.area import blocks, edge_slack, sram_rate_slack, tiles, total
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.constants import Constants
from perfmodel.hardware.cost import Die, bill, wafer_scale_cost
from perfmodel.hardware.memory import Memory
from perfmodel.hardware.parameters import BoardPower
from perfmodel.hardware.parts import Parts
from perfmodel.hardware.power import PowerConstants, static_power, voltage
from perfmodel.hardware.power import total as total_power
from perfmodel.hardware.technology import Node, Technology
from perfmodel.hardware.yields import wafer_scale
from perfmodel.library.technology import UNLIMITED
from perfmodel.units import Scalar, as_scalar

USABLE_SRAM = 0.9
"""Share of a searched chip's SRAM open to weights and cache: a tenth for programs and buffers (assumed)."""

REGISTER_BYTES = 256 * 1024
"""Bytes of registers of a core that runs threads (NVIDIA H100 whitepaper, 2022); none elsewhere."""

SPARE_CORES = 0.07
"""Cores of a wafer beyond those sold, as a share: 970,000 made for 900,000 (Cerebras, WSE-3, 2024)."""


class Platform(NamedTuple):
    """What a chip is made of.

    - `base`: a chip of the library: its cores, links and fitted parameters; `node`: its process.
    - `technology`: of the new chip; `constants`: of area, power and cost.
    - `development`: its share of what is paid once, in USD.
    - `endurance`: writes that a cell survives, of the main memory and of what lies on the die.
    """

    base: Chip
    node: Node
    technology: Technology
    constants: Constants
    development: Scalar | float = 0.0
    endurance: tuple[Scalar | float, Scalar | float] = (UNLIMITED, UNLIMITED)


class ChipParameters(NamedTuple):
    """One chip's numbers, in SI.

    - `sram`, `sram_bandwidth`: bytes and bytes/s of the SRAM it serves from, a scratchpad.
    - `stacks`: of main memory.
    - `compute`: dense bf16, `vector`: fp32, in FLOP/s; `exponential`: in 1/s; `clock`: in 1/s.
    - `link`: bytes/s to other chips of its domain, each way.
    """

    sram: Scalar
    sram_bandwidth: Scalar
    stacks: Scalar
    compute: Scalar
    clock: Scalar
    vector: Scalar
    exponential: Scalar
    link: Scalar


def chip_parameters(values: dict[str, Scalar], base: Chip) -> ChipParameters:
    """From the variables of a study; what it does not name is as `base` has it for each core."""
    compute, clock = values["tflops"], values.get("clock_ghz", base.clock)
    scale = compute / base.matrix["bf16"]
    return ChipParameters(
        sram=values["sram_mb"],
        sram_bandwidth=values["sram_tb_per_s"],
        stacks=values["stacks"],
        compute=compute,
        clock=clock,
        vector=values.get("vector_tflops", base.vector * scale),
        exponential=values.get("exponential_t_per_s", base.exponential * scale),
        link=values.get("link_gb_per_s", base.scale_up.bandwidth),
    )


def cores(one: ChipParameters, base: Chip) -> Scalar:
    """As many as the compute asks for at the clock."""
    return base.cores * (one.compute / one.clock) / (base.matrix["bf16"] / base.clock)


def serves_from_private(base: Chip) -> bool:
    """Whether the base keeps its SRAM beside each core, as a wafer does; a GPU shares it."""
    return base.execution == "dataflow"


def parts(one: ChipParameters, base: Chip) -> Parts:
    """The physical parts of its die. No fp64: no kernel asks for it."""
    launched = base.execution == "launched"
    count = cores(one, base)
    beside = 0.0 if serves_from_private(base) else base.private.capacity * count / base.cores
    return Parts(
        sram=one.sram + beside,
        registers=REGISTER_BYTES * count if launched else 0.0,
        matrix=one.compute / one.clock,
        vector=one.vector / one.clock,
        cores=count,
        stacks=one.stacks,
        link=one.link,
        crossbar=one.sram_bandwidth if launched else 0.0,
        clock=one.clock,
        threaded=1.0 if launched else 0.0,
    )


class ChipDesign(NamedTuple):
    """A chip as it is made.

    - `blocks`: area of each kind of part; `area`: of the die, in m2.
    - `idle`: power drawn at rest, in W; `cost`: to make it, in USD; `development`: its share of what is paid
      once, in USD.
    - `endurance`: writes that a cell survives, of the main memory and of what lies on the die.
    - `rate`, `edge`: room below the SRAM bandwidth shipped for its size, and on the perimeter,
      as logarithms.
    """

    chip: Chip
    blocks: dict[str, Scalar]
    area: Scalar
    idle: Scalar
    cost: Scalar
    rate: Scalar
    edge: Scalar
    development: Scalar
    endurance: tuple[Scalar, Scalar]


def build(one: ChipParameters, platform: Platform, power: Scalar) -> ChipDesign:
    """The chip of a design, with its area, idle power and cost.

    **Arguments:**

    - `power`: limit, in W; a chip at its limit slows down.
    """
    base, _, technology, constants, *_ = platform
    found, wafer = parts(one, base), base.execution == "dataflow"
    areas = (
        tiles(found, technology.node, constants.area)
        if wafer
        else blocks(found, technology, constants.area)
    )
    die = total(areas)
    volts = voltage(one.clock / base.clock, technology.node, constants.power)
    idle = idle_power(found, die, technology, constants.power) * jnp.square(volts)
    return ChipDesign(
        chip=_chip(one, platform, die, idle, power, volts),
        blocks=areas,
        area=die,
        idle=idle,
        cost=_cost(found, die, platform),
        rate=sram_rate_slack(one.sram, one.sram_bandwidth),
        edge=as_scalar(10.0) if wafer else edge_slack(found, technology, die),
        development=as_scalar(platform.development),
        endurance=(as_scalar(platform.endurance[0]), as_scalar(platform.endurance[1])),
    )


def idle_power(
    found: Parts, area: Scalar, technology: Technology, constants: PowerConstants
) -> Scalar:
    """What a module draws whose clocks run and that does nothing, at nominal voltage, in W."""
    return constants.overhead * total_power(static_power(found, area, technology, constants))


def _cost(found: Parts, die: Scalar, platform: Platform) -> Scalar:
    """Of a module; of a wafer-scale part with spare cores, its memory lies elsewhere, at its price alone."""
    base, _, technology, constants, *_ = platform
    node, memory = technology.node, technology.memory
    if base.execution == "dataflow":
        good = wafer_scale(die, node.defects, found.cores, as_scalar(SPARE_CORES))
        return wafer_scale_cost(node, good) + found.stacks * memory.capacity * memory.price
    return bill([Die(die, node)], memory, found.stacks, constants.cost).total


def _chip(
    one: ChipParameters, platform: Platform, die: Scalar, idle: Scalar, power: Scalar, volts: Scalar
) -> Chip:
    """`base` with the numbers of the design; energies follow the node and the square of the voltage."""
    base, old, technology, constants, *_ = platform
    node, speed = technology.node, jnp.square(volts)
    scale = one.compute / base.matrix["bf16"]
    arithmetic = speed * node.matrix_energy / old.matrix_energy
    vector = speed * node.vector_energy / old.vector_energy
    return dataclasses.replace(
        base,
        cores=cores(one, base),
        clock=one.clock,
        vector=one.vector,
        exponential=one.exponential,
        matrix={kind: rate * scale for kind, rate in base.matrix.items()},
        matrix_energy={kind: joules * arithmetic for kind, joules in base.matrix_energy.items()},
        vector_energy=base.vector_energy * vector,
        exponential_energy=base.exponential_energy * vector,
        scale_up=dataclasses.replace(base.scale_up, bandwidth=one.link),
        area=die,
        idle_power=idle,
        peak_power=power,
        price=jnp.nan,
        efficiency=dataclasses.replace(base.efficiency, board=awake_board(base, constants.power)),
        **_memories(one, platform, speed),
    )


def awake_board(base: Chip, constants: PowerConstants) -> BoardPower:
    """What boards of chips like `base` draw where the chip's own numbers hold more than those of the library:
    its idle power is of clocks that run, its energy of memory has the host's side.
    """
    fitted, device = base.efficiency.board, base.main.energy
    share = jnp.where(base.main.capacity > 0, device / (device + constants.host), 1.0)
    return dataclasses.replace(
        fitted,
        active_idle=jnp.zeros_like(fitted.active_idle),
        memory=share * fitted.memory,
        weights=share * fitted.weights,
    )


def _memories(one: ChipParameters, platform: Platform, speed: Scalar) -> dict[str, Memory]:
    """The tiers of the chip; `speed`: the square of its voltage over the nominal one."""
    base, old, technology, constants, *_ = platform
    memory, wafer = technology.memory, serves_from_private(base)
    array = speed * technology.node.sram_energy / old.sram_energy
    size, scale = cores(one, base) / base.cores, one.compute / base.matrix["bf16"]
    sram = Memory(
        one.sram,
        one.sram_bandwidth,
        base.shared.energy * array,
        USABLE_SRAM,
        base.shared.multicast,
        staged=base.shared.staged,
    )
    private = dataclasses.replace(
        base.private,
        capacity=one.sram if wafer else base.private.capacity * size,
        bandwidth=one.sram_bandwidth if wafer else base.private.bandwidth * scale,
        energy=base.private.energy * array,
    )
    # Without main memory what kernels leave to the next stays in SRAM; room is a limit of its own.
    alone = memory.capacity <= 0
    in_flight = bytes_in_flight_rate(one.sram, memory.latency)
    main = Memory(
        one.stacks * memory.capacity,
        jnp.where(alone, one.sram_bandwidth, jnp.minimum(one.stacks * memory.bandwidth, in_flight)),
        jnp.where(alone, sram.energy, memory.energy + constants.power.host),
        jnp.where(base.main.usable > 0, base.main.usable, USABLE_SRAM),
    )
    return {"private": private, "shared": base.shared if wafer else sram, "main": main}


UNBOUNDED_RATE = 1e30
"""In bytes/s: where a memory has no latency."""


def bytes_in_flight_rate(sram: Scalar, latency: Scalar) -> Scalar:
    """Bytes/s at which a memory of a `latency` in s can be read into `sram` bytes (Little's law).

    What a step reads is known ahead, so a latency is hidden as far as there is room for what is on its way:
    a page of flash takes 10 us, in which a stack of 1.6 TB/s sends 16 MB.
    """
    late = latency > 0
    return jnp.where(late, USABLE_SRAM * sram / jnp.where(late, latency, 1.0), UNBOUNDED_RATE)
