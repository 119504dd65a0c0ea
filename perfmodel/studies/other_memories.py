r"""Q11: MRAM, ReRAM or eDRAM in place of SRAM: what must they do to pay?

A machine bound by waiting costs as its chips cost: with a gain $g$ in density and a wafer that is $p$
times as dear, a token costs $p/g$ of what it did, and where only weights move, a share $w$ of
what is stored, $p\,(w/g + 1 - w)$.
"""

from typing import NamedTuple

import numpy as np

from perfmodel.inference.placement import cache_bytes, weight_bytes
from perfmodel.library.constants import load_constants
from perfmodel.library.market import Spread, spread
from perfmodel.library.technology import load_node, memory_technology
from perfmodel.studies.answer import Answer, Axis, Figure, Progress, Study, Table, show
from perfmodel.studies.draws import Draws, middle, share
from perfmodel.studies.machines import Asked, Seen, observe, setting_of
from perfmodel.studies.node_choice import LOAD, MODEL, Choice, machine, priced
from perfmodel.units import as_scalar

MACROS = {"stt-mram": "n5", "reram": "n16", "edram": "n16"}
"""The node that a memory's figures are of: a projection at 5 nm, products at 16/14 nm."""

BEST = "n5"
"""The node of the SRAM machine that a new memory must beat."""

WAFER = Spread(1.2, 1.05, 1.5)
"""Price of a wafer with the memory's extra masks over that of plain logic (assumed)."""

CAPACITOR = Spread(1.0, 0.7, 1.4)
"""How far eDRAM's density in another chip may be off that of IBM's (assumed)."""

LIFE = 4 * 365.25 * 86400
"""Seconds that a chip should last."""

LANDSCAPE = 2 / 3
"""Of SRAM's cost at which one would speak of a new landscape."""


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
    density = memory_technology(name).density
    assert density is not None
    own = load_node(node).sram_density.si("byte/m2")
    if name == "edram":
        # A whole chip's density, to be held against SRAM with all that surrounds its macros.
        return (
            draws.of(CAPACITOR)
            * density.si("byte/m2")
            * float(load_constants().values.area.sram)
            / own
        )
    return draws.of(spread(density, "byte/m2")) / own


def stored(seen: Seen) -> tuple[float, float]:
    """Bytes of weights, and of the cache, over all chips."""
    given = setting_of(seen.asked.machine, MODEL)
    length = as_scalar(LOAD.prompt + LOAD.output)
    cache = cache_bytes(given.model, given.plan, as_scalar(LOAD.users), length)
    return float(weight_bytes(given.model, given.plan)), float(cache)


def years(name: str, seen: Seen) -> float:
    """Until the cells of a cache are worn out: each token writes its part once, evenly over the cache."""
    endurance = memory_technology(name).endurance
    if endurance is None:
        return float("inf")
    given = setting_of(seen.asked.machine, MODEL)
    token = float(cache_bytes(given.model, given.plan, as_scalar(1.0), as_scalar(1.0)))
    written = token * LOAD.users / seen.step * (1 + LOAD.prompt / LOAD.output)
    return endurance.si("1") * stored(seen)[1] / written / (LIFE / 4)


def swap(name: str, seen: dict[str, Seen], dollars: dict[str, np.ndarray]) -> Swap:
    """A memory on its node, against SRAM on the best one."""
    node, draws = MACROS[name], Draws(1)
    one = seen[node]
    factor, dearer = gain(name, node, draws), draws.of(WAFER)
    weights, cache = stored(one)
    part = weights / (weights + cache)
    own = dollars[node] / dollars[BEST]
    file = load_node(node)
    assert file.sram_leakage is not None
    leak = draws.of(spread(file.sram_leakage, "W/byte"))
    # Each byte is read once for every part of the batch that passes through its chip.
    reads = min(LOAD.users, one.asked.machine.pipeline) / one.step
    return Swap(
        name,
        factor,
        own * dearer * (part / factor + 1 - part),
        own * dearer / factor,
        years(name, one),
        file.sram_energy.si("J/byte") + leak / reads,
    )


