"""How far predictions lie from rows that no fit has seen, beside three rivals on the same rows.

Intervals come from development rows, or from where a chip starts.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from perfmodel.calibration import rivals
from perfmodel.calibration.calibrate import FEWEST_JUDGES, plan_of
from perfmodel.calibration.errors import coverage, errors, interval
from perfmodel.calibration.fit import Table, fit, predict, with_family
from perfmodel.calibration.measurements import Measurements
from perfmodel.calibration.splits import MEASURED, Job, Protocol, Rows, rows_of
from perfmodel.calibration.unseen import bare, start
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.kernel_table import Key
from perfmodel.kernels.registry import OPERATIONS
from perfmodel.kernels.routing import ROUTINGS
from perfmodel.library.chip import chip_files
from perfmodel.library.fitted import WIDER
from perfmodel.workload.plan import Plan


class Fitted(NamedTuple):
    """A chip with the parameters that predict, and the factors of the 90 % interval."""

    chip: Chip
    low: float
    high: float


class Outcome(NamedTuple):
    """What a job found: records as the contract has them, and the rows with their predictions."""

    records: list[dict[str, Any]]
    rows: list[tuple[Measurements, np.ndarray]]


def run(job: Job, how: Protocol, test: str = "heldout") -> Outcome:
    """Fit as the split says, and report each table of the section."""
    if job.split == "framework":
        return Outcome(list(_frameworks(job.group, how)), [])
    taken = [rows_of(job.split, table, how, test) for table in job.group]
    fitted, found = fitted_for(job, taken, how), Outcome([], [])
    for table, rows in zip(job.group, taken, strict=True):
        if len(rows.test) == 0:
            continue
        reported = table.take(rows.test)
        predicted = _predicted(fitted.chip, reported)
        found.rows.append((reported, predicted))
        found.records.extend(_records(job, table, rows, predicted, fitted, how))
    return found


def fitted_for(job: Job, taken: Sequence[Rows], how: Protocol) -> Fitted:
    """The parameters that a split may use: fitted, taken from other chips, or both."""
    key = job.group[0].key
    chip, family = bare(key, how.folder), OPERATIONS[key.op].family
    train = [(t, rows.train) for t, rows in zip(job.group, taken, strict=True) if len(rows.train)]
    tables = [Table(_plan(table), table.take(rows)) for table, rows in train]
    if job.split in ("shape", "size", "model"):
        if not tables:
            raise InputError(f"{job.name} leaves no rows to fit: all are held out.")
        chip = with_family(chip, family, fit(chip, tables).fitted)
        return Fitted(chip, *_interval(chip, job.group, taken))
    begin = start(key, MEASURED, how.folder)
    chip = with_family(chip, family, begin.fitted)
    if job.split != "fewshot" or not tables:
        return Fitted(chip, begin.low, begin.high)
    chip = with_family(chip, family, fit(chip, tables).fitted)
    low, high = _interval(chip, job.group, taken)
    return Fitted(chip, low / WIDER, high * WIDER)


def _interval(
    chip: Chip, group: Sequence[Measurements], taken: Sequence[Rows]
) -> tuple[float, float]:
    """From development rows; from training rows where there are too few of them."""
    few = sum(len(rows.judge) for rows in taken) < FEWEST_JUDGES
    judges = [
        table.take(rows.train if few else rows.judge)
        for table, rows in zip(group, taken, strict=True)
    ]
    predicted = np.concatenate([_predicted(chip, table) for table in judges])
    return interval(predicted, np.concatenate([table.time for table in judges]))


def _plan(table: Measurements) -> Plan:
    return plan_of(table.key, chip_files()[table.key.chip].architecture)


def _predicted(chip: Chip, rows: Measurements) -> np.ndarray:
    if len(rows.time) == 0:
        return rows.time
    plan = _plan(rows)
    return rivals.in_blocks(lambda block: predict(rows.key.op, chip, plan, block), rows.columns)


def _records(
    job: Job,
    table: Measurements,
    rows: Rows,
    predicted: np.ndarray,
    fitted: Fitted,
    how: Protocol,
) -> Iterator[dict[str, Any]]:
    """One record of all reported rows, and of a mixture one for each kind of routing."""
    train, test = table.take(rows.train), table.take(rows.test)
    chip, plan = bare(table.key, how.folder), _plan(table)
    asked = rivals.counts(chip, plan, test)
    guessed = None
    if len(train.time) and rivals.has_forest():
        seen = rivals.counts(chip, plan, train)
        guessed = rivals.forest(train, seen, test, asked, how.seed)
    alike = [other for other in job.others if _alike(other.key, table.key)]
    for routing, some in _routings(test):
        part, factors = test.take(some), (fitted.low, fitted.high)
        yield _head(table.key, job.split, len(train.time), routing) | {
            **_errors(predicted[some], part.time),
            "coverage90": coverage(predicted[some], part.time, factors),
            "roofline_mape": errors(asked.time[some], part.time).mean,
            "forest_mape": None if guessed is None else errors(guessed[some], part.time).mean,
            "floor_mape": rivals.floor(part, alike),
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
    found = errors(predicted, measured)
    names = {"n": "rows", "mape": "mean", "median": "median", "p90": "p90"}
    names |= {"bias": "bias", "rank": "rank"}
    return {name: getattr(found, field) for name, field in names.items()}


def _alike(one: Key, other: Key) -> bool:
    """Whether two tables differ in the framework alone."""
    return one != other and one._replace(framework="") == other._replace(framework="")


def _frameworks(tables: Sequence[Measurements], how: Protocol) -> Iterator[dict[str, Any]]:
    """What each pair of frameworks disagrees by, on held-out shapes."""
    for i, one in enumerate(tables):
        held = one.take(rows_of("shape", one, how).test)
        for other in tables[i + 1 :]:
            ratio = rivals.common(held, other) if _alike(one.key, other.key) else held.time[:0]
            if len(ratio) < rivals.FEWEST_COMMON:
                continue
            key = one.key._replace(framework=f"{other.key.framework}/{one.key.framework}")
            ends = np.ones_like(ratio) * np.median(ratio)
            floor = errors(ratio, ends)
            yield _head(key, "framework", 0) | {
                **_errors(ratio, ends),
                "bias": float(np.log(np.median(ratio))),
                "rank": None,
                "coverage90": None,
                "roofline_mape": None,
                "forest_mape": None,
                "floor_mape": floor.mean,
            }
