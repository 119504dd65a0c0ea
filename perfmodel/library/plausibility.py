"""Whether a chip's numbers can be true of one chip: each against what its memory, node and area allow.

A check is a ratio of what is claimed to what is known to be possible. Above `unusual` it is a warning; above
`impossible` an error, with a factor of two for what the technologies' own facts leave open.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from perfmodel.errors import InputError
from perfmodel.hardware.area import RETICLE_AREA, tiles
from perfmodel.hardware.cost import WAFER
from perfmodel.hardware.parts import Parts
from perfmodel.library.files import named
from perfmodel.library.own_chip import CHANGED
from perfmodel.library.schema import ChipFile, TierFile, si_or, sourced, stacks_of
from perfmodel.library.technology import (
    link_technology,
    load_constants,
    load_memory,
    load_node,
    memory_technology,
    silicon,
)
from perfmodel.units import show

IMPOSSIBLE = 2.0
"""Ratio above which no chip is possible: facts of technologies are good to a factor of two at worst."""


class Finding(NamedTuple):
    """A sentence about a number that is unusual, or impossible; `place` is where it stands in the file."""

    place: str
    impossible: bool
    sentence: str


class Check(NamedTuple):
    """A ratio of claimed to possible, above which it is `unusual` or `impossible`, and what to say of it."""

    place: str
    ratio: float
    sentence: str
    unusual: float = 1.0
    impossible: float = IMPOSSIBLE


def findings(file: ChipFile) -> list[Finding]:
    """What is unusual or impossible about a chip, the impossible first."""
    checks = [check for of in CHECKS for check in of(file)]
    found = [
        Finding(one.place, one.ratio > one.impossible, one.sentence)
        for one in checks
        if one.ratio > one.unusual
    ]
    return sorted([*found, *_kept(file)], key=lambda one: not one.impossible)


def check_plausible(file: ChipFile) -> None:
    """Refuse a chip that cannot be, unless it says that it is hypothetical.

    **Raises:**

    - `InputError`: with the first thing that is impossible.
    """
    wrong = [one for one in findings(file) if one.impossible]
    if wrong and not file.hypothetical:
        raise InputError(
            f"{wrong[0].place}: {wrong[0].sentence}, which is impossible; correct it, "
            "or write hypothetical = true to be warned only."
        )


KEPT = ("area", "power.idle", "power.peak", "money.price", "money.rental")
"""Facts that follow from all the others, and that a chip like another has from it."""


def _kept(file: ChipFile) -> list[Finding]:
    """Facts that a changed chip still has from the one that it is like."""
    sources = {place: number.source for place, number in sourced(file)}
    changed = [p for p, s in sources.items() if s in CHANGED and not p.startswith(KEPT)]
    kept = [place for place in KEPT if place in sources and sources[place] not in CHANGED]
    if not (file.like and changed and kept):
        return []
    taken = f"{', '.join(kept)} {'are' if kept[1:] else 'is'} taken from {file.like}"
    sentence = f"{taken}, though {named(changed, 3)} changed"
    return [Finding(kept[0], False, sentence)]


# Main memory


def _bandwidth(file: ChipFile) -> Iterator[Check]:
    """Bandwidth against devices, pins and their rate."""
    for main, count, name in _counted(file):
        tech = memory_technology(name)
        if tech.bandwidth is None:
            continue
        rate, possible = main.bandwidth.si("byte/s"), count * tech.bandwidth.si("byte/s")
        pins = "" if tech.pins is None else _pin_words(rate, count * tech.pins.si("1"))
        yield Check(
            "main.bandwidth",
            rate / possible,
            f"{show(rate, 'B/s')} from {count:g} devices of {name}, which give {show(possible, 'B/s')}{pins}",
            unusual=1.25,
        )


def _pin_words(rate: float, pins: float) -> str:
    return f": {8e-9 * rate / pins:.3g} Gb/s on each of {pins:,.0f} pins"


def _capacity(file: ChipFile) -> Iterator[Check]:
    """Capacity against devices."""
    for main, count, name in _counted(file):
        tech = memory_technology(name)
        if tech.capacity is None:
            continue
        size, possible = main.capacity.si("byte"), count * tech.capacity.si("byte")
        yield Check(
            "main.capacity",
            size / possible,
            f"{show(size, 'B')} in {count:g} devices of {name}, which hold {show(possible, 'B')}",
            unusual=1.01,
        )


def _counted(file: ChipFile) -> Iterator[tuple[TierFile, float, str]]:
    """The main memory, its devices and their technology, where they are counted."""
    if file.main is not None and (count := stacks_of(file.main)):
        yield file.main, count, file.main.technology


def _rate_for_size(file: ChipFile) -> Iterator[Check]:
    """Bandwidth for a capacity against that of the largest device; smaller ones have more of it."""
    if file.main is None or stacks_of(file.main) or file.main.technology.startswith("sram-"):
        return
    tech, size = memory_technology(file.main.technology), file.main.capacity.si("byte")
    if tech.capacity is None or tech.bandwidth is None or not size:
        return
    rate = file.main.bandwidth.si("byte/s")
    count, held = rate / tech.bandwidth.si("byte/s"), size / tech.capacity.si("byte")
    yield Check(
        "main.bandwidth",
        count / held,
        f"{show(rate, 'B/s')} takes {count:.1f} devices of {file.main.technology}, "
        f"but {show(size, 'B')} fills {held:.1f}",
        unusual=2.5,
        impossible=8.0,
    )


# The die


def _edge(file: ChipFile) -> Iterator[Check]:
    """Edge of the dies that memory and links take."""
    if file.area is None:
        return
    dies = max(1.0, math.ceil(file.area.si("m2") / RETICLE_AREA))
    around = 4 * math.sqrt(file.area.si("m2") * dies)
    taken = _memory_edge(file) + _link_edge(file)
    yield Check(
        "area",
        taken / around,
        f"memory and links take {1e3 * taken:,.0f} mm of the edge, of which "
        f"{'a square die has' if dies == 1 else f'{dies:g} square dies have'} {1e3 * around:,.0f} mm",
    )


def _memory_edge(file: ChipFile) -> float:
    if file.main is None or file.main.technology.startswith("sram-"):
        return 0.0
    tech = memory_technology(file.main.technology)
    if tech.edge is None or tech.bandwidth is None:
        return 0.0
    by_rate = file.main.bandwidth.si("byte/s") / tech.bandwidth.si("byte/s")
    return (stacks_of(file.main) or by_rate) * tech.edge.si("m")


def _link_edge(file: ChipFile) -> float:
    if file.scale_up is None or file.execution == "dataflow":
        return 0.0
    edge = link_technology(file.scale_up.technology).edge
    return file.scale_up.bandwidth.si("byte/s") * si_or(edge, "m/(byte/s)", missing=0.0)


def _sram(file: ChipFile) -> Iterator[Check]:
    """Area of SRAM macros of the node against the chip's."""
    tiers = [t for t in (file.private, file.shared) if t and t.technology.startswith("sram-")]
    size = sum(tier.capacity.si("byte") for tier in tiers)
    taken = size / load_node(file.node).sram_density.si("byte/m2")
    yield from _of_area(file, "shared.capacity", f"{show(size, 'B')} of SRAM", taken)


