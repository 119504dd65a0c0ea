r"""What it costs to make a chip, to own it, and to serve a token with it, in USD.

$$C = \frac{\sum_\text{dies} C_\text{die} + p_M\,M + C_\text{package}}{Y_\text{assembly}} + C_\text{test},
\qquad C_\text{die} = \frac{C_\text{wafer}}{N(A)\,Y(A)}$$
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp

from perfmodel.hardware.technology import Device, Node
from perfmodel.hardware.yields import repairable
from perfmodel.units import Scalar, as_scalar

WAFER = 0.3
"""Diameter of a wafer, in m."""

MARGIN = 1.15
"""Footprint of an interposer over that of what lies on it (assumed: gaps and keep-out)."""


class CostConstants(eqx.Module):
    """What making a chip costs beside wafers and memory.

    - `package`: USD/m2 of footprint on an interposer; `substrate`: of a package without one.
    - `test`: USD for each chip: test, and what belongs to no part.
    - `loss`: share of assembled packages that fail.
    - `repairable`: share of a die's area in which a defect does no harm.
    """

    package: Scalar = eqx.field(converter=as_scalar)
    substrate: Scalar = eqx.field(converter=as_scalar)
    test: Scalar = eqx.field(converter=as_scalar)
    loss: Scalar = eqx.field(converter=as_scalar)
    repairable: Scalar = eqx.field(converter=as_scalar)


class Die(eqx.Module):
    """Equal dies of a package: how many, the area of one in m2, their node, and whether they lie on
    another die (`stacked` is 1) or on the interposer (0).
    """

    area: Scalar = eqx.field(converter=as_scalar)
    node: Node
    count: Scalar = eqx.field(converter=as_scalar, default=1.0)
    stacked: Scalar = eqx.field(converter=as_scalar, default=0.0)


class Bill(eqx.Module):
    """What one chip costs to make, in USD: good dies, memory, package, test, and what assembly loses."""

    dies: Scalar
    memory: Scalar
    package: Scalar
    test: Scalar
    loss: Scalar

    @property
    def total(self) -> Scalar:
        """In USD."""
        return self.dies + self.memory + self.package + self.test + self.loss


def dies_per_wafer(area: Scalar) -> Scalar:
    r"""Whole dies on a wafer, $\pi r^2/A - \pi d/\sqrt{2A}$, smoothly one at least.

    The usual formula (D. K. de Vries, IEEE Trans. Semicond. Manuf. 18, 2005, compares them).
    """
    estimate = jnp.pi * (WAFER / 2) ** 2 / area - jnp.pi * WAFER / jnp.sqrt(2 * area)
    return 1 + jax.nn.softplus(estimate - 1)


def die_cost(area: Scalar, node: Node, constants: CostConstants) -> Scalar:
    """USD of one good die of `area` m2, with defects repaired where they can be."""
    yield_ = repairable(area, node.defects, constants.repairable)
    return node.wafer / (dies_per_wafer(area) * yield_)


def wafer_scale_cost(node: Node, good: Scalar) -> Scalar:
    """USD of one good wafer-scale part, with the share of wafers that work."""
    return node.wafer / good


def bill(dies: Sequence[Die], memory: Device, count: Scalar, constants: CostConstants) -> Bill:
    """What a chip of `dies` and `count` memory devices costs to make.

    On an interposer as soon as a device lies beside the dies; else on a plain substrate.
    """
    silicon = sum((d.count * die_cost(d.area, d.node, constants) for d in dies), as_scalar(0.0))
    base = sum((d.count * (1 - d.stacked) * d.area for d in dies), as_scalar(0.0))
    beside = count * memory.footprint
    # One square millimetre of memory decides: smooth, and all or nothing for whole stacks.
    interposer = beside / (beside + 1e-6)
    rate = interposer * constants.package + (1 - interposer) * constants.substrate
    package = rate * MARGIN * (base + beside)
    memory_cost = count * memory.capacity * memory.price
    parts = silicon + memory_cost + package
    lost = parts * constants.loss / (1 - constants.loss)
    return Bill(silicon, memory_cost, package, constants.test, lost)


class Development(eqx.Module):
    """What is paid once for each chip that is designed (non-recurring engineering).

    - `design`: architecture, verification, layout and bought blocks, `masks`: one set, in USD.
    - `volume`: chips that are made, of all designs together.
    """

    design: Scalar = eqx.field(converter=as_scalar)
    masks: Scalar = eqx.field(converter=as_scalar)
    volume: Scalar = eqx.field(converter=as_scalar)


def development_share(paid_once: Development, designs: int) -> Scalar:
    """USD of each chip made, where `designs` chips are developed, each with masks of its own."""
    return designs * (paid_once.design + paid_once.masks) / paid_once.volume


class Ownership(eqx.Module):
    """How a chip is owned.

    - `margin`: of the maker, as a share of the price.
    - `system`: of what a chip needs around it (host, board, power, cooling, rack), as a share of
      the chip's price; `network`: likewise of the network.
    - `life`: over which capital is written off, in s; `interest`: a year's cost of capital, share.
    - `tariff`: of electricity, in USD/J; `overhead`: W drawn by the site for each W of the system
      (PUE); `conversion`: W that a supply takes for each W of a board; `around`: W that host, network cards
      and fans draw for each W of a board's limit.
    - `site`: USD/s for each W provisioned: building, cooling plant, staff.
    - `upkeep`: repair and spare parts of a year, as a share of what was paid.
    - `busy`: share of the time in which tokens are served.
    """

    margin: Scalar = eqx.field(converter=as_scalar)
    system: Scalar = eqx.field(converter=as_scalar)
    network: Scalar = eqx.field(converter=as_scalar)
    life: Scalar = eqx.field(converter=as_scalar)
    interest: Scalar = eqx.field(converter=as_scalar)
    tariff: Scalar = eqx.field(converter=as_scalar)
    overhead: Scalar = eqx.field(converter=as_scalar)
    around: Scalar = eqx.field(converter=as_scalar)
    conversion: Scalar = eqx.field(converter=as_scalar)
    site: Scalar = eqx.field(converter=as_scalar)
    upkeep: Scalar = eqx.field(converter=as_scalar)
    busy: Scalar = eqx.field(converter=as_scalar)


YEAR = 365.25 * 86400
"""In s."""


def price(cost: Scalar, owner: Ownership) -> Scalar:
    """Price of a chip that costs `cost` USD to make."""
    return cost / (1 - owner.margin)


class Purchase(eqx.Module):
    """What is bought for one chip to serve, in USD.

    - `chip`: as it is sold; `memory`: modules beside it that are bought apart.
    - `host`, `network`: its share of the server around it, and of what joins servers.
    """

    chip: Scalar
    memory: Scalar
    host: Scalar
    network: Scalar

    @property
    def total(self) -> Scalar:
        """In USD."""
        return self.chip + self.memory + self.host + self.network


def purchase(paid: Scalar, owner: Ownership, memory: Scalar, alone: Scalar) -> Purchase:
    """What is bought for a chip.

    **Arguments:**

    - `paid`: for the chip, or for a system by its chips, in USD; `memory`: for modules beside it.
    - `alone`: 1 for a chip or a card; 0 for a system, whose price has paid for its host.
    """
    return Purchase(paid, memory, alone * owner.system * paid, owner.network * paid)


def upkeep(bought: Scalar, owner: Ownership) -> Scalar:
    """USD/s to keep up what was `bought`."""
    return bought * owner.upkeep / YEAR


def written_off(bought: Scalar, owner: Ownership) -> Scalar:
    """USD/s of capital: equal parts over its life, and interest on half of it, owed on average."""
    return bought * (1 / owner.life + owner.interest / (2 * YEAR))


def standing(bought: Scalar, limit: Scalar, owner: Ownership) -> Scalar:
    r"""USD/s of a chip with all that was `bought` for it, in USD, whether it runs or stands still.

    Written off; upkeep; and the site that is provisioned for its `limit`, in W, and what stands around it.
    """
    return written_off(bought, owner) + upkeep(bought, owner) + site(limit, owner)


def site(limit: Scalar, owner: Ownership) -> Scalar:
    """USD/s of a site for a chip of `limit` W and what stands around it."""
    return limit * (owner.conversion + owner.around) * owner.site


def wall_power(power: Scalar, limit: Scalar, owner: Ownership) -> Scalar:
    """W at the meter of a site for a chip that draws `power` W of its `limit`.

    What stands around a chip is sized for its limit, and draws about the same at any load.
    """
    return (owner.conversion * power + owner.around * limit) * owner.overhead


def running(paid: Scalar, power: Scalar, limit: Scalar, owner: Ownership) -> Scalar:
    """USD/s to own and run a chip.

    **Arguments:**

    - `paid`: for the chip, in USD.
    - `power`: that it draws on average, in W; `limit`: that the site provisions for it, in W.
    """
    electricity = wall_power(power, limit, owner) * owner.tariff
    return standing(_with_host(paid, owner), limit, owner) + electricity


def kept_running(paid: Scalar, power: Scalar, limit: Scalar, owner: Ownership) -> Scalar:
    """USD/s to run a chip that stands already: its electricity and upkeep. Arguments as of `running`."""
    electricity = wall_power(power, limit, owner) * owner.tariff
    return upkeep(_with_host(paid, owner), owner) + electricity


def _with_host(paid: Scalar, owner: Ownership) -> Scalar:
    return purchase(paid, owner, as_scalar(0.0), as_scalar(1.0)).total


class TokenPrice(eqx.Module):
    """USD of one input and one output token."""

    input: Scalar
    output: Scalar


def per_token(rate: Scalar, prompt: Scalar, decode: Scalar, owner: Ownership) -> TokenPrice:
    """What a token costs at `rate` USD/s a chip; times 1e6 it is USD per million tokens.

    **Arguments:**

    - `rate`: from `running`, or a rental.
    - `prompt`, `decode`: chip-seconds for one input and for one output token, at full load.
    """
    return TokenPrice(rate * prompt / owner.busy, rate * decode / owner.busy)
