r"""From how many reads a second of all that is stored on is SRAM cheaper than HBM, by cost and by energy?

HBM gives more full reads a second only by buying capacity: with $h$ USD a byte and $r_H$ full reads a
second, the costs of $r$ reads meet at $r^* = r_H\,h_S/h_H$. Energies meet where what SRAM leaks is what
its cheaper reads save: $r^* = (w_S - w_H)/(e_H - e_S)$ for each byte.
"""

from typing import NamedTuple

import numpy as np

from perfmodel.hardware.area import interface_area
from perfmodel.library.economics import Spread, load_ownership
from perfmodel.library.technology import (
    load_constants,
    load_node,
    load_technology,
    memory_technology,
)
from perfmodel.studies.chip_cost import die, sram_overhead
from perfmodel.studies.claim import Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import Draws, Middle, middle, share, show

NODE, MEMORY, YEAR = "n5", "hbm3e", "2026"
DIE = 600e-6
"""Area of the die whose share of a wafer prices a square metre, in m2."""

WHOLE_CHIP = Spread(0.5, 0.4, 0.65)
"""Share of an SRAM chip's die that is SRAM: about half on WSE-3 (SemiAnalysis)."""

HOST = Spread(1.6, 1.15, 2.2)
"""Energy of an HBM read with the host's side over that of the device (4.5 to 8.5 pJ/bit all-in)."""

READ = Spread(1.3, 0.6, 2.7)
"""Energy of an SRAM read over that of a 32 KB array: other sizes of bank, and wires."""

STAY = 4.0
"""Years for which static power is paid where it counts as cost: the life of a chip."""


class Side(NamedTuple):
    """A memory, for each byte: USD, W at rest, J a read, and full reads a second, as draws."""

    dollars: np.ndarray
    watts: np.ndarray
    joules: np.ndarray
    reads: np.ndarray | float


def hbm(draws: Draws, year: str = YEAR) -> Side:
    """HBM with its share of the package and of the host's die."""
    file, made = memory_technology(MEMORY), load_technology(NODE, MEMORY, year=year)
    capacity, known = float(made.memory.capacity), load_constants()
    interface = float(interface_area(made.memory, made.node, known.values.area))
    package = float(known.values.cost.package) * float(made.memory.footprint) / capacity
    price = draws.fact(file.prices[year], "USD/byte")
    area = die(NODE, DIE, draws) / DIE * interface / capacity
    return Side(
        price + area + package,
        draws.fact(file.idle, "W") / capacity,
        draws.of(HOST) * float(made.memory.energy),
        float(made.memory.bandwidth) / capacity,
    )


def sram(draws: Draws, whole: bool) -> Side:
    """SRAM of the node: its arrays with what surrounds them, or the whole chip that they are half of."""
    node = load_node(NODE)
    area = draws.of(sram_overhead()) / node.sram_density.si("byte/m2")
    static = draws.fact(node.sram_leakage, "W/byte")
    if whole:
        part = draws.of(WHOLE_CHIP)
        static = static + draws.fact(node.leakage, "W/m2") * area * (1 / part - 1)
        area = area / part
    dollars = die(NODE, DIE, draws) / DIE * area
    return Side(dollars, static, draws.of(READ) * node.sram_energy.si("J/byte"), np.inf)


def by_cost(sram_: Side, hbm_: Side, years: float = 0.0) -> np.ndarray:
    """Reads a second at which both cost as much; with the electricity of static power for some years."""
    owner = load_ownership()
    tariff = float(owner.tariff * owner.overhead) * years * 365.25 * 86400
    paid, other = (side.dollars + tariff * side.watts for side in (sram_, hbm_))
    return hbm_.reads * paid / other


def by_energy(sram_: Side, hbm_: Side) -> np.ndarray:
    """Reads a second at which both take as much power."""
    return np.maximum(sram_.watts - hbm_.watts, 0.0) / (hbm_.joules - sram_.joules)


def crossings() -> dict[str, np.ndarray]:
    """Draws of every crossing."""
    found = {}
    for whole, what in ((False, "arrays"), (True, "whole chip")):
        draws = Draws()
        other, own = hbm(draws), sram(draws, whole)
        found[f"cost, {what}"] = by_cost(own, other)
        found[f"cost with static power, {what}"] = by_cost(own, other, STAY)
        found[f"energy, {what}"] = by_energy(own, other)
    return found


def run(progress: Progress) -> Answer:
    progress(0, 1)
    found = crossings()
    spreads = {name: middle(draws) for name, draws in found.items()}
    cost, energy = spreads["cost, whole chip"], spreads["energy, whole chip"]
    progress(1, 1)
    return Answer(
        _said(cost, energy),
        share((found["cost, whole chip"] > 300) & (found["cost, whole chip"] < 1400)),
        "Wafer price, defects, HBM price, SRAM's density and static power are drawn from their ranges.",
        Table.of([{"crossing": name} | m.columns("reads/s") for name, m in spreads.items()]),
        _figure(spreads),
        cost.numbers("by_cost")
        | energy.numbers("by_energy")
        | {"energy_spread": energy.high / max(energy.low, 1e-9)},
    )


def _said(cost: Middle, energy: Middle) -> str:
    draws = Draws()
    other, own = hbm(draws), sram(draws, True)
    return (
        f"By cost SRAM overtakes HBM3E from {show(cost.median)} full reads a second on ({cost.range}; "
        f"a stack gives {show(float(other.reads))}), a whole chip at "
        f"{show(middle(own.dollars).median * 1e9)} USD/GB against {show(middle(other.dollars)[0] * 1e9)}; "
        f"by energy from {show(energy.median)} on ({show(energy.low)} to {show(energy.high)}), which is as "
        f"unknown as the static power of SRAM."
    )


def _figure(spreads: dict[str, Middle]) -> Figure:
    return Figure(
        "From how many full reads a second SRAM is ahead of HBM3E",
        "points",
        Axis("reads", "full reads of what is stored", "1/s", log=True),
        Axis("crossing", ""),
        Axis("by", "by"),
        [
            {"crossing": name, "reads": m.median, "low": max(m.low, 1.0), "high": m.high}
            | {"by": name.split(",")[0]}
            for name, m in spreads.items()
        ],
    )
