"""Q5: on which node is an SRAM machine of fixed architecture cheapest?"""

from typing import NamedTuple

import equinox as eqx
import numpy as np

from perfmodel.hardware.area import logic_scale
from perfmodel.hardware.chip import Chip
from perfmodel.inference.placement import cache_bytes, weight_bytes
from perfmodel.library.chip import chip_files
from perfmodel.library.constants import load_constants
from perfmodel.library.market import spread
from perfmodel.library.schema import si_or
from perfmodel.library.technology import load_node, silicon, with_macro
from perfmodel.studies.answer import Answer, Axis, Figure, Progress, Study, Table, show
from perfmodel.studies.draws import Draws, Middle, middle, share
from perfmodel.studies.machines import Asked, Load, Machine, Seen, observe, setting_of
from perfmodel.studies.making import made, owned
from perfmodel.units import as_scalar

MODEL = "llama-3.1-70b"
LOAD = Load(64, 1024, 1024)
BASE, OWN = "lpu-v1", "n16"
TENSOR = 8.0
OLD = "n16"

CLOCKS = {"n16": 1.0, "n7": 1.3, "n5": 1.5, "n3": 1.6, "n2": 1.7}
"""Clock over that of 14 nm: LP30 in 4 nm runs at about 1.6 times LPU v1; the others in between (assumed)."""

LITTLE = 1.5
"""Times the cheapest node's cost up to which a node is called workable."""


class Choice(NamedTuple):
    """A node, and a memory in place of its SRAM if one is named."""

    node: str
    macro: str = ""

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.node} with {self.macro}" if self.macro else self.node


CHOICES = (*(Choice(node) for node in CLOCKS), Choice("n16", "edram"))


def rebuilt(chip: Chip, choice: Choice) -> Chip:
    """The same die area and the same shares of it, on another node."""
    old, plain = silicon(OWN), silicon(choice.node)
    new = with_macro(plain, choice.macro) if choice.macro else plain
    area = load_constants().values.area
    denser = new.sram_density / old.sram_density
    if choice.macro:
        # What is published of eDRAM is a whole chip's density, not a macro's.
        denser = denser * area.sram
    faster = logic_scale(old, area) / logic_scale(new, area) * CLOCKS[choice.node]
    spent = plain.matrix_energy / old.matrix_energy
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
    given = setting_of(one, MODEL)
    length = as_scalar(LOAD.prompt + LOAD.output)
    users = as_scalar(LOAD.users)
    size = weight_bytes(given.model, given.plan) + cache_bytes(
        given.model, given.plan, users, length
    )
    groups = np.ceil(1.02 * float(size) / TENSOR / float(given.chip.shared.room))
    return one._replace(pipeline=float(groups))


class Priced(NamedTuple):
    """Draws of USD for a token, and of what static power there is in W a chip."""

    dollars: np.ndarray
    static: np.ndarray


def priced(choice: Choice, seen: Seen, draws: Draws) -> Priced:
    """What a token costs with chips of this node, made, owned and run."""
    file, node = chip_files()[BASE], load_node(choice.node)
    assert node.leakage is not None and node.sram_leakage is not None
    area = si_or(file.area, "m2")
    capacity = float(setting_of(seen.asked.machine, MODEL).chip.shared.capacity)
    leak = draws.of(spread(node.sram_leakage, "W/byte")) * capacity * (not choice.macro)
    static = draws.of(spread(node.leakage, "W/m2")) * area + leak
    chips = seen.asked.machine.chips
    busy = (seen.joules - seen.idle) / seen.held / chips
    limit = si_or(file.power.peak, "W")
    rate = owned(made(choice.node, area, draws), busy + static, limit)
    return Priced(rate * chips * seen.held, static)


