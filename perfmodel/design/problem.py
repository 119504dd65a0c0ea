"""A study as a problem: the objective, and what each limit leaves, as functions of a vector."""

import dataclasses
import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from perfmodel.design.abstract_problem import AbstractProblem, Choice
from perfmodel.design.chip import ChipDesign, Platform, build, chip_parameters
from perfmodel.design.objectives import LARGER, OBJECTIVES, Outcome
from perfmodel.design.system import (
    Pool,
    Served,
    SystemCost,
    Workload,
    capacity_slack,
    chip_price,
    cost_of,
    delayed,
    in_scenario,
    served,
    wear_slack,
    with_context,
)
from perfmodel.design.variables import PLAN_RANKS, POOL_PREFIXES
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.constants import Constants
from perfmodel.hardware.cost import Development, Ownership, development_share
from perfmodel.hardware.technology import Device, Node, Technology, Wires
from perfmodel.library.ledger import DEFAULT_BASIS
from perfmodel.library.technology import UNLIMITED
from perfmodel.units import Scalar, Values, as_scalar
from perfmodel.workload.plan import Plan

MIN_FIGURE = 1e-20
"""The least figure whose logarithm is taken."""


LIMIT_TOLERANCE = 1e-3
"""A limit broken by less than this, relative, counts as kept."""


class Limits(eqx.Module):
    """What a design must keep.

    - `area`, `power`: of one chip, in m2 and W.
    - `package`, `density`: likewise by what cools it, in W and in W/m2 of the die; `None`: no such limit.
    - `system`: prices and areas, by name; `figures`: of what users see, likewise, in the units of the name.
    """

    area: Scalar = eqx.field(converter=as_scalar)
    power: Scalar = eqx.field(converter=as_scalar)
    system: dict[str, Scalar]
    figures: dict[str, Scalar]
    package: Scalar | None = None
    density: Scalar | None = None


class PriceCurve(eqx.Module):
    """What users pay: USD/token at a speed in tokens/s, and the exponent of speed."""

    paid: Scalar = eqx.field(converter=as_scalar)
    speed: Scalar = eqx.field(converter=as_scalar)
    exponent: Scalar = eqx.field(converter=as_scalar)


