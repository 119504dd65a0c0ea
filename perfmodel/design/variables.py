"""Variables of a design: those of a study, free or fixed; and those turned on a chip by hand."""

import functools
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from perfmodel.design.study import CHANNELS, Bounds, ChipTable, SpaceTable, Study
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.library.schema import ChipFile, Quantity, si_or
from perfmodel.library.technology import memory_technology


class Kind(NamedTuple):
    """A quantity that can be free.

    - `unit`: of the key in a study, in SI; `integer`: whether it is a number of things.
    """

    unit: float
    integer: bool = False


KINDS = {
    "sram_mb": Kind(1e6),
    "sram_tb_per_s": Kind(1e12),
    "stacks": Kind(1.0, integer=True),
    "tflops": Kind(1e12),
    "clock_ghz": Kind(1e9),
    "vector_tflops": Kind(1e12),
    "exponential_t_per_s": Kind(1e12),
    "link_gb_per_s": Kind(1e9),
    "power_w": Kind(1.0),
    "tensor": Kind(1.0, integer=True),
    "pipeline": Kind(1.0, integer=True),
    "data": Kind(1.0, integer=True),
    "workers": Kind(1.0, integer=True),
    "batch": Kind(1.0, integer=True),
    "context": Kind(1.0),
    "memory_usd_per_gb": Kind(1e-9),
    "channels": Kind(1.0, integer=True),
}
"""By the key of a study; clock in 1/s, power in W, the rest in bytes, bytes/s, FLOP/s, USD/byte, pieces."""

SCENARIO = ("batch", "context", "memory_usd_per_gb")
"""The scenario that a design serves."""

CHIP_FIELDS = tuple(ChipTable.model_fields)

PLAN_RANKS = {"tensor": "tp", "pipeline": "pp", "data": "dp"}
"""Variables that are ranks of a plan, and its fields."""

PARALLELISM = (*PLAN_RANKS, "workers")
"""How many chips work together; beside `SCENARIO`, all of a design that is not its chip."""

POOL_PREFIXES = {1: ("",), 2: ("prefill.", "decode.")}
"""What stands before the names of each pool's variables."""


def plain_name(name: str) -> str:
    """The name of a variable without its pool."""
    return name.rsplit(".", 1)[-1]


class Variable(NamedTuple):
    """One free number: its name, with its pool before it, and its kind."""

    name: str
    kind: Kind


class Space(NamedTuple):
    """Everything that describes a design, free or fixed.

    - `variables`: free ones, in the order of every vector.
    - `low`, `high`: logarithms of their bounds, in SI.
    - `fixed`: the others, in SI, by name.
    """

    variables: tuple[Variable, ...]
    low: np.ndarray
    high: np.ndarray
    fixed: dict[str, float]

    @property
    def names(self) -> list[str]:
        """Of the free variables."""
        return [variable.name for variable in self.variables]

    @property
    def integer(self) -> np.ndarray:
        """Which of them are integers."""
        return np.array([variable.kind.integer for variable in self.variables], bool)

    @property
    def units(self) -> np.ndarray:
        """In which they are given."""
        return np.array([variable.kind.unit for variable in self.variables])

    def logarithms(self, unit: np.ndarray) -> np.ndarray:
        """Logarithms of designs from their coordinates between 0 and 1."""
        return self.low + (self.high - self.low) * unit

    def unit(self, logarithms: np.ndarray) -> np.ndarray:
        """Coordinates of designs from their logarithms."""
        return (logarithms - self.low) / (self.high - self.low)

    def in_study_units(self, unit: np.ndarray) -> dict[str, float]:
        """A design in the units that studies are written in."""
        values = np.exp(self.logarithms(unit)) / self.units
        return dict(zip(self.names, map(float, values), strict=True))


def read_space(study: Study) -> Space:
    """The variables of a study."""
    ranges = _ranges(study.space)
    free = {name: one for name, one in ranges.items() if one.low < one.high}
    kinds = {name: KINDS[plain_name(name)] for name in ranges}
    fixed = {
        name: one.low * kinds[name].unit for name, one in ranges.items() if one.low == one.high
    }
    if not free:
        raise InputError("space: nothing is free; give at least one variable a low and a high.")
    for name, one in free.items():
        if kinds[name].integer and np.floor(one.high) < np.ceil(one.low):
            raise InputError(
                f"space.{name}: no whole number lies between {one.low:g} and {one.high:g}; widen its bounds."
            )
    units = np.array([kinds[name].unit for name in free])
    low, high = (
        np.log(np.array([getattr(one, side) for one in free.values()]) * units)
        for side in ("low", "high")
    )
    return Space(tuple(Variable(name, kinds[name]) for name in free), low, high, fixed)


def _ranges(space: SpaceTable) -> dict[str, Bounds]:
    pools = (
        [space] if space.prefill is None or space.decode is None else [space.prefill, space.decode]
    )
    found = {
        prefix + name: one
        for prefix, pool in zip(POOL_PREFIXES[len(pools)], pools, strict=True)
        for name, one in _of_chip(pool, space.memory).items()
    } | {name: getattr(space, name) for name in SCENARIO}
    return {name: one for name, one in found.items() if one is not None}


