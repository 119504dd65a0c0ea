"""The ledger: what a chip costs for an hour in which it serves, in each basis; every command asks here.

Rules for what nobody publishes are facts of `economics.toml`: how wide prices and rentals scatter, what a
rental is of what owning costs, and what a chip's power limit is for its price.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from perfmodel.errors import InputError
from perfmodel.hardware.cost import (
    Ownership,
    Purchase,
    purchase,
    site,
    standing,
    upkeep,
    wall_power,
)
from perfmodel.library.chip import chip_file
from perfmodel.library.economics import Spread, assumption, load_ownership, spread
from perfmodel.library.schema import ChipFile, Quantity, si_or
from perfmodel.library.technology import memory_technology, price_of
from perfmodel.units import Scalar, Values, as_scalar, as_values
from perfmodel.xla import to_run_once

Basis = Literal["owner", "rental", "marginal", "quote", "making", "unknown"]

COST_BASES: dict[Basis, str] = {
    "owner": "owning a chip: its price and memory, host and network around it, written off with interest; "
    "upkeep, site, and electricity at the wall; of a chip that is only rented an estimate from its rental",
    "rental": "renting a chip by the hour, with host, network and electricity in the price",
    "marginal": "a machine that stands and runs: electricity at the wall and upkeep alone",
    "quote": "USD for each hour of a chip as given",
    "making": "making a chip: dies, memory, package and test, without margin",
    "unknown": "neither a price nor a rental is known: there are no USD",
}
"""What USD may be of: the words of the column `cost_basis`."""

ASKED_BASES: tuple[Basis, ...] = ("owner", "rental", "marginal", "quote")
"""Words of `cost_basis` that may be asked for."""

DEFAULT_BASIS: Basis = "owner"
"""What USD are of where nothing is asked."""

PRICE_YEAR = "2026"
"""Of the prices of memory that is bought apart."""

ENDS = ("", "_low", "_high")
"""The middle and both ends of a range, as columns are called after them."""


class AskedCost(NamedTuple):
    """What USD are asked for.

    - `basis`: one of `ASKED_BASES`; empty: owner, as far as it is known.
    - `quote`: USD/s of each chip, where the basis is `quote`.
    """

    basis: str = ""
    quote: float = float("nan")


NOTHING_ASKED = AskedCost()


class ChipCost(NamedTuple):
    """What one chip costs while it serves.

    - `usd_per_s`: to have it, with its range; `nan` where it is not known.
    - `electricity`: of a joule at the wall of its server, in USD; zero where `usd_per_s` pays for it.
    - `basis`: what the USD are of.
    - `site`: USD/s of the site that is provisioned for its power, part of `usd_per_s`.
    """

    usd_per_s: Spread
    electricity: float
    basis: Basis
    site: float = 0.0

    def dollars(self, chips: Any, seconds: Any, joules: Any, price: Any = 1.0) -> "Dollars":
        """USD of `chips` for `seconds`, in which they draw `joules` together at the wall.

        **Arguments:**

        - `price`: a factor on what is paid for a chip and what stands around it, or on its rental.
        """
        drawn = self.electricity * joules if self.electricity else 0.0
        rates = (price * (rate - self.site) + self.site for rate in self.usd_per_s)
        return Dollars(*(rate * chips * seconds + drawn for rate in rates))


class Dollars(NamedTuple):
    """USD with the ends of their range, that of prices alone; numbers, or arrays of one shape."""

    value: Any
    low: Any
    high: Any

    def plus(self, other: "Dollars") -> "Dollars":
        """Both together, as if both prices were high, or low."""
        return Dollars(*(own + more for own, more in zip(self, other, strict=True)))


UNKNOWN = ChipCost(Spread.certain(float("nan")), 0.0, "unknown")


def chip_cost(name: str, asked: AskedCost = NOTHING_ASKED) -> ChipCost:
    """Of a chip (its name or file), in the basis asked for; where none is, of owning it if that is known.

    **Raises:**

    - `InputError`: for a basis that the chip's file does not give.
    """
    if asked.basis == "quote":
        return ChipCost(Spread.certain(asked.quote), 0.0, "quote")
    costs = _known_costs(name)
    if not asked.basis:
        return costs.get(DEFAULT_BASIS, UNKNOWN)
    if asked.basis not in costs:
        known = f"{', '.join(costs)} alone" if costs else "no basis"
        raise InputError(
            f"cost_basis is {asked.basis!r}, but {name} has {known}; leave it empty, or give "
            "usd_per_chip_hour with cost_basis quote."
        )
    return costs[asked.basis]


@functools.cache
def _known_costs(name: str) -> dict[str, ChipCost]:
    """What a chip's file gives, by basis."""
    return {cost.basis: cost for cost in _costs(chip_file(name)[1])}