class Problem(AbstractProblem):
    """A study with everything looked up.

    - `base`, `base_node`: the chip that others are made like, and its node.
    - `nodes`, `memories`: to choose from, on a leading axis; `link`: technology of links.
    - `constants`, `owner`: of area, power and cost; of owning.
    - `development`: what is paid once, for each node, on a leading axis; `None`: left out.
    - `memory_endurance`, `macro_endurance`: writes that cells of each memory, and of what lies on each node's
      die, survive; `None`: nothing wears out.
    - `workloads`; `limits`; `curve`: of prices.
    - `fixed`: quantities that are not free, by name.
    - `weights`: of each figure in the objective, by name, most of them zero.
    - `latency_factor`: for each memory, times over what the model says: 1, or a draw of the fit's error.
    - `scenario`: factors on users (`batch`), on their tokens (`context`) and on parameters (`model`).
    - `names`: of the variables; `pools`: one or two
    - `on_figures`, `on_system`: names of the limits on what users see, and on the system.
    - `integer`: whether cores, tiles, waves and splits are integers.
    - `cost_basis`: what USD for running a system are of.
    """

    base: Chip
    base_node: Node
    nodes: Node
    memories: Device
    link: Wires
    constants: Constants
    owner: Ownership
    workloads: list[Workload]
    limits: Limits
    weights: dict[str, Scalar]
    curve: PriceCurve
    fixed: dict[str, Scalar]
    latency_factor: Values
    scenario: dict[str, Scalar]
    low: Values
    high: Values
    development: Development | None
    memory_endurance: Values | None
    macro_endurance: Values | None
    options: tuple[int, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    pools: int = eqx.field(static=True)
    on_figures: tuple[str, ...] = eqx.field(static=True)
    on_system: tuple[str, ...] = eqx.field(static=True)
    integer: bool = eqx.field(static=True, default=False)
    cost_basis: str = eqx.field(static=True, default=DEFAULT_BASIS)

    def model_terms(self, x: Values, choice: Choice, sharpness: Scalar) -> Values:
        """Minus the logarithm of what is maximised, then slacks of what users see."""
        found = assess(self, x, choice, sharpness)
        return jnp.stack([-found.objective, *user_slacks(self, found)])

    def static_constraints(self, x: Values, choice: Choice) -> Values:
        """Slacks of what is known before a model runs."""
        every = system(self, x, choice, as_scalar(1.0))
        shared = shared_slacks(self, every, workloads_of(self, x))
        return jnp.stack([*_chip_slacks(self, every[0]), *shared])

    @property
    def constraint_names(self) -> tuple[str, ...]:
        """Names of all slacks, in their order."""
        chips = [
            prefix + name for prefix in POOL_PREFIXES[self.pools] for name in self.chip_constraints
        ]
        return (*self.user_constraints, *chips, *self.system_constraints)

    @property
    def chip_constraints(self) -> tuple[str, ...]:
        """Names of the slacks of each chip."""
        return (*CHIP_CONSTRAINTS, *self.cooling_constraints)

    @property
    def cooling_constraints(self) -> tuple[str, ...]:
        """Names of the slacks of each chip by what cools it."""
        return COOLING_CONSTRAINTS if self.limits.package is not None else ()

    @property
    def user_constraints(self) -> tuple[str, ...]:
        """Names of the slacks of what users see."""
        wear = ("endurance",) if self.memory_endurance is not None else ()
        return tuple(name + load for name in (*self.on_figures, *wear) for load in self._loads)

    @property
    def system_constraints(self) -> tuple[str, ...]:
        """Names of the slacks of the system as a whole."""
        return (*["capacity" + load for load in self._loads], *self.on_system)

    @property
    def _loads(self) -> list[str]:
        count = len(self.workloads)
        return [f" of workload {i + 1}" if count > 1 else "" for i in range(count)]


CHIP_CONSTRAINTS = ("area_mm2", "power_w", "sram_rate", "edge")
"""Limits of every chip: die area; idle power; SRAM bandwidth for its size; its edge."""

COOLING_CONSTRAINTS = ("package_w", "w_per_mm2")
"""Limits of every chip whose cooling is given: power of the package; power over the area of the die."""


class Assessment(NamedTuple):
    """A design priced: logarithm of what is maximised, and all figures of each workload.

    - `wear`: slacks of memories that wear out, likewise; none where nothing does.
    """

    objective: Scalar
    figures: list[dict[str, Scalar]]
    served: list[Served]
    pools: list[list[Pool]]
    wear: list[Scalar]


def quantities(problem: Problem, x: Values) -> dict[str, Scalar]:
    """Every quantity of a design by name, in SI: free ones from a vector of logarithms."""
    return problem.fixed | {name: jnp.exp(x[i]) for i, name in enumerate(problem.names)}


def technology(problem: Problem, choice: Choice, values: dict[str, Scalar]) -> Technology:
    """The node and the memory that are chosen, the memory at the price that is asked for."""
    node = jax.tree.map(lambda leaf: leaf[choice[0]], problem.nodes)
    memory = jax.tree.map(lambda leaf: leaf[choice[1]], problem.memories)
    if "memory_usd_per_gb" in values:
        memory = eqx.tree_at(lambda m: m.price, memory, values["memory_usd_per_gb"])
    return Technology(node, memory, problem.link)


def system(problem: Problem, x: Values, choice: Choice, sharpness: Scalar) -> list[list[Pool]]:
    """For each workload, the pools that serve it."""
    values = quantities(problem, x)
    platform = Platform(
        softened(problem.base, sharpness),
        problem.base_node,
        technology(problem, choice, values),
        problem.constants,
        development_of(problem, choice),
        _endurance(problem, choice),
    )
    memory, limit = platform.technology.memory, problem.limits.power
    mine = [_counted(own, memory) for own in own_values(problem, values)]
    designs = [
        build(chip_parameters(own, platform.base), platform, own.get("power_w", limit))
        for own in mine
    ]
    if problem.integer:
        designs = [_integer_cores(one) for one in designs]
    return pooled(problem, designs, mine)


def _counted(own: dict[str, Scalar], memory: Device) -> dict[str, Scalar]:
    """Devices of the memory that is chosen: channels where it takes no place beside the die, else stacks."""
    if "channels" not in own:
        return own
    channels = own["channels"]
    stacks = jnp.where(memory.footprint > 0, own.get("stacks", channels), channels)
    return own | {"stacks": stacks}


def _endurance(problem: Problem, choice: Choice) -> tuple[Scalar | float, Scalar | float]:
    """Writes that a cell survives, of the memory that is chosen and of what lies on the die."""
    if problem.memory_endurance is None or problem.macro_endurance is None:
        return UNLIMITED, UNLIMITED
    return problem.memory_endurance[choice[1]], problem.macro_endurance[choice[0]]


def development_of(problem: Problem, choice: Choice) -> Scalar:
    """USD of each chip for what is paid once; each pool has a chip of its own."""
    if problem.development is None:
        return as_scalar(0.0)
    chosen = jax.tree.map(lambda leaf: leaf[choice[0]], problem.development)
    return development_share(chosen, problem.pools)


def own_values(problem: Problem, values: dict[str, Scalar]) -> list[dict[str, Scalar]]:
    """The quantities of each pool, by their plain names."""
    return [
        {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)}
        for prefix in POOL_PREFIXES[problem.pools]
    ]


