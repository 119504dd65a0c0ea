"""How chips are assumed to be owned; what tokens sell for, and what speed is worth."""

import dataclasses
import functools
from typing import Annotated, NamedTuple

from perfmodel.hardware.cost import Ownership
from perfmodel.library.files import ROOT, read_as
from perfmodel.library.schema import Count, Quantity, Share, Sourced, Strict, in_si, measures

Tariff = Annotated[Quantity, measures("USD/J")]
Life = Annotated[Quantity, measures("s", positive=True)]
LimitPerDollar = Annotated[Quantity, measures("W/USD", positive=True)]
Site = Annotated[Quantity, measures("USD/s/W")]


class EconomicsFile(Sourced):
    """Assumptions about owning: those of `Ownership`, and what stands in for what nobody publishes.

    - `price_spread`, `rental_spread`: factors up and down where a file gives no range.
    - `rental_over_owner`: USD of an hour rented over USD of one owned.
    - `limit_per_usd`: power limit of a chip for each USD of its price.
    """

    life: Life
    tariff: Tariff
    overhead: Count
    margin: Share
    system: Share
    network: Share
    interest: Share
    around: Count
    conversion: Count
    site: Site
    upkeep: Share
    busy: Count
    price_spread: Count
    rental_spread: Count
    rental_over_owner: Count
    limit_per_usd: LimitPerDollar


@functools.cache
def _file() -> EconomicsFile:
    return read_as(EconomicsFile, ROOT / "economics.toml")


def assumption(name: str) -> Quantity:
    """One assumption with its range, as the file has it."""
    return getattr(_file(), name)


def load_ownership() -> Ownership:
    """How the library assumes that chips are owned, for the functions of `hardware.cost`."""
    return Ownership(**in_si(_file(), [field.name for field in dataclasses.fields(Ownership)]))


PerToken = Annotated[Quantity, measures("USD/token", positive=True)]
PerSecond = Annotated[Quantity, measures("1/s", positive=True)]


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


def physics(name: str, dimension: str) -> Spread:
    """A physical number that nobody publishes, with its range."""
    return spread(market().physics[name], dimension)
