"""Technologies by name, memories, links and nodes, and the fitted constants of area, power and cost."""

import dataclasses
import functools
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import equinox as eqx

from perfmodel.errors import InputError
from perfmodel.hardware.area import AreaConstants
from perfmodel.hardware.constants import Constants
from perfmodel.hardware.cost import CostConstants, Development
from perfmodel.hardware.power import PowerConstants
from perfmodel.hardware.technology import Device, Node, Technology, Wires
from perfmodel.library.files import read_as, stems
from perfmodel.library.fitted import FITTED
from perfmodel.library.schema import (
    ConstantFile,
    LinkTechnology,
    MemoryTechnology,
    NodeTechnology,
    Quantity,
    Strict,
    in_si,
    si_or,
)
from perfmodel.units import as_scalar, parse

T = TypeVar("T", MemoryTechnology, LinkTechnology, NodeTechnology)


@functools.cache
def _load(kind: type[T], name: str) -> T:
    files = stems("technologies")
    if name not in files:
        raise InputError(f"unknown technology {name!r}; the library has {', '.join(files)}.")
    return read_as(kind, files[name])


def load_node(name: str) -> NodeTechnology:
    """A process node by the stem of its file, such as `n5`."""
    return _load(NodeTechnology, name)


def memory_technology(name: str) -> MemoryTechnology:
    """A memory technology by the stem of its file, such as `hbm3`."""
    return _load(MemoryTechnology, name)


def link_technology(name: str) -> LinkTechnology:
    """A link technology by the stem of its file, such as `nvlink`."""
    return _load(LinkTechnology, name)


def load_memory(name: str) -> float:
    """Energy of a byte in a memory technology, in J; `sram-n5` means the SRAM of node `n5`."""
    if name.startswith("sram-"):
        return load_node(name.removeprefix("sram-")).sram_energy.si("J/byte")
    return memory_technology(name).energy.si("J/byte")


def load_link(name: str) -> float:
    """Energy of sending a byte over a link technology, in J."""
    return link_technology(name).energy.si("J/byte")


YEARS = ("2023", "2025", "2026")
"""Scenarios of memory prices: before the shortage, at its beginning, and in it."""

REQUIRED_FACTS = {
    NodeTechnology: ("voltage", "least_voltage", "leakage", "sram_leakage", "wafer", "defects"),
    MemoryTechnology: (
        "capacity", "bandwidth", "interface_area", "controller_transistors", "edge", "idle",
        "latency",
    ),
    LinkTechnology: ("edge",),
}  # fmt: skip
"""Facts that the model of area, power and cost asks for, beside those that every file has."""


def load_technology(
    node: str = "n5", memory: str = "hbm3e", link: str = "nvlink", year: str = "2026"
) -> Technology:
    """What a chip is made of, with memory at the prices of a year (`YEARS`).

    ```python
    table = stacked([load_technology(node, memory) for node in nodes for memory in memories])
    areas = jax.vmap(die_area, in_axes=(None, 0, None))(parts, table, constants.area)
    ```

    **Raises:**

    - `InputError`: for an unknown technology or year, or one that lacks a fact.
    """
    return Technology(silicon(node), device(memory, year), wires(link))


def silicon(name: str) -> Node:
    """A process node, such as `n5`, as numbers in SI; `n5+stt-mram` has MRAM in place of its SRAM."""
    name, _, macro = name.partition(MEMORY_SEPARATOR)
    file = _complete(load_node(name))
    names = [field.name for field in dataclasses.fields(Node) if field.name != "matrix_energy"]
    node = Node(matrix_energy=file.matrix_energy["bf16"].si("J/FLOP"), **in_si(file, names))
    return with_macro(node, macro) if macro else node


def development(name: str, volume: float) -> Development:
    """What a chip of a node, such as `n5`, costs once, over the chips that are made.

    **Raises:**

    - `InputError`: for a node whose file does not say.
    """
    file = load_node(name.partition(MEMORY_SEPARATOR)[0])
    if file.design is None or file.masks is None:
        raise InputError(
            f"{file.name} has no cost of design and masks; add design and masks to its file, or take "
            "volume out of the study."
        )
    return Development(file.design.si("USD"), file.masks.si("USD"), volume)


MEMORY_SEPARATOR = "+"
"""Between a node and the memory on its die, where that is not SRAM."""


def device(name: str, year: str = "2026") -> Device:
    """One device of a main memory, such as a stack of `hbm3e`, as numbers in SI."""
    file = _complete(memory_technology(name))
    return Device(
        **in_si(file, ("capacity", "bandwidth", "energy", "idle", "latency", "edge")),
        write_energy=(file.write_energy or file.energy).si("J/byte"),
        phy=si_or(file.interface_area, "m2"),
        controller=si_or(file.controller_transistors, "1"),
        footprint=si_or(file.footprint, "m2", missing=0.0),
        price=price_of(file, name, year).si("USD/byte"),
    )


