"""What a chip costs while it runs: its price over its life, or its rental, and its electricity."""

import functools
from typing import Annotated, NamedTuple

from perfmodel.library.chip import chip_files
from perfmodel.library.files import ROOT, read_as
from perfmodel.library.schema import Count, Quantity, Sourced, measures, si_or

Tariff = Annotated[Quantity, measures("USD/J")]
Life = Annotated[Quantity, measures("s", positive=True)]


class EconomicsFile(Sourced):
    """Assumptions about owning: `life` of a chip, `tariff` of electricity, site `overhead` (PUE)."""

    life: Life
    tariff: Tariff
    overhead: Count


class Economics(NamedTuple):
    """The same in SI: s, USD/J, and a plain factor."""

    life: float
    tariff: float
    overhead: float


@functools.cache
def load_economics() -> Economics:
    """The library's assumptions."""
    file = read_as(EconomicsFile, ROOT / "economics.toml")
    return Economics(file.life.si("s"), file.tariff.si("USD/J"), file.overhead.si("1"))


def running_cost(stem: str) -> float:
    """USD/s of one chip without electricity: its price over its life, else its rental, else `nan`."""
    money = chip_files()[stem].money
    if money.price is not None:
        return money.price.si("USD") / load_economics().life
    return si_or(money.rental, "USD/s")
