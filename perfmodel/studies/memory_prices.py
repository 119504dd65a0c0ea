"""Q6: with whose memory is a token cheapest, at the prices of 2023, 2025 and 2026?

One die, with as many devices of a memory as fit along two long sides of a reticle, and what that costs.
"""

import functools
import itertools
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from perfmodel.design.problem import Problem
from perfmodel.hardware.area import RETICLE
from perfmodel.hardware.chip import Chip
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.schema import si_or
from perfmodel.library.technology import YEARS, device, load_constants, memory_technology
from perfmodel.studies.chip_cost import made, owned
from perfmodel.studies.claim import Answer, Axis, Figure, Progress, Side, Table, show, verdict
from perfmodel.studies.draws import Draws, middle
from perfmodel.studies.machines import Load, Machine, Observation, Question, model_bytes, observe
from perfmodel.studies.searched_machines import Winner, least, searched, won
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
    most = MAX_MODULE_BYTES if float(one.footprint) == 0 else np.inf
    size = min(float(one.capacity), most)
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
    return Machine(memory.name, BASE, 1, 1, 1, *MODELS[model], lambda c: fitted(c, memory))


def memory_dollars(memory: Kind, year: str, draws: Draws) -> np.ndarray:
    """USD of a chip's memory, with the interposer that HBM asks for."""
    file = memory_technology(memory.name)
    return memory.capacity * draws.fact(file.prices[year], "USD/byte") + interposer(memory)


def interposer(memory: Kind) -> float:
    """USD of the interposer that a memory lies on; zero of modules, which need none."""
    beside = memory.devices * float(device(memory.name).footprint)
    rate = float(load_constants().values.cost.package)
    return rate * (beside + si_or(chip_files()[BASE].area, "m2")) if beside else 0.0


def rates(memory: Kind, year: str, power: float, draws: Draws) -> np.ndarray:
    """USD/s of one chip with its memory: the die with its maker's margin, the memory without."""
    file = chip_files()[BASE]
    cost = made(file.node, si_or(file.area, "m2"), draws)
    limit = si_or(file.power.peak, "W")
    return owned(cost, power, limit, memory_dollars(memory, year, draws))


def dollars(seen: Observation, memory: Kind, year: str) -> np.ndarray:
    """USD of a token; every memory on the same draws of the die."""
    draws = Draws()
    slow = draws.factor(seen.interval)
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


class Compared(NamedTuple):
    """What the model says of each model, memory and number of users, and what a token costs there."""

    places: dict[tuple[str, str, float], Observation]
    costs: Costs

    def of(self, *case: str | float) -> dict[str, np.ndarray]:
        """Draws of USD of each memory that holds a model, for a year, a model and users."""
        return {
            name: self.costs[y, m, name, u] for y, m, name, u in self.costs if (y, m, u) == case
        }

    def ratio(self, year: str, model: str, users: float) -> float:
        """DDR5's cost over HBM3E's, in the middle."""
        found = self.of(year, model, users)
        return middle(found["ddr5"] / found["hbm3e"]).median

    @property
    def side(self) -> Side:
        """Draws of the claim, and of the best memory's token of the sparse model, decode alone."""
        case = ("2026", SPARSE_MODEL, TESTED_USERS)
        decoding = {
            name: self.places[SPARSE_MODEL, name, TESTED_USERS].decoding for name in self.of(*case)
        }
        own = [drawn * decoding[name] for name, drawn in self.of(*case).items()]
        few = [(m, u) for m in MODELS for u in USERS if u <= TESTED_USERS]
        cheap = [over_others(self.of("2026", *one)) < 1 for one in few]
        return Side(np.any(cheap, axis=0), np.min(own, axis=0))


def over_others(drawn: dict[str, np.ndarray]) -> np.ndarray:
    """Draws of what the better of the cheap memories costs over the better of the others."""
    cheap, others = (
        [one for name, one in drawn.items() if (name in CHEAP_MEMORIES) == c] for c in (True, False)
    )
    return np.min(cheap, axis=0) / np.min(others, axis=0)


def compared(progress: Progress) -> Compared:
    """One die with every memory."""
    cases = list(itertools.product(MODELS, KINDS, USERS))
    asked = [Question(machine(k, m), m, Load(u, CONTEXT, CONTEXT)) for m, k, u in cases]
    found = list(zip(cases, observe(asked, progress), strict=True))
    costs = {
        (year, m, k.name, u): dollars(seen, k, year)
        for year in YEARS
        for (m, k, u), seen in found
        if seen.fits
    }
    return Compared({(m, k.name, u): seen for (m, k, u), seen in found}, costs)