def _matrix_units(file: ChipFile) -> Iterator[Check]:
    """Area of matrix units for the FLOPs of a clock against the chip's."""
    if "bf16" not in file.matrix or file.clock is None:
        return
    rate = file.matrix["bf16"].si("FLOP/s") / file.clock.si("1/s")
    units = Parts(sram=0.0, matrix=rate)
    taken = float(tiles(units, silicon(file.node), load_constants().values.area)["matrix"])
    what = f"matrix units for {rate:,.0f} FLOPs in bf16 a clock"
    yield from _of_area(file, "matrix.bf16", what, taken)


def _of_area(file: ChipFile, place: str, what: str, taken: float) -> Iterator[Check]:
    """What takes an area against all of it; half of it is more than any chip of the library gives."""
    if file.area is None:
        return
    area = file.area.si("m2")
    sentence = f"{what} take {1e6 * taken:,.0f} mm2 at {file.node}, of {1e6 * area:,.0f} mm2 in all"
    yield Check(place, taken / area, sentence, unusual=0.5)


MANY_DIES = 4
"""Dies of the largest size that no chip on sale has more of."""


def _die(file: ChipFile) -> Iterator[Check]:
    """Area against the reticle and the wafer."""
    if file.area is None:
        return
    area, wafer = file.area.si("m2"), math.pi * (WAFER / 2) ** 2
    fields, reticle = area / RETICLE_AREA, 1e6 * RETICLE_AREA
    sentence = f"{1e6 * area:,.0f} mm2 is {fields:.1f} times the reticle's {reticle:,.0f} mm2"
    if file.execution == "dataflow":
        sentence = f"{1e6 * area:,.0f} mm2 is more than a wafer of {1e6 * wafer:,.0f} mm2"
        yield Check("area", area / wafer, sentence, impossible=1.0)
        return
    yield Check("area", fields, sentence, unusual=MANY_DIES, impossible=wafer / RETICLE_AREA)


