"""Q6: with whose memory is a token cheapest, at the prices of 2023, 2025 and 2026?

One die, with as many devices of a memory as fit along two long sides of a reticle, and what that costs.
"""

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from perfmodel.design.problem import Problem
from perfmodel.hardware.area import RETICLE
from perfmodel.hardware.chip import Chip
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.constants import load_constants
from perfmodel.library.market import spread
from perfmodel.library.schema import si_or
from perfmodel.library.technology import YEARS, device, memory_technology
from perfmodel.studies.chip_cost import made, owned
from perfmodel.studies.claim import (
    Answer,
    Axis,
    Figure,
    Progress,
    Side,
    Table,
    show,
    verdict,
)
from perfmodel.studies.draws import Draws, Middle, middle
from perfmodel.studies.machines import (
    Load,
    Machine,
    Observation,
    Question,
    model_bytes,
    observe,
    time_interval,
)
from perfmodel.studies.searched_machines import Winner, searched, won
from perfmodel.units import as_scalar

BASE = "h100-sxm"
DENSE_MODEL, SPARSE_MODEL = "llama-3.1-70b", "gpt-oss-120b"
MODELS = {DENSE_MODEL: ("fp8", "fp8"), SPARSE_MODEL: ("", "")}
"""Their formats of weights and cache; empty: the model's own, and bf16."""

EDGE = 2 * max(RETICLE)
"""Of the die's perimeter for memory, in m; the rest is for links."""

MAX_MODULE_BYTES = 32e9
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
    size = (
        min(float(one.capacity), MAX_MODULE_BYTES)
        if float(one.footprint) == 0
        else float(one.capacity)
    )
    return Kind(name, count, count * size, count * float(one.bandwidth))


KINDS = tuple(kind(name) for name in ("hbm3e", "gddr7", "lpddr5x", "ddr5"))
CHEAP_MEMORIES = ("lpddr5x", "ddr5")


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


def dollars(seen: Observation, memory: Kind, year: str) -> np.ndarray:
    """USD of a token; every memory on the same draws of the die."""
    draws = Draws()
    slow = draws.factor(time_interval(seen.asked.machine, seen.asked.model))
    return rates(memory, year, seen.joules / seen.held, draws) * seen.held * slow


def holding(memory: Kind, year: str, model: str) -> np.ndarray:
    """USD/s of as many idle chips as hold a model of a trillion parameters in 8 bits."""
    size = model_bytes(model, "fp8")
    count = np.ceil(size / (memory.capacity * float(load_chip(BASE).main.usable)))
    idle = float(load_chip(BASE).idle_power)
    return count * rates(memory, year, idle, Draws())


LARGE_MODEL = "kimi-k2"
USERS = (1.0, 2.0, 4.0, 16.0, 64.0, 256.0)
TESTED_USERS = 4.0
"""Users at once, for whom the claim is put."""

CONTEXT = 1024.0
FREE = {
    "stacks": {"low": 0.5, "high": 24},
    "tflops": {"low": 5, "high": 2000},
    "power_w": {"low": 50, "high": 1000},
    "tensor": {"low": 1, "high": 16},
}
"""What a search may choose, beside SRAM: devices as far as the edge takes them."""


Costs = dict[tuple[str, str, str, float], np.ndarray]
"""Draws of USD for a token, by year, model, memory and users."""

CAVEATS = (
    "One die (an H100's) with every memory; real DDR servers have cheaper and slower processors.",
    "Memory is bought without the chip maker's margin, HBM too; prompts on the same kind of machine.",
    "Searched chips work like an H100 of any size at 5 nm, decode alone, memory with the maker's margin.",
    "DDR5 prices of 2026 are retail in a shortage.",
)