def pooled(
    problem: Problem, designs: list[ChipDesign], mine: list[dict[str, Scalar]]
) -> list[list[Pool]]:
    """For each workload, pools of chips with the ranks and workers that each pool is given."""
    return [
        [
            Pool(one, _ranks(load.plan, own), own.get("workers", as_scalar(1.0)))
            for one, own in zip(designs, mine, strict=True)
        ]
        for load in problem.workloads
    ]


def _integer_cores(design: ChipDesign) -> ChipDesign:
    count = jnp.maximum(jnp.floor(design.chip.cores), 1.0)
    return design._replace(chip=dataclasses.replace(design.chip, cores=count))


def _ranks(plan: Plan, own: dict[str, Scalar]) -> Plan:
    given = {rank: own[name] for name, rank in PLAN_RANKS.items() if name in own}
    return dataclasses.replace(plan, **given)


def softened(chip: Chip, sharpness: Scalar) -> Chip:
    """The chip with schedules chosen less surely: a smoother function of everything."""

    def soften(path: tuple, leaf: Values) -> Values:
        return leaf * sharpness if getattr(path[-1], "name", "") == "selection_sharpness" else leaf

    changed = jax.tree_util.tree_map_with_path(soften, chip.efficiency)
    return eqx.tree_at(lambda c: c.efficiency, chip, changed)


def workloads_of(problem: Problem, x: Values) -> list[Workload]:
    """The workloads, with users and context where these are variables."""
    values = quantities(problem, x)
    loads = problem.workloads
    if "batch" in values:
        loads = [load._replace(batch=values["batch"]) for load in loads]
    if "context" in values:
        loads = [with_context(load, values["context"]) for load in loads]
    return [in_scenario(load, problem.scenario) for load in loads]


def assess(problem: Problem, x: Values, choice: Choice, sharpness: Scalar) -> Assessment:
    """Price a design, given as logarithms of its variables."""
    every = system(problem, x, choice, sharpness)
    return assess_pools(problem, every, workloads_of(problem, x), problem.latency_factor[choice[1]])


def assess_pools(
    problem: Problem, every: list[list[Pool]], loads: list[Workload], latency_factor: Scalar
) -> Assessment:
    """Price the pools that serve each workload, all times `latency_factor` times as long."""
    seen = [
        delayed(served(pools, load, problem.integer), latency_factor)
        for pools, load in zip(every, loads, strict=True)
    ]
    tables = [
        figures(problem, pools, load, one)
        for pools, load, one in zip(every, loads, seen, strict=True)
    ]
    share = sum((load.weight for load in loads), as_scalar(0.0))
    terms = [
        load.weight / share * weight * _score(name, table[name])
        for load, table in zip(loads, tables, strict=True)
        for name, weight in problem.weights.items()
    ]
    wear = [] if problem.memory_endurance is None else list(map(wear_slack, every, loads, seen))
    return Assessment(functools.reduce(jnp.add, terms), tables, seen, every, wear)


