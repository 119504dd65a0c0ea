"""Commands that start servers: options that are documented, words for number formats, chips of a host."""

import functools

from perfmodel.library.files import ROOT, read_as
from perfmodel.library.schema import Count, Sourced, Strict

FOLLOWS_CHECKPOINT = "auto"
"""The word of all frameworks for a KV cache in the format that the checkpoint says."""


class Program(Strict):
    """A command, or a file that it reads, and the options of it that are documented."""

    framework: str
    options: list[str]
    source: str


class Words(Strict):
    """What a framework calls number formats."""

    words: dict[str, str]
    source: str


class Online(Words):
    """Weights that a framework makes from a checkpoint in 16 bits as it is loaded, and where it does."""

    architectures: list[str]


class Quantiser(Strict):
    """The tool with which an organisation quantises checkpoints, and the architectures that these are for."""

    name: str
    architectures: list[str]
    source: str


class Node(Strict):
    """Chips of one host: where fast links join no more than `chips`, and where they join several hosts."""

    chips: Count
    rack_chips: Count


class LaunchFile(Sourced):
    """Commands by name.

    - `documented`: the version of each framework that the options are of.
    - `cache`, `online`: by framework, words for formats of the KV cache, and of weights that are made from a
      checkpoint in 16 bits as it is loaded.
    - `quantiser`: of checkpoints that are for some chips alone, by organisation.
    """

    documented: dict[str, str]
    node: Node
    program: dict[str, Program]
    cache: dict[str, Words]
    online: dict[str, Online]
    quantiser: dict[str, Quantiser]


@functools.cache
def launch_options() -> LaunchFile:
    """The library's file of commands."""
    return read_as(LaunchFile, ROOT / "launch_options.toml")


def options_of(framework: str) -> set[str]:
    """Every documented option of a framework's programs."""
    programs = launch_options().program.values()
    return {word for one in programs if one.framework == framework for word in one.options}


def cache_word(framework: str, cache: str) -> str:
    """What a framework calls a format of the KV cache; empty where it has none."""
    return launch_options().cache[framework].words.get(cache, "")


def online_word(framework: str, weights: str, architecture: str) -> str:
    """What a framework calls weights that it makes from a checkpoint in 16 bits; empty where it cannot."""
    found = launch_options().online.get(framework)
    if found is None or architecture not in found.architectures:
        return ""
    return found.words.get(weights, "")


def foreign_quantisers(architecture: str) -> set[str]:
    """Organisations whose quantised checkpoints are not for chips of an architecture."""
    quantisers = launch_options().quantiser.items()
    return {maker for maker, one in quantisers if architecture not in one.architectures}


def node_chips(domain: float) -> int:
    """Chips of one host, where fast links join a `domain` of chips."""
    node = launch_options().node
    chips, rack = int(node.chips.si("1")), int(node.rack_chips.si("1"))
    return chips if domain <= chips else rack
