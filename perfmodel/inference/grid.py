"""The file of a sweep: for each column of the serving schema one value, several, or a range of numbers."""

import functools
import math
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from perfmodel.errors import InputError
from perfmodel.inference import quote
from perfmodel.inference.serving_row import (
    DISAGGREGATED,
    LOAD,
    RANKS,
    mode_of,
    number,
    read_numbers,
)
from perfmodel.kernels.kernel_table import software_of
from perfmodel.library.chip import chip_file, load_chip
from perfmodel.library.files import first_fault, in_words, named, nearest, read_toml
from perfmodel.library.model import load_model
from perfmodel.trees import leaf_names

OUTER = (
    "model",
    "precision",
    "kv_precision",
    "framework",
    "mode",
    "chip",
    *RANKS,
    "burst",
    *quote.READ,
)
"""Columns that vary slowest, in this order: with them changes what is compiled, or how it is spread."""

INNER = tuple(name for name in LOAD if name != "requests_per_s")
"""Columns that vary fastest: plain numbers. Requests that come at a rate are not swept."""

MAX_POINTS = 10**10
"""Of one sweep: what a week of a fast machine prices."""

MAX_VALUES = 100_000
"""Of one axis."""


class Range(BaseModel):
    """Numbers from `low` to `high`, both included, evenly spaced, or evenly in their logarithms.

    - `low`, `high`: the first and the last number.
    - `points`: how many there are.
    - `spacing`: even, or even in logarithms.
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    points: int = Field(ge=2, le=MAX_VALUES)
    spacing: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _in_order(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.spacing == "log" and self.low <= 0:
            raise ValueError(f"low is {self.low:g}; with spacing log it must be above zero")
        return self

    def values(self) -> list[float]:
        """The numbers, those that are nearly whole made whole."""
        space = np.geomspace if self.spacing == "log" else np.linspace
        return [float(f"{x:.9g}") for x in space(self.low, self.high, self.points)]


def _listed(value: dict[str, Any] | list[Any] | Hashable) -> list[Any]:
    """One value as a list of one, a range as its numbers."""
    if not isinstance(value, dict):
        return value if isinstance(value, list) else [value]
    try:
        return Range.model_validate(value).values()
    except ValidationError as error:
        raise ValueError(first_fault(error)) from None


def _cell_value(value: Any) -> Any:
    """A value of a cell."""
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"it is {in_words(value)}, not a number, a text, true or false")
    return value


Axis = Annotated[
    list[Annotated[Any, BeforeValidator(_cell_value)]],
    BeforeValidator(_listed),
    Field(min_length=1, max_length=MAX_VALUES),
]
Factor = Annotated[float, Field(ge=1e-3, le=1e3)]
Factors = Annotated[
    list[Factor], BeforeValidator(_listed), Field(min_length=1, max_length=MAX_VALUES)
]


class GridFile(BaseModel):
    """Columns of the serving schema, and `hardware`: factors on what the chips' files say."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[str, Axis]  # pyright: ignore[reportIncompatibleVariableOverride]
    hardware: dict[str, Factors] = {}


class Grid(NamedTuple):
    """Every combination of the values of some axes; the last axis varies fastest.

    - `outer`: cells of text, by column of `OUTER`.
    - `inner`: numbers, by column of `INNER`; `nan` where a cell is empty.
    - `hardware`: factors, by name of a number of a chip.
    """

    outer: dict[str, list[str]]
    inner: dict[str, np.ndarray]
    hardware: dict[str, np.ndarray]

    @property
    def points_per_combination(self) -> int:
        """Points for each combination of the outer axes."""
        return math.prod(len(axis) for axis in (self.inner | self.hardware).values())

    @property
    def combinations(self) -> int:
        """Of the outer axes."""
        return math.prod(len(axis) for axis in self.outer.values())

    @property
    def points(self) -> int:
        """In all."""
        return self.points_per_combination * self.combinations

    def cells(self, combination: int) -> dict[str, str]:
        """The outer cells of a combination."""
        places = np.unravel_index(combination, [len(axis) for axis in self.outer.values()])
        return {name: axis[i] for (name, axis), i in zip(self.outer.items(), places, strict=True)}

    def numbers(self, places: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The inner numbers, and the factors, of some points of one combination."""
        axes = self.inner | self.hardware
        which = np.unravel_index(places, [len(axis) for axis in axes.values()])
        values = {name: axes[name][i] for name, i in zip(axes, which, strict=True)}
        return tuple({n: values[n] for n in part} for part in (self.inner, self.hardware))  # pyright: ignore[reportReturnType]


def read_grid(path: Path) -> Grid:
    """A grid from a TOML file.

    **Raises:**

    - `InputError`: naming the file, the key and what is wrong with it.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the path of a grid in TOML.")
    try:
        file = GridFile.model_validate(read_toml(path))
        return _grid(file.__pydantic_extra__ or {}, file.hardware)
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}.") from None
    except InputError as wrong:
        message = str(wrong)
        raise InputError(
            message if message.startswith(str(path)) else f"{path}: {message}"
        ) from None


