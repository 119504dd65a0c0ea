"""What chips that nobody sells would cost to make and to own, as draws."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.design.uncertainty import NINE_TENTHS
from perfmodel.hardware.cost import Die, bill, die_cost, price, running
from perfmodel.hardware.technology import Node
from perfmodel.library.economics import Spread, load_ownership
from perfmodel.library.technology import device, load_constants, load_node, silicon
from perfmodel.studies.draws import Draws
from perfmodel.units import Scalar, Values, as_values


def drawn_node(name: str, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Draws of a node's wafer price in USD and of its defects in 1/m2."""
    file = load_node(name)
    return draws.fact(file.wafer, "USD"), draws.fact(file.defects, "1/m2")


Cost = Callable[[Scalar, Node], Scalar]
"""USD of silicon of an area in m2, on a node."""


@eqx.filter_jit
def _over_draws(cost: Cost, node: Node, area: Scalar, wafers: Values, defects: Values) -> Values:
    def one(wafer: Scalar, density: Scalar) -> Scalar:
        drawn = eqx.tree_at(lambda n: (n.wafer, n.defects), node, (wafer, density))
        return cost(area, drawn)

    return jax.vmap(one)(wafers, defects)


def _chip(area: Scalar, node: Node) -> Scalar:
    """Of one die on a plain substrate."""
    constants, none = load_constants().values.cost, device("hbm3e")
    return bill([Die(area, node)], none, jnp.zeros_like(area), constants).total


def _die(area: Scalar, node: Node) -> Scalar:
    return die_cost(area, node, load_constants().values.cost)


def _drawn(cost: Cost, node: str, area: float, draws: Draws) -> np.ndarray:
    drawn = map(as_values, drawn_node(node, draws))
    return np.asarray(_over_draws(cost, silicon(node), as_values(area), *drawn))


TEST = Spread(1.0, 0.2, 1.9)
"""Cost of test over that of a GPU with HBM, which is what is known: a chip without it may take a fifth."""


def made(node: str, area: float, draws: Draws) -> np.ndarray:
    """USD to make a chip of one die of `area` m2 without memory: die, package, test, loss."""
    chip = _drawn(_chip, node, area, draws)
    return chip + float(load_constants().values.cost.test) * (draws.of(TEST) - 1)


def die(node: str, area: float, draws: Draws) -> np.ndarray:
    """USD of one good die of `area` m2."""
    return _drawn(_die, node, area, draws)


@jax.jit
def _owned(cost: jax.Array, extra: jax.Array, power: jax.Array, limit: jax.Array) -> jax.Array:
    owner = load_ownership()

    def one(c: Scalar, e: Scalar, p: Scalar, most: Scalar) -> Scalar:
        return running(price(c, owner) + e, p, most, owner)

    return jax.vmap(one)(cost, extra, power, limit)


def owned(
    cost: np.ndarray, power: np.ndarray | float, limit: float, memory: np.ndarray | float = 0.0
) -> np.ndarray:
    """USD/s to own and run a chip that costs `cost` USD to make.

    **Arguments:**

    - `power`: drawn on average, in W; `limit`: provisioned, in W.
    - `memory`: modules beside it, in USD, bought without the chip maker's margin.
    """
    columns = np.broadcast_arrays(cost, memory, power, limit)
    return np.asarray(_owned(*map(as_values, columns)))


def sram_overhead() -> Spread:
    """Area of SRAM on a chip over that of a foundry's macro, with the spread of its fit."""
    known = load_constants()
    value, width = float(known.values.area.sram), NINE_TENTHS * float(known.spreads.area.sram)
    return Spread(value, value * float(np.exp(-width)), value * float(np.exp(width)))
