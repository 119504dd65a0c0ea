"""Golden values: where they lie, how far a number may be from them, and what differs."""

import csv
import functools
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from perfmodel.calibration.metrics import grouped
from perfmodel.files import write_whole
from perfmodel.library.files import read_toml

FOLDER = Path(__file__).parents[2] / "tests" / "golden"
VALUES = FOLDER / "values"

Value = float | str
Numbers = dict[str, Value]
"""Of one case, by quantity; words for what is chosen, such as `bound`."""

Golden = dict[str, Numbers]
"""By case."""

NONE = "none"
"""What is written for a number that is not finite."""

WORDS = ("bound", "basis", "fits", "answered", "verdict", "node", "memory")
"""Quantities that are words; all other texts are labels, and not kept."""

LEFT_OUT = ("seconds", "evaluations", "gradients", "seed", "study", "points", "stopped")
"""What a search says of itself."""


def place(name: str) -> Path:
    """The file of a set."""
    return VALUES / f"{name}.csv"


def read(name: str) -> Golden:
    """The values of a set, which may not be there yet."""
    found: Golden = {}
    if place(name).is_file():
        with place(name).open(encoding="utf-8", newline="") as file:
            for case, quantity, text in csv.reader(file):
                found.setdefault(case, {})[quantity] = _value(text)
    return found


def _value(text: str) -> Value:
    try:
        return float(text)
    except ValueError:
        return text


def write(name: str, golden: Golden) -> None:
    """The values of a set, with all digits."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    for case, numbers in sorted(golden.items()):
        lines.writerows((case, name, _text(value)) for name, value in numbers.items())
    place(name).parent.mkdir(exist_ok=True)
    write_whole(place(name), text.getvalue().encode())


def _text(value: Value) -> str:
    return value if isinstance(value, str) else repr(value)


def plain(content: Any, name: str = "") -> Numbers:
    """Numbers, and words of `WORDS`, of nested content, each under the path of its keys."""
    if isinstance(content, Mapping):
        parts = [(f"{key}", part) for key, part in content.items() if key not in LEFT_OUT]
    elif isinstance(content, list | tuple):
        parts = [(f"{i}", part) for i, part in enumerate(content)]
    else:
        return _leaf(content, name)
    found: Numbers = {}
    for key, part in parts:
        found |= plain(part, f"{name}.{key}" if name else key)
    return found


def _leaf(content: Any, name: str) -> Numbers:
    if isinstance(content, bool | np.bool_):
        return {name: str(bool(content)).lower()}
    if isinstance(content, str):
        return {name: content} if name.split(".")[-1] in WORDS and content else {}
    number = float("nan") if content is None else float(content)
    return {name: number if np.isfinite(number) else NONE}


class Tolerance(NamedTuple):
    """How far a number may be off: a share of the larger, and as such where it passes through zero."""

    relative: float
    absolute: dict[str, float]

    def keeps(self, quantity: str, old: Value | None, new: Value | None) -> bool:
        """Whether a value is still the golden one."""
        if isinstance(old, float) and isinstance(new, float):
            near = max(self.absolute.get(part, 0.0) for part in quantity.split("."))
            return abs(new - old) <= max(self.relative * max(abs(old), abs(new)), near)
        return old == new


@functools.cache
def tolerances() -> dict[str, Any]:
    """What `tolerances.toml` says."""
    return read_toml(FOLDER / "tolerances.toml")


def tolerance(case: str, group: str, double: bool) -> Tolerance:
    """Of a case of a set."""
    table = tolerances()
    relative = table["double"] if double else table["single"]
    rounded = {} if double else table["rounded"].get(case, {})
    if {case, group} & set(table["searches"]):
        return Tolerance(max(relative, table["search"]), table["near_zero"] | rounded)
    return Tolerance(relative, {} if double else table["draws"] | rounded)


class Change(NamedTuple):
    """A value that is not the golden one; `None` where one of them is not there."""

    case: str
    quantity: str
    old: Value | None
    new: Value | None

    @property
    def share(self) -> float:
        """By how much it changed, of the old one; infinite where it is no number or was none."""
        if not (isinstance(self.old, float) and isinstance(self.new, float) and self.old):
            return float("inf")
        return self.new / self.old - 1

    def __str__(self) -> str:
        words = f"{self.case} {self.quantity}: {self.old} -> {self.new}"
        return words if np.isinf(self.share) else f"{words} ({100 * self.share:+.4g} %)"


def changes(case: str, old: Numbers, new: Numbers, allowed: Tolerance) -> list[Change]:
    """What differs in a case by more than is allowed."""
    names = dict.fromkeys([*old, *new])
    pairs = [Change(case, name, old.get(name), new.get(name)) for name in names]
    return [one for one in pairs if not allowed.keeps(one.quantity, one.old, one.new)]


MOST_LINES = 60
"""Changes that are written out; of more, the largest, and how many of each quantity."""


def said(found: Iterable[Change]) -> list[str]:
    """Changes in lines; of values that were not there before how many."""
    every = list(found)
    largest = sorted((x for x in every if x.old is not None), key=lambda one: -abs(one.share))
    lines = [str(one) for one in largest[:MOST_LINES]]
    if len(largest) > MOST_LINES:
        lines += [f"... of {len(largest)} in all:", *_by_quantity(largest)[:MOST_LINES]]
    new = len(every) - len(largest)
    return [*lines, f"{new} new values"] if new else lines


def _by_quantity(changed: Iterable[Change]) -> list[str]:
    """A line for each quantity, the most often changed first."""
    groups = grouped((one.quantity, one) for one in changed)
    return [_summed(group) for group in sorted(groups.values(), key=len, reverse=True)]


def _summed(changed: list[Change]) -> str:
    shares = [abs(one.share) for one in changed if np.isfinite(one.share)]
    middle = f", median {100 * np.median(shares):.3g} %" if shares else ""
    return f"{changed[0].quantity}: {len(changed)} changed{middle}; most: {changed[0]}"
