"""What a chip costs while it runs: its price over its life and its electricity, or its rental."""

import functools
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple

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


def chip_cost(name: str) -> ChipCost:
    """Of a chip (its name or file): its price over its life and its electricity; else its rental."""
    file, economics = chip_file(name)[1], load_economics()
    price, rental = file.money.price, file.money.rental
    if price is not None and file.power.idle is not None:
        electricity = economics.overhead * economics.tariff
        return ChipCost(price.si("USD") / economics.life, electricity, "marginal")
    basis = "unknown" if rental is None else "rental"
    return ChipCost(si_or(rental, "USD/s"), 0.0, basis)


def joint_basis(bases: Iterable[str]) -> str:
    """What the USD of several chips together are of: each word once; unknown where that of one is."""
    words = dict.fromkeys(word for basis in bases for word in basis.split("+"))
    return "unknown" if "unknown" in words else "+".join(words)
