"""A chip file to begin with: like a chip of the library, with the numbers that people change."""

from collections.abc import Iterator
from typing import Any

from perfmodel.errors import InputError
from perfmodel.library.chip import chip_files, find_chip
from perfmodel.library.schema import ChipFile, Quantity

CHANGED = (
    ("cores", "FLOP/s, exponentials and the cores' own memory follow cores and clock"),
    ("clock", ""),
    ("main.capacity", "or stacks and memory, as below"),
    ("main.bandwidth", ""),
    ("shared.capacity", ""),
    ("scale_up.bandwidth", "of one direction"),
    ("scale_up.size", "chips of one domain"),
    ("power.peak", ""),
    ("area", "of all compute dies"),
    ("money.price", ""),
    ("money.rental", ""),
)
"""Facts that people change, as lines of the file, and what to say of each."""

DERIVED = (
    ("node", "process node; SRAM and joules follow it"),
    ("matrix.bf16", "dense; the other formats follow it"),
    ("matrix.fp8", ""),
    ("matrix.fp4", ""),
    ("vector", ""),
    ("private.capacity", "of all cores"),
    ("shared.bandwidth", ""),
)
"""Facts that follow others, or are seldom changed: comments until somebody takes their # out."""

HEAD = """\
# A chip that is as {name} where this file says nothing. Change what differs; a line may also be taken out.
# Check it:  perfmodel chips my_chip.toml
# Use it:    the path of this file wherever a chip is named, as --chip my_chip.toml
like = "{stem}"
name = "My chip"
"""

DEVICES = """
# Main memory by its devices, instead of main.capacity and main.bandwidth:
# stacks = 8
# memory = "hbm4"   # or hbm3, hbm3e, gddr7, lpddr5x, ddr5 (channels): perfmodel/library/technologies
# stack_capacity = "36 GB"   # where a device holds less than the largest
# pin_rate = "8 Gb/s"        # where its pins run slower or faster
"""


def chip_template(given: str) -> str:
    """The text of a chip file that is like a chip, and reads back as that chip.

    **Arguments:**

    - `given`: a chip of the library, in any spelling, with or without `like:` before it.

    **Raises:**

    - `InputError`: for an unknown chip.
    """
    name = given.strip().removeprefix("like:").strip()
    if name.endswith(".toml"):
        raise InputError(f"{name[:60]!r} is a file; give a chip of the library, as h100-sxm.")
    stem = find_chip(name)
    file = chip_files()[stem]
    head = HEAD.format(name=file.name, stem=stem)
    follow = [f"# {line}" for line in _lines(file, DERIVED)]
    rest = ["\n# What follows other numbers, or is seldom changed:", *follow]
    return "\n".join([head, *_lines(file, CHANGED), *rest]) + "\n" + DEVICES


def _lines(file: ChipFile, places: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """A line for each fact that the chip has."""
    for place, said in places:
        value = _value(file, place)
        if value is not None:
            yield f"{place} = {_written(value)}{said and f'  # {said}'}"


def _value(file: ChipFile, place: str) -> Any:
    value: Any = file
    for name in place.split("."):
        value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
    return value


def _written(value: Quantity | str) -> str:
    """A fact as a short file has it: every digit, and its unit."""
    if isinstance(value, str):
        return f'"{value}"'
    number = repr(value.value).removesuffix(".0")
    return number if value.unit == "1" else f'"{number} {value.unit}"'
