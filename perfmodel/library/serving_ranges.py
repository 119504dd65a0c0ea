r"""How wide the 90 % ranges of services on launched chips are, by what a prediction rests on.

The logarithm of a measured over a predicted time lies between $l\,\sigma$ and $h\,\sigma$, with

$$\ln\sigma = s + s_\text{chip} + s_\text{model}$$

`ranges.toml` has these numbers; `perfmodel validate --fit-ranges` fits them to measured runs.
"""

import math
from pathlib import Path
from typing import NamedTuple

from perfmodel.library.fitted import FITTED, read_fitted

RANGES = "ranges"
"""The file of these numbers in a folder of fitted parameters."""

MODELLED = ("fitted", "sibling", "prior")
"""Where parameters come from, the surest first: measurements of the chip, of its sibling, or neither."""

MODELS = ("measured", "relative", "new")
"""Whether the runs that the host is fitted to had the model; or else all of its kinds of layers; or not."""


class Grades(NamedTuple):
    """What a prediction rests on: of the chip's kernels and host one of `MODELLED`, and one of `MODELS`."""

    chip: str
    model: str


class Ends(NamedTuple):
    """Factors between which 90 % of the measured TPOT and TTFT are expected."""

    tpot: tuple[float, float]
    ttft: tuple[float, float]


def load_ends(grades: Grades, folder: Path = FITTED) -> Ends:
    """The range of a service: of the folder, or as shipped."""
    table = read_fitted(folder, RANGES) or read_fitted(FITTED, RANGES)
    spread = math.exp(table["spread"] + table["chip"][grades.chip] + table["model"][grades.model])
    names = (("low", "high"), ("first_low", "first_high"))
    tpot, ttft = (tuple(math.exp(table[name] * spread) for name in pair) for pair in names)
    return Ends(tpot, ttft)  # pyright: ignore[reportArgumentType]
