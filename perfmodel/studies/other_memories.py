r"""Q11: MRAM, ReRAM or eDRAM in place of SRAM: what must they do to pay?

A machine bound by waiting costs as its chips cost: with a gain $g$ in density and a wafer that is $p$
times as expensive, a token costs $p/g$ of what it did, and where only weights move, a share $w$ of
what is stored, $p\,(w/g + 1 - w)$.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from perfmodel.design.uncertainty import DRAWS
from perfmodel.library.economics import Spread
from perfmodel.library.technology import (
    MEMORY_SEPARATOR,
    load_node,
    memory_technology,
    surroundings,
)
from perfmodel.studies.claim import Answer, Axis, Figure, Progress, Side, Table, show, verdict
from perfmodel.studies.draws import Draws, middle, or_nan, share
from perfmodel.studies.machines import Observation, Question, cache_size, observe, weight_size
from perfmodel.studies.node_choice import LOAD, MODEL, Choice, machine, priced
from perfmodel.studies.searched_machines import Winner, least, like_an_lpu, searched

MACROS = {"stt-mram": "n5", "reram": "n16", "edram": "n16"}
"""The node that a memory's figures are of: a projection at 5 nm, products at 16/14 nm."""

BEST_NODE = "n5"
"""The node of the SRAM machine that a new memory must beat."""

WAFER = Spread(1.2, 1.05, 1.5)
"""Price of a wafer with the memory's extra masks over that of plain logic (assumed)."""

LIFE = 4 * 365.25 * 86400
"""Seconds that a chip should last."""

LASTING_MEMORIES = ("stt-mram", "edram")
"""Those in which a search may keep a cache too: its cells outlast the chip."""

MAX_COST_RATIO = 2 / 3
"""Of SRAM's cost at which it is called a new landscape."""


class Swap(NamedTuple):
    """A memory in place of SRAM: draws of its density over SRAM's, of its cost, and what it lasts.

    - `gain`: bytes on a m2 over those of the node's SRAM.
    - `weights`, `everything`: USD of a token over that of the best SRAM machine.
    - `years`: until a cell of the cache has been written as often as it can be.
    - `energy`: J of a read at which what it saves in static power is spent again.
    """

    name: str
    gain: np.ndarray
    weights: np.ndarray
    everything: np.ndarray
    years: float
    energy: np.ndarray


def gain(name: str, node: str, draws: Draws) -> np.ndarray:
    """Density over that of the node's SRAM, like with like."""
    density = draws.fact(memory_technology(name).density, "byte/m2")
    return surroundings(name) * density / load_node(node).sram_density.si("byte/m2")


def stored(seen: Observation) -> tuple[float, float]:
    """Bytes of weights, and of the cache, over all chips."""
    cache = cache_size(seen.deployment, LOAD.concurrency, LOAD.isl + LOAD.osl)
    return weight_size(seen.deployment), cache


def years(name: str, seen: Observation) -> float:
    """Until the cells of a cache are worn out: each token writes its part once, evenly over the cache."""
    endurance = memory_technology(name).endurance
    if endurance is None:
        return float("inf")
    token = cache_size(seen.deployment, 1.0, 1.0)
    written = token * LOAD.concurrency / seen.step * (1 + LOAD.isl / LOAD.osl)
    return endurance.si("1") * stored(seen)[1] / written / (LIFE / 4)


def swap(name: str, seen: dict[str, Observation], dollars: dict[str, np.ndarray]) -> Swap:
    """A memory on its node, against SRAM on the best one."""
    node, draws = MACROS[name], Draws(1)
    one = seen[node]
    factor, wafer_cost = gain(name, node, draws), draws.of(WAFER)
    weights, cache = stored(one)
    part = weights / (weights + cache)
    own = dollars[node] / dollars[BEST_NODE]
    file = load_node(node)
    leak = draws.fact(file.sram_leakage, "W/byte")
    # Each byte is read once for every part of the batch that passes through its chip.
    reads = min(LOAD.concurrency, one.asked.machine.pp) / one.step
    return Swap(
        name,
        factor,
        own * wafer_cost * (part / factor + 1 - part),
        own * wafer_cost / factor,
        years(name, one),
        file.sram_energy.si("J/byte") + leak / reads,
    )


class Compared(NamedTuple):
    """Draws of what each memory does in a machine that is otherwise as it was.

    - `sram`: USD of a token with SRAM on the best node, decode alone.
    """

    swaps: dict[str, Swap]
    sram: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """Of the cheapest of them: cost of a token over that of SRAM on the best node."""
        return np.min([_usable(one) for one in self.swaps.values()], axis=0)

    @property
    def side(self) -> Side:
        """Draws of the claim, and of the best memory's token, SRAM among them."""
        return Side(self.best < MAX_COST_RATIO, self.sram * np.minimum(self.best, 1.0))


def compared(progress: Progress) -> Compared:
    """Every memory in place of SRAM."""
    nodes = list(dict.fromkeys([BEST_NODE, *MACROS.values()]))
    found = observe([Question(machine(Choice(node)), MODEL, LOAD) for node in nodes], progress)
    seen = dict(zip(nodes, found, strict=True))
    dollars = {node: priced(Choice(node), one, Draws()) for node, one in seen.items()}
    swaps = {name: swap(name, seen, dollars) for name in MACROS}
    return Compared(swaps, dollars[BEST_NODE] * seen[BEST_NODE].decoding)


