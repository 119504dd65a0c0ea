"""What machines cost by the hour, what tokens sell for, and what speed is worth: facts with ranges."""

import functools
from typing import Annotated, NamedTuple

from perfmodel.library.economics import Basis
from perfmodel.library.files import ROOT, read_as
from perfmodel.library.schema import Count, Quantity, Sourced, Strict, measures

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
