"""What a chip costs while it runs: its price over its life, or its rental, and its electricity."""

import functools
from typing import Annotated, NamedTuple

from perfmodel.hardware.cost import Ownership
from perfmodel.library.chip import chip_file
from perfmodel.library.files import ROOT, read_as
from perfmodel.library.schema import Count, Quantity, Share, Sourced, measures, si_or

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
    file = _file()
    return Economics(file.life.si("s"), file.tariff.si("USD/J"), file.overhead.si("1"))


def assumption(name: str) -> Quantity:
    """One assumption with its range, as the file has it."""
    return getattr(_file(), name)


def load_ownership() -> Ownership:
    """How the library assumes that chips are owned, for the functions of `hardware.cost`."""
    file = _file()
    shares = ("margin", "system", "network", "interest", "around", "busy", "overhead")
    return Ownership(
        life=file.life.si("s"),
        tariff=file.tariff.si("USD/J"),
        site=file.site.si("USD/s/W"),
        **{name: getattr(file, name).si("1") for name in shares},
    )


def running_cost(name: str) -> float:
    """USD/s of one chip (its name or file), no electricity: its price over its life, its rental, or `nan`."""
    money = chip_file(name)[1].money
    if money.price is not None:
        return money.price.si("USD") / load_economics().life
    return si_or(money.rental, "USD/s")
