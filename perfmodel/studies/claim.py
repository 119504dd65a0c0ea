"""A claim and its answer: a sentence, a table, data for a figure, how sure, caveats; and all claims by name.

A claim is decided by machines that there are, or by those that a search designs: by whose tokens are cheaper.
Each is a module of this package, named as the study, with dashes for underscores.
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from perfmodel.library.files import fold, read_toml, word_of
from perfmodel.library.ledger import Basis
from perfmodel.studies.draws import middle, share, show

Progress = Callable[[int, int], None]
"""Takes how much of a study is done, of how much."""

Mark = Literal["lines", "points", "bars", "cells"]


class Axis(NamedTuple):
    """A column of a figure's rows: what it shows, and its unit (empty for names and plain numbers)."""

    column: str
    title: str
    unit: str = ""
    log: bool = False

    @property
    def label(self) -> str:
        """The title with its unit, where the title does not say it."""
        said = not self.unit or self.unit in self.title.split()
        return self.title if said else f"{self.title} ({self.unit})"


class Figure(NamedTuple):
    """A picture as data.

    - `mark`: lines with an optional band, points, bars, or cells of a map, coloured by who wins
      there; their rows have a `factor`: how many times better than the next.
    - `x`, `y`, `colour`: columns of `rows`, which may have a `low` and a `high`: the edges of a band.
    - `rule`: a height to mark, such as where two things are equal.
    """

    title: str
    mark: Mark
    x: Axis
    y: Axis
    colour: Axis
    rows: Sequence[dict[str, Any]]
    rule: float | None = None

    @property
    def band(self) -> tuple[str, str] | None:
        """Columns of the lower and the upper edge, where there is a band."""
        return ("low", "high") if self.rows and "low" in self.rows[0] else None


SPEED_AXIS = Axis("speed", "speed of one user", "tokens/s", log=True)
PRICE_AXIS = Axis("price", "owner's cost", "USD per million output tokens", log=True)


class Table(NamedTuple):
    """Names of columns, with units, and rows of numbers and words."""

    names: Sequence[str]
    rows: Sequence[tuple[Any, ...]]

    @classmethod
    def of(cls, records: Sequence[dict[str, Any]]) -> "Table":
        """From one dictionary for each row, all with the same names."""
        return cls(list(records[0]), [tuple(one.values()) for one in records])

    def records(self) -> list[dict[str, Any]]:
        """One dictionary for each row."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]


class Answer(NamedTuple):
    """What the model says to a claim.

    - `said`: the answer in a sentence with numbers.
    - `share`: of the draws in which the claim, as the study puts it, holds.
    - `sure`: where the uncertainty comes from, and how much it is.
    - `numbers`: those that the sentence is made of, by name, with the unit in the name.
    - `caveats`: before those of `claims.toml`, which are the same whatever the answer.
    """

    said: str
    share: float
    sure: str
    table: Table
    figure: Figure
    numbers: dict[str, float]
    caveats: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """What the share of draws means: nine of ten decide."""
        if self.share >= DECIDING_SHARE:
            return "holds"
        return "does not hold" if self.share <= 1 - DECIDING_SHARE else "is not decided"

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers that are not finite become null."""
        return {
            "answer": self.said,
            "verdict": self.verdict,
            "share_of_draws": round(self.share, 4),
            "sure": self.sure,
            "caveats": list(self.caveats),
            "numbers": {name: _plain(value) for name, value in self.numbers.items()},
            "table": [{k: _plain(v) for k, v in row.items()} for row in self.table.records()],
        }


DECIDING_SHARE = 0.9
"""Share of draws from which on a verdict is called one."""


def _plain(value: Any) -> Any:
    if isinstance(value, str | bool):
        return value
    number = float(value)
    return number if np.isfinite(number) else None


class Claim(NamedTuple):
    """A claim that can be asked about.

    - `name`: as it is called; `question`: its number; `title`: what is asked.
    - `claim`: as it was made; `source`: by whom; `test`: how it is put to the model, so that it can fail.
    - `seconds`: that it takes, about, on two cores, compiling included.
    - `run`: answers it.
    - `cost_basis`: what its USD are of; empty where it has none.
    """

    name: str
    question: str
    title: str
    claim: str
    source: str
    test: str
    seconds: int
    run: Callable[[Progress], Answer]
    cost_basis: Sequence[Basis] = ()


class Verdict(NamedTuple):
    """What both say of a claim; the better machines decide.

    - `known`, `new`: share of draws in which it is true of machines that there are, and of searched ones.
    - `price`: of a token of the best searched machine over that of the best there is, decode alone.
    """

    known: float
    new: float
    price: float

    @property
    def share(self) -> float:
        """Of draws in which the claim is true of the machines that decide."""
        return self.new if self.price < 1 else self.known

    @property
    def said(self) -> str:
        """Both shares, and which of them counts."""
        whose = "searched" if self.price < 1 else "existing"
        return (
            f"Existing machines: {100 * self.known:.0f} % of draws support the claim; searched machines: "
            f"{100 * self.new:.0f} %. The best token of searched machines costs {show(self.price)} times "
            f"that of existing ones, decode alone, so the verdict is that of {whose} machines."
        )

    @property
    def numbers(self) -> dict[str, float]:
        """For the numbers of an answer."""
        return {
            "share_known": self.known,
            "share_designed": self.new,
            "designed_over_known": self.price,
        }


class Side(NamedTuple):
    """Machines of one making, as draws: whether the claim is true of them, and USD of their best token."""

    true: np.ndarray
    dollars: np.ndarray


def verdict(known: Side, new: Side) -> Verdict:
    """Of machines that there are, and of those that a search designs, by the median price of a token."""
    price = middle(new.dollars).median / middle(known.dollars).median
    return Verdict(share(known.true), share(new.true), price)


CLAIMS = Path(__file__).with_name("claims.toml")


def names() -> list[str]:
    """What `perfmodel study` can be asked, in the order of the claims."""
    return list(read_toml(CLAIMS))


def find(name: str) -> Claim:
    """A study by its name, or by the number of its claim.

    **Raises:**

    - `InputError`: for an unknown one, with the nearest.
    """
    found = studies()
    claims = {fold(study.question).removeprefix("q"): study.name for study in found}
    wanted = claims.get(fold(name).removeprefix("q")) or word_of(name, names(), "study")
    return next(study for study in found if study.name == wanted)


def studies() -> list[Claim]:
    """All claims, each with the module that answers it."""
    return [_claim(name, table) for name, table in read_toml(CLAIMS).items()]


def _claim(name: str, table: dict[str, Any]) -> Claim:
    module = importlib.import_module(f"perfmodel.studies.{name.replace('-', '_')}")
    stated = table | {"test": table["test"].format_map(vars(module))}
    caveats = tuple(stated.pop("caveats"))

    def run(progress: Progress) -> Answer:
        answer = module.run(progress)
        return answer._replace(caveats=answer.caveats + caveats)

    return Claim(name=name, run=run, **stated)
