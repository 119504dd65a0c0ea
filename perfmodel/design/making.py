r"""What it costs to make a chip of the library, as it is or with some variables turned, and its price then.

What is turned changes the area of the dies and the memory beside them. The price $P$ changes by what making
the chip costs more, with the margin $m$ of a searched chip:

$$P' = P + \frac{C' - C}{1 - m}$$
"""

import dataclasses
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.design.chip import SPARE_CORES
from perfmodel.design.variables import CHIP_VARIABLES
from perfmodel.hardware.area import RETICLE_AREA, die_area, wafer_area
from perfmodel.hardware.constants import Constants
from perfmodel.hardware.cost import Die, Ownership, bill, price, wafer_scale_cost
from perfmodel.hardware.parts import Parts
from perfmodel.hardware.technology import Technology
from perfmodel.hardware.yields import FIELDS, wafer_scale
from perfmodel.library.chip import chip_file
from perfmodel.library.economics import load_ownership
from perfmodel.library.known import described
from perfmodel.library.ledger import memory_apart, price_alone
from perfmodel.library.schema import ChipFile, si_or
from perfmodel.library.technology import load_constants
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.xla import to_run_once

MAX_SHARE = 0.9
"""Share of a die that turned parts take at most (assumed: the rest is pads, control and host interface)."""


class MadeChip(eqx.Module):
    """A chip of the library as it is made.

    - `technology`: its node, links and memory, of which one device has its share of the chip's bytes; memory
      that is bought apart costs nothing here.
    - `parts`: of all dies, those that can be turned; `cores`: how many.
    - `area`: of all dies, in m2; `dies`: how many they are; `wafer`: whether they are one wafer-scale part.
    """

    technology: Technology
    parts: Parts
    cores: Scalar = eqx.field(converter=as_scalar)
    area: Scalar = eqx.field(converter=as_scalar)
    dies: Scalar = eqx.field(converter=as_scalar)
    wafer: bool = eqx.field(static=True)


def made_chip(file: ChipFile) -> MadeChip:
    """As its file says; where it does not say the area of the dies, one field of a scanner is assumed."""
    technology, parts, peak = described(file)
    launched, clock = float(file.execution == "launched"), parts.clock
    turnable = {"matrix": peak.matrix / clock, "vector": peak.vector / clock, "link": peak.link}
    fabric = {"crossbar": launched * peak.shared, "threaded": launched, "base": 0.0}
    held = file.main.capacity.si("byte") if file.main else 0.0
    memory = dataclasses.replace(
        technology.memory,
        capacity=held / jnp.maximum(parts.stacks, 1e-9),
        price=technology.memory.price * float(file.money.of != "socket"),
    )
    area = si_or(file.area, "m2", missing=RETICLE_AREA)
    return MadeChip(
        technology=dataclasses.replace(technology, memory=memory),
        parts=dataclasses.replace(parts, **turnable, **fabric),
        cores=si_or(file.cores, "1", missing=0.0),
        area=area,
        dies=dies_of(file),
        wafer=is_wafer(file),
    )


def is_wafer(file: ChipFile) -> bool:
    """Whether a chip is far larger than what a scanner exposes at once."""
    return si_or(file.area, "m2", missing=0.0) > FIELDS * RETICLE_AREA / 4


def dies_of(file: ChipFile) -> float:
    """As few as the reticle allows; a wafer is one."""
    area = si_or(file.area, "m2", missing=RETICLE_AREA)
    return 1.0 if is_wafer(file) else float(np.ceil(area / RETICLE_AREA))


Factors = Mapping[str, Scalar]
"""Of `CHIP_VARIABLES` that are turned, by name."""


def making_cost(made: MadeChip, factors: Factors, constants: Constants) -> Scalar:
    """USD to make a chip of which some variables are turned.

    A die beyond the reticle is two; bytes/s of memory without bytes come from more devices of fewer bytes.
    """
    faster = factors.get("bandwidth", as_scalar(1.0))
    technology = eqx.tree_at(
        lambda t: t.memory.capacity, made.technology, replace_fn=lambda c: c / faster
    )
    turned = _turned(made.parts, factors)
    area, node = _area(made, turned, constants), technology.node
    if made.wafer:
        good = wafer_scale(made.area, node.defects, made.cores, as_scalar(SPARE_CORES))
        return wafer_scale_cost(node, good) * area / made.area
    dies = jnp.maximum(made.dies, area / RETICLE_AREA)
    return bill(
        [Die(area / dies, node, dies)], technology.memory, turned.stacks, constants.cost
    ).total


def _turned(parts: Parts, factors: Factors) -> Parts:
    """Parts times the factors of what they bring."""

    def factor(name: str) -> Scalar:
        return factors.get(name, as_scalar(1.0))

    return dataclasses.replace(
        parts,
        sram=parts.sram * factor("sram"),
        crossbar=parts.crossbar * factor("sram_bandwidth"),
        matrix=parts.matrix * factor("compute"),
        vector=parts.vector * factor("compute"),
        link=parts.link * factor("links"),
        stacks=parts.stacks * factor("stacks") * factor("bandwidth"),
    )


def _area(made: MadeChip, turned: Parts, constants: Constants) -> Scalar:
    """Of all dies in m2: what is published, with what the turned parts take more."""

    def taken(parts: Parts) -> Scalar:
        if made.wafer:
            return wafer_area(parts, made.technology.node, constants.area)
        return die_area(parts, made.technology, constants.area)

    before = taken(made.parts)
    share = jnp.minimum(1.0, MAX_SHARE * made.area / before)
    return made.area + share * (taken(turned) - before)


def price_factor(name: str, factors: Mapping[str, np.ndarray]) -> np.ndarray:
    """By what the price of a chip is multiplied when some of its variables are turned.

    **Arguments:**

    - `name`: of a chip, or its file.
    - `factors`: of `CHIP_VARIABLES`, by name, arrays of one shape; `price` itself is not counted.

    Of a chip without a price, or at one below its cost and the margin, it moves as the cost.
    """
    file = chip_file(name)[1]
    like = np.ones_like(next(iter(factors.values())), np.float32)
    asked = {one: like * factors.get(one, 1.0) for one in CHIP_VARIABLES if one != "price"}
    constants, owner = load_constants().values, load_ownership()
    return np.asarray(_price_factors(made_chip(file), asked, constants, owner, _paid(file)))


def _paid(file: ChipFile) -> Scalar:
    """What is paid for a chip without what stands around it, in USD; 0 where it is not known."""
    return as_scalar(np.nan_to_num(price_alone(file) - memory_apart(file)))


def purchase_factor(name: str, factors: Mapping[str, np.ndarray]) -> np.ndarray:
    """By what all that is bought for a chip is multiplied: its price, also by the factor `price`, and memory
    that is bought apart. Arguments as of `price_factor`.
    """
    paid = factors.get("price", 1.0) * price_factor(name, factors)
    file = chip_file(name)[1]
    memory = memory_apart(file)
    if not memory:
        return paid
    own = price_alone(file) - memory
    return (own * paid + memory * factors.get("stacks", 1.0)) / (own + memory)


@to_run_once
def _price_factors(
    made: MadeChip,
    factors: dict[str, Values],
    constants: Constants,
    owner: Ownership,
    paid: Scalar,
) -> Values:
    def made_for(one: Factors) -> Scalar:
        return price(making_cost(made, one, constants), owner)

    before = made_for({})
    return 1 + (jax.vmap(made_for)(factors) - before) / jnp.maximum(paid, before)
