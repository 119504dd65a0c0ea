r"""Power: energy of what moves and is computed, what leaks, and the clock that a limit leaves.

$$P = c\,\big[v^2\,(e_m F_m + e_v F_v + e_s B_s + w A + w_s M_s)
      + (e_d + e_h) B_d + e_l B_l + e_b B_b + n P_d\big], \qquad v = \frac{V}{V_0}$$

with FLOP/s $F$, bytes/s $B$ of SRAM, memory devices, links and bridges, area $A$ and SRAM $M_s$.

A chip at its power limit lowers its clock, and its voltage with it, until it draws no more:
dynamic power falls as $x\,v(x)^2$ with the share $x$ of the full clock.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp

from perfmodel.hardware.parts import Parts
from perfmodel.hardware.technology import Node, Technology
from perfmodel.trees import map_leaves
from perfmodel.units import Scalar, as_scalar

CLOCK = 1.5e9
"""Clock that large chips run at their node's nominal voltage, in 1/s (assumed: A100 1.4, H100 1.8)."""

LARGE_ARRAY_ENERGY = 1.65
"""Energy of a byte from a large array over one from a small one: 14 pJ for 64 bits of 1 MB, 8.5 of
32 KB (Jouppi et al., Ten Lessons, ISCA 2021, table 2)."""


class PowerConstants(eqx.Module):
    """What is fitted to known power limits.

    - `matrix`, `vector`, `sram`, `link`: energy all-in (operands, clocks, wires) over that of the
      arithmetic, the array, the wires alone.
    - `host`: J/byte on the host's side of main memory: PHY, controller, the way over the die.
    - `bridge`: J/byte between dies of one package.
    - `static`: power of silicon whose clocks run over the node's estimate; `sleep_fraction`: the share of
      it that is left when no work runs.
    - `diversity_factor`: share of all its peaks at once that a chip's power limit is made for.
    - `dlogv_dlogf`: d ln V / d ln f around the nominal clock.
    - `overhead`: of the module beside its dies: regulators and board, a factor over everything.
    """

    matrix: Scalar = eqx.field(converter=as_scalar)
    vector: Scalar = eqx.field(converter=as_scalar)
    sram: Scalar = eqx.field(converter=as_scalar)
    link: Scalar = eqx.field(converter=as_scalar)
    host: Scalar = eqx.field(converter=as_scalar)
    bridge: Scalar = eqx.field(converter=as_scalar)
    static: Scalar = eqx.field(converter=as_scalar)
    sleep_fraction: Scalar = eqx.field(converter=as_scalar)
    diversity_factor: Scalar = eqx.field(converter=as_scalar)
    dlogv_dlogf: Scalar = eqx.field(converter=as_scalar)
    overhead: Scalar = eqx.field(converter=as_scalar)


SHARPNESS = 12
"""Exponent of the smooth minimum of a share and 1: it is 6 % low where both are equal."""

MAX_SHARE = 500.0
"""A share is cut here, far above 1, before its power is taken: single precision holds no more."""


class Activity(eqx.Module):
    """What a chip does in a second. Achieved rates give power at work, peak rates a thermal limit.

    - `matrix`: bf16 FLOP/s of matrix units; `vector`: fp32 FLOP/s.
    - `sram`: bytes/s of the cores' own SRAM; `shared`: of SRAM that cores share.
    - `memory`, `link`, `bridge`: bytes/s.
    """

    matrix: Scalar = eqx.field(converter=as_scalar, default=0.0)
    vector: Scalar = eqx.field(converter=as_scalar, default=0.0)
    sram: Scalar = eqx.field(converter=as_scalar, default=0.0)
    shared: Scalar = eqx.field(converter=as_scalar, default=0.0)
    memory: Scalar = eqx.field(converter=as_scalar, default=0.0)
    link: Scalar = eqx.field(converter=as_scalar, default=0.0)
    bridge: Scalar = eqx.field(converter=as_scalar, default=0.0)


def voltage(share: Scalar, node: Node, constants: PowerConstants) -> Scalar:
    r"""Supply over the nominal one at a `share` of the nominal clock.

    $V/V_0 = x^\sigma$ around $x = 1$ after the alpha-power law (Sakurai and Newton, IEEE JSSC 25,
    1990), with a smooth floor at the lowest voltage that SRAM keeps working at.
    """
    floor = node.least_voltage / node.voltage
    wanted = share**constants.dlogv_dlogf
    bend = 0.03
    return floor + bend * jax.nn.softplus((wanted - floor) / bend)