def _score(name: str, value: Scalar) -> Scalar:
    """Logarithm of a figure, larger for better; where users only decode there is no first token."""
    logarithm = jnp.log(jnp.maximum(value, MIN_FIGURE))
    return logarithm if name in LARGER else -logarithm


def system_cost(problem: Problem, pools: list[Pool], one: Served) -> SystemCost:
    """What a system costs while it serves."""
    return cost_of(pools, problem.owner, one.rate * one.energy, problem.cost_basis)


def main_memory_bytes(pools: list[Pool]) -> Scalar:
    """Bytes of main memory in all."""
    return sum((p.chips * p.design.chip.main.capacity for p in pools), as_scalar(0.0))


NO_MEMORY_GB = 1e-3
"""Added to the memory of a system before its logarithm is taken: there may be none."""


def figures(problem: Problem, pools: list[Pool], load: Workload, one: Served) -> dict[str, Scalar]:
    """Every figure of a system under a workload, in the units of its name."""
    spent = system_cost(problem, pools, one)
    sold = one.rate * problem.owner.busy
    curve = problem.curve
    revenue = sold * curve.paid * (1 / one.tpot / curve.speed) ** curve.exponent
    seen = Outcome(one, spent, sold, revenue, main_memory_bytes(pools))
    return {name: objective.of(seen) for name, objective in OBJECTIVES.items()}


def user_slacks(problem: Problem, found: Assessment) -> list[Scalar]:
    """What the limits on what users see leave, in the order of `user_constraints`."""
    kept = [
        _slack(name, table[name], problem.limits.figures[name])
        for name in problem.on_figures
        for table in found.figures
    ]
    return [*kept, *found.wear]


def _slack(name: str, value: Scalar, limit: Scalar) -> Scalar:
    return jnp.log(value / limit) if name in LARGER else jnp.log(limit / value)


def _chip_slacks(problem: Problem, pools: list[Pool]) -> list[Scalar]:
    """Of each pool's chip, in the order of `chip_constraints`."""
    limits = problem.limits
    return [
        slack
        for design in (pool.design for pool in pools)
        for slack in (
            jnp.log(limits.area / design.area),
            jnp.log(design.chip.peak_power / design.idle),
            design.rate,
            design.edge,
            *cooling_slacks(limits, design),
        )
    ]


def cooling_slacks(limits: Limits, design: ChipDesign) -> list[Scalar]:
    """In the order of `COOLING_CONSTRAINTS`; none where no cooling is given."""
    if limits.package is None or limits.density is None:
        return []
    power = design.chip.peak_power
    return [jnp.log(limits.package / power), jnp.log(limits.density * design.area / power)]


def shared_slacks(problem: Problem, every: list[list[Pool]], loads: list[Workload]) -> list[Scalar]:
    """Room for weights and cache, and limits of the system, in the order of `system_constraints`."""
    capacity_slacks = [
        capacity_slack(pools, load) for pools, load in zip(every, loads, strict=True)
    ]
    return [*capacity_slacks, *_tightest([_system_slacks(problem, pools) for pools in every])]


def _tightest(slacks: list[list[Scalar]]) -> list[Scalar]:
    """Of each limit the least slack over the workloads, which may take different numbers of chips."""
    return [functools.reduce(jnp.minimum, each) for each in zip(*slacks, strict=True)]


def _system_slacks(problem: Problem, pools: list[Pool]) -> list[Scalar]:
    """What the chips and the system as a whole may cost and take, in the order of `on_system`."""
    limits = problem.limits
    whole = cost_of(pools, problem.owner, as_scalar(0.0))
    chip_usd = functools.reduce(jnp.maximum, [chip_price(p.design, problem.owner) for p in pools])
    used = {
        "chip_usd": chip_usd,
        "system_usd": whole.paid,
        "system_mm2": whole.area * 1e6,
        "system_memory_gb": main_memory_bytes(pools) * 1e-9 + NO_MEMORY_GB,
    }
    return [jnp.log(limits.system[name] / used[name]) for name in problem.on_system]