def run(progress: Progress) -> Answer:
    nodes = list(dict.fromkeys([BEST, *MACROS.values()]))
    machines = {node: machine(Choice(node)) for node in nodes}
    found = observe([Asked(m, MODEL, LOAD) for m in machines.values()], progress)
    seen = dict(zip(nodes, found, strict=True))
    dollars = {node: priced(Choice(node), one, Draws()).dollars for node, one in seen.items()}
    swaps = [swap(name, seen, dollars) for name in MACROS]
    best = np.min([_usable(one) for one in swaps], axis=0)
    mram = swaps[0]
    needed = middle(Draws(1).of(WAFER)).median
    ratios = [f"{one.name} {show(middle(_usable(one)).median)}" for one in swaps]
    said = (
        f"Against SRAM at {BEST} a token costs {', '.join(ratios)} times as much in the middle of what is "
        f"known; the best of them {show(middle(best).low)} to {show(middle(best).high)} in 90 %. To break "
        f"even on one node a memory must be {show(needed)} times as dense as SRAM; MRAM is projected at "
        f"{show(middle(mram.gain).median)} and was shown at {show(middle(mram.gain).low, 1)}. A cache wears "
        f"ReRAM out in {show(365 * swaps[1].years)} days, MRAM in {show(mram.years)} years."
    )
    return Answer(
        said,
        share(best < LANDSCAPE),
        "Density of MRAM is known from 0.02 to 3 times SRAM's; what extra masks cost is assumed.",
        _table(swaps),
        _figure(swaps),
        (
            "Speed is taken as SRAM's: such a machine waits for its chips, not for its cells.",
            "ReRAM's and eDRAM's figures are of 16/14 nm; nobody offers them below.",
            "Flash in HBM's place (HBF) stores weights too, but a page takes 10 us; it is no macro.",
        ),
        {f"cost_over_sram_{one.name}": middle(_usable(one)).median for one in swaps}
        | {"mram_gain": middle(mram.gain).median, "mram_gain_low": middle(mram.gain).low}
        | {
            "reram_years": swaps[1].years,
            "best_over_sram": middle(best).median,
            "density_needed": needed,
        },
    )


def _usable(one: Swap) -> np.ndarray:
    """Everything in it where it lasts, else weights alone; and SRAM's cost is always to be had."""
    return np.minimum(one.weights, one.everything) if one.years * LIFE / 4 > LIFE else one.weights


def _table(swaps: list[Swap]) -> Table:
    rows = []
    for one in swaps:
        density, alone, whole = (middle(x) for x in (one.gain, one.weights, one.everything))
        row = (one.name, MACROS[one.name], density.median, density.low, density.high)
        lasts = one.years if np.isfinite(one.years) else float("nan")
        energy = middle(one.energy / 8e-12)
        rows.append((*row, alone.median, whole.median, lasts, energy.median, energy.high))
    names = [
        "memory",
        "node",
        "density over SRAM",
        "low",
        "high",
        "cost over best SRAM, weights alone",
    ]
    names += ["with the cache", "years of a cell", "pJ/bit that break even", "at most"]
    return Table(names, rows)


def _figure(swaps: list[Swap]) -> Figure:
    rows = []
    for one in swaps:
        for what, drawn in (("weights alone", one.weights), ("weights and cache", one.everything)):
            m = middle(drawn)
            row = {"memory": f"{one.name} at {MACROS[one.name]}", "ratio": m.median, "what": what}
            rows.append(row | {"low": m.low, "high": m.high})
    return Figure(
        f"Cost of a token over that of SRAM at {BEST}",
        "points",
        Axis("ratio", "cost over SRAM's", "times", log=True),
        Axis("memory", "memory"),
        Axis("what", "stored in it"),
        rows,
        band=("low", "high"),
        rule=1.0,
    )


STUDY = Study(
    name="other-memories",
    question="Q11",
    title="Would MRAM, ReRAM or eDRAM change the picture?",
    claim="MRAM, ReRAM and eDRAM may recalibrate the landscape.",
    source="conference-call summary, SRAM: A New AI Inference Paradigm",
    test="with the best of them a token costs less than two thirds of SRAM on the best node",
    seconds=20,
    run=run,
)
