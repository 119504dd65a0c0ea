"""Published results and measured serving runs beside predictions, and beside what baselines say of them.

Published throughput and single-stream speeds ship with the program; measured serving runs come with the
`data` extra. Rows that a fit has seen, that are held out, and that are known to measure something else are
told apart.
"""

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
import pyarrow as pa

from perfmodel.calibration.board_results import ENERGY, predict_energy
from perfmodel.calibration.kv_capacity import MEMORY, capacity_metrics, capacity_rows
from perfmodel.calibration.measured_runs import (
    RUN_SETS,
    PredictedRuns,
    RunSet,
    measured_results,
    predict_runs,
)
from perfmodel.calibration.metrics import grouped
from perfmodel.calibration.serving_metrics import WORDS, Comparison, metrics_of_published
from perfmodel.files import cells_of, read_csv, rows_of, with_columns
from perfmodel.hardware.chip import Chip
from perfmodel.inference.evaluate import ResolvedRow, evaluate_rows, rows_by_form
from perfmodel.inference.service import serve
from perfmodel.inference.serving_predictions import DEFINITIONS, predict_cells
from perfmodel.library.chip import chip_files, find_chip
from perfmodel.library.files import ROOT, word_of
from perfmodel.library.fitted_intervals import basis_in

# Published throughput and single-stream speeds, which ship with the program

PUBLISHED = {"throughput": "throughput.csv", "single-stream": "speeds.csv"}
"""Sets and their files."""

METRICS: dict[str, Callable[[dict[str, float]], float]] = {
    "output_tokens_per_s": lambda row: row["output_tokens_per_s_per_chip"] * row["n_chips"],
    "total_tokens_per_s": lambda row: row["total_tokens_per_s"],
    "output_tokens_per_s_per_user": lambda row: row["output_tokens_per_s_per_user"],
}
"""What a published value is of, from the columns of a prediction."""

SLOW_STARTS = ("max-1550",)
"""Chips of whose published throughput 9 to 18 s of each request are no token's (docs/serving.md)."""


def predict_published(
    name: str, calibration: Path, progress: Callable[..., None]
) -> tuple[list[Comparison], pa.Table]:
    """The rows of a set, and their table with what is predicted."""
    table = read_csv(ROOT / "published" / PUBLISHED[name])
    cells = cells_of(table)
    predicted = predict_cells(cells, len(table), calibration, progress)
    pairs = zip(rows_of(cells), rows_of(predicted), strict=True)
    return [_published_row(name, *pair) for pair in pairs], with_columns(table, predicted)


def _published_row(name: str, cells: dict[str, str], predicted: dict[str, str]) -> Comparison:
    """A row that does not fit, or cannot be predicted, has no prediction."""
    given, value, inside = float(cells["value"]), float("nan"), float("nan")
    if predicted["fits"] == "true":
        value = METRICS[cells["metric"]](_numbers(predicted))
        # Throughput is as far off as the time of a token.
        low, middle, high = (float(predicted[f"tpot_ms{end}"]) for end in ("_low", "", "_high"))
        inside = float(low / middle <= value / given <= high / middle)
    words, error = tuple(cells[key] for key in WORDS), predicted["error"]
    basis = _basis(cells, predicted)
    return Comparison(name, cells["group"], words, given, value, error, inside, basis)


def _numbers(cells: dict[str, str]) -> dict[str, float]:
    found = {}
    for name, text in cells.items():
        with contextlib.suppress(ValueError):
            found[name] = float(text)
    return found


def _basis(cells: dict[str, str], predicted: dict[str, str]) -> str:
    """Empty for drafted tokens whose acceptance is not known, and chips of `SLOW_STARTS`."""
    chip = find_chip(cells["chip"])
    if _speculates(cells) or chip in SLOW_STARTS or not predicted["basis"]:
        return ""
    return f"{chip_files()[chip].execution}, {basis_in(predicted['basis'])}"


def _speculates(row: dict[str, str]) -> bool:
    return bool(row["speculative_tokens"]) or row["note"].startswith("speculative")


# Machines of SRAM. Few constants rest on published speeds: what a product's synchronisation takes where all
# is scheduled (LPU); on a wafer, of each generation of software, the cycles from core to core and the
# service's share of a step; on a chip that has main memory (SN40L) the start of a mixture. Here they are
# fitted anew without one chip and model, so that the error of a machine that nobody has published is seen.


def held_out_speeds(name: str, table: pa.Table, calibration: Path) -> list[dict[str, Any]]:
    """Single streams on scheduled and dataflow machines without speculation, each from the others."""
    if name != "single-stream":
        return []
    rows = [row for row in rows_of(cells_of(table)) if _is_of_sram(row)]
    every = [case for cases in rows_by_form(rows, calibration) for case in cases]
    every.sort(key=lambda case: case.place)
    kinds = grouped((_kind(case), (case, float(rows[case.place]["value"]))) for case in every)
    found = [one for pairs in kinds.values() for one in _held_out(*zip(*pairs, strict=True))]
    return [one._asdict() | {"error": round(one.error, 4)} for one in found]


def _is_of_sram(row: dict[str, str]) -> bool:
    scheduled = chip_files()[row["chip"]].execution != "launched"
    return row["fits"] == "true" and scheduled and not _speculates(row)


FACTORS = np.geomspace(0.25, 4.0, 9)
"""On the constant as shipped, at which speeds are predicted; between them they are interpolated."""

FINE_FACTORS = np.geomspace(0.25, 4.0, 401)
"""Factors of which the best is taken."""

STEP_FACTORS = np.linspace(0.0, 2.0, 41)
"""On the service's seconds of a step."""

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


