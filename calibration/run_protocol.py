"""The protocol, run unit by unit, here or on a cluster, and its report, written as it goes.

What a unit comes to depends on nothing but the unit; the report has all in the order of the protocol.
"""

import datetime
import functools
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import pyarrow as pa

from perfmodel.calibration.baselines.forest import has_forest
from perfmodel.calibration.data.aiconfigurator import INSTALLED, locate
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
from perfmodel.calibration.validate import JobResult, run
from perfmodel.cluster import check_address, workers
from perfmodel.errors import InputError
from perfmodel.files import write_csv, write_json
from perfmodel.inference.kernel_predictions import operations
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.chip import find_chip
from perfmodel.library.files import word_of
from perfmodel.library.fitted import FITTED, own_folder
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
    - `cluster`: the Ray cluster that runs the units; this process if empty.
    """

    protocol: Protocol
    source: str = INSTALLED
    chips: Sequence[str] = ()
    ops: Sequence[str] = ()
    json: Path | None = None
    out: Path | None = None
    resume: bool = False
    cluster: str = ""

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
    """Run the protocol, and write the report after each job; on a cluster after each unit.

    **Arguments:**

    - `progress`: called with units done, units in all, and what was done last or is begun.

    **Returns:**

    The report, as the contract has it.

    **Raises:**

    - `InputError`: before any work, for a wrong name or place, or a cluster that is not there.
    """
    check_address(request.cluster)
    if request.out is not None:
        (request.out / "rows").mkdir(parents=True, exist_ok=True)
    report, asked = _begun(request), _units(request)
    if asked:
        locate(request.source)
        check_solver()
    if request.wants_technology and not report["technology"]:
        progress(0, len(asked) + 1, TECHNOLOGY)
        report["technology"] = [rounded(one._asdict(), 4) for one in scores()]
        _finished(TECHNOLOGY, request, report)
    _run_units(asked, request, report, progress)
    if request.out is not None:
        write_result(request.out / RESULT, report["kernels"])
    return report


RESULT = "protocol.csv"
"""Name of the file, in `--out`, that has a line for each table."""


TECHNOLOGY = "technology"
"""The name, among operations, of area, power and cost of chips."""


def _run_units(
    asked: Sequence[Unit], request: ValidationRequest, report: Record, progress: Callable[..., None]
) -> None:
    """Run the units that were not done, here or on a cluster, and keep what they come to."""
    left = [unit for unit in asked if unit.name not in report["done"]]
    tasks = [Task(unit, tuple(report["done"])) for unit in left]
    places = [own_folder(request.protocol.folder), _own_source(request.source)]
    cluster = request.cluster if left else ""
    with workers(cluster, [place for place in places if place], PACKAGES) as run_all:
        function = functools.partial(whole_unit if cluster else outcomes, _where(request))
        for number, (place, found) in enumerate(run_all(function, tasks)):
            count = len(asked) - len(left) + number, len(asked)
            progress(*count, left[place].name)
            for outcome in found:
                _keep(outcome, request, report)
                progress(*count, outcome.name)
            _finished(left[place].name, request, report)


def _own_source(source: str) -> Path | None:
    """The path of a source that is no installed package."""
    return None if source == INSTALLED else Path(source).absolute()


class Where(NamedTuple):
    """What every unit needs to know.

    - `folder`: of fitted parameters; `None`: the shipped one, where the unit is run.
    - `rows`: whether rows are wanted with their predictions.
    """

    protocol: Protocol
    folder: Path | None
    source: str
    rows: bool


def _where(request: ValidationRequest) -> Where:
    own = _own_source(request.source)
    folder = own_folder(request.protocol.folder)
    bare = request.protocol._replace(folder=Path())
    return Where(bare, folder, str(own or request.source), request.out is not None)


class Task(NamedTuple):
    """A unit, and the names of what was done before, which is not done again."""

    unit: Unit
    done: tuple[str, ...]


class Outcome(NamedTuple):
    """What a job came to, or why it was passed over.

    - `rows`: with their predictions, where they are wanted and there are any.
    """

    name: str
    records: list[Record]
    rows: pa.Table | None = None
    reason: str = ""


def whole_unit(where: Where, task: Task) -> list[Outcome]:
    """The outcomes of all jobs of a unit, as a worker hands them back."""
    return list(outcomes(where, task))


def outcomes(where: Where, task: Task) -> Iterator[Outcome]:
    """Read a unit's tables, and run its jobs one after the other."""
    protocol = where.protocol._replace(folder=where.folder or FITTED)
    for job in jobs(read(locate(where.source), task.unit, protocol), protocol):
        if job.name not in task.done:
            yield _outcome(job, protocol, where.rows)
    jax.clear_caches()  # compiled code takes maps of memory, of which a process has 65,530


def _outcome(job: Job, protocol: Protocol, rows: bool) -> Outcome:
    """Run a job; a table that the chip cannot run is passed over."""
    try:
        found = run(job, protocol)
    except InputError as error:
        return Outcome(job.name, [], reason=str(error))
    return Outcome(job.name, found.records, _rows(job, found) if rows and found.rows else None)


def _rows(job: Job, found: JobResult) -> pa.Table:
    parts = [rows.as_table({"split": job.split}, predicted) for rows, predicted in found.rows]
    return pa.concat_tables(parts)


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


def _keep(outcome: Outcome, request: ValidationRequest, report: Record) -> None:
    """Add what a job came to; what was passed over is named."""
    if outcome.reason:
        report["skipped"].append({"job": outcome.name, "reason": outcome.reason})
    report["kernels"] += map(_stamped, outcome.records)
    if request.out is not None and outcome.rows is not None:
        name = outcome.name.replace("/", "-")
        write_csv(request.out / "rows" / f"{name}.csv", outcome.rows)
    _finished(outcome.name, request, report)


def _finished(name: str, request: ValidationRequest, report: Record) -> None:
    report["done"].append(name)
    _sort(report, request.protocol)
    if request.report is not None:
        write_json(request.report, report)


def _sort(report: Record, protocol: Protocol) -> None:
    """Put all into the order of the protocol, whatever was done first."""
    names = [TECHNOLOGY, *(unit.name for unit in units(protocol.chips, protocol.ops))]
    places = {name: place for place, name in enumerate(names)}

    def of_name(name: str) -> int:
        return places["/".join(name.split("/")[:2])]

    report["done"].sort(key=of_name)
    report["skipped"].sort(key=lambda one: of_name(one["job"]))
    report["kernels"].sort(key=lambda one: places[f"{one['chip']}/{KERNELS[one['op']].family}"])


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
