"""Fitted constants of area, power and cost, each with its spread, its verdict and its source."""

import functools
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from pydantic import Field

from perfmodel.errors import InputError
from perfmodel.hardware.area import AreaConstants
from perfmodel.hardware.constants import Constants
from perfmodel.hardware.cost import CostConstants
from perfmodel.hardware.power import PowerConstants
from perfmodel.library.files import read_as
from perfmodel.library.fitted import FITTED
from perfmodel.library.schema import Strict
from perfmodel.units import parse

T = TypeVar("T", AreaConstants, PowerConstants, CostConstants)

_read = functools.cache(read_as)

Verdict = Literal["identified", "weak", "prior"]
"""How much the data say: the spread is less than half of the prior's, less than 0.85 of it, or as wide."""


class ConstantFile(Strict):
    """One constant.

    - `value`, `unit`: after the fit; `spread`: standard deviation of its logarithm.
    - `prior`, `prior_spread`: before it, with their `source`.
    """

    value: float = Field(gt=0, allow_inf_nan=False)
    unit: str
    spread: float = Field(ge=0, allow_inf_nan=False)
    prior: float = Field(gt=0, allow_inf_nan=False)
    prior_spread: float = Field(ge=0, allow_inf_nan=False)
    verdict: Verdict
    source: str


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


def _part(kind: type[T], table: dict[str, ConstantFile], path: Path, what: str) -> T:
    names = list(kind.__dataclass_fields__)
    wrong = sorted(set(names) ^ set(table))
    if wrong:
        word = "lacks" if wrong[0] in names else "has an unknown constant,"
        raise InputError(f"{path} {word} {wrong[0]}; it holds {', '.join(names)}.")
    sizes = {name: parse(table[name].unit)[0] if what == "value" else 1.0 for name in names}
    return kind(**{name: getattr(table[name], what) * size for name, size in sizes.items()})
