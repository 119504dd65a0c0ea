"""A study as a landscape: the objective, and what each limit leaves, as functions of a vector."""

import dataclasses
import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from perfmodel.design.chip import Made, Stuff, build, design
from perfmodel.design.landscape import AbstractLandscape, Choice
from perfmodel.design.space import POOLS
from perfmodel.design.study import LARGER
from perfmodel.design.system import Load, Money, Part, Served, owned, room, served
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.constants import Constants
from perfmodel.hardware.cost import Ownership, price
from perfmodel.hardware.technology import Device, Node, Technology, Wires
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.plan import Plan

MILLION = 1e6

SMALLEST = 1e-20
"""The least figure whose logarithm is taken."""


class Limits(eqx.Module):
    """What a design must keep.

    - `area`, `power`: of one chip, in m2 and W.
    - `system`: prices and areas, by name; `figures`: of what users see, likewise, in the units of the name.
    """

    area: Scalar = eqx.field(converter=as_scalar)
    power: Scalar = eqx.field(converter=as_scalar)
    system: dict[str, Scalar]
    figures: dict[str, Scalar]


class Curve(eqx.Module):
    """What users pay: USD/token at a speed in tokens/s, and the exponent of speed."""

    paid: Scalar = eqx.field(converter=as_scalar)
    speed: Scalar = eqx.field(converter=as_scalar)
    exponent: Scalar = eqx.field(converter=as_scalar)


class Problem(AbstractLandscape):
    """A study with everything looked up.

    - `base`, `old`: the chip that others are made like, and its node.
    - `nodes`, `memories`: to choose from, on a leading axis; `link`: technology of links.
    - `constants`, `owner`: of area, power and cost; of owning.
    - `loads`: the workloads; `limits`; `curve`: of prices.
    - `held`: quantities that are not free, by name.
    - `weights`: of each figure in the objective, by name, most of them zero.
    - `names`: of the variables; `pools`: one or two
    - `on_figures`, `on_system`: names of the limits on what users see, and on the system.
    - `integer`: whether cores, tiles, waves and splits are whole numbers.
    """

    base: Chip
    old: Node
    nodes: Node
    memories: Device
    link: Wires
    constants: Constants
    owner: Ownership
    loads: list[Load]
    limits: Limits
    weights: dict[str, Scalar]
    curve: Curve
    held: dict[str, Scalar]
    low: Values
    high: Values
    options: tuple[int, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    pools: int = eqx.field(static=True)
    on_figures: tuple[str, ...] = eqx.field(static=True)
    on_system: tuple[str, ...] = eqx.field(static=True)
    integer: bool = eqx.field(static=True, default=False)

    def dear(self, x: Values, choice: Choice, sharpness: Scalar) -> Values:
        """Minus the logarithm of what is maximised, then slacks of what users see."""
        found = assess(self, x, choice, sharpness)
        slack = [
            _slack(name, found.figures[i][name], self.limits.figures[name])
            for name in self.on_figures
            for i in range(len(self.loads))
        ]
        return jnp.stack([-found.objective, *slack])

    def cheap(self, x: Values, choice: Choice) -> Values:
        """Slacks of what is known before a model runs."""
        every = system(self, x, choice, as_scalar(1.0))
        rooms = [room(parts, load) for parts, load in zip(every, loads_of(self, x), strict=True)]
        largest = [_system_slacks(self, parts) for parts in every]
        return jnp.stack([*_chip_slacks(self, every[0]), *rooms, *_least(largest)])

    @property
    def checked(self) -> tuple[str, ...]:
        """Names of all slacks, in their order."""
        loads = [
            f" of workload {i + 1}" if len(self.loads) > 1 else "" for i in range(len(self.loads))
        ]
        seen = [name + load for name in self.on_figures for load in loads]
        chips = [prefix + name for prefix in POOLS[self.pools] for name in ON_A_CHIP]
        return (*seen, *chips, *["capacity" + load for load in loads], *self.on_system)


ON_A_CHIP = ("area_mm2", "power_w", "sram_rate", "edge")
"""Limits of every chip: die area; idle power; SRAM bandwidth for its size; its edge."""


class Assessed(NamedTuple):
    """What a design is worth: logarithm of what is maximised, and all figures of each workload."""

    objective: Scalar
    figures: list[dict[str, Scalar]]
    served: list[Served]
    parts: list[list[Part]]


def quantities(problem: Problem, x: Values) -> dict[str, Scalar]:
    """Every quantity of a design by name, in SI: free ones from a vector of logarithms."""
    return problem.held | {name: jnp.exp(x[i]) for i, name in enumerate(problem.names)}


def technology(problem: Problem, choice: Choice) -> Technology:
    """The node and the memory that are chosen."""
    node = jax.tree.map(lambda leaf: leaf[choice[0]], problem.nodes)
    memory = jax.tree.map(lambda leaf: leaf[choice[1]], problem.memories)
    return Technology(node, memory, problem.link)


def system(problem: Problem, x: Values, choice: Choice, sharpness: Scalar) -> list[list[Part]]:
    """For each workload, the pools that serve it."""
    values = quantities(problem, x)
    stuff = Stuff(
        softened(problem.base, sharpness),
        problem.old,
        technology(problem, choice),
        problem.constants,
    )
    mine = [
        {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)}
        for prefix in POOLS[problem.pools]
    ]
    made = [build(design(own, stuff.base), stuff, problem.limits.power) for own in mine]
    if problem.integer:
        made = [_whole_cores(one) for one in made]
    return [
        [
            Part(one, _ranks(load.plan, own), own.get("workers", as_scalar(1.0)))
            for one, own in zip(made, mine, strict=True)
        ]
        for load in problem.loads
    ]


