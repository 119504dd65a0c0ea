"""How far predictions lie from held-out rows, beside three baselines on the same rows.

Intervals come from development rows, or from where a chip starts.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from perfmodel.calibration.baselines.forest import forest, has_forest
from perfmodel.calibration.baselines.roofline import counts
from perfmodel.calibration.calibrate import MIN_DEVELOPMENT_ROWS
from perfmodel.calibration.data.measurements import Measurements, plan_of
from perfmodel.calibration.fit import Table, fit, predict_rows, with_family
from perfmodel.calibration.metrics import (
    MIN_COMMON_SHAPES,
    common_ratios,
    coverage,
    disagreement,
    errors,
    interval,
)
from perfmodel.calibration.protocol import CLOSED, MEASURED, Job, Protocol
from perfmodel.calibration.split import Rows
from perfmodel.calibration.transfer import chip_with_prior, initial_parameters
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.kernel_table import Key
from perfmodel.kernels.registry import KERNELS
from perfmodel.kernels.routing import ROUTINGS
from perfmodel.library.chip import chip_files, load_chip, origin
from perfmodel.library.fitted_intervals import SIBLING_WIDENING, load_interval
from perfmodel.workload.plan import Plan


class FittedChip(NamedTuple):
    """A chip with the parameters that predict, and the factors of the 90 % interval."""

    chip: Chip
    low: float
    high: float


class JobResult(NamedTuple):
    """What a job found: records as the contract has them, and the rows with their predictions."""

    records: list[dict[str, Any]]
    rows: list[tuple[Measurements, np.ndarray]]


def run(job: Job, protocol: Protocol) -> JobResult:
    """Fit as the split says, and report each table of the section."""
    if job.split == "framework":
        return JobResult(list(_frameworks(job.group, protocol)), [])
    taken = [protocol.rows_of(job.split, table) for table in job.group]
    fitted, found = fitted_for(job, taken, protocol), JobResult([], [])
    for table, rows in zip(job.group, taken, strict=True):
        if len(rows.test) == 0:
            continue
        reported = table.take(rows.test)
        predicted = predict_rows(fitted.chip, _plan(table), reported)
        found.rows.append((reported, predicted))
        found.records.extend(_records(job, table, rows, predicted, fitted, protocol))
    return found


def fitted_for(job: Job, taken: Sequence[Rows], protocol: Protocol) -> FittedChip:
    """The parameters that a split may use: fitted, taken from other chips or another release, or both."""
    key = job.group[0].key
    if job.split == "version":
        return _of_newest(key, protocol)
    chip, family = chip_with_prior(key, protocol.folder), KERNELS[key.op].family
    train = [(t, rows.train) for t, rows in zip(job.group, taken, strict=True) if len(rows.train)]
    tables = [Table(_plan(table), table.take(rows)) for table, rows in train]
    if job.split in ("shape", "size", "model"):
        if not tables:
            raise InputError(f"{job.name} leaves no rows to fit: all are held out.")
        chip = with_family(chip, family, fit(chip, tables).fitted)
        return FittedChip(chip, *_interval(chip, job.group, taken))
    start = initial_parameters(key, start_chips(job, protocol), protocol.folder)
    chip = with_family(chip, family, start.fitted)
    if job.split != "fewshot" or not tables:
        return FittedChip(chip, start.low, start.high)
    chip = with_family(chip, family, fit(chip, tables).fitted)
    low, high = _interval(chip, job.group, taken)
    return FittedChip(chip, low / SIBLING_WIDENING, high * SIBLING_WIDENING)


def _of_newest(key: Key, protocol: Protocol) -> FittedChip:
    """The parameters of a framework's newest release, which an unknown one takes."""
    of, plan = origin(key.chip, chip_files()[key.chip]), _plan_of(key._replace(release=""))
    low, high = load_interval(of, KERNELS[key.op].family, plan, protocol.folder)
    chip = load_chip(key.chip, plan, protocol.folder)
    return FittedChip(chip, low / SIBLING_WIDENING, high * SIBLING_WIDENING)


