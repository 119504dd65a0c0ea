"""Generations of frameworks: what older software took, where it was other than today's, with its sources."""

import functools

from perfmodel.library.files import ROOT, read_as
from perfmodel.library.schema import Quantity, Sourced, Strict


class Generation(Strict):
    """One generation: parameters that differ from the fitted ones, by family and name."""

    name: str
    parameters: dict[str, dict[str, Quantity]]


class GenerationFile(Sourced):
    """`perfmodel/library/generations.toml`."""

    generation: dict[str, Generation]


@functools.cache
def generations() -> GenerationFile:
    """The library's generations of frameworks."""
    return read_as(GenerationFile, ROOT / "generations.toml")


def generation_section(word: str, family: str) -> dict[str, float]:
    """A family's parameters that a generation changes, as files of fitted parameters have them."""
    if not word:
        return {}
    found = generations().generation[word].parameters.get(family, {})
    return {
        name if number.unit == "1" else f"{name}_{number.unit}": number.value
        for name, number in found.items()
    }
