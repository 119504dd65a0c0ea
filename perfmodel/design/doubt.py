"""How far each fact of a study may be off: draws of all of them at once."""

import numpy as np

from perfmodel.design.pose import NO_MEMORY
from perfmodel.design.study import SpaceTable, Study
from perfmodel.inference.setting import intervals_of
from perfmodel.library.chip import chip_file, origin
from perfmodel.library.constants import load_constants
from perfmodel.library.economics import assumption
from perfmodel.library.model import load_model
from perfmodel.library.schema import Quantity
from perfmodel.library.technology import (
    WITH,
    link_technology,
    load_node,
    memory_technology,
    price_of,
)
from perfmodel.workload.plan import Plan

NINE_TENTHS = 1.6449
"""Standard deviations within which nine of ten values of a normal distribution lie."""

LEAST = 1e-3
"""A range that begins at nothing begins at a thousandth of the value."""

ON_DIE = {"sram_density": "density", "sram_energy": "energy"}
"""Facts of a node that are those of the memory on its die, where that is not SRAM: as its file calls them."""

Doubt = tuple[float, float]
"""Standard deviations of a logarithm, downwards and upwards."""

RENAMED = {"phy": "interface_area", "controller": "controller_transistors"}
"""Facts of a memory that its file calls otherwise."""


def doubts(study: Study, names: list[str]) -> np.ndarray:
    """Of each fact by its name: rows of deviations down and up; zero where nothing is said.

    Ranges of the library are taken as what nine of ten values lie within; fitted constants have
    the spread of their fit; times that of the base chip's predictions, drawn for each memory by itself.
    """
    return np.array([_doubt(study, *name.split(".", 1)) for name in names])


def same(name: str) -> str:
    """What a fact is drawn with: a wafer's price is that of its node, whatever memory lies on the die."""
    of, _, field = name.partition(".")
    node, _, macro = of.partition(WITH)
    return name if macro and field in ON_DIE else f"{node}.{field}"


def _doubt(study: Study, of: str, field: str) -> Doubt:
    if of in ("area", "power", "cost"):
        spread = float(getattr(getattr(load_constants().spreads, of), field))
        return spread, spread
    if of == "slow":
        stem, file = chip_file(study.space.base)
        model = load_model(study.workload[0].model)
        found = intervals_of(origin(stem, file), Plan(), model).tpot
        return _sides(1.0, found.low, found.high)
    found = _quantity(study.space, of, field)
    if found is None or not found.value:
        return 0.0, 0.0
    ends = (found.value if end is None else end for end in (found.low, found.high))
    return _sides(found.value, *ends)


def _sides(value: float, low: float, high: float) -> Doubt:
    below, above = np.log(value / max(low, LEAST * value)), np.log(high / value)
    return float(below) / NINE_TENTHS, float(above) / NINE_TENTHS


def _quantity(space: SpaceTable, of: str, field: str) -> Quantity | None:
    """A fact as its file has it; `None` for what is no fact: no memory, users, models."""
    if of == "owner":
        return assumption(field)
    if of in (NO_MEMORY, "asked"):
        return None
    if of in space.node:
        node, _, macro = of.partition(WITH)
        return _of_silicon(node, macro, field)
    if of == space.link:
        return getattr(link_technology(of), field)
    file = memory_technology(of)
    return (
        price_of(file, of, space.year)
        if field == "price"
        else getattr(file, RENAMED.get(field, field))
    )


def _of_silicon(node: str, macro: str, field: str) -> Quantity | None:
    """A fact of a node, or of the memory on its die."""
    if macro and field in ON_DIE:
        return getattr(memory_technology(macro), ON_DIE[field])
    found = getattr(load_node(node), field)
    return found["bf16"] if isinstance(found, dict) else found


def draws(names: list[str], deviations: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Logarithms of factors on each fact: log-normal, its two sides as wide as they are known."""
    normal = np.random.default_rng(seed).standard_normal((count, len(names)))
    keys = [same(name) for name in names]
    normal = normal[:, [keys.index(key) for key in keys]]
    return normal * np.where(normal < 0, deviations[:, 0], deviations[:, 1])
