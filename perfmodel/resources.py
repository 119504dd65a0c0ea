"""The nine things that a kernel can run out of."""

from collections.abc import Callable, Iterator

import equinox as eqx

from perfmodel.units import Values

UNITS = ("matrix", "vector", "exponential")
TIERS = ("private", "shared", "main", "far")
LINKS = ("network", "fabric")
NAMES = (*UNITS, *TIERS, *LINKS)


class Resources(eqx.Module):
    """One number for each resource of a chip; `None` where it plays no part.

    What the number is, the context says: FLOPs and bytes asked for, FLOP/s and
    bytes/s offered, the share of that reached, seconds taken, or joules spent.

    - `matrix`, `vector`: floating-point operations on matrix and vector units.
    - `exponential`: exponentials, on their own unit.
    - `private`: bytes through the SRAM of each core.
    - `shared`: bytes through the SRAM that cores share (cache or scratchpad).
    - `main`: bytes through main memory (HBM, GDDR, LPDDR, DDR, stacked DRAM).
    - `far`: bytes through far memory (host, CXL, flash).
    - `network`: bytes sent by one chip over its links, within a domain.
    - `fabric`: bytes sent by one chip between domains.
    """

    matrix: Values | None = None
    vector: Values | None = None
    exponential: Values | None = None
    private: Values | None = None
    shared: Values | None = None
    main: Values | None = None
    far: Values | None = None
    network: Values | None = None
    fabric: Values | None = None

    def items(self) -> Iterator[tuple[str, Values]]:
        """The resources that play a part, with their numbers."""
        for name in NAMES:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def map(self, function: Callable[[str, Values], Values]) -> "Resources":
        """Apply `function(name, value)` to each resource that plays a part."""
        return type(self)(**{name: function(name, value) for name, value in self.items()})
