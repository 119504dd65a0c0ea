"""Technologies by name: memories, links and process nodes."""

import functools
from typing import TypeVar

from perfmodel.errors import InputError
from perfmodel.library.files import read_as, stems
from perfmodel.library.schema import LinkTechnology, MemoryTechnology, NodeTechnology

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