class Compared(NamedTuple):
    """What the model says of each model, memory and number of users, and what a token costs there."""

    places: dict[tuple[str, str, float], Observation]
    costs: Costs

    def ratio(self, year: str, model: str, users: float) -> Middle:
        """DDR5's cost over HBM3E's."""
        own, other = (self.costs[year, model, name, users] for name in ("ddr5", "hbm3e"))
        return middle(own / other)

    @property
    def side(self) -> Side:
        """Draws of the claim, and of the best memory's token of the sparse model, decode alone."""
        own = [
            drawn * self.places[SPARSE_MODEL, name, TESTED_USERS].decoding
            for (year, model, name, users), drawn in self.costs.items()
            if (year, model, users) == ("2026", SPARSE_MODEL, TESTED_USERS)
        ]
        return Side(np.any(self.cheap(), axis=0), np.min(own, axis=0))

    def cheap(self) -> list[np.ndarray]:
        """For each case of few users, draws in which DDR5 or LPDDR5X is cheapest at the prices of 2026."""
        return [
            _cheap(self.costs, "2026", m, u) for m in MODELS for u in USERS if u <= TESTED_USERS
        ]


def compared(progress: Progress) -> Compared:
    """One die with every memory."""
    asked = [
        Question(machine(k, m), m, Load(u, CONTEXT, CONTEXT))
        for m in MODELS
        for k in KINDS
        for u in USERS
    ]
    places = {
        (s.asked.model, s.asked.machine.family, s.asked.load.users): s
        for s in observe(asked, progress)
    }
    kinds = {k.name: k for k in KINDS}
    return Compared(
        places,
        {
            (year, *key): dollars(s, kinds[key[1]], year)
            for year in YEARS
            for key, s in places.items()
            if s.fits
        },
    )


@functools.cache
def designed() -> dict[tuple[str, float], dict[str, Winner]]:
    """The chip that a search designs around each memory, by the year of prices, the users and the memory."""
    cases = [("2026", 1.0), ("2026", TESTED_USERS), ("2023", TESTED_USERS)]
    return {
        (year, users): {one.memory: one for one in searched(_asked(year, users), _with_modules)}
        for year, users in cases
    }


def _asked(year: str, users: float) -> dict[str, Any]:
    """A study of chips of any size around any of the memories, for few users of a sparse model."""
    load = {"model": SPARSE_MODEL, "precision": "mxfp4", "kv_precision": "bf16", "batch": users}
    return {
        "constraints": {"power_w": 1000},
        "workload": [load | {"context": 1.5 * CONTEXT}],
        "space": {"base": BASE, "memory": [k.name for k in KINDS], "year": year, "batch": users}
        | FREE,
    }


def _with_modules(problem: Problem) -> Problem:
    """Memory that is no part of the package comes in modules of `MAX_MODULE_BYTES` bytes at most."""
    memories = problem.memories
    modules = jnp.minimum(memories.capacity, MAX_MODULE_BYTES)
    size = jnp.where(memories.footprint == 0, modules, memories.capacity)
    return eqx.tree_at(lambda p: p.memories.capacity, problem, size)


def side(new: dict[tuple[str, float], dict[str, Winner]]) -> Side:
    """Of searched chips at the prices of 2026: draws of the claim, and of the best memory's token."""
    true = [_ahead(one) < 1 for (year, _), one in new.items() if year == "2026"]
    cheapest = np.min([one.drawn for one in new["2026", TESTED_USERS].values()], axis=0)
    return Side(np.any(true, axis=0), cheapest)


def run(progress: Progress) -> Answer:
    found, new = compared(progress), designed()
    whose = verdict(found.side, side(new))
    return Answer(
        f"{_said(found)} {_said_of(new)}",
        whose.share,
        f"Prices, wafers and defects are drawn. {whose.said}",
        _table(found.costs, found.places),
        _figure(found.costs),
        CAVEATS,
        _numbers(found, new) | whose.numbers,
    )


def _said(found: Compared) -> str:
    dense = {year: found.ratio(year, DENSE_MODEL, 1.0).median for year in ("2023", "2026")}
    sparse, held = found.ratio("2026", SPARSE_MODEL, TESTED_USERS).median, _held()
    return (
        f"With one user of Llama-3.1-70B a token on DDR5 costs {show(dense['2023'])} times that on HBM3E at "
        f"the prices of 2023 and {show(dense['2026'])} times in 2026; for four of the sparse gpt-oss-120b "
        f"{show(sparse)} times. To keep {LARGE_MODEL} ready, without work, costs {show(held['2023'])} times "
        f"as much as with HBM in 2023 and {show(held['2026'])} times in 2026."
    )