def _kind(case: ResolvedRow) -> Hashable:
    """Machines that share constants: of one way of execution, with main memory or without, and on wafers of
    one generation of software."""
    chip, plan = case.deployment.chip, case.deployment.plan
    if chip.execution != "dataflow" or _has_main_memory(chip):
        return chip.execution, _has_main_memory(chip)
    return chip.execution, plan.framework_version or plan.framework


def _has_main_memory(chip: Chip) -> bool:
    return float(chip.main.capacity) > 0


def _held_out(cases: Sequence[ResolvedRow], published: Sequence[float]) -> Iterator[HeldOutSpeed]:
    """Each speed from those of other models on machines of its kind; none where there is no other."""
    logs = np.log([speeds_of(case) for case in cases])
    fine = np.array([np.interp(np.log(FINE_FACTORS), np.log(FACTORS), one) for one in logs])
    steps = [float(case.deployment.chip.efficiency.host.step) for case in cases]
    errors = _with_steps(fine, np.array(steps)) - np.log(published)[:, None]
    keys = [(case.deployment.stem, str.__str__(case.deployment.model.name)) for case in cases]
    for i, (key, value) in enumerate(zip(keys, published, strict=True)):
        if rest := sorted({one for one in keys if one != key}):
            best = best_place(errors, keys, rest)
            factor = float(FINE_FACTORS[best % len(FINE_FACTORS)])
            yield HeldOutSpeed(
                *key, value, float(value * np.exp(errors[i, best])), factor, len(rest)
            )


def _with_steps(logs: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Logarithms of speeds for each of `STEP_FACTORS` on the service's seconds of a step, and each factor of
    `logs`, in one row; where the service takes none, for the factors alone."""
    if not steps.any():
        return logs
    times = [np.exp(-logs) + (factor - 1) * steps[:, None] for factor in STEP_FACTORS]
    return -np.log(np.concatenate(times, axis=1))


def best_factor(errors: np.ndarray, keys: Sequence[Hashable], rest: Sequence[Hashable]) -> float:
    """The factor with the least mean error over the models of `rest`; 1 where there are none."""
    return float(FINE_FACTORS[best_place(errors, keys, rest)]) if rest else 1.0


def best_place(errors: np.ndarray, keys: Sequence[Hashable], rest: Sequence[Hashable]) -> int:
    """The column of `errors` with the least mean error over the models of `rest`."""
    means = [errors[[key == one for key in keys]].mean(axis=0) for one in rest]
    return int(np.argmin(np.mean(np.abs(means), axis=0)))


def speeds_of(case: ResolvedRow) -> np.ndarray:
    """Output tokens a second of one user for each of `FACTORS`."""
    setting = case.deployment
    chips = [scaled(setting.chip, factor) for factor in FACTORS]
    cases = [case._replace(deployment=setting._replace(chip=chip)) for chip in chips]
    return 1 / np.asarray(evaluate_rows(serve, [(one, case.candidates[0]) for one in cases]).tpot)


def scaled(chip: Chip, factor: float) -> Chip:
    """The chip with its constant times `factor`."""
    if _has_main_memory(chip):
        return eqx.tree_at(lambda c: c.efficiency.moe.launch, chip, replace_fn=lambda x: x * factor)
    if chip.execution == "dataflow":
        return eqx.tree_at(lambda c: c.efficiency.hop_cycles, chip, replace_fn=lambda x: x * factor)
    return eqx.tree_at(
        lambda c: tuple(getattr(c.efficiency, family).launch for family in SYNCHRONISED),
        chip,
        replace_fn=lambda x: x * factor,
    )


# Sets


def sets_of(words: Sequence[str]) -> list[str]:
    """The sets that words name.

    **Raises:**

    - `InputError`: for another word, naming those that there are.
    """
    return [word_of(word, (*PUBLISHED, ENERGY, MEMORY, *RUN_SETS), "set") for word in words or [""]]


def reproduce(
    sets: Sequence[str], source: str, calibration: Path, progress: Callable[..., None]
) -> tuple[dict[str, Any], list[Comparison], dict[str, pa.Table]]:
    """Predict every row of some sets.

    **Arguments:**

    - `sets`: of `PUBLISHED`, `ENERGY`, `MEMORY` and `RUN_SETS`.
    - `source`: of the serving runs: `aiconfigurator`, or a path to its wheel or checkout.

    **Returns:**

    The report, its rows, and a table of every row by set.

    **Raises:**

    - `InputError`: when the runs are not there.
    """
    report: dict[str, Any] = {"kernels": [], "serving": [], "published": [], "technology": []}
    report |= {"definitions": DEFINITIONS, "left_out": [], "decisions": [], "equal_lengths": []}
    found: list[Comparison] = []
    tables: dict[str, pa.Table] = {}

    @functools.cache
    def runs_of(asked: RunSet) -> PredictedRuns:
        return predict_runs(asked, source, calibration, progress)

    for name in sets:
        if name == ENERGY:
            rows, tables[name] = predict_energy(calibration, progress)
            report["published"] += metrics_of_published(rows)
        elif name in PUBLISHED:
            rows, tables[name] = predict_published(name, calibration, progress)
            report["published"] += metrics_of_published(rows)
            report["left_out"] += held_out_speeds(name, tables[name], calibration)
        elif name == MEMORY:
            capacities = capacity_rows(calibration)
            report |= {"capacity": capacity_metrics(capacities)}
            report |= {"capacity_rows": [row.as_dict() for row in capacities]}
            tables[name] = pa.Table.from_pylist(report["capacity_rows"])
            rows = []
        else:
            given = runs_of(RUN_SETS[name])
            part, metrics, rows, table = measured_results(name, given, calibration)
            report[part] += metrics
            tables |= table
        found += rows
    return report, found, tables
