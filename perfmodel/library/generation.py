"""Generations of frameworks: what the host of older software added, with its sources."""

import functools
from typing import Annotated

from perfmodel.library.files import ROOT, read_as
from perfmodel.library.schema import Quantity, Sourced, Strict, measures

Time = Annotated[Quantity, measures("s")]


class Generation(Strict):
    """One generation: seconds of the host that were other than today's, by parameter."""

    name: str
    host: dict[str, Time]


class GenerationFile(Sourced):
    """`perfmodel/library/generations.toml`."""

    generation: dict[str, Generation]


@functools.cache
def generations() -> GenerationFile:
    """The library's generations of frameworks."""
    return read_as(GenerationFile, ROOT / "generations.toml")


def generation_host(word: str) -> dict[str, float]:
    """The host's parameters that a generation changes, as files of fitted parameters have them."""
    if not word:
        return {}
    host = generations().generation[word].host
    return {f"{name}_us": 1e6 * time.si("s") for name, time in host.items()}