Searched = dict[tuple[str, float], dict[str, Winner]]
"""The best chip around each memory, by the year of prices and the users."""


@functools.cache
def designed() -> Searched:
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


def side(new: Searched) -> Side:
    """Of searched chips at the prices of 2026: draws of the claim, and of the best memory's token."""
    true = [_ahead(one) < 1 for (year, _), one in new.items() if year == "2026"]
    return Side(np.any(true, axis=0), least(new["2026", TESTED_USERS].values()))


def run(progress: Progress) -> Answer:
    found, new = compared(progress), designed()
    whose = verdict(found.side, side(new))
    return Answer(
        f"{_said(found)} {_said_of(new)}",
        whose.share,
        f"Prices, wafers and defects are drawn. {whose.said}",
        _table(found),
        _figure(found.costs),
        _numbers(found, new) | whose.numbers,
    )


def _said(found: Compared) -> str:
    dense = {year: found.ratio(year, DENSE_MODEL, 1.0) for year in ("2023", "2026")}
    sparse, held = found.ratio("2026", SPARSE_MODEL, TESTED_USERS), _held()
    return (
        f"With one user of Llama-3.1-70B a token on DDR5 costs {show(dense['2023'])} times that on HBM3E at "
        f"the prices of 2023 and {show(dense['2026'])} times in 2026; for four of the sparse gpt-oss-120b "
        f"{show(sparse)} times. To keep {LARGE_MODEL} ready, without work, costs {show(held['2023'])} times "
        f"as much as with HBM in 2023 and {show(held['2026'])} times in 2026."
    )


def _said_of(new: Searched) -> str:
    """What a search says, which designs a chip around each memory."""
    now = new["2026", TESTED_USERS]
    first = min(now.values(), key=lambda one: one.dollars)
    times = {key: show(middle(_ahead(one)).median) for key, one in new.items()}
    return (
        f"Where a search designs a chip around each memory, {first.memory} is cheapest for four users in "
        f"{100 * won(now)[first.memory]:.0f} % of draws; the better of LPDDR5X and DDR5 costs "
        f"{times['2026', TESTED_USERS]} times the better of HBM3E and GDDR7 ({times['2026', 1.0]} times "
        f"for one user, {times['2023', TESTED_USERS]} at the prices of 2023)."
    )


def _ahead(new: dict[str, Winner]) -> np.ndarray:
    return over_others({name: one.drawn for name, one in new.items()})


def _held() -> dict[str, float]:
    """Cost of keeping a large model ready on DDR5 over that on HBM3E, by year."""
    held = {y: {k.name: holding(k, y, LARGE_MODEL) for k in KINDS} for y in YEARS}
    return {y: middle(one["ddr5"] / one["hbm3e"]).median for y, one in held.items()}


def _numbers(found: Compared, new: Searched) -> dict[str, float]:
    held = _held()
    return (
        {
            "ddr5_over_hbm_one_user_2023": found.ratio("2023", DENSE_MODEL, 1.0),
            "ddr5_over_hbm_one_user_2026": found.ratio("2026", DENSE_MODEL, 1.0),
            "ddr5_over_hbm_sparse_2026": found.ratio("2026", SPARSE_MODEL, TESTED_USERS),
            "ddr5_over_hbm_holding_2023": held["2023"],
            "ddr5_over_hbm_holding_2026": held["2026"],
        }
        | {
            f"cheap_over_others_{users:.0f}_users_{year}_designed": middle(_ahead(one)).median
            for (year, users), one in new.items()
        }
        | {f"cheapest_share_{n}_designed": p for n, p in won(new["2026", TESTED_USERS]).items()}
    )


def _table(found: Compared) -> Table:
    rows = [
        {
            "prices of": year,
            "model": model,
            "memory": name,
            "users": int(users),
            "tokens/s a user": found.places[model, name, users].speed,
        }
        | middle(1e6 * drawn).columns("USD/M tokens")
        for (year, model, name, users), drawn in found.costs.items()
        if users in (1.0, 4.0, 64.0, 256.0)
    ]
    return Table.of(rows)


def _figure(costs: Costs) -> Figure:
    rows = [
        {"users": users, "usd": middle(1e6 * drawn).median, "memory": f"{name}, {year}"}
        for (year, model, name, users), drawn in costs.items()
        if model == DENSE_MODEL and year != "2025"
    ]
    return Figure(
        "Llama-3.1-70B on one die, by its memory",
        "lines",
        Axis("users", "users of a chip", "users", log=True),
        Axis("usd", "owner's cost", "USD per million output tokens", log=True),
        Axis("memory", "memory, prices of"),
        rows,
    )
