"""The protocol, run section by section, and its report, written as it goes."""

import datetime
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pyarrow as pa

from perfmodel.calibration.baselines.forest import has_forest
from perfmodel.calibration.data.aiconfigurator import locate
from perfmodel.calibration.data.measurements import Measurements
from perfmodel.calibration.fit import check_solver
from perfmodel.calibration.metrics import rounded
from perfmodel.calibration.protocol import (
    Job,
    Protocol,
    Record,
    Unit,
    jobs,
    read,
    units,
    write_result,
)
from perfmodel.calibration.technology import scores
from perfmodel.calibration.validate import run
from perfmodel.errors import InputError
from perfmodel.files import write_csv, write_json
from perfmodel.inference.kernel_predictions import operations
from perfmodel.library.chip import find_chip
from perfmodel.library.files import word_of
from perfmodel.package_versions import version, versions

NO_FOREST = (
    "scikit-learn is not installed, so the random forest is left out; install `perfmodel[fit]`."
)


class ValidationRequest(NamedTuple):
    """What is asked.

    - `source`: `aiconfigurator`, or a path to its wheel or checkout.
    - `chips`, `ops`: names of the protocol's; empty: all of them. `technology` among `ops` asks for
      area, power and cost of chips, alone or beside others.
    - `json`: file of the report; `out`: folder of the pictures, of every row, and of a line for each table.
    - `resume`: keep what the report already holds.
    """

    protocol: Protocol
    source: str = "aiconfigurator"
    chips: Sequence[str] = ()
    ops: Sequence[str] = ()
    json: Path | None = None
    out: Path | None = None
    resume: bool = False

    @property
    def report(self) -> Path | None:
        """Where the report is written."""
        return self.json or (self.out / "validate.json" if self.out else None)

    @property
    def wants_technology(self) -> bool:
        """Whether area, power and cost of chips are asked for."""
        return TECHNOLOGY in self.names or not (self.ops or self.chips)

    @property
    def names(self) -> list[str]:
        """The operations, as they are spelled here."""
        return [word_of(name, (*operations(), TECHNOLOGY), "op") for name in self.ops]


def run_protocol(request: ValidationRequest, progress: Callable[..., None]) -> Record:
    """Run the protocol, and write the report after each section.

    **Arguments:**

    - `progress`: called with units done, units in all, and what is being done.

    **Returns:**

    The report, as the contract has it.

    **Raises:**

    - `InputError`: before any work, for a wrong name or place.
    """
    if request.out is not None:
        (request.out / "rows").mkdir(parents=True, exist_ok=True)
    report, asked = _begun(request), _units(request)
    root = locate(request.source) if asked else Path()
    if asked:
        check_solver()
    if request.wants_technology and not report["technology"]:
        progress(0, len(asked) + 1, TECHNOLOGY)
        report["technology"] = [rounded(one._asdict(), 4) for one in scores()]
        _finished(TECHNOLOGY, request, report)
    for done, unit in enumerate(asked):
        progress(done, len(asked), unit.name)
        if unit.name not in report["done"]:
            for job in jobs(read(root, unit, request.protocol), request.protocol):
                progress(done, len(asked), job.name)
                _run(job, request, report)
            _finished(unit.name, request, report)
            jax.clear_caches()  # compiled code takes maps of memory, of which a process has 65,530
    if request.out is not None:
        write_result(request.out / RESULT, report["kernels"])
    return report


RESULT = "protocol.csv"
"""Name of the file, in `--out`, that has a line for each table."""


TECHNOLOGY = "technology"
"""The name, among operations, of area, power and cost of chips."""


def _units(request: ValidationRequest) -> list[Unit]:
    protocol, names = request.protocol, request.names
    if set(names) == {TECHNOLOGY}:
        return []
    chips = [_one_of(find_chip(name), protocol.chips, "--chips") for name in request.chips]
    ops = [_one_of(name, protocol.ops, "--ops") for name in names if name != TECHNOLOGY]
    return units(
        [chip for chip in protocol.chips if chip in (chips or protocol.chips)],
        [op for op in protocol.ops if op in (ops or protocol.ops)],
    )


def _one_of(name: str, allowed: Collection[str], option: str) -> str:
    if name not in allowed:
        raise InputError(
            f"{name[:40]!r} takes no part in this protocol; give {option} of {', '.join(allowed)}."
        )
    return name


def _run(job: Job, request: ValidationRequest, report: Record) -> None:
    """Run a job that was not done; a table that the chip cannot run is named and passed over."""
    if job.name in report["done"]:
        return
    try:
        found = run(job, request.protocol)
    except InputError as error:
        report["skipped"].append({"job": job.name, "reason": str(error)})
    else:
        report["kernels"] += map(_stamped, found.records)
        if request.out is not None and found.rows:
            _write_rows(request.out, job, found.rows)
    _finished(job.name, request, report)


def _finished(name: str, request: ValidationRequest, report: Record) -> None:
    report["done"].append(name)
    if request.report is not None:
        write_json(request.report, report)


def _stamped(record: Record) -> Record:
    """A record, rounded, with when and by which version: a report may come from several days."""
    stamp = {"date": datetime.date.today().isoformat(), "version": version("perfmodel")}
    return rounded(record) | stamp


PACKAGES = ("perfmodel", "jax", "optimistix", "numpy", "scikit-learn", "aiconfigurator-core")


def _begun(request: ValidationRequest) -> Record:
    """An empty report, or what an earlier run left of this one."""
    protocol = request.protocol
    asked = {name: getattr(protocol, name) for name in ("quick", "rows", "seed")}
    empty: Record = {name: [] for name in ("kernels", "serving", "published", "technology")}
    empty |= {"versions": versions(PACKAGES), "run": asked | {"folder": str(protocol.folder)}}
    empty |= {"skipped": [], "done": []}
    if not request.resume:
        return empty
    if request.report is None:
        raise InputError("--resume needs the report of the earlier run; give --json or --out.")
    return _earlier(request.report, empty) if request.report.exists() else empty


def _earlier(path: Path, empty: Record) -> Record:
    try:
        found = json.loads(path.read_text())
        alike = found["run"] == empty["run"] and found.keys() == empty.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        found, alike = {}, False
    if not alike:
        raise InputError(
            f"{path} is no report of this protocol, seed and calibration; "
            "give another --json, or leave out --resume."
        )
    return found | {"versions": empty["versions"]}


def notes(report: Record) -> list[str]:
    """What a reader of the tables must know."""
    said = [] if has_forest() else [NO_FOREST]
    said += [f"Passed over: {one['job']}: {one['reason']}" for one in report["skipped"]]
    return said


def _write_rows(out: Path, job: Job, found: Sequence[tuple[Measurements, np.ndarray]]) -> None:
    parts = [rows.as_table({"split": job.split}, predicted) for rows, predicted in found]
    write_csv(out / "rows" / f"{job.name.replace('/', '-')}.csv", pa.concat_tables(parts))
