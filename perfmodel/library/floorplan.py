"""How much of a die each part of a chip takes, from sourced densities at one node.

`hardware.area`, `power`, `yields` and `cost` do the same for every node and memory, with constants
that were fitted to known dies: `load_technology` and `load_constants` give what they take.
"""

import functools
from typing import Annotated, NamedTuple

from perfmodel.errors import InputError
from perfmodel.library.files import ROOT, read_as
from perfmodel.library.schema import Quantity, Sourced, measures, si_or
from perfmodel.library.technology import link_technology, load_node, memory_technology
from perfmodel.units import Scalar

PerArea = Annotated[Quantity, measures("byte/m2", positive=True)]
PerBandwidth = Annotated[Quantity, measures("m2/(byte/s)", positive=True)]
PerFlops = Annotated[Quantity, measures("m2/(FLOP/s)", positive=True)]
PerSecond = Annotated[Quantity, measures("1/s", positive=True)]
PowerDensity = Annotated[Quantity, measures("W/m2", positive=True)]


class FloorplanFile(Sourced):
    """Densities: of SRAM, of its ports, the most bandwidth for its capacity, of compute, of idle power."""

    sram: PerArea
    port: PerBandwidth
    rate: PerSecond
    compute: PerFlops
    idle: PowerDensity


STACK = ("interface_area", "controller_transistors", "capacity", "bandwidth")
"""What a memory technology must say of one stack."""


class Floorplan(NamedTuple):
    """Area and power of a chip's parts, in SI.

    - `sram`: bytes on a m2; `port`: m2 for each byte/s of SRAM bandwidth.
    - `rate`: byte/s for each byte of SRAM, at most.
    - `compute`: m2 for each FLOP/s of dense bf16.
    - `stack`, `stack_capacity`, `stack_bandwidth`: of one stack of main memory: m2 of the
      host die, bytes, bytes/s; `stack_energy`: J for a byte.
    - `link`: m2 for each byte/s of links.
    - `idle`: W on a m2.
    """

    sram: float | Scalar
    port: float | Scalar
    rate: float | Scalar
    compute: float | Scalar
    stack: float | Scalar
    stack_capacity: float | Scalar
    stack_bandwidth: float | Scalar
    stack_energy: float | Scalar
    link: float | Scalar
    idle: float | Scalar


@functools.cache
def load_floorplan(memory: str = "hbm3", node: str = "n5", link: str = "nvlink") -> Floorplan:
    """Densities for a memory technology; those of SRAM and compute hold for N5 only.

    **Raises:**

    - `InputError`: for an unknown technology, or one that lacks a fact.
    """
    file = read_as(FloorplanFile, ROOT / "floorplan.toml")
    stack, wires = memory_technology(memory), link_technology(link)
    for found, fields in ((stack, STACK), (wires, ("area",))):
        missing = [field for field in fields if getattr(found, field) is None]
        if missing:
            raise InputError(f"{found.name} has no {missing[0]}; a chip cannot be planned with it.")
    density = load_node(node).logic_density.si("1")
    return Floorplan(
        sram=file.sram.si("byte/m2"),
        port=file.port.si("m2/(byte/s)"),
        rate=file.rate.si("1/s"),
        compute=file.compute.si("m2/(FLOP/s)"),
        stack=si_or(stack.interface_area, "m2")
        + si_or(stack.controller_transistors, "1") / density,
        stack_capacity=si_or(stack.capacity, "byte"),
        stack_bandwidth=si_or(stack.bandwidth, "byte/s"),
        stack_energy=stack.energy.si("J/byte"),
        link=si_or(wires.area, "m2/(byte/s)"),
        idle=file.idle.si("W/m2"),
    )