def _said_of(new: dict[tuple[str, float], dict[str, Winner]]) -> str:
    """What a search says, which designs a chip around each memory."""
    now = new["2026", TESTED_USERS]
    first = min(now.values(), key=lambda one: one.dollars)
    times = {key: show(middle(_ahead(one)).median) for key, one in new.items()}
    return (
        f"Where a search designs a chip around each memory, {first.memory} is cheapest for four users in "
        f"{100 * _wins(now)[first.memory]:.0f} % of draws; the better of LPDDR5X and DDR5 costs "
        f"{times['2026', TESTED_USERS]} times the better of HBM3E and GDDR7 ({times['2026', 1.0]} times "
        f"for one user, {times['2023', TESTED_USERS]} at the prices of 2023)."
    )


def _ahead(new: dict[str, Winner]) -> np.ndarray:
    """Draws of what the better of the cheap memories costs over the better of the others."""
    cheap, others = (
        [one.drawn for n, one in new.items() if (n in CHEAP_MEMORIES) == c] for c in (True, False)
    )
    return np.min(cheap, axis=0) / np.min(others, axis=0)


def _wins(new: dict[str, Winner]) -> dict[str, float]:
    return dict(zip(new, won(list(new.values())), strict=True))


def _held() -> dict[str, float]:
    """Cost of keeping a large model ready on DDR5 over that on HBM3E, by year."""
    held = {y: {k.name: holding(k, y, LARGE_MODEL) for k in KINDS} for y in YEARS}
    return {y: middle(one["ddr5"] / one["hbm3e"]).median for y, one in held.items()}


def _numbers(found: Compared, new: dict[tuple[str, float], dict[str, Winner]]) -> dict[str, float]:
    held = _held()
    return (
        {
            "ddr5_over_hbm_one_user_2023": found.ratio("2023", DENSE_MODEL, 1.0).median,
            "ddr5_over_hbm_one_user_2026": found.ratio("2026", DENSE_MODEL, 1.0).median,
            "ddr5_over_hbm_sparse_2026": found.ratio("2026", SPARSE_MODEL, TESTED_USERS).median,
            "ddr5_over_hbm_holding_2023": held["2023"],
            "ddr5_over_hbm_holding_2026": held["2026"],
        }
        | {
            f"cheap_over_others_{users:.0f}_users_{year}_designed": middle(_ahead(one)).median
            for (year, users), one in new.items()
        }
        | {
            f"cheapest_share_{n}_designed": part
            for n, part in _wins(new["2026", TESTED_USERS]).items()
        }
    )


def _cheap(costs: Costs, year: str, model: str, users: float) -> np.ndarray:
    """Draws in which DDR5 or LPDDR5X is the cheapest."""
    there = {
        k.name: costs[year, model, k.name, users]
        for k in KINDS
        if (year, model, k.name, users) in costs
    }
    cheap = np.min([there[name] for name in CHEAP_MEMORIES], axis=0)
    return cheap < np.min([v for name, v in there.items() if name not in CHEAP_MEMORIES], axis=0)


def _table(costs: Costs, places: dict) -> Table:
    rows = []
    for (year, model, name, users), drawn in costs.items():
        if users in (1.0, 4.0, 64.0, 256.0):
            speed = places[model, name, users].speed
            rows.append((year, model, name, int(users), speed, *middle(1e6 * drawn)))
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


def _figure(costs: Costs) -> Figure:
    rows = []
    for (year, model, name, users), drawn in costs.items():
        if model == DENSE_MODEL and year != "2025":
            m = middle(1e6 * drawn)
            rows.append({"users": users, "usd": m.median, "memory": f"{name}, {year}"})
    return Figure(
        "Llama-3.1-70B on one die, by its memory",
        "lines",
        Axis("users", "users of a chip", "users", log=True),
        Axis("usd", "owner's cost", "USD per million output tokens", log=True),
        Axis("memory", "memory, prices of"),
        rows,
    )