def dynamic_power(
    activity: Activity, technology: Technology, constants: PowerConstants
) -> dict[str, Scalar]:
    """Power of what moves and is computed at nominal voltage, in W."""
    node, memory = technology.node, technology.memory
    return {
        "matrix": constants.matrix * node.matrix_energy * activity.matrix,
        "vector": constants.vector * node.vector_energy * activity.vector,
        "sram": constants.sram
        * node.sram_energy
        * (activity.sram + LARGE_ARRAY_ENERGY * activity.shared),
        "memory": (memory.energy + constants.host) * activity.memory,
        "link": constants.link * technology.link.energy * activity.link,
        "bridge": constants.bridge * activity.bridge,
    }


def static_power(
    parts: Parts, area: Scalar, technology: Technology, constants: PowerConstants
) -> dict[str, Scalar]:
    """Power of a chip that is on and does nothing, at nominal voltage, in W.

    Of all figures here it is the least known: between 0.005 W/mm2 (gated, cool) and 0.1 (clocked, hot).
    """
    node = technology.node
    array = parts.sram + parts.registers
    return {
        "logic": constants.static * node.leakage * area,
        "arrays": constants.static * node.sram_leakage * array,
        "memory idle": technology.memory.idle * parts.stacks,
    }


def total(found: dict[str, Scalar]) -> Scalar:
    """Sum of terms, in W."""
    return functools.reduce(jnp.add, found.values())


def drawn(
    parts: Parts,
    area: Scalar,
    activity: Activity,
    technology: Technology,
    constants: PowerConstants,
) -> Scalar:
    """Power of a chip at work at its clock, in W.

    **Arguments:**

    - `parts`: its clock sets the voltage; its SRAM and memory devices draw static power.
    - `area`: of all its dies, in m2; `activity`: of the whole chip.
    """
    moving = dynamic_power(activity, technology, constants)
    idle = static_power(parts, area, technology, constants)
    off_die = ("memory", "link", "bridge", "memory idle")
    terms = (moving | idle).items()
    outside = functools.reduce(jnp.add, [power for name, power in terms if name in off_die])
    inside = functools.reduce(jnp.add, [power for name, power in terms if name not in off_die])
    squared = jnp.square(voltage(parts.clock / CLOCK, technology.node, constants))
    return constants.overhead * (squared * inside + outside)


def thermal_limit(
    parts: Parts,
    area: Scalar,
    peaks: Activity,
    technology: Technology,
    constants: PowerConstants,
) -> Scalar:
    """Power limit that a chip is made for, in W: static power, and a share of all its peaks at once.

    Makers choose limits: the same silicon is sold with limits that differ by 1.2 to 2.0.
    """
    share = map_leaves(lambda rate: constants.diversity_factor * rate, peaks)
    return drawn(parts, area, share, technology, constants)


def resting(
    parts: Parts, area: Scalar, technology: Technology, constants: PowerConstants
) -> Scalar:
    """Power of a chip on which nothing runs, in W."""
    return constants.sleep_fraction * drawn(parts, area, Activity(), technology, constants)


def peak_activity(parts: Parts, technology: Technology, sram: Scalar) -> Activity:
    """Everything at its peak at once.

    **Arguments:**

    - `sram`: bandwidth of the cores' own SRAM, in bytes/s.
    """
    return Activity(
        matrix=parts.matrix * parts.clock,
        vector=parts.vector * parts.clock,
        sram=sram,
        shared=parts.crossbar,
        memory=parts.stacks * technology.memory.bandwidth,
        link=parts.link,
        bridge=parts.bridge + parts.bonds,
    )


def clock_share(limit: Scalar, idle: Scalar, dynamic: Scalar, constants: PowerConstants) -> Scalar:
    r"""Share of the nominal clock at which a chip stays within its power limit, in (0, 1].

    $x\,v(x)^2 = h$ gives $x = h^{1/(1 + 2\sigma)}$ with $h$ the power left for work over what work
    would draw at the full clock; a smooth minimum keeps it below 1. Where the limit lies below
    what the chip draws idle, the share falls towards zero, and is positive.

    **Arguments:**

    - `limit`, `idle`, `dynamic`: in W; `dynamic` at the nominal clock.
    """
    # The bend of the softplus is one watt wide.
    ratio = (jax.nn.softplus(limit - idle) + 1e-3) / (dynamic + 1e-3)
    share = jnp.minimum(ratio ** (1 / (1 + 2 * constants.dlogv_dlogf)), MAX_SHARE)
    return share / (1 + share**SHARPNESS) ** (1 / SHARPNESS)