NO_MEMORY = "none"
"""A choice of memory: none beside the SRAM."""


def _of_chip(pool: ChipTable, memories: list[str]) -> dict[str, Bounds | None]:
    """Bounds of one chip's variables; stacks and channels as far as one of the memories has them."""
    found = {name: getattr(pool, name) for name in CHIP_FIELDS}
    devices = [memory_technology(name) for name in memories if name != NO_MEMORY]
    beside = [si_or(one.footprint, "m2", missing=0.0) > 0 for one in devices]
    if not all(beside) and not {"stacks", "channels"} & pool.model_fields_set:
        found["channels"] = CHANNELS
    if found["channels"] is not None and beside and not any(beside):
        found["stacks"] = None
    return found


def start_vector(space: Space, start: dict[str, float]) -> np.ndarray | None:
    """The start that a study names, as coordinates between 0 and 1; the middle where it says nothing.

    **Raises:**

    - `InputError`: for a variable that is not free, or a value outside its bounds.
    """
    if not start:
        return None
    place = np.full(len(space.variables), 0.5)
    for name, value in start.items():
        if name not in space.names:
            raise InputError(
                f"space.start.{name[:50]}: no such variable is free; free are {', '.join(space.names)}."
            )
        at = space.names.index(name)
        share = (np.log(value * space.units[at]) - space.low[at]) / (space.high[at] - space.low[at])
        if not -1e-9 <= share <= 1 + 1e-9:
            low, high = np.exp([space.low[at], space.high[at]]) / space.units[at]
            raise InputError(
                f"space.start.{name} is {value:g}; it must lie between its bounds {low:g} and {high:g}."
            )
        place[at] = np.clip(share, 0, 1)
    return place


class ChipVariable(NamedTuple):
    """A variable turned by hand: its label, where its facts stand in a chip's file, and in a `Chip`."""

    label: str
    facts: tuple[str, ...]
    fields: tuple[str, ...]


def _alike(label: str, *places: str) -> ChipVariable:
    return ChipVariable(label, places, places)


CHIP_VARIABLES = {
    "sram": _alike("SRAM size", "private.capacity", "shared.capacity"),
    "sram_bandwidth": _alike("SRAM bandwidth", "private.bandwidth", "shared.bandwidth"),
    "stacks": ChipVariable(
        "memory stacks",
        ("main.capacity", "main.reported", "main.bandwidth"),
        ("main.capacity", "main.bandwidth"),
    ),
    "bandwidth": _alike("memory bandwidth", "main.bandwidth"),
    "compute": _alike("compute", "matrix", "vector", "exponential"),
    "links": _alike("links", "scale_up.bandwidth", "scale_out.bandwidth"),
    "price": ChipVariable("price", ("money.price", "money.rental"), ("price",)),
}
"""Stacks bring size and bandwidth of the main memory; `compute` makes the same cores faster."""


def turn(chip: Chip, factors: Mapping[str, Any]) -> Chip:
    """A chip with some variables turned.

    **Arguments:**

    - `factors`: of each of `CHIP_VARIABLES` that is turned, by name; traced, or arrays as the chip has.

    **Raises:**

    - `InputError`: for a variable that there is not.
    """
    _check(factors)
    for name, factor in factors.items():
        times = functools.partial(jax.tree.map, functools.partial(operator.mul, factor))
        for field in CHIP_VARIABLES[name].fields:
            chip = eqx.tree_at(operator.attrgetter(field), chip, replace_fn=times)
    return chip


def turn_file(file: ChipFile, factors: Mapping[str, float]) -> ChipFile:
    """The same of a chip's file: a chip of one's own, each changed number saying so.

    **Raises:**

    - `InputError`: for a variable that there is not.
    """
    _check(factors)
    content = file.model_dump(exclude_none=True)
    for name, factor in factors.items():
        for place in CHIP_VARIABLES[name].facts:
            _multiply(content, place.split("."), factor)
    words = ", ".join(
        f"{CHIP_VARIABLES[name].label} x {factor:g}" for name, factor in factors.items()
    )
    content["name"] = f"{file.name}, {words}" if words else file.name
    content["aliases"] = []
    content["hypothetical"] = bool(words)
    return ChipFile.model_validate(content)


def _check(factors: Mapping[str, Any]) -> None:
    wrong = [name for name in factors if name not in CHIP_VARIABLES]
    if wrong:
        raise InputError(
            f"there is no knob {wrong[0][:60]!r}; a chip has {', '.join(CHIP_VARIABLES)}."
        )


def _multiply(content: dict[str, Any], place: list[str], factor: float) -> None:
    """Multiply what stands at a place, or all numbers below it; nothing where it is absent."""
    for part in place:
        content = content.get(part, {})
    tables = [content] if set(content) & set(Quantity.model_fields) else list(content.values())
    for table in tables:
        numbers = {name: table.get(name) for name in ("value", "low", "high")}
        table |= {name: x * factor for name, x in numbers.items() if x is not None}
        table["confidence"] = "estimate"
        table["note"] = f"{table['note']}; times {factor:g}".lstrip("; ")