def start_chips(job: Job, protocol: Protocol) -> tuple[str, ...]:
    """Chips whose fits a chip may start from; of the split by vendor those of other makers."""
    if job.split != "vendor":
        return MEASURED
    files = chip_files()
    own = files[job.group[0].key.chip].vendor
    fitted = (name for name in files if (protocol.folder / f"{name}.toml").exists())
    return tuple(name for name in fitted if name not in CLOSED and files[name].vendor != own)


def _interval(
    chip: Chip, group: Sequence[Measurements], taken: Sequence[Rows]
) -> tuple[float, float]:
    """From development rows; from training rows where there are too few of them."""
    few = sum(len(rows.development) for rows in taken) < MIN_DEVELOPMENT_ROWS
    used = [
        table.take(rows.train if few else rows.development)
        for table, rows in zip(group, taken, strict=True)
    ]
    predicted = np.concatenate([predict_rows(chip, _plan(table), table) for table in used])
    return interval(predicted, np.concatenate([table.time for table in used]))


def _plan(table: Measurements) -> Plan:
    return _plan_of(table.key)


def _plan_of(key: Key) -> Plan:
    return plan_of(key, chip_files()[key.chip].architecture)


def _records(
    job: Job,
    table: Measurements,
    rows: Rows,
    predicted: np.ndarray,
    fitted: FittedChip,
    protocol: Protocol,
) -> Iterator[dict[str, Any]]:
    """One record of all reported rows, and of a mixture one for each kind of routing."""
    train, test = table.take(rows.train), table.take(rows.test)
    chip, plan = chip_with_prior(table.key, protocol.folder), _plan(table)
    asked, guessed = counts(chip, plan, test), None
    if len(train.time) and has_forest():
        guessed = forest(train, counts(chip, plan, train), test, asked, protocol.seed)
    alike = [other for other in job.others if _differ_in_framework(other.key, table.key)]
    for routing, some in _routings(test):
        part, factors = test.take(some), (fitted.low, fitted.high)
        yield _head(table.key, job.split, len(train.time), routing) | {
            **_errors(predicted[some], part.time),
            "coverage90": coverage(predicted[some], part.time, factors),
            "roofline_mape": errors(asked.time[some], part.time).mean,
            "forest_mape": None if guessed is None else errors(guessed[some], part.time).mean,
            "floor_mape": disagreement(part, alike),
        }


def _routings(rows: Measurements) -> Iterator[tuple[str, np.ndarray]]:
    """All rows; and where they are routed, those of each kind of routing."""
    yield "", np.arange(len(rows.time))
    if "routing" in rows.columns:
        balanced = rows.columns["routing"] == ROUTINGS.index("balanced")
        for name, which in (("balanced", balanced), ("power law", ~balanced)):
            if which.any():
                yield name, np.flatnonzero(which)


def _head(key: Key, split: str, train: int, routing: str = "") -> dict[str, Any]:
    return key._asdict() | {"split": split, "routing": routing, "train": train}


def _errors(predicted: np.ndarray, measured: np.ndarray) -> dict[str, Any]:
    found = errors(predicted, measured)._asdict()
    return {"n": found.pop("rows"), "mape": found.pop("mean"), **found}


def _differ_in_framework(one: Key, other: Key) -> bool:
    """Whether two tables differ in the framework alone."""
    return one != other and one._replace(framework="") == other._replace(framework="")


def _frameworks(tables: Sequence[Measurements], protocol: Protocol) -> Iterator[dict[str, Any]]:
    """What each pair of frameworks disagrees by, on held-out shapes."""
    none = dict.fromkeys(("rank", "coverage90", "roofline_mape", "forest_mape"))
    for one, other in itertools.combinations(tables, 2):
        if not _differ_in_framework(one.key, other.key):
            continue
        ratio = common_ratios(one.take(protocol.rows_of("shape", one).test), other)
        if len(ratio) >= MIN_COMMON_SHAPES:
            key = one.key._replace(framework=f"{other.key.framework}/{one.key.framework}")
            middle = np.median(ratio)
            found = _errors(ratio, np.full_like(ratio, middle))
            bias = {"bias": float(np.log(middle)), "floor_mape": found["mape"]}
            yield _head(key, "framework", 0) | found | none | bias
