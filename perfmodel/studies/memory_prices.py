"""Q6: with whose memory is a token cheapest, at the prices of 2023, 2025 and 2026?

One die, with as many devices of a memory as fit along two long sides of a reticle.
"""

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
from perfmodel.library.technology import YEARS, device, memory_technology
from perfmodel.studies.answer import Answer, Axis, Figure, Progress, Study, Table, show
from perfmodel.studies.draws import Draws, middle, share
from perfmodel.studies.machines import Asked, Load, Machine, Seen, observe, time_interval
from perfmodel.studies.making import made, owned
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan
from perfmodel.workload.transformer import traced

BASE = "h100-sxm"
MODELS = {"llama-3.1-70b": ("fp8", "fp8"), "gpt-oss-120b": ("", "")}
"""One dense, one sparse, and their formats of weights and cache."""

LARGE = "kimi-k2"
USERS = (1.0, 2.0, 4.0, 16.0, 64.0, 256.0)
CONTEXT = 1024.0
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


def run(progress: Progress) -> Answer:
    asked = [
        Asked(machine(k, m), m, Load(u, CONTEXT, CONTEXT))
        for m in MODELS
        for k in KINDS
        for u in USERS
    ]
    seen = observe(asked, progress)
    places = {(s.asked.model, s.asked.machine.family, s.asked.load.users): s for s in seen}
    costs = {
        (year, *key): _dollars(s, next(k for k in KINDS if k.name == key[1]), year)
        for year in YEARS
        for key, s in places.items()
        if s.fits
    }
    few = [share(_cheap(costs, "2026", m, u)) for m in MODELS for u in USERS if u <= 4]
    held = {y: {k.name: _holding(k, y) for k in KINDS} for y in YEARS}
    ratio = {y: middle(held[y]["ddr5"] / held[y]["hbm3e"]) for y in YEARS}
    ahead = middle(_ratio(costs, "2026", "llama-3.1-70b", 1.0))
    later = middle(_ratio(costs, "2023", "llama-3.1-70b", 1.0))
    sparse = middle(_ratio(costs, "2026", "gpt-oss-120b", 4.0))
    said = (
        f"With one user of Llama-3.1-70B a token on DDR5 costs {show(later.median)} times that on HBM3E at "
        f"the prices of 2023 and {show(ahead.median)} times in 2026; for four of the sparse gpt-oss-120b "
        f"{show(sparse.median)} times. To keep {LARGE} ready, without work, costs "
        f"{show(ratio['2023'].median)} times as much as with HBM in 2023 and "
        f"{show(ratio['2026'].median)} times in 2026."
    )
    return Answer(
        said,
        share(
            np.any([_cheap(costs, "2026", m, u) for m in MODELS for u in USERS if u <= 4], axis=0)
        ),
        f"Prices, wafers and defects are drawn; with few users it is {show(100 * max(few))} % at most.",
        _table(costs, places),
        _figure(costs),
        (
            "One die (an H100's) with every memory; real DDR servers have cheaper and slower processors.",
            "Memory is bought without the chip maker's margin, HBM too; prompts on the same kind of machine.",
            "DDR5 prices of 2026 are retail in a shortage.",
        ),
        {
            "ddr5_over_hbm_one_user_2023": later.median,
            "ddr5_over_hbm_one_user_2026": ahead.median,
            "ddr5_over_hbm_sparse_2026": sparse.median,
            "ddr5_over_hbm_holding_2023": ratio["2023"].median,
            "ddr5_over_hbm_holding_2026": ratio["2026"].median,
        },
    )


def _dollars(seen: Seen, memory: Kind, year: str) -> np.ndarray:
    """USD of a token; every memory on the same draws of the die."""
    draws = Draws()
    slow = draws.factor(time_interval(seen.asked.machine, seen.asked.model))
    return rates(memory, year, seen.joules / seen.held, draws) * seen.held * slow


def _ratio(costs: dict, year: str, model: str, users: float) -> np.ndarray:
    return costs[year, model, "ddr5", users] / costs[year, model, "hbm3e", users]


def _cheap(costs: dict, year: str, model: str, users: float) -> np.ndarray:
    """Draws in which DDR5 or LPDDR5X is the cheapest."""
    there = {
        k.name: costs[year, model, k.name, users]
        for k in KINDS
        if (year, model, k.name, users) in costs
    }
    cheap = np.min([there[name] for name in CHEAP], axis=0)
    return cheap < np.min([v for name, v in there.items() if name not in CHEAP], axis=0)


def _holding(memory: Kind, year: str) -> np.ndarray:
    """USD/s of as many idle chips as hold a model of a trillion parameters in 8 bits."""
    size = float(weight_bytes(traced(load_model(LARGE)), Plan(weights="fp8")))
    count = np.ceil(size / (memory.capacity * float(load_chip(BASE).main.usable)))
    idle = float(load_chip(BASE).idle_power)
    return count * rates(memory, year, idle, Draws())


def _table(costs: dict, places: dict) -> Table:
    rows = []
    for (year, model, name, users), dollars in costs.items():
        if users in (1.0, 4.0, 64.0, 256.0):
            speed = places[model, name, users].speed
            rows.append((year, model, name, int(users), speed, *middle(1e6 * dollars)))
    names = [
        "prices of",
        "model",
        "memory",
        "users",
        "tokens/s a user",
        "USD/M tokens",
        "low",
        "high",
    ]
    return Table(names, rows)


def _figure(costs: dict) -> Figure:
    rows = []
    for (year, model, name, users), dollars in costs.items():
        if model == "llama-3.1-70b" and year != "2025":
            m = middle(1e6 * dollars)
            rows.append({"users": users, "usd": m.median, "memory": f"{name}, {year}"})
    return Figure(
        "Llama-3.1-70B on one die with four memories",
        "lines",
        Axis("users", "users of a chip", "users", log=True),
        Axis("usd", "owner's cost", "USD per million output tokens", log=True),
        Axis("memory", "memory, prices of"),
        rows,
    )


STUDY = Study(
    name="memory-prices",
    question="Q6",
    title="With whose memory is a token cheapest?",
    claim="Builds with DDR5 or LPDDR cut the cost of inference.",
    source="Bear case on Micron",
    test="DDR5 or LPDDR5X is cheapest for at most four users of some model, at the prices of 2026",
    seconds=30,
    run=run,
)
