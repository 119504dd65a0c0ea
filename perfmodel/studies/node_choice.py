"""Q5: on which node is an SRAM machine cheapest: as it is, and designed anew for each?

One architecture, LPU v1's, on the same die area of other nodes: what it holds, takes and costs.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from perfmodel.hardware.area import logic_scale
from perfmodel.hardware.chip import Chip
from perfmodel.library.chip import chip_files
from perfmodel.library.schema import si_or
from perfmodel.library.technology import MEMORY_SEPARATOR, load_constants, load_node, silicon
from perfmodel.studies.chip_cost import made, owned
from perfmodel.studies.claim import (
    PRICE_AXIS,
    Answer,
    Axis,
    Figure,
    Progress,
    Side,
    Table,
    show,
    verdict,
)
from perfmodel.studies.draws import Draws, middle, share
from perfmodel.studies.machines import (
    Load,
    Machine,
    Observation,
    Question,
    cache_size,
    deployment_of,
    observe,
    weight_size,
)
from perfmodel.studies.searched_machines import Winner, least, like_an_lpu, searched, won

MODEL = "llama-3.1-70b"
LOAD = Load(64, 1024, 1024)
BASE, OWN = "lpu-v1", "n16"
TENSOR = 8.0

CLOCKS = {"n16": 1.0, "n7": 1.3, "n5": 1.5, "n3": 1.6, "n2": 1.7}
"""Clock over that of 14 nm: LP30 in 4 nm runs at about 1.6 times LPU v1; the others in between (assumed)."""


class Choice(NamedTuple):
    """A node, and a memory in place of its SRAM if one is named."""

    node: str
    macro: str = ""

    @property
    def stem(self) -> str:
        """As the library takes it."""
        return f"{self.node}{MEMORY_SEPARATOR}{self.macro}" if self.macro else self.node

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.node} with {self.macro}" if self.macro else self.node


def rebuilt(chip: Chip, choice: Choice) -> Chip:
    """The same die area and the same shares of it, on another node."""
    old, new = silicon(OWN), silicon(choice.stem)
    area = load_constants().values.area
    denser = new.sram_density / old.sram_density
    faster = logic_scale(old, area) / logic_scale(new, area) * CLOCKS[choice.node]
    spent = new.matrix_energy / old.matrix_energy
    scaled = (
        chip.shared.capacity * denser,
        chip.shared.bandwidth * denser * CLOCKS[choice.node],
        new.sram_energy,
        chip.clock * CLOCKS[choice.node],
        {kind: rate * faster for kind, rate in chip.matrix.items()},
        {kind: joules * spent for kind, joules in chip.matrix_energy.items()},
        chip.vector * faster,
        chip.exponential * faster,
    )
    return eqx.tree_at(
        lambda c: (
            c.shared.capacity,
            c.shared.bandwidth,
            c.shared.energy,
            c.clock,
            c.matrix,
            c.matrix_energy,
            c.vector,
            c.exponential,
        ),
        chip,
        scaled,
    )


def machine(choice: Choice) -> Machine:
    """As many chips as hold the model and its users."""
    one = Machine(choice.name, BASE, TENSOR, 1, weights="int8", change=lambda c: rebuilt(c, choice))
    given = deployment_of(one, MODEL)
    cache = cache_size(given, LOAD.concurrency, LOAD.isl + LOAD.osl)
    size = weight_size(given) + cache
    groups = np.ceil(1.02 * size / TENSOR / float(given.chip.shared.usable_capacity))
    return one._replace(pp=float(groups))


def priced(choice: Choice, seen: Observation, draws: Draws) -> np.ndarray:
    """Draws of USD for a token with chips of this node, made, owned and run."""
    file, node = chip_files()[BASE], load_node(choice.node)
    area = si_or(file.area, "m2")
    capacity = float(seen.deployment.chip.shared.capacity)
    leak = draws.fact(node.sram_leakage, "W/byte") * capacity * (not choice.macro)
    static = draws.fact(node.leakage, "W/m2") * area + leak
    chips = seen.asked.machine.chips
    busy = (seen.joules - seen.idle) / seen.held / chips
    limit = si_or(file.power.peak, "W")
    rate = owned(made(choice.node, area, draws), busy + static, limit)
    return rate * chips * seen.held


CHOICES = (*(Choice(node) for node in CLOCKS), Choice("n16", "edram"))
OLD_NODE, EMBEDDED = Choice("n16"), CHOICES[-1]

MAX_COST_RATIO = 1.5
"""Times the cheapest node's cost up to which a node is called workable."""


class Compared(NamedTuple):
    """What the model says of each choice, and draws of USD for a token."""

    seen: dict[Choice, Observation]
    dollars: dict[Choice, np.ndarray]

    @property
    def nodes(self) -> np.ndarray:
        """Draws of the nodes with SRAM, a node a row."""
        return np.stack([drawn for one, drawn in self.dollars.items() if not one.macro])

    @property
    def wins(self) -> dict[str, float]:
        """Share of draws in which each node is the cheapest."""
        best = np.argmin(self.nodes, axis=0)
        return {name: share(best == i) for i, name in enumerate(CLOCKS)}

    @property
    def old(self) -> np.ndarray:
        """Draws of the old node's cost over the best node's."""
        return self.dollars[OLD_NODE] / self.nodes.min(axis=0)

    @property
    def side(self) -> Side:
        """Draws of the claim, and of the best node's token, decode alone."""
        alone = [self.dollars[Choice(name)] * self.seen[Choice(name)].decoding for name in CLOCKS]
        return Side(self.old < MAX_COST_RATIO, np.min(alone, axis=0))

    @property
    def embedded(self) -> float:
        """Cost with eDRAM over that with SRAM, on the old node."""
        return middle(self.dollars[EMBEDDED] / self.dollars[OLD_NODE]).median

    def chips(self, choice: Choice) -> float:
        """That serve the model."""
        return self.seen[choice].asked.machine.chips


