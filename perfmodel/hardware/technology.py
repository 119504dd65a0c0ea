"""What chips are made of: process nodes, memory devices and links, as numbers that can be stacked.

Every field is a traced number, so that `vmap` runs over nodes and over memory technologies; the
functions of `area`, `yields`, `power` and `cost` take one of each.
"""

from collections.abc import Sequence
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from perfmodel.units import Scalar, as_scalar


class Node(eqx.Module):
    """A process node.

    - `logic_density`: transistors on a m2.
    - `sram_density`: of a foundry's SRAM macro, in bytes/m2.
    - `matrix_energy`, `vector_energy`: of a bf16 FLOP of a matrix unit and an fp32 FLOP of a
      vector unit, the arithmetic alone, in J.
    - `sram_energy`: of reading one byte of an SRAM array, in J.
    - `leakage`: of powered and clocked logic that does nothing, in W/m2; `sram_leakage`: of
      SRAM, in W/byte. Both are estimates with a wide range.
    - `voltage`, `least_voltage`: nominal, and the lowest that SRAM keeps working at, in V.
    - `wafer`: price of a wafer of 300 mm, in USD.
    - `defects`: killing defects on a m2.
    """

    logic_density: Scalar = eqx.field(converter=as_scalar)
    sram_density: Scalar = eqx.field(converter=as_scalar)
    matrix_energy: Scalar = eqx.field(converter=as_scalar)
    vector_energy: Scalar = eqx.field(converter=as_scalar)
    sram_energy: Scalar = eqx.field(converter=as_scalar)
    leakage: Scalar = eqx.field(converter=as_scalar)
    sram_leakage: Scalar = eqx.field(converter=as_scalar)
    voltage: Scalar = eqx.field(converter=as_scalar)
    least_voltage: Scalar = eqx.field(converter=as_scalar)
    wafer: Scalar = eqx.field(converter=as_scalar)
    defects: Scalar = eqx.field(converter=as_scalar)


class Device(eqx.Module):
    """One device of a memory technology: an HBM stack, a GDDR chip, a channel of DDR.

    - `capacity`, `bandwidth`: in bytes and bytes/s.
    - `energy`, `write_energy`: of reading and of writing one byte, the device alone, in J.
    - `idle`: drawn while nothing is read (refresh, clocks), in W.
    - `latency`: of a read, seen by the host's controller, in s.
    - `phy`: area of its PHY on the host, which does not scale, in m2; `controller`: transistors.
    - `edge`: of the host's perimeter, in m.
    - `footprint`: beside the host on the interposer, in m2; 0 where it sits elsewhere.
    - `price`: in USD/byte, in the year that was asked for.
    """

    capacity: Scalar = eqx.field(converter=as_scalar)
    bandwidth: Scalar = eqx.field(converter=as_scalar)
    energy: Scalar = eqx.field(converter=as_scalar)
    write_energy: Scalar = eqx.field(converter=as_scalar)
    idle: Scalar = eqx.field(converter=as_scalar)
    latency: Scalar = eqx.field(converter=as_scalar)
    phy: Scalar = eqx.field(converter=as_scalar)
    controller: Scalar = eqx.field(converter=as_scalar)
    edge: Scalar = eqx.field(converter=as_scalar)
    footprint: Scalar = eqx.field(converter=as_scalar)
    price: Scalar = eqx.field(converter=as_scalar)


class Wires(eqx.Module):
    """A link technology.

    - `energy`: of sending a byte, both ends, in J.
    - `edge`: of the host's perimeter for each byte/s of one direction, in m/(byte/s).
    """

    energy: Scalar = eqx.field(converter=as_scalar)
    edge: Scalar = eqx.field(converter=as_scalar)


T = TypeVar("T")


class Technology(eqx.Module):
    """What one chip is made of: its node, its main memory and its links."""

    node: Node
    memory: Device
    link: Wires


def stacked(modules: Sequence[T]) -> T:
    """Modules of one form, such as technologies, or tuples of them, along a leading axis, for `vmap`."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *modules)