@functools.cache
def designed() -> dict[str, Winner]:
    """The machine that a search designs with each memory that lasts, and with SRAM on the best node."""
    made = {name: f"{MACROS[name]}{MEMORY_SEPARATOR}{name}" for name in LASTING_MEMORIES}
    factors = {f"{stem}.wafer": np.log(Draws(1).of(WAFER)[:DRAWS]) for stem in made.values()}
    names = {stem: name for name, stem in made.items()} | {BEST_NODE: "sram"}
    asked = like_an_lpu(memory=["none"], node=list(names))
    return {names[one.node]: one for one in searched(asked, more=factors)}


def over_sram(new: dict[str, Winner], name: str) -> np.ndarray:
    """Draws of a searched machine's cost over that of one with SRAM."""
    return new[name].drawn / new["sram"].drawn


def side(new: dict[str, Winner]) -> Side:
    """Of searched machines: draws of the claim, and of the best one's token."""
    best = np.min([over_sram(new, name) for name in LASTING_MEMORIES], axis=0)
    return Side(best < MAX_COST_RATIO, least(new.values()))


def run(progress: Progress) -> Answer:
    found, new = compared(progress), designed()
    whose, swaps = verdict(found.side, side(new)), list(found.swaps.values())
    return Answer(
        f"{_said(found)} {_said_of(new)}",
        whose.share,
        "Density of MRAM is known from 0.02 to 3 times SRAM's; what extra masks cost is assumed. "
        f"{whose.said}",
        Table.of([_row(one) for one in swaps]),
        _figure(swaps),
        _numbers(found, new) | whose.numbers,
    )


def _said(found: Compared) -> str:
    ratios = [f"{name} {show(middle(_usable(one)).median)}" for name, one in found.swaps.items()]
    best, mram = middle(found.best), middle(found.swaps["stt-mram"].gain)
    return (
        f"Against SRAM at {BEST_NODE} a token costs {', '.join(ratios)} times as much in the middle of what "
        f"is known; the best of them {best.range}. To break "
        f"even on one node a memory must be {show(_needed())} times as dense as SRAM; MRAM is projected at "
        f"{show(mram.median)} and was shown at {show(mram.low, 1)}. A cache wears "
        f"ReRAM out in {show(365 * found.swaps['reram'].years)} days, MRAM in "
        f"{show(found.swaps['stt-mram'].years)} years."
    )


def _said_of(new: dict[str, Winner]) -> str:
    """What a search says, which designs a machine around each memory."""
    sram = new["sram"]
    parts = [
        f"{name} {show(middle(over_sram(new, name)).median)} times SRAM's on {new[name].chips:,.0f} chips"
        for name in LASTING_MEMORIES
    ]
    return (
        f"Where a search designs a machine around each that lasts, a token costs with "
        f"{' and with '.join(parts)} (SRAM: {sram.chips:,.0f}); MRAM is the cheapest in "
        f"{100 * share(over_sram(new, 'stt-mram') < 1):.0f} % of draws."
    )


def _needed() -> float:
    """Density over SRAM's at which a memory breaks even on its node."""
    return middle(Draws(1).of(WAFER)).median


def _numbers(found: Compared, new: dict[str, Winner]) -> dict[str, float]:
    mram = middle(found.swaps["stt-mram"].gain)
    return (
        {f"cost_over_sram_{name}": middle(_usable(one)).median for name, one in found.swaps.items()}
        | {
            f"cost_over_sram_{n}_designed": middle(over_sram(new, n)).median
            for n in LASTING_MEMORIES
        }
        | {
            "mram_gain": mram.median,
            "mram_gain_low": mram.low,
            "reram_years": found.swaps["reram"].years,
            "best_over_sram": middle(found.best).median,
            "density_needed": _needed(),
        }
    )


def _usable(one: Swap) -> np.ndarray:
    """Everything in it where it lasts, else weights alone; and SRAM's cost is always to be had."""
    return np.minimum(one.weights, one.everything) if one.years * LIFE / 4 > LIFE else one.weights


def _row(one: Swap) -> dict[str, Any]:
    """A memory, and what it does in place of SRAM."""
    energy = middle(one.energy / 8e-12)
    return {
        "memory": one.name,
        "node": MACROS[one.name],
        **middle(one.gain).columns("density over SRAM"),
        "cost over best SRAM, weights alone": middle(one.weights).median,
        "with the cache": middle(one.everything).median,
        "years of a cell": or_nan(one.years),
        "pJ/bit that break even": energy.median,
        "at most": energy.high,
    }


def _figure(swaps: list[Swap]) -> Figure:
    rows = [
        {"memory": f"{one.name} at {MACROS[one.name]}", "what": what}
        | middle(drawn).columns("ratio")
        for one in swaps
        for what, drawn in (("weights alone", one.weights), ("weights and cache", one.everything))
    ]
    return Figure(
        f"Cost of a token over that of SRAM at {BEST_NODE}",
        "points",
        Axis("ratio", "cost over SRAM's", "times", log=True),
        Axis("memory", "memory"),
        Axis("what", "stored in it"),
        rows,
        rule=1.0,
    )