def _grid(columns: dict[str, list[Any]], hardware: dict[str, list[float]]) -> Grid:
    """The axes in their order, every value looked at once."""
    texts = {name: [_text(value) for value in values] for name, values in columns.items()}
    for name in texts:
        _check_name(name)
    for name in ("chip", "model", "isl", "osl"):
        if name not in texts:
            raise InputError(f"{name}: it is missing; add it")
    for name, known in NAME_CHECKS.items():
        for text in texts.get(name, []):
            known(text)
    numbers = {name: _numbers(name, texts) for name in INNER if name in texts}
    outer = {name: texts[name] for name in OUTER if name in texts}
    scales = {_known_part(name): np.array(values) for name, values in hardware.items()}
    grid = Grid(outer, numbers, scales)
    if grid.points > MAX_POINTS:
        raise InputError(
            f"it has {grid.points:.4g} points; allowed are {MAX_POINTS:,}: shorten an axis."
        )
    return grid


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}".strip()


def _check_name(name: str) -> None:
    known = (*OUTER, *INNER)
    if name not in known:
        close = nearest(name, known)
        hint = f"the nearest are {', '.join(close)}; " if close else ""
        raise InputError(f"{name[:40]}: there is no such column; {hint}known are {named(known)}.")


def _serving(word: str) -> None:
    if mode_of(word) == DISAGGREGATED:
        raise InputError(
            "mode is 'disaggregated', which a sweep does not take; use `perfmodel predict serving`."
        )


NAME_CHECKS = {
    "chip": chip_file,
    "model": load_model,
    "framework": software_of,
    "mode": _serving,
    "cost_basis": quote.asked_basis,
    "usd_per_chip_hour": functools.partial(number, "usd_per_chip_hour"),
}
"""What finds out whether a word is known."""


def _numbers(name: str, texts: dict[str, list[str]]) -> np.ndarray:
    """The numbers of an axis; each may stand in a row beside the first of the others."""
    row = {other: texts[other][0] for other in ("isl", "osl", "mode", "burst") if other in texts}
    row |= {} if name == "requests_per_s" else {"concurrency": "1"}
    if name == "prefix_tokens":  # compared with the prompt of each point
        row |= {"isl": "1e9"}
    numbers = [read_numbers(row | {name: text})[name] for text in texts[name]]
    empty = np.array([not text for text in texts[name]])
    return np.where(empty, np.nan, np.array(numbers, float))


UNSCALED_PARTS = ("efficiency", "area", "price", "scale_up.size", "scale_out.size")
"""Numbers that no factor is allowed on: what is fitted, what sets the ways to spread a model."""


def _known_part(name: str) -> str:
    """The name of a number of a chip; `matrix` is the peak of every format, for chips differ in formats."""
    parts = (part.split(".")[0] if "matrix" in part else part for part in _parts())
    names = list(dict.fromkeys(part for part in parts if not part.startswith(UNSCALED_PARTS)))
    if name not in names:
        close = nearest(name, names)
        hint = f"the nearest are {', '.join(close)}; " if close else ""
        raise InputError(
            f"hardware.{name[:40]}: no such number; {hint}allowed are {', '.join(names)}."
        )
    return name


def _parts() -> list[str]:
    return leaf_names(load_chip("h100-sxm"))