def run(progress: Progress) -> Answer:
    machines = {choice: machine(choice) for choice in CHOICES}
    seen = observe([Asked(m, MODEL, LOAD) for m in machines.values()], progress)
    drawn = {c: priced(c, s, Draws()).dollars for c, s in zip(CHOICES, seen, strict=True)}
    nodes = [choice for choice in CHOICES if not choice.macro]
    table = np.stack([drawn[choice] for choice in nodes])
    wins = {c.name: share(np.argmin(table, axis=0) == i) for i, c in enumerate(nodes)}
    old = drawn[Choice(OLD)] / table.min(axis=0)
    cheapest = max(wins, key=lambda name: wins[name])
    counts = {c: machines[c].chips for c in CHOICES}
    ratio, embedded = middle(old), middle(drawn[CHOICES[-1]] / drawn[Choice(OLD)])
    said = (
        f"{cheapest} is cheapest in {show(100 * wins[cheapest])} % of draws; at 14/16 nm a token costs "
        f"{show(ratio.median)} times the best node's ({show(ratio.low)} to {show(ratio.high)} in 90 %), on "
        f"{counts[Choice(OLD)]:,.0f} chips against {counts[Choice(cheapest)]:,.0f}; with eDRAM at 14 nm "
        f"instead of SRAM it would cost {show(embedded.median)} of that on {counts[CHOICES[-1]]:,.0f}."
    )
    return Answer(
        said,
        share(old < LITTLE),
        "Wafer prices, defects and leakage are drawn, and what testing a chip without HBM takes.",
        _table(seen, drawn, wins),
        _figure(drawn),
        (
            "One architecture, LPU v1's, on the same die area; clocks above 14 nm's are assumed.",
            "What a hop and a synchronisation take is that of LPU v1 at every node.",
            "No foundry offers eDRAM below 14 nm; its refresh is not published.",
            "Design costs, which are far higher on newer nodes, are left out: they favour the old node.",
        ),
        {
            "old_over_best": ratio.median,
            "old_over_best_low": ratio.low,
            "old_over_best_high": ratio.high,
            "edram_over_old": embedded.median,
        }
        | {f"cheapest_share_{name}": value for name, value in wins.items()},
    )


def _dollars(drawn: np.ndarray) -> Middle:
    return middle(1e6 * drawn)


def _table(seen: list[Seen], drawn: dict[Choice, np.ndarray], wins: dict[str, float]) -> Table:
    rows = []
    for one, (choice, dollars) in zip(seen, drawn.items(), strict=True):
        capacity = float(setting_of(one.asked.machine, MODEL).chip.shared.capacity) / 1e6
        area = si_or(chip_files()[BASE].area, "m2")
        cost = middle(made(choice.node, area, Draws())).median
        row = (
            choice.name,
            capacity,
            int(one.asked.machine.chips),
            cost,
            1e3 * cost / capacity,
            one.speed,
        )
        rows.append((*row, *_dollars(dollars), 100 * wins.get(choice.name, float("nan"))))
    names = ["node", "MB a chip", "chips", "USD to make one", "USD/GB", "tokens/s a user"]
    return Table([*names, "USD/M tokens", "low", "high", "cheapest in % of draws"], rows)


def _figure(drawn: dict[Choice, np.ndarray]) -> Figure:
    rows = []
    for choice, dollars in drawn.items():
        m = _dollars(dollars)
        row = {"node": choice.name, "price": m.median, "low": m.low, "high": m.high}
        rows.append(row | {"kind": "eDRAM" if choice.macro else "SRAM"})
    return Figure(
        f"{MODEL}, {LOAD.users:.0f} users: one architecture on five nodes",
        "points",
        Axis("price", "owner's cost", "USD per million output tokens", log=True),
        Axis("node", "node"),
        Axis("kind", "memory on the die"),
        rows,
        band=("low", "high"),
    )


STUDY = Study(
    name="node-choice",
    question="Q5",
    title="On which node is an SRAM machine cheapest?",
    claim="The LPU's architecture is workable on older nodes, which bypasses the supply of HBM.",
    source="conference-call summary, SRAM: A New AI Inference Paradigm",
    test=f"a token of a 14/16 nm machine costs at most {LITTLE:g} times that of the best node",
    seconds=20,
    run=run,
)
