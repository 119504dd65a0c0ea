"""How far each fact may be off, draws of all of them, and which family of designs wins under these.

A family is what a search found of one node and one memory; the best of each is priced in one `vmap` under
draws of every fact. It adapts to first order: what a limit gives or takes counts at its shadow price. And it
is provisioned for as much power as serves it best.
"""

from typing import NamedTuple

import numpy as np

from perfmodel.design.facts import Cases, evaluate_cases
from perfmodel.design.multistart import LocalOptimum, MultiStart
from perfmodel.design.problem import LIMIT_TOLERANCE, Problem
from perfmodel.design.sensitivity import sensitivities
from perfmodel.design.study import SpaceTable, Study
from perfmodel.design.variables import NO_MEMORY, plain_name
from perfmodel.inference.deployment import serving_intervals
from perfmodel.library.chip import chip_file, origin
from perfmodel.library.economics import assumption
from perfmodel.library.model import load_model
from perfmodel.library.schema import Quantity
from perfmodel.library.technology import (
    MEMORY_SEPARATOR,
    link_technology,
    load_constants,
    load_node,
    memory_technology,
    price_of,
)
from perfmodel.workload.plan import Plan

NINE_TENTHS = 1.6449
"""Standard deviations within which nine of ten values of a normal distribution lie."""

MIN_RATIO = 1e-3
"""A range that begins at nothing begins at a thousandth of the value."""

ON_DIE = {"sram_density": "density", "sram_energy": "energy", "endurance": "endurance"}
"""Facts of a node that are those of the memory on its die, where that is not SRAM: as its file calls them."""

Deviations = tuple[float, float]
"""Standard deviations of a logarithm, downwards and upwards."""

FIELDS_OF_FILES = {"phy": "interface_area", "controller": "controller_transistors"}
"""Facts of a memory that its file calls otherwise."""


def deviations(study: Study, names: list[str]) -> np.ndarray:
    """Of each fact by its name: rows of deviations down and up; zero where nothing is said.

    Ranges of the library are taken as what nine of ten values lie within; fitted constants have
    the spread of their fit; times that of the base chip's predictions, drawn for each memory by itself.
    """
    return np.array([_deviations(study, *name.split(".", 1)) for name in names])


def drawn_with(name: str) -> str:
    """What a fact is drawn with: a wafer's price is that of its node, whatever memory lies on the die."""
    of, _, field = name.partition(".")
    node, _, macro = of.partition(MEMORY_SEPARATOR)
    return name if macro and field in ON_DIE else f"{node}.{field}"


def _deviations(study: Study, of: str, field: str) -> Deviations:
    if of in ("area", "power", "cost"):
        spread = float(getattr(getattr(load_constants().spreads, of), field))
        return spread, spread
    if of == "slow":
        stem, file = chip_file(study.space.base)
        model = load_model(study.workload[0].model)
        found = serving_intervals(origin(stem, file), Plan(), model).tpot
        return _sides(1.0, found.low, found.high)
    found = _quantity(study.space, of, field)
    if found is None or not found.value:
        return 0.0, 0.0
    ends = (found.value if end is None else end for end in (found.low, found.high))
    return _sides(found.value, *ends)


def _sides(value: float, low: float, high: float) -> Deviations:
    below, above = np.log(value / max(low, MIN_RATIO * value)), np.log(high / value)
    return float(below) / NINE_TENTHS, float(above) / NINE_TENTHS


def _quantity(space: SpaceTable, of: str, field: str) -> Quantity | None:
    """A fact as its file has it; `None` for what is no fact: no memory, users, models."""
    if of == "owner":
        return assumption(field)
    if of in (NO_MEMORY, "asked"):
        return None
    if of in space.node:
        node, _, macro = of.partition(MEMORY_SEPARATOR)
        return _of_silicon(node, macro, field)
    if of == space.link:
        return getattr(link_technology(of), field)
    file = memory_technology(of)
    return (
        price_of(file, of, space.year)
        if field == "price"
        else getattr(file, FIELDS_OF_FILES.get(field, field))
    )


