"""One die, with as many devices of a memory as fit along two long sides of a reticle, and what that costs."""

from typing import NamedTuple

import equinox as eqx
import numpy as np

from perfmodel.hardware.area import RETICLE
from perfmodel.hardware.chip import Chip
from perfmodel.inference.placement import weight_bytes
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.constants import load_constants
from perfmodel.library.market import spread
from perfmodel.library.model import load_model
from perfmodel.library.schema import si_or
from perfmodel.library.technology import device, memory_technology
from perfmodel.studies.draws import Draws
from perfmodel.studies.machines import Machine, Seen, time_interval
from perfmodel.studies.making import made, owned
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan
from perfmodel.workload.transformer import traced

BASE = "h100-sxm"
DENSE, SPARSE = "llama-3.1-70b", "gpt-oss-120b"
MODELS = {DENSE: ("fp8", "fp8"), SPARSE: ("", "")}
"""Their formats of weights and cache; empty: the model's own, and bf16."""

EDGE = 2 * max(RETICLE)
"""Of the die's perimeter for memory, in m; the rest is for links."""

LARGEST = 32e9
"""Bytes of one device or channel at most: server modules cost more for each byte above."""


class Kind(NamedTuple):
    """A memory: its file, how many devices of it, their bytes and bytes/s together."""

    name: str
    devices: int
    capacity: float
    bandwidth: float


def kind(name: str) -> Kind:
    """As many devices as the edge takes."""
    one = device(name)
    count = int(EDGE / float(one.edge))
    size = min(float(one.capacity), LARGEST) if float(one.footprint) == 0 else float(one.capacity)
    return Kind(name, count, count * size, count * float(one.bandwidth))


KINDS = tuple(kind(name) for name in ("hbm3e", "gddr7", "lpddr5x", "ddr5"))
CHEAP = ("lpddr5x", "ddr5")


def fitted(chip: Chip, memory: Kind) -> Chip:
    """The base chip with another main memory."""
    main = (memory.capacity, memory.bandwidth, float(device(memory.name).energy))
    return eqx.tree_at(
        lambda c: (c.main.capacity, c.main.bandwidth, c.main.energy),
        chip,
        tuple(map(as_scalar, main)),
    )


def machine(memory: Kind, model: str) -> Machine:
    """One chip."""
    weights, cache = MODELS[model]
    return Machine(
        memory.name, BASE, weights=weights, cache=cache, change=lambda c: fitted(c, memory)
    )


def memory_dollars(memory: Kind, year: str, draws: Draws) -> np.ndarray:
    """USD of a chip's memory, with the interposer that HBM asks for."""
    file, constants = memory_technology(memory.name), load_constants().values.cost
    prices = {y: q for y, q in file.prices.items() if y == year}
    beside = memory.devices * float(device(memory.name, year).footprint)
    package = float(constants.package) * (beside + si_or(chip_files()[BASE].area, "m2"))
    whole = memory.capacity * draws.of(spread(prices[year], "USD/byte"))
    return whole + (package if beside else 0.0)


def rates(memory: Kind, year: str, power: float, draws: Draws) -> np.ndarray:
    """USD/s of one chip with its memory: the die with its maker's margin, the memory without."""
    file = chip_files()[BASE]
    cost = made(file.node, si_or(file.area, "m2"), draws)
    limit = si_or(file.power.peak, "W")
    return owned(cost, power, limit, memory_dollars(memory, year, draws))


def dollars(seen: Seen, memory: Kind, year: str) -> np.ndarray:
    """USD of a token; every memory on the same draws of the die."""
    draws = Draws()
    slow = draws.factor(time_interval(seen.asked.machine, seen.asked.model))
    return rates(memory, year, seen.joules / seen.held, draws) * seen.held * slow


def holding(memory: Kind, year: str, model: str) -> np.ndarray:
    """USD/s of as many idle chips as hold a model of a trillion parameters in 8 bits."""
    size = float(weight_bytes(traced(load_model(model)), Plan(weights="fp8")))
    count = np.ceil(size / (memory.capacity * float(load_chip(BASE).main.usable)))
    idle = float(load_chip(BASE).idle_power)
    return count * rates(memory, year, idle, Draws())
