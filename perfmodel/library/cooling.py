"""What packages of chips are cooled by, and the power that has been shipped with it."""

import functools
from typing import Annotated, NamedTuple

from perfmodel.library.files import ROOT, read_as
from perfmodel.library.schema import Quantity, Sourced, Watts, in_si, measures

Density = Annotated[Quantity, measures("W/m2", positive=True)]


class CoolingFile(Sourced):
    """The most that has been shipped, in W of a package and in W/m2 of its compute dies."""

    air_package: Watts
    air_density: Density
    liquid_package: Watts
    liquid_density: Density


class Cooling(NamedTuple):
    """The most of a package, in W, and of its dies, in W/m2."""

    package: float
    density: float

    @property
    def by_name(self) -> dict[str, float]:
        """Both by the names of the limits, in their units."""
        return {"package_w": self.package, "w_per_mm2": self.density * 1e-6}


@functools.cache
def _file() -> CoolingFile:
    return read_as(CoolingFile, ROOT / "cooling.toml")


def cooling(name: str) -> Cooling:
    """Limits of packages cooled by `air` or `liquid`."""
    found = in_si(_file(), (f"{name}_package", f"{name}_density"))
    return Cooling(found[f"{name}_package"], found[f"{name}_density"])
