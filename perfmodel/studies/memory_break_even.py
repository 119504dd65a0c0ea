"""At which price of HBM does another memory serve a model at a speed for less?

Machines of one die with each memory (those of Q6), of one to eight chips, and of SRAM as it is sold, at any
number of users. What a token costs is a straight line over the price of a GB; the cheapest machine at a price
is the lower envelope of these lines, and a break-even price is where that of HBM reaches what another memory
costs at its own price.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.ledger import memory_price
from perfmodel.library.schema import si_or
from perfmodel.studies.chip_cost import made, owned
from perfmodel.studies.claim import Axis, Figure, Progress, Table
from perfmodel.studies.draws import Draws, show
from perfmodel.studies.machines import (
    SERVED,
    Load,
    Machine,
    Observation,
    Question,
    model_bytes,
    observe,
)
from perfmodel.studies.memory_prices import BASE, KINDS, MODELS, Kind, fitted, interposer

HBM = "hbm3e"
CHIPS = (1, 2, 4, 8)
"""Of a machine around a memory."""

USERS = tuple(4.0**i for i in range(6))
FORMATS = ("fp8", "fp8")
"""Of weights and cache, where Q6 has no others for a model."""

SRAM = ("WSE-3", "LP30", "LPU v1")
"""Families of machines of SRAM."""

ROOM = (1.1, 1.6, 2.5)
"""Bytes of SRAM of a machine over those of the weights."""

LPU_RANKS = 8
"""Tensor ranks of a group of LPUs."""


class Line(NamedTuple):
    """What a token costs on a machine: `fixed` + `slope` x price, in USD and USD over USD/byte.

    - `memory`: of the machine; `machine`: in words; `users`: at once; `speed`: tokens/s of each.
    """

    memory: str
    machine: str
    users: float
    speed: float
    fixed: float
    slope: float

    def at(self, price: float) -> float:
        """USD of a token at a price in USD/byte."""
        return self.fixed + self.slope * price


class Asked(NamedTuple):
    """A model, tokens of a request, and tokens/s that each user gets at least."""

    model: str
    isl: float
    osl: float
    speed: float


def lines(asked: Asked, progress: Progress) -> list[Line]:
    """Of every machine that holds the model and gives that speed.

    **Raises:**

    - `InputError`: for a speed that no machine with HBM gives.
    """
    seen = [one for one in observe(_questions(asked), progress) if one.fits]
    fast = [one for one in seen if one.speed >= asked.speed]
    if HBM not in {one.asked.machine.family for one in fast}:
        most = max((one.speed for one in seen if one.asked.machine.family == HBM), default=0.0)
        raise InputError(
            f"the speed is {asked.speed:g}, but {asked.model} on up to {max(CHIPS)} chips with HBM gives "
            f"{most:.4g} tokens/s; ask for less, or for a smaller model."
        )
    return [_line(one) for one in fast]


def _questions(asked: Asked) -> list[Question]:
    machines = [*_around_memories(asked.model), *_of_sram(asked.model)]
    loads = [Load(users, asked.isl, asked.osl) for users in USERS]
    return [Question(m, asked.model, load) for m, load in itertools.product(machines, loads)]


def _around_memories(model: str) -> list[Machine]:
    """The die of Q6 with each memory."""
    formats = MODELS.get(model, FORMATS)
    return [
        Machine(kind.name, BASE, n, 1, 1, *formats, functools.partial(_with_memory, kind))
        for kind in KINDS
        for n in CHIPS
    ]


def _with_memory(kind: Kind, chip: Chip) -> Chip:
    return fitted(chip, kind)


def _of_sram(model: str) -> list[Machine]:
    """As few chips as hold the weights, and more."""
    found = []
    for family, room in itertools.product(SRAM, ROOM):
        chip, weights, cache = SERVED[family]
        size = max(float(tier.usable_capacity) for tier in load_chip(chip).tiers[:3])
        count = np.ceil(room * model_bytes(model, weights) / size)
        tp = 1 if family == SRAM[0] else LPU_RANKS
        stages = float(np.ceil(count / tp))
        found.append(Machine(family, chip, float(tp), stages, 1.0, weights, cache))
    return list(dict.fromkeys(found))


def _line(seen: Observation) -> Line:
    """Straight, for the price of memory is one part of what is bought."""
    machine = seen.asked.machine
    place = functools.partial(
        Line, machine.family, f"{machine.chips:.0f} chips", seen.asked.load.concurrency, seen.speed
    )
    kind = next((one for one in KINDS if one.name == machine.family), None)
    if kind is None:
        return place(seen.dollars, 0.0)
    power = seen.joules / seen.held / machine.chips
    without, added = _rates(power, interposer(kind), kind.capacity * PRICE_STEP)
    each = seen.held * machine.chips
    return place(without * each, (added - without) / PRICE_STEP * each)


PRICE_STEP = 100e-9
"""USD/byte between which the slope of a line is taken."""


def _rates(power: float, package: float, memory: float) -> tuple[float, float]:
    """USD/s of one chip with memory that costs nothing, and with memory that costs so much."""
    limit = si_or(chip_files()[BASE].power.peak, "W")
    without, added = owned(np.full(2, _die()), power, limit, np.array([package, package + memory]))
    return float(without), float(added)


@functools.cache
def _die() -> float:
    """USD to make the die, in the middle of what is known."""
    file = chip_files()[BASE]
    return float(np.median(made(file.node, si_or(file.area, "m2"), Draws())))


def price_now(memory: str) -> float:
    """USD/byte of a memory; zero of SRAM, which a die's price pays for."""
    return 0.0 if memory in SRAM else memory_price(memory)


