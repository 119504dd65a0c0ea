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

from perfmodel.calibration.serving_metrics import grouped
from perfmodel.hardware.chip import Chip
from perfmodel.inference.evaluate import ResolvedRow, evaluate_rows, rows_by_form
from perfmodel.inference.service import serve

FACTORS = np.geomspace(0.25, 4.0, 9)
"""On the constant as shipped, at which speeds are predicted; between them they are interpolated."""

FINE_FACTORS = np.geomspace(0.25, 4.0, 401)
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


class HeldOutSpeed(NamedTuple):
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


def leave_one_out(
    rows: Sequence[dict[str, str]], values: Sequence[float], folder: Path
) -> list[HeldOutSpeed]:
    """Every row of `rows`, whose plans are given, from the rows of other models on machines of its kind."""
    every = [case for cases in rows_by_form(rows, folder) for case in cases]
    kinds = grouped(sorted(every, key=lambda case: case.place), lambda case: [_kind(case)])
    return [
        one
        for cases in kinds.values()
        for one in _held_out(cases, np.array([values[case.place] for case in cases]))
    ]


def _kind(case: ResolvedRow) -> Hashable:
    """Machines that share the constant; those with main memory have none."""
    return case.deployment.chip.execution, _has_main_memory(case)


def _has_main_memory(case: ResolvedRow) -> bool:
    return float(case.deployment.chip.main.capacity) > 0


def _held_out(cases: Sequence[ResolvedRow], published: np.ndarray) -> list[HeldOutSpeed]:
    logs = np.log([speeds_of(case) for case in cases])
    fine = np.array([np.interp(np.log(FINE_FACTORS), np.log(FACTORS), one) for one in logs])
    errors = fine - np.log(published)[:, None]
    keys = [(case.deployment.stem, str.__str__(case.deployment.model.name)) for case in cases]
    found = []
    for i, (key, value) in enumerate(zip(keys, published, strict=True)):
        rest = sorted({one for one in keys if one != key})
        best = 1.0 if _has_main_memory(cases[i]) else best_factor(errors, keys, rest)
        predicted = value * np.exp(np.interp(best, FINE_FACTORS, errors[i]))
        found.append(HeldOutSpeed(*key, float(value), float(predicted), best, len(rest)))
    return found


def best_factor(errors: np.ndarray, keys: Sequence[Hashable], rest: Sequence[Hashable]) -> float:
    """The factor with the least mean error over the models of `rest`; 1 where there are none."""
    if not rest:
        return 1.0
    means = [errors[[key == one for key in keys]].mean(axis=0) for one in rest]
    return float(FINE_FACTORS[np.argmin(np.mean(np.abs(means), axis=0))])


def speeds_of(case: ResolvedRow) -> np.ndarray:
    """Output tokens a second of one user for each of `FACTORS`."""
    setting = case.deployment
    chips = [scaled(setting.chip, factor) for factor in FACTORS]
    cases = [case._replace(deployment=setting._replace(chip=chip)) for chip in chips]
    return 1 / np.asarray(evaluate_rows(serve, [(one, case.candidates[0]) for one in cases]).tpot)


def scaled(chip: Chip, factor: float) -> Chip:
    """The chip with its constant times `factor`."""
    if chip.execution == "dataflow":
        return eqx.tree_at(lambda c: c.efficiency.hop_cycles, chip, replace_fn=lambda x: x * factor)
    return eqx.tree_at(
        lambda c: tuple(getattr(c.efficiency, family).launch for family in SYNCHRONISED),
        chip,
        replace_fn=lambda x: x * factor,
    )
