"""What a chip costs while it runs, owned or by the hour; what tokens sell for, and what speed is worth."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, NamedTuple

from perfmodel.errors import InputError
from perfmodel.hardware.cost import Ownership
from perfmodel.library.chip import chip_file
from perfmodel.library.files import ROOT, read_as
from perfmodel.library.schema import Count, Quantity, Share, Sourced, Strict, in_si, measures

Tariff = Annotated[Quantity, measures("USD/J")]
Life = Annotated[Quantity, measures("s", positive=True)]
Site = Annotated[Quantity, measures("USD/s/W")]


class EconomicsFile(Sourced):
    """Assumptions about owning: `life` of a chip, `tariff` of electricity, site `overhead` (PUE).

    The others are those of `Ownership`.
    """

    life: Life
    tariff: Tariff
    overhead: Count
    margin: Share
    system: Share
    network: Share
    interest: Share
    around: Count
    site: Site
    busy: Count


class Economics(NamedTuple):
    """The same in SI: s, USD/J, and a plain factor."""

    life: float
    tariff: float
    overhead: float


@functools.cache
def _file() -> EconomicsFile:
    return read_as(EconomicsFile, ROOT / "economics.toml")


def load_economics() -> Economics:
    """The library's assumptions."""
    return Economics(**in_si(_file(), Economics._fields))


def assumption(name: str) -> Quantity:
    """One assumption with its range, as the file has it."""
    return getattr(_file(), name)


def load_ownership() -> Ownership:
    """How the library assumes that chips are owned, for the functions of `hardware.cost`."""
    return Ownership(**in_si(_file(), [field.name for field in dataclasses.fields(Ownership)]))


Basis = Literal["owner", "rental", "marginal", "quote", "making", "unknown"]

COST_BASES: dict[Basis, str] = {
    "owner": "owning a chip: its price, what stands around it, network, interest, site and electricity",
    "rental": "renting a chip by the hour, with host, network and electricity in the price",
    "marginal": "one chip more where a system stands: its price over its life and its electricity, "
    "without host, network, interest and site",
    "quote": "USD for each hour of a chip as given",
    "making": "making a chip: dies, memory, package and test, without margin",
    "unknown": "neither a price with an idle power nor a rental is known: there are no USD",
}
"""What USD may be of: the words of the column `cost_basis`."""


class ChipCost(NamedTuple):
    """What one chip costs while it runs.

    - `usd_per_s`: to have it; `nan` where it is not known.
    - `electricity`: of a joule that the chip draws, in USD; zero where `usd_per_s` pays for it.
    - `basis`: what the USD are of.
    """

    usd_per_s: float
    electricity: float
    basis: Basis

    def dollars(self, chips: Any, seconds: Any, joules: Any) -> Any:
        """USD of `chips` for `seconds`, in which they draw `joules` together."""
        paid = self.usd_per_s * chips * seconds
        return paid + self.electricity * joules if self.electricity else paid


class AskedCost(NamedTuple):
    """What USD are asked for.

    - `basis`: one of `ASKED_BASES`; empty for what the chip's file gives first.
    - `quote`: USD/s of each chip, where the basis is `quote`.
    """

    basis: str = ""
    quote: float = float("nan")


ASKED_BASES: tuple[Basis, ...] = ("owner", "rental", "marginal", "quote")
"""Words of `cost_basis` that may be asked for."""

NOTHING_ASKED = AskedCost()


def chip_cost(name: str, asked: AskedCost = NOTHING_ASKED) -> ChipCost:
    """Of a chip (its name or file): as quoted; of the basis asked for; else the first that is known.

    **Raises:**

    - `InputError`: for a basis that the chip's file does not give.
    """
    if asked.basis == "quote":
        return ChipCost(asked.quote, 0.0, "quote")
    costs = {cost.basis: cost for cost in _known_costs(name)}
    if not asked.basis:
        return next(iter(costs.values()), ChipCost(float("nan"), 0.0, "unknown"))
    if asked.basis not in costs:
        known = f"{', '.join(costs)} alone" if costs else "no basis"
        raise InputError(
            f"cost_basis is {asked.basis!r}, but {name} has {known}; leave it empty, or give "
            "usd_per_chip_hour with cost_basis quote."
        )
    return costs[asked.basis]


def _known_costs(name: str) -> Iterator[ChipCost]:
    """What a chip's file gives: its price over its life and its electricity, then its rental."""
    file, economics = chip_file(name)[1], load_economics()
    price, rental = file.money.price, file.money.rental
    if price is not None and file.power.idle is not None:
        electricity = economics.overhead * economics.tariff
        yield ChipCost(price.si("USD") / economics.life, electricity, "marginal")
    if rental is not None:
        yield ChipCost(rental.si("USD/s"), 0.0, "rental")


def joint_basis(bases: Iterable[str]) -> str:
    """What the USD of several chips together are of: each word once; unknown where that of one is."""
    words = dict.fromkeys(word for basis in bases for word in basis.split("+"))
    return "unknown" if "unknown" in words else "+".join(words)


PerToken = Annotated[Quantity, measures("USD/token", positive=True)]
PerSecond = Annotated[Quantity, measures("1/s", positive=True)]


class Hour(Quantity):
    """USD of one chip for an hour; `basis`: what they are of."""

    basis: Basis


class Offer(Strict):
    """Output tokens of one model at one speed: tokens/s per user, and their price."""

    speed: PerSecond
    output: PerToken


class Sold(Strict):
    """A model's tokens as a provider sells them."""

    provider: str
    model: str
    input: PerToken
    output: PerToken


class MarketFile(Sourced):
    """`perfmodel/library/market.toml`."""

    hour: dict[str, Annotated[Hour, measures("USD/s", positive=True)]]
    tokens: dict[str, Sold]
    offers: dict[str, Offer]
    closed: dict[str, PerToken]
    premium: dict[str, Count]
    targets: dict[str, PerToken]
    agent: dict[str, Quantity]
    contract: dict[str, Quantity]
    demand: dict[str, Quantity]
    wafer: dict[str, Quantity]
    physics: dict[str, Quantity]


class Spread(NamedTuple):
    """A number in SI, and between what nine of ten readings are expected."""

    value: float
    low: float
    high: float

    @classmethod
    def certain(cls, value: float) -> "Spread":
        """A number without a range."""
        return cls(value, value, value)


def spread(quantity: Quantity, dimension: str) -> Spread:
    """A number with its range, in SI; without a range it is certain."""
    value = quantity.si(dimension)
    low, high = (
        value if edge is None else value * edge / quantity.value
        for edge in (quantity.low, quantity.high)
    )
    return Spread(value, low, high)


@functools.cache
def market() -> MarketFile:
    """The library's market facts."""
    return read_as(MarketFile, ROOT / "market.toml")


def hour(stem: str) -> Spread:
    """USD/s of one chip in service, with its host, network and power.

    **Raises:**

    - `KeyError`: for a chip whose price is not known.
    """
    return spread(market().hour[stem], "USD/s")


def physics(name: str, dimension: str) -> Spread:
    """A physical number that nobody publishes, with its range."""
    return spread(market().physics[name], dimension)