UNLIMITED = 1e18
"""Writes of a cell that does not wear out within any life (charge in DRAM and SRAM)."""

WORN_BELOW = 1e12
"""Writes of a cell that a cache may reach: one in 0.16 ms over five years. STT-MRAM's 1e14 are above."""


def endurance(name: str) -> float:
    """Writes that a cell of a memory survives; `UNLIMITED` from `WORN_BELOW` on."""
    known = si_or(memory_technology(name).endurance, "1", missing=UNLIMITED)
    return known if known < WORN_BELOW else UNLIMITED


def wires(name: str) -> Wires:
    """A link technology, such as `nvlink`, as numbers in SI."""
    file = _complete(link_technology(name))
    return Wires(**in_si(file, ("energy", "edge")))


def with_macro(node: Node, name: str) -> Node:
    """`node` with its SRAM replaced by another memory on the die: `edram`, `stt-mram` or `reram`.

    Density and read energy are replaced; leakage is kept for eDRAM, whose refresh is not published,
    and zero for the other two, which keep what they hold without power.
    """
    file = memory_technology(name)
    if file.density is None:
        raise InputError(f"{file.name} does not lie on a die; give edram, stt-mram or reram.")
    leakage = node.sram_leakage if file.endurance is None else 0.0 * node.sram_leakage
    changed = (surroundings(name) * file.density.si("byte/m2"), file.energy.si("J/byte"))
    return eqx.tree_at(
        lambda n: (n.sram_density, n.sram_energy, n.sram_leakage),
        node,
        (*map(as_scalar, changed), leakage),
    )


def surroundings(name: str) -> float:
    """Density of a macro over the density that is published, by which macros of SRAM are compared with it.

    Of eDRAM a whole chip's is published: what stands around its macros takes as much as around SRAM's.
    """
    return float(load_constants().values.area.sram) if name == "edram" else 1.0


def _complete(file: T) -> T:
    """The file, if it has what the model of area, power and cost needs."""
    missing = [field for field in REQUIRED_FACTS[type(file)] if getattr(file, field) is None]
    if missing:
        raise InputError(f"{file.name} has no {missing[0]}; a chip cannot be planned with it.")
    return file


def price_of(file: MemoryTechnology, name: str, year: str) -> Quantity:
    """The price of a year; of a technology that is on sale later only, its first."""
    if year not in YEARS:
        raise InputError(f"unknown year {year[:20]!r}; prices are known for {', '.join(YEARS)}.")
    later = [y for y in YEARS if y >= year and y in file.prices]
    if not later:
        raise InputError(f"{file.name} has no price for {year}; add it to {name}.toml.")
    return file.prices[later[0]]


C = TypeVar("C", AreaConstants, PowerConstants, CostConstants)

_read = functools.cache(read_as)


class ConstantsFile(Strict):
    """The constants of each part of the model, by name; `note` says where they come from."""

    note: str = ""
    area: dict[str, ConstantFile]
    power: dict[str, ConstantFile]
    cost: dict[str, ConstantFile]


class Known(NamedTuple):
    """Fitted values in SI, their spreads in the same form, and the file as it is."""

    values: Constants
    spreads: Constants
    file: ConstantsFile


def load_constants(folder: Path = FITTED) -> Known:
    """Constants from `technology.toml` of a folder of fitted parameters.

    **Raises:**

    - `InputError`: when the file is wrong, or a constant is missing.
    """
    file = _read(ConstantsFile, path := folder / "technology.toml")
    return Known(_constants(file, path, "value"), _constants(file, path, "spread"), file)


def _constants(file: ConstantsFile, path: Path, what: Literal["value", "spread"]) -> Constants:
    return Constants(
        area=_part(AreaConstants, file.area, path, what),
        power=_part(PowerConstants, file.power, path, what),
        cost=_part(CostConstants, file.cost, path, what),
    )


def _part(kind: type[C], table: dict[str, ConstantFile], path: Path, what: str) -> C:
    names = list(kind.__dataclass_fields__)
    wrong = sorted(set(names) ^ set(table))
    if wrong:
        word = "lacks" if wrong[0] in names else "has an unknown constant,"
        raise InputError(f"{path} {word} {wrong[0]}; it holds {', '.join(names)}.")
    sizes = {name: parse(table[name].unit)[0] if what == "value" else 1.0 for name in names}
    return kind(**{name: getattr(table[name], what) * size for name, size in sizes.items()})