def _whole_cores(made: Made) -> Made:
    whole = jnp.maximum(jnp.floor(made.chip.cores), 1.0)
    return made._replace(chip=dataclasses.replace(made.chip, cores=whole))


def _ranks(plan: Plan, own: dict[str, Scalar]) -> Plan:
    given = {name: own[name] for name in ("tensor", "pipeline", "data") if name in own}
    return dataclasses.replace(plan, **given)


def softened(chip: Chip, sharpness: Scalar) -> Chip:
    """The chip with schedules chosen less surely: a smoother function of everything."""

    def soften(path: tuple, leaf: Values) -> Values:
        return leaf * sharpness if getattr(path[-1], "name", "") == "choice" else leaf

    changed = jax.tree_util.tree_map_with_path(soften, chip.efficiency)
    return eqx.tree_at(lambda c: c.efficiency, chip, changed)


def loads_of(problem: Problem, x: Values) -> list[Load]:
    """The workloads, with users and context where these are variables."""
    values = quantities(problem, x)
    loads = problem.loads
    if "batch" in values:
        loads = [load._replace(batch=values["batch"]) for load in loads]
    if "context" in values:
        loads = [_longer(load, values["context"]) for load in loads]
    return loads


def _longer(load: Load, context: Scalar) -> Load:
    """A request of `context` tokens in all keeps its share of output."""
    if load.context is not None:
        return load._replace(context=context)
    assert load.prompt is not None and load.output is not None
    scale = context / (load.prompt + load.output)
    return load._replace(prompt=load.prompt * scale, output=load.output * scale)


def assess(problem: Problem, x: Values, choice: Choice, sharpness: Scalar) -> Assessed:
    """Price a design, given as logarithms of its variables."""
    every = system(problem, x, choice, sharpness)
    loads = loads_of(problem, x)
    seen = [served(parts, load, problem.integer) for parts, load in zip(every, loads, strict=True)]
    tables = [
        figures(problem, parts, load, one)
        for parts, load, one in zip(every, loads, seen, strict=True)
    ]
    share = sum((load.weight for load in loads), as_scalar(0.0))
    terms = [
        load.weight / share * weight * _worth(name, table[name])
        for load, table in zip(loads, tables, strict=True)
        for name, weight in problem.weights.items()
    ]
    return Assessed(functools.reduce(jnp.add, terms), tables, seen, every)


def _worth(name: str, value: Scalar) -> Scalar:
    """Logarithm of a figure, larger for better; where users only decode there is no first token."""
    logarithm = jnp.log(jnp.maximum(value, SMALLEST))
    return logarithm if name in LARGER else -logarithm


def money(problem: Problem, parts: list[Part], one: Served) -> Money:
    """What a system costs while it serves."""
    return owned(parts, problem.limits.power, problem.owner, one.rate * one.energy)


def figures(problem: Problem, parts: list[Part], load: Load, one: Served) -> dict[str, Scalar]:
    """Every figure of a system under a workload, in the units of its name."""
    spent = money(problem, parts, one)
    sold = one.rate * problem.owner.busy
    speed, curve = 1 / one.tpot, problem.curve
    revenue = sold * curve.paid * (speed / curve.speed) ** curve.exponent
    held = sum((p.chips * p.made.chip.main.capacity for p in parts), as_scalar(0.0))
    return {
        "tokens_per_s_per_user": speed,
        "tokens_per_s": one.rate,
        "tokens_per_s_per_mm2": one.rate / (spent.area * 1e6),
        "tokens_per_s_per_watt": one.rate / spent.power,
        "tokens_per_s_per_usd": one.rate / spent.paid,
        "revenue_per_usd": revenue / spent.running,
        "revenue_per_watt": revenue / spent.power,
        "usd_per_million_tokens": MILLION * spent.running / sold,
        "joules_per_million_tokens": MILLION * one.energy,
        "memory_bytes_per_token_per_s": held / one.rate,
        "ttft_ms": 1e3 * one.ttft,
        "tpot_ms": 1e3 * one.tpot,
    }


def _slack(name: str, value: Scalar, limit: Scalar) -> Scalar:
    return jnp.log(value / limit) if name in LARGER else jnp.log(limit / value)


def _chip_slacks(problem: Problem, parts: list[Part]) -> list[Scalar]:
    """Of each pool's chip, in the order of `ON_A_CHIP`."""
    limits = problem.limits
    return [
        slack
        for made in (part.made for part in parts)
        for slack in (
            jnp.log(limits.area / made.area),
            jnp.log(limits.power / made.idle),
            made.rate,
            made.edge,
        )
    ]


def _least(slacks: list[list[Scalar]]) -> list[Scalar]:
    """Of each limit the least slack over the workloads, which may take different numbers of chips."""
    return [functools.reduce(jnp.minimum, each) for each in zip(*slacks, strict=True)]


def _system_slacks(problem: Problem, parts: list[Part]) -> list[Scalar]:
    """What the chips and the system as a whole may cost and take, in the order of `on_system`."""
    limits = problem.limits
    whole = owned(parts, limits.power, problem.owner, as_scalar(0.0))
    dearest = functools.reduce(jnp.maximum, [price(p.made.cost, problem.owner) for p in parts])
    used = {
        "chip_usd": dearest,
        "system_usd": whole.paid,
        "system_mm2": whole.area * 1e6,
    }
    return [jnp.log(limits.system[name] / used[name]) for name in problem.on_system]