def _costs(file: ChipFile) -> Iterator[ChipCost]:
    """A price gives owning and running it; a rental itself, and without a price an estimate of owning."""
    owner, rental = load_ownership(), rental_of(file)
    electricity = float(owner.tariff * owner.overhead / owner.busy)
    if (paid := price_spread(file)) is not None:
        own, kept = _standing_and_kept(paid, file)
        yield ChipCost(own, electricity, "owner", _site(file))
        yield ChipCost(kept, electricity, "marginal")
    elif rental is not None:
        yield ChipCost(_owner_of_rental(rental), 0.0, "owner")
    if rental is not None:
        yield ChipCost(rental, 0.0, "rental")


def price_spread(file: ChipFile) -> Spread | None:
    """What is paid for a chip, or for a system by its chips, in USD; `None` where it is not known."""
    return _widened(file.money.price, "USD", "price_spread")


def rental_of(file: ChipFile) -> Spread | None:
    """USD/s of a chip by the hour; `None` where it is not known."""
    return _widened(file.money.rental, "USD/s", "rental_spread")


def _widened(known: Quantity | None, dimension: str, factor: str) -> Spread | None:
    """A number with its own range, or with that of its kind."""
    if known is None:
        return None
    found = spread(known, dimension)
    if found.low < found.high:
        return found
    return Spread(found.value, found.value / fact(factor), found.value * fact(factor))


def fact(name: str) -> float:
    """An assumption that is a plain number."""
    return assumption(name).value


def _owner_of_rental(rental: Spread) -> Spread:
    """Of owning a chip that is only rented: its rental over what rentals are of what owning costs."""
    known = assumption("rental_over_owner")
    over = spread(known, "1")
    return Spread(rental.value / over.value, rental.value / over.high, rental.value / over.low)


def memory_apart(file: ChipFile) -> float:
    """USD of the modules beside a processor, which its price does not hold."""
    if file.money.of != "socket" or file.main is None:
        return 0.0
    return file.main.capacity.si("byte") * memory_price(file.main.technology)


def memory_price(name: str) -> float:
    """USD/byte of a memory in `PRICE_YEAR`."""
    return price_of(memory_technology(name), name, PRICE_YEAR).si("USD/byte")


def power_limit(file: ChipFile) -> float:
    """Of one chip, in W; an estimate by its price where none is published, `nan` without either."""
    paid = si_or(file.money.price, "USD")
    return si_or(file.power.peak, "W", missing=assumption("limit_per_usd").si("W/USD") * paid)


def bought(file: ChipFile, paid: float) -> Purchase:
    """What is bought for a chip for which `paid` USD are asked."""
    memory, alone = memory_apart(file), float(file.money.of != "system")
    return purchase(as_scalar(paid), load_ownership(), as_scalar(memory), as_scalar(alone))


def price_alone(file: ChipFile) -> float:
    """USD of a chip that with the usual host and network around it costs what is bought for this one."""
    owner = load_ownership()
    total = (
        float(bought(file, file.money.price.si("USD")).total) if file.money.price else float("nan")
    )
    return total / float(1 + owner.system + owner.network)


@to_run_once
def _rates(
    paid: Values, memory: Scalar, alone: Scalar, limit: Scalar, owner: Ownership
) -> tuple[Values, Values]:
    """USD/s of what stands, and of its upkeep, for each price that is paid."""

    def both(one: Scalar) -> tuple[Scalar, Scalar]:
        total = purchase(one, owner, memory, alone).total
        return standing(total, limit, owner) / owner.busy, upkeep(total, owner) / owner.busy

    return jax.vmap(both)(paid)


def _standing_and_kept(paid: Spread, file: ChipFile) -> Iterator[Spread]:
    """USD/s of owning a chip without its electricity, and of its upkeep, with the range of its price."""
    alone = float(file.money.of != "system")
    sizes = map(as_scalar, (memory_apart(file), alone, power_limit(file)))
    for found in _rates(as_values(np.array(paid)), *sizes, load_ownership()):
        yield Spread(*map(float, found))


def _site(file: ChipFile) -> float:
    """USD/s of the site that is provisioned for a chip and what stands around it."""
    owner = load_ownership()
    return float(site(as_scalar(power_limit(file)), owner) / owner.busy)


UTILISATION = 0.8
"""Power that a chip draws on average, as a share of its limit, where no load is given (assumed: serving at
full load)."""


@functools.cache
def hour(name: str) -> Spread:
    """USD/s of owning a chip that draws `UTILISATION` of its limit, with host, network and electricity.

    **Raises:**

    - `InputError`: for a chip whose price and rental are not known.
    """
    cost = chip_cost(name, AskedCost("owner"))
    if not cost.electricity:
        return cost.usd_per_s
    limit, owner = as_scalar(power_limit(chip_file(name)[1])), load_ownership()
    watts = float(wall_power(UTILISATION * limit, limit, owner) / owner.overhead)
    return Spread(*cost.dollars(1.0, 1.0, watts))


def joint_basis(bases: Iterable[str]) -> str:
    """What the USD of several chips together are of: each word once; unknown where that of one is."""
    words = dict.fromkeys(word for basis in bases for word in basis.split("+"))
    return "unknown" if "unknown" in words else "+".join(words)