def compared(progress: Progress) -> Compared:
    """One architecture on every node."""
    seen = observe([Question(machine(choice), MODEL, LOAD) for choice in CHOICES], progress)
    found = dict(zip(CHOICES, seen, strict=True))
    return Compared(found, {c: priced(c, one, Draws()) for c, one in found.items()})


@functools.cache
def designed() -> dict[str, Winner]:
    """The machine of SRAM alone that a search designs on each node, the cheapest first."""
    asked = like_an_lpu(memory=["none"], node=list(CLOCKS))
    return {one.node: one for one in searched(asked)}


def designed_old(new: dict[str, Winner]) -> np.ndarray:
    """Draws of the old node's cost over the best node's, each with its own design."""
    return new[OLD_NODE.node].drawn / least(new.values())


def side(new: dict[str, Winner]) -> Side:
    """The same of searched machines."""
    return Side(designed_old(new) < MAX_COST_RATIO, least(new.values()))


def run(progress: Progress) -> Answer:
    found, new = compared(progress), designed()
    whose = verdict(found.side, side(new))
    return Answer(
        f"{_said(found)} {_said_of(new)}",
        whose.share,
        "Wafer prices, defects and leakage are drawn, and what testing a chip without HBM takes; of searched "
        f"machines every fact is. {whose.said}",
        _table(found, new),
        _figure(found.dollars),
        _numbers(found, new) | whose.numbers,
    )


def _said(found: Compared) -> str:
    wins, ratio = found.wins, middle(found.old)
    best = max(wins, key=lambda name: wins[name])
    return (
        f"{best} is cheapest in {show(100 * wins[best])} % of draws; at 14/16 nm a token costs "
        f"{show(ratio.median)} times the best node's ({ratio.range}), on "
        f"{found.chips(OLD_NODE):,.0f} chips against {found.chips(Choice(best)):,.0f}; with eDRAM at 14 nm "
        f"instead of SRAM it would cost {show(found.embedded)} of that on {found.chips(EMBEDDED):,.0f}."
    )


def _said_of(new: dict[str, Winner]) -> str:
    """What a search says, which designs a machine for each node."""
    ratio = middle(designed_old(new))
    order = sorted(((part, name) for name, part in won(new).items()), reverse=True)
    shares = ", ".join(f"{name} {100 * part:.0f} %" for part, name in order if part >= 0.01)
    return (
        f"Where a search designs a machine for each node, the cheapest is {shares} of draws, and 14/16 nm "
        f"costs {show(ratio.median)} times the best ({show(ratio.low)} to {show(ratio.high)})."
    )


def _numbers(found: Compared, new: dict[str, Winner]) -> dict[str, float]:
    ratio, anew = middle(found.old), middle(designed_old(new))
    return (
        ratio.numbers("old_over_best")
        | {"edram_over_old": found.embedded}
        | anew.numbers("old_over_best_designed")
        | {f"cheapest_share_{name}": value for name, value in found.wins.items()}
        | {f"cheapest_share_{name}_designed": value for name, value in won(new).items()}
    )


def _table(found: Compared, new: dict[str, Winner]) -> Table:
    wins = found.wins
    rows = [
        _made(choice, one)
        | middle(1e6 * found.dollars[choice]).columns("USD/M tokens")
        | {"cheapest in % of draws": 100 * wins.get(choice.name, np.nan)}
        | _anew(new.get(choice.stem))
        for choice, one in found.seen.items()
    ]
    return Table.of(rows)


def _made(choice: Choice, one: Observation) -> dict[str, Any]:
    """A chip as it is made, and what its machine does."""
    capacity = float(one.deployment.chip.shared.capacity) / 1e6
    cost = middle(made(choice.node, si_or(chip_files()[BASE].area, "m2"), Draws())).median
    return {
        "node": choice.name,
        "MB a chip": capacity,
        "chips": int(one.asked.machine.chips),
        "USD to make one": cost,
        "USD/GB": 1e3 * cost / capacity,
        "tokens/s a user": one.speed,
    }


def _anew(one: Winner | None) -> dict[str, float]:
    """What a search designs there, if it was asked."""
    return {
        "searched: MB a chip": one.design["sram_mb"] if one else np.nan,
        "chips (searched)": one.chips if one else np.nan,
        "USD/M tokens (searched)": 1e6 * one.dollars if one else np.nan,
    }


def _figure(drawn: dict[Choice, np.ndarray]) -> Figure:
    rows = [
        {"node": choice.name, "kind": "eDRAM" if choice.macro else "SRAM"}
        | middle(1e6 * dollars).columns("price")
        for choice, dollars in drawn.items()
    ]
    return Figure(
        f"{MODEL}, {LOAD.concurrency:.0f} users: one architecture on five nodes",
        "points",
        PRICE_AXIS,
        Axis("node", "node"),
        Axis("kind", "memory on the die"),
        rows,
    )
