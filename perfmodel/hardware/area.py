r"""Area of a die as a sum of its parts, against what a package and a reticle allow.

$$A = \frac{c_s M_s + c_r M_r}{\rho} + s\,\Big(a_m m + (a_v + \tau a_t + g a_g)\,v + a_d d + a_c N
      + a_x \frac{B_x}{f}\Big) + n\Big(A_\text{PHY} + \frac{T}{\lambda} + s\,a_n\Big)
      + \ldots + \sqrt{s}\,A_0$$

with macro density $\rho = \rho_{N7} (\rho_\text{node}/\rho_{N7})^\delta$, logic density $\lambda$
and the logic's scale $s = (\lambda/\lambda_{N7})^{-\gamma}$. Constants are at N7, and all-in:
routing and white space are theirs, for a factor over everything could not be told from the parts
that it multiplies.
"""

import functools

import equinox as eqx
import jax.numpy as jnp

from perfmodel.hardware.parts import Parts
from perfmodel.hardware.technology import Device, Node, Technology
from perfmodel.units import Scalar, as_scalar

N7_DENSITY = 91.2e12
"""Transistors on a m2 of TSMC N7, high density (WikiChip); constants are given at this density."""

N7_SRAM = 24.7e12 / 8
"""Bytes on a m2 of a macro at N7: 31.8 Mb/mm2 of N5 by the ratio of their cells."""

RETICLE = (26e-3, 33e-3)
"""Sides of the field that a scanner exposes at once, in m (ASML; High-NA halves the longer one)."""

RETICLE_AREA = RETICLE[0] * RETICLE[1]
"""The largest die, in m2; a wafer-scale part is exposed in many fields."""

CHANNEL_CONTROLLER = 90.4464e6
"""Transistors of the controller of 32 bits off the package (Zhang et al., LLMCompass, ISCA 2024)."""


class AreaConstants(eqx.Module):
    """What a part takes, fitted to known dies; in m2 at N7 where nothing else is said.

    - `sram`, `registers`: area over that of a foundry macro of as many bytes.
    - `matrix`, `vector`, `double`: for each FLOP in a clock, in bf16, fp32 and fp64.
    - `threads`: for each fp32 FLOP in a clock that runs SIMT threads: scheduling, operand
      collection, load and store.
    - `graphics`: for each fp32 FLOP in a clock of a core that also draws.
    - `core`: for each core; `crossbar`: for each byte in a clock between cores and shared SRAM.
    - `stack`: for each stack, beyond PHY and controller: queues, fabric, its share of what shares it.
    - `channel`: the same for each 32-bit channel of a memory off the package.
    - `link`, `bridge`, `bonds`: m2/(byte/s) of links off the package, to dies beside and to dies
      above or below, at any node.
    - `fixed`: of every die that is not stacked: pads, clocks, management, host interface; it
      shrinks with the root of the logic's scale.
    - `exponent`, `sram_exponent`: how much of a node's density logic and SRAM gain.
    """

    sram: Scalar = eqx.field(converter=as_scalar)
    registers: Scalar = eqx.field(converter=as_scalar)
    matrix: Scalar = eqx.field(converter=as_scalar)
    vector: Scalar = eqx.field(converter=as_scalar)
    double: Scalar = eqx.field(converter=as_scalar)
    threads: Scalar = eqx.field(converter=as_scalar)
    graphics: Scalar = eqx.field(converter=as_scalar)
    core: Scalar = eqx.field(converter=as_scalar)
    crossbar: Scalar = eqx.field(converter=as_scalar)
    stack: Scalar = eqx.field(converter=as_scalar)
    channel: Scalar = eqx.field(converter=as_scalar)
    link: Scalar = eqx.field(converter=as_scalar)
    bridge: Scalar = eqx.field(converter=as_scalar)
    bonds: Scalar = eqx.field(converter=as_scalar)
    fixed: Scalar = eqx.field(converter=as_scalar)
    exponent: Scalar = eqx.field(converter=as_scalar)
    sram_exponent: Scalar = eqx.field(converter=as_scalar)


def logic_scale(node: Node, constants: AreaConstants) -> Scalar:
    """Area of logic over its area at N7."""
    return (node.logic_density / N7_DENSITY) ** -constants.exponent