def cheapest(found: Sequence[Line], memory: str, price: float) -> Line | None:
    """The machine with a memory on which a token costs least at a price; `None` without one."""
    own = [line for line in found if line.memory == memory]
    return min(own, key=lambda line: line.at(price), default=None)


def break_even(found: Sequence[Line], dollars: float) -> float:
    """USD/byte of HBM up to which a token costs no more than `dollars` on the best machine with HBM.

    Negative where HBM costs more even for nothing.
    """
    own = [line for line in found if line.memory == HBM]
    return max((dollars - line.fixed) / line.slope for line in own)


MEMORIES = (*(kind.name for kind in KINDS), *SRAM)


def break_even_table(found: Sequence[Line]) -> Table:
    """Of each memory: its cheapest machine at today's price, and the price of HBM at which both are even."""
    rows = []
    for memory in MEMORIES:
        price = price_now(memory)
        line = cheapest(found, memory, price)
        if line is None:
            continue
        even = break_even(found, line.at(price))
        known = "" if memory == HBM else f"{1e9 * even:.3g}" if even > 0 else "none"
        rows.append(
            {
                "memory": memory,
                "USD/GB": show(1e9 * price) if price else "in the chip",
                "cheapest machine": line.machine,
                "users": f"{line.users:.0f}",
                "tokens/s a user": show(line.speed, 3),
                "USD/M tokens": show(1e6 * line.at(price), 3),
                "as cheap: HBM at USD/GB": known,
            }
        )
    return Table.of(rows)


def price_rows(found: Sequence[Line], prices: Sequence[float]) -> list[dict[str, object]]:
    """USD of a million tokens over the price of HBM in USD/GB; of other memories, at their own."""
    rows = []
    for price, memory in itertools.product(prices, MEMORIES):
        at = price * 1e-9 if memory == HBM else price_now(memory)
        line = cheapest(found, memory, at)
        if line is not None:
            rows.append(
                {
                    "hbm_usd_per_gb": float(price),
                    "memory": memory,
                    "usd_per_million_output_tokens": 1e6 * line.at(at),
                    "machine": line.machine,
                    "users": line.users,
                    "output_tokens_per_s_per_user": line.speed,
                    "cost_basis": "owner",
                }
            )
    return rows


def picture(asked: Asked, rows: Sequence[dict[str, object]]) -> Figure:
    """Those rows."""
    return Figure(
        f"{asked.model} at {asked.speed:g} tokens/s a user, by the price of HBM",
        "lines",
        Axis("hbm_usd_per_gb", "price of HBM", "USD/GB", log=True),
        Axis(
            "usd_per_million_output_tokens",
            "owner's cost",
            "USD per million output tokens",
            log=True,
        ),
        Axis("memory", "memory"),
        list(rows),
    )
