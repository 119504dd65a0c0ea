"""Machines of SRAM: each published speed from a constant fitted to the other models' speeds alone.

One constant of each way of execution rests on published speeds: what a product's synchronisation takes where
all is scheduled (LPU), and the cycles from core to core on a wafer. Here it is fitted anew without one chip
and model, so that the error of a machine that nobody has published is seen. On a chip that has main memory
(SN40L) no constant rests on its own speeds, so that its error is that of the prediction as it stands.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import numpy as np

from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.inference.cases import Case, case_of, of_rows
from perfmodel.inference.serving import serve

FACTORS = np.geomspace(0.25, 4.0, 9)
"""On the constant as shipped, at which speeds are predicted; between them they are interpolated."""

FINE = np.geomspace(0.25, 4.0, 401)
"""Factors of which the best is taken."""

SYNCHRONISED = (
    "gemm",
    "unquantised",
    "attention_decode",
    "attention_prefill",
    "mla_decode",
    "mla_prefill",
    "moe",
)
"""Families whose launches on a scheduled machine are the constant."""


class Left(NamedTuple):
    """A published speed, and its prediction from the other models; `factor` on the constant as shipped."""

    chip: str
    model: str
    published: float
    predicted: float
    factor: float
    others: int

    @property
    def error(self) -> float:
        """Relative."""
        return abs(self.predicted / self.published - 1)


def leave_out(rows: Sequence[dict[str, str]], values: Sequence[float], folder: Path) -> list[Left]:
    """Every row of `rows`, whose plans are given, from the rows of other models on machines of its kind."""
    known = [
        (case, value) for case, value in zip(_cases(rows, folder), values, strict=True) if case
    ]
    alike: dict[Hashable, list[tuple[Case, float]]] = {}
    for case, value in known:
        alike.setdefault(_kind(case), []).append((case, value))
    return [one for pairs in alike.values() for one in _left(pairs)]


def _cases(rows: Sequence[dict[str, str]], folder: Path) -> list[Case | None]:
    found: list[Case | None] = []
    for place, row in enumerate(rows):
        try:
            found.append(case_of(place, row, folder))
        except InputError:
            found.append(None)
    return found


def _kind(case: Case) -> Hashable:
    """Machines that share the constant; those with main memory have none."""
    chip = case.setting.chip
    return (chip.execution, float(chip.main.capacity) > 0)


def _left(pairs: Sequence[tuple[Case, float]]) -> list[Left]:
    speeds = np.log(speeds_of([case for case, _ in pairs]))
    published = np.log([value for _, value in pairs])
    errors = np.array([np.interp(np.log(FINE), np.log(FACTORS), one) for one in speeds])
    errors -= published[:, None]
    keys = [(case.setting.stem, str.__str__(case.setting.model.name)) for case, _ in pairs]
    found = []
    for i, (case, value) in enumerate(pairs):
        rest = sorted({key for key in keys if key != keys[i]})
        best = _best(errors, keys, rest) if not float(case.setting.chip.main.capacity) else 1.0
        predicted = value * float(np.exp(np.interp(best, FINE, errors[i])))
        found.append(Left(*keys[i], value, predicted, best, len(rest)))
    return found


def _best(errors: np.ndarray, keys: Sequence[Hashable], rest: Sequence[Hashable]) -> float:
    """The factor with the least mean error over the models of `rest`; 1 where there are none."""
    if not rest:
        return 1.0
    means = [errors[[key == one for key in keys]].mean(axis=0) for one in rest]
    return float(FINE[np.argmin(np.mean(np.abs(means), axis=0))])


def speeds_of(cases: Sequence[Case]) -> np.ndarray:
    """Output tokens a second of one user: a row for each case, a column for each of `FACTORS`."""
    found = np.empty((len(cases), len(FACTORS)))
    for i, case in enumerate(cases):
        setting = case.setting
        ways = [
            (case._replace(setting=setting._replace(chip=scaled(setting.chip, f))), case.splits[0])
            for f in FACTORS
        ]
        found[i] = 1 / np.asarray(of_rows(serve, ways).tpot)
    return found


def scaled(chip: Chip, factor: float) -> Chip:
    """The chip with its constant times `factor`."""
    if chip.execution == "dataflow":
        return eqx.tree_at(lambda c: c.efficiency.hop_cycles, chip, replace_fn=lambda x: x * factor)
    return eqx.tree_at(
        lambda c: tuple(getattr(c.efficiency, family).launch for family in SYNCHRONISED),
        chip,
        replace_fn=lambda x: x * factor,
    )