def array_density(node: Node, constants: AreaConstants) -> Scalar:
    """Bytes on a m2 of SRAM arrays: what surrounds the cells shrinks less than they do."""
    return N7_SRAM * (node.sram_density / N7_SRAM) ** constants.sram_exponent


def blocks(parts: Parts, technology: Technology, constants: AreaConstants) -> dict[str, Scalar]:
    """Area of each kind of part of a die with a package of its own, in m2.

    Pass it a `Technology` that was stacked, under `vmap`, to have one for each node or memory.
    """
    node, scale = technology.node, logic_scale(technology.node, constants)
    return tiles(parts, node, constants) | {
        "stacks": parts.stacks * interface_area(technology.memory, node, constants),
        "links": parts.link * constants.link
        + parts.bridge * constants.bridge
        + parts.bonds * constants.bonds,
        "fixed": parts.base * constants.fixed * jnp.sqrt(scale),
    }


def tiles(parts: Parts, node: Node, constants: AreaConstants) -> dict[str, Scalar]:
    """Area of cores and SRAM alone, in m2: what a wafer-scale part repeats."""
    scale, density = logic_scale(node, constants), array_density(node, constants)
    control = parts.threaded * constants.threads + parts.graphics * constants.graphics
    return {
        "sram": constants.sram * parts.sram / density,
        "registers": constants.registers * parts.registers / density,
        "matrix": scale * constants.matrix * parts.matrix,
        "vector": scale * (constants.vector + control) * parts.vector,
        "double": scale * constants.double * parts.double,
        "cores": scale * constants.core * parts.cores,
        "crossbar": scale * constants.crossbar * parts.crossbar / parts.clock,
    }


def interface_area(memory: Device, node: Node, constants: AreaConstants) -> Scalar:
    """Area on the host of one memory device: PHY, controller, and what feeds them, in m2.

    A device without a footprint beside the host lies off the package; its controller tells its channels.
    """
    channels = memory.controller / CHANNEL_CONTROLLER * constants.channel
    fabric = jnp.where(memory.footprint > 0, constants.stack, channels)
    return (
        memory.phy + memory.controller / node.logic_density + fabric * logic_scale(node, constants)
    )


def total(found: dict[str, Scalar]) -> Scalar:
    """Sum of blocks, in m2."""
    return functools.reduce(jnp.add, found.values())


def die_area(parts: Parts, technology: Technology, constants: AreaConstants) -> Scalar:
    """Area of a die, in m2."""
    return total(blocks(parts, technology, constants))


def wafer_area(parts: Parts, node: Node, constants: AreaConstants) -> Scalar:
    """Area of a wafer-scale part, in m2: cores, SRAM and their mesh, with nothing of a package.

    Its parts are counted as made, spare cores included.
    """
    return total(tiles(parts, node, constants))


# Limits, as a logarithm of what is allowed over what is used: negative where broken


def reticle_slack(area: Scalar) -> Scalar:
    """Room below the reticle limit of 26 x 33 mm, as a logarithm."""
    return jnp.log(RETICLE_AREA / area)


def used_edge(parts: Parts, technology: Technology) -> Scalar:
    """Perimeter that memory and links take, in m."""
    return parts.stacks * technology.memory.edge + parts.link * technology.link.edge


def edge_slack(parts: Parts, technology: Technology, area: Scalar) -> Scalar:
    """Perimeter of a square die of `area` over what memory and links take of it, as a logarithm.

    A die without memory or links takes a micrometre, so that the logarithm is finite.
    """
    return jnp.log(4 * jnp.sqrt(area) / (used_edge(parts, technology) + 1e-6))


SRAM_RATE = 477e3
"""Bytes/s for each byte of SRAM that have been shipped at most: Cerebras WSE-3, 21 PB/s over 44 GB.

Areas carry no term for banks and ports of private SRAM, so bandwidth must be held below this.
"""


def sram_rate_slack(capacity: Scalar, bandwidth: Scalar) -> Scalar:
    """Room below the highest SRAM bandwidth for its capacity that has been shipped, as a logarithm."""
    return jnp.log(SRAM_RATE * (capacity + 1.0) / (bandwidth + 1.0))
