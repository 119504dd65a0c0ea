"""One architecture, LPU v1's, on the same die area of other nodes: what it holds, takes and costs."""

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
from perfmodel.library.technology import WITH, load_node, silicon
from perfmodel.studies.draws import Draws
from perfmodel.studies.machines import Load, Machine, Seen, setting_of
from perfmodel.studies.making import made, owned
from perfmodel.units import as_scalar

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
        return f"{self.node}{WITH}{self.macro}" if self.macro else self.node

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
