"""What one can turn on a chip: each knob multiplies some of its facts."""

import functools
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax

from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.library.schema import ChipFile, Quantity


class Knob(NamedTuple):
    """A knob: what it is called, where its facts stand in a chip's file, and in a `Chip`."""

    label: str
    facts: tuple[str, ...]
    fields: tuple[str, ...]


def _alike(label: str, *places: str) -> Knob:
    return Knob(label, places, places)


KNOBS = {
    "sram": _alike("SRAM size", "private.capacity", "shared.capacity"),
    "sram_bandwidth": _alike("SRAM bandwidth", "private.bandwidth", "shared.bandwidth"),
    "stacks": _alike("memory stacks", "main.capacity", "main.bandwidth"),
    "bandwidth": _alike("memory bandwidth", "main.bandwidth"),
    "compute": _alike("compute", "matrix", "vector", "exponential"),
    "links": _alike("links", "scale_up.bandwidth", "scale_out.bandwidth"),
    "price": Knob("price", ("money.price", "money.rental"), ("price",)),
}
"""Stacks bring size and bandwidth of the main memory; `compute` makes the same cores faster."""


def turn(chip: Chip, factors: Mapping[str, Any]) -> Chip:
    """A chip with its knobs turned.

    **Arguments:**

    - `factors`: of each of `KNOBS` that is turned, by name; traced, or arrays beside arrays of the chip.

    **Raises:**

    - `InputError`: for a knob that there is not.
    """
    _check(factors)
    by_field: dict[str, Any] = {}
    for name, factor in factors.items():
        for field in KNOBS[name].fields:
            by_field[field] = factor * by_field.get(field, 1.0)
    if not by_field:
        return chip
    places = [operator.attrgetter(field) for field in by_field]
    turned = [
        jax.tree.map(functools.partial(operator.mul, factor), place(chip))
        for place, factor in zip(places, by_field.values(), strict=True)
    ]
    return eqx.tree_at(lambda c: [place(c) for place in places], chip, turned)


def turn_file(file: ChipFile, factors: Mapping[str, float]) -> ChipFile:
    """The same of a chip's file: a chip of one's own, each changed number saying so.

    **Raises:**

    - `InputError`: for a knob that there is not.
    """
    _check(factors)
    content = file.model_dump(exclude_none=True)
    for name, factor in factors.items():
        for place in KNOBS[name].facts:
            _multiply(content, place.split("."), factor)
    words = ", ".join(f"{KNOBS[name].label} x {factor:g}" for name, factor in factors.items())
    content["name"] = f"{file.name}, {words}" if words else file.name
    content["aliases"] = []
    return ChipFile.model_validate(content)


def _check(factors: Mapping[str, Any]) -> None:
    wrong = [name for name in factors if name not in KNOBS]
    if wrong:
        raise InputError(f"there is no knob {wrong[0][:60]!r}; a chip has {', '.join(KNOBS)}.")


def _multiply(content: dict[str, Any], place: list[str], factor: float) -> None:
    """Multiply what stands at a place, or all numbers below it; nothing where it is absent."""
    for part in place:
        content = content.get(part, {})
    tables = [content] if set(content) & set(Quantity.model_fields) else list(content.values())
    for table in tables:
        table["value"] *= factor
        table["confidence"] = "estimate"
        table["note"] = f"{table['note']}; times {factor:g}".lstrip("; ")