# Clock and rates


def _clock(file: ChipFile) -> Iterator[Check]:
    """Clock against the highest of products of its node."""
    node = load_node(file.node)
    if file.clock is None or node.clock is None or node.clock.high is None:
        return
    clock, most = file.clock.si("1/s"), node.clock.high * node.clock.si("1/s") / node.clock.value
    sentence = f"{1e-9 * clock:.3g} GHz at {file.node}, whose products reach {1e-9 * most:.3g} GHz"
    yield Check("clock", clock / most, sentence, unusual=1.1)


LARGEST_CORE = 2.0**19
"""FLOPs in bf16 of a core in a clock that have been shipped at most: TPU v6e and v7, 4 x 256 x 256 x 2."""


def _units(file: ChipFile) -> Iterator[Check]:
    """FLOPs of a core in a clock, which nothing but area limits."""
    if "bf16" not in file.matrix or file.clock is None or file.cores is None:
        return
    cores, clock = file.cores.si("1"), file.clock.si("1/s")
    each = file.matrix["bf16"].si("FLOP/s") / (cores * clock)
    sentence = (
        f"{show(cores * clock * each, 'FLOP/s')} is {each:,.4g} FLOPs a clock from each of {cores:g} "
        f"cores at {1e-9 * clock:.3g} GHz"
    )
    ratio = max(each / LARGEST_CORE, 1 / each)
    yield Check("matrix.bf16", ratio, sentence, unusual=1.01, impossible=math.inf)


# Power


def _power(file: ChipFile) -> Iterator[Check]:
    """Power of peak rates, by the joules of the arithmetic and of the memory's devices alone."""
    if file.power.peak is None:
        return
    limit, node = file.power.peak.si("W"), load_node(file.node)
    spent = [
        rate.si("FLOP/s") * node.matrix_energy[kind].si("J/FLOP")
        for kind, rate in file.matrix.items()
    ]
    main = file.main
    moved = 0.0 if main is None else main.bandwidth.si("byte/s") * load_memory(main.technology)
    sentence = (
        f"peak rates draw {max(spent, default=0.0):,.0f} W in arithmetic alone and {moved:,.0f} W in the "
        f"devices of main memory, of {limit:,.0f} W in all"
    )
    yield Check("power.peak", (max(spent, default=0.0) + moved) / limit, sentence)


def _idle(file: ChipFile) -> Iterator[Check]:
    """Idle power against peak power."""
    if file.power.idle is None or file.power.peak is None:
        return
    idle, peak = file.power.idle.si("W"), file.power.peak.si("W")
    sentence = f"idle it draws {idle:,.0f} W, of {peak:,.0f} W at its peak"
    yield Check("power.idle", idle / peak, sentence, unusual=0.5, impossible=1.0)


CHECKS: tuple[Callable[[ChipFile], Iterator[Check]], ...] = (
    _bandwidth, _capacity, _rate_for_size, _edge, _sram, _matrix_units, _die, _clock, _units, _power,
    _idle,
)  # fmt: skip