def _of_silicon(node: str, macro: str, field: str) -> Quantity | None:
    """A fact of a node, or of the memory on its die; `None` for the chips made of it."""
    if field == "volume" or (field == "endurance" and not macro):
        return None
    if macro and field in ON_DIE:
        return getattr(memory_technology(macro), ON_DIE[field])
    found = getattr(load_node(node), field)
    return found["bf16"] if isinstance(found, dict) else found


def draws(names: list[str], deviations: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Logarithms of factors on each fact: log-normal, its two sides as wide as they are known."""
    normal = np.random.default_rng(seed).standard_normal((count, len(names)))
    keys = [drawn_with(name) for name in names]
    normal = normal[:, [keys.index(key) for key in keys]]
    return normal * np.where(normal < 0, deviations[:, 0], deviations[:, 1])


DRAWS = 512
"""Draws of all facts: shares are then known to about two in a hundred."""

VIOLATION_PRICE = 1.0
"""Price of a limit that did not bind and now breaks: what is short is made up by as many more chips."""

POWER_STEPS = 5
"""Powers to which a design may be provisioned, from its own to the bound."""

INFEASIBLE = 1e3
"""Added to the value of a way that breaks a limit: a logarithm that no figure has."""

MIN_DISTANCE = 0.05
"""Of a variable's range, by which two designs of a family differ at least to be called two."""


class Family(NamedTuple):
    """Designs of one node and one memory: `designs`, the best first; `multipliers` of its limits there."""

    node: str
    memory: str
    designs: list[LocalOptimum]
    multipliers: np.ndarray

    @property
    def name(self) -> str:
        """Node and memory."""
        return f"{self.node}, {self.memory}"


def families(study: Study, solver: MultiStart, designs: list[LocalOptimum]) -> list[Family]:
    """Of the designs that a search found, the best family first."""
    groups: dict[tuple[int, ...], list[LocalOptimum]] = {}
    for one in designs:
        mine = groups.setdefault(tuple(map(int, one.choice)), [])
        if all(np.max(np.abs(one.unit - other.unit)) > MIN_DISTANCE for other in mine):
            mine.append(one)
    found = sensitivities(solver, [group[0] for group in groups.values()])
    return [
        Family(study.space.node[node], study.space.memory[memory], group, one.multipliers)
        for ((node, memory), group), one in zip(groups.items(), found, strict=True)
    ]


def value_under(
    problem: Problem, known: list[Family], logs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The value of each family, on the first axis, with facts changed by each row of `logs`.

    Beside it, whether it keeps the limits to which it does not adapt: those that did not bind before.
    """
    tried = [_provisioned(problem, family.designs[0].unit) for family in known]
    unit = np.repeat(np.concatenate(tried), len(logs), axis=0)
    each = len(tried[0]) * len(logs)
    choice = np.repeat([family.designs[0].choice for family in known], each, axis=0)
    multipliers = np.repeat([family.multipliers for family in known], each, axis=0)
    cases = Cases(np.resize(logs, (len(unit), logs.shape[1])), unit, choice)
    value, slack = evaluate_cases(problem, cases)
    short, binding = VIOLATION_PRICE * np.maximum(-slack, 0.0), multipliers > 0
    adapted = np.where(binding, -multipliers * slack, short)
    kept = np.all(binding | (slack > -LIMIT_TOLERANCE), axis=1)
    shape = (len(known), len(tried[0]), len(logs))
    return _best_provision((value + adapted.sum(axis=1)).reshape(shape), kept.reshape(shape))


def _provisioned(problem: Problem, unit: np.ndarray) -> np.ndarray:
    """A design, and the same provisioned for more power, up to the bound, where that is free."""
    free = np.array([plain_name(name) == "power_w" for name in problem.names])
    steps = np.linspace(0, 1, POWER_STEPS if free.any() else 1)[:, None]
    return np.where(free, unit + steps * (1 - unit), unit)


def _best_provision(values: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of all ways, on the second axis, the one of the least value; of those that keep all limits, if any."""
    best = np.argmin(np.where(kept, values, values + INFEASIBLE), axis=1)[:, None]
    value, holds = (np.take_along_axis(part, best, axis=1)[:, 0] for part in (values, kept))
    return value, holds


def win_shares(values: np.ndarray) -> np.ndarray:
    """Of all columns, the share in which each row has the least value."""
    return np.bincount(np.argmin(values, axis=0), minlength=len(values)) / values.shape[1]
