"""Calibrate: fit every table of a source, and write what comes out, one section at a time.

Sections are fitted here or on the workers of a cluster, by one function that gives what is to be written;
this process alone writes. A section's parameters and residuals are written, whole, as soon as it is fitted,
in a place that does not depend on which was fitted first; a run that was stopped goes on from there.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa

from perfmodel.calibration.cross_validation import check_columns, parts_of, predict_left_out
from perfmodel.calibration.data.measurements import LeftOut, Measurements, benchmark_chip
from perfmodel.calibration.fit import Fit, Table, fit, predict_rows, with_family
from perfmodel.calibration.metrics import coverage, errors, grouped, interval, rounded
from perfmodel.calibration.sections import (
    Names,
    file_of,
    has_reports,
    in_units,
    place_of,
    read_section,
    section_of,
    sections,
    write_section,
)
from perfmodel.calibration.split import DEVELOPMENT, PARTS, TRAIN, part_of, pick
from perfmodel.cluster import check_address, workers
from perfmodel.errors import InputError
from perfmodel.files import write_csv, write_toml, write_whole
from perfmodel.hardware.chip import Chip
from perfmodel.kernels.kernel_table import Key
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.chip import chip_files, origin, own_file
from perfmodel.library.fitted import FITTED, RELEASE, SMOOTH, own_folder
from perfmodel.library.fitted_intervals import SIBLING_WIDENING, load_interval
from perfmodel.locking import lock_folder
from perfmodel.package_versions import version
from perfmodel.workload.plan import Plan

MIN_DEVELOPMENT_ROWS = 20
"""Development rows of a table from which an interval can be read; with fewer they train too."""

RELEASE_WEIGHT = 3.0
"""Weight of the newest release's parameters in the fit of another one, over that of any fit's start. Of 1, 3
and 10 the one with the least mean error of development rows (9.4 %), of fits to training rows alone."""

MIN_LEFT_OUT_ROWS = 60
"""Rows, each left out once, from which an interval can be read: they are of few shapes or models."""

MAX_REPORTED = 10_000
"""Held-out rows of a table that are predicted, at most."""

MAX_NAMED_ROWS = 5
"""Rows that are left out and named on the screen, at most."""

KERNEL_FAMILIES = tuple(dict.fromkeys(operation.family for operation in KERNELS.values()))
"""Families of kernels that rows can be of."""


class Options(NamedTuple):
    """What a run is asked to do.

    - `rows`: that train, of each table, at most.
    - `seed`: of their choice.
    - `prior`: folder of the parameters to start from; `None`: the shipped ones, where a section is fitted.
    - `resume`: keep sections that are already there.
    - `chip_file`: of a chip that the library does not have.
    - `leave_out`: columns by whose values rows are left out together, as `cross_validation` says; where none
      is given the split holds rows out.
    - `pool_formats`: fit all formats of a framework's kernels as one.
    """

    out: Path
    rows: int = 2000
    seed: int = 0
    prior: Path | None = None
    resume: bool = False
    chip_file: Path | None = None
    leave_out: tuple[str, ...] = ()
    pool_formats: bool = False

    @property
    def start(self) -> Path:
        """Folder of the parameters to start from."""
        return self.prior or FITTED

    def for_workers(self) -> "Options":
        """The same with what a worker reads by its whole path, and without where it does not write."""
        file = self.chip_file and self.chip_file.absolute()
        return self._replace(prior=own_folder(self.start), chip_file=file, out=Path())

    def chip_of(self, key: Key) -> tuple[Chip, Plan]:
        """The chip of a key's rows before the fit, and the plan that they run under."""
        return benchmark_chip(key, self.start, self.chip_file)

    def section(self, key: Key) -> tuple[Path, Names]:
        """Where the parameters of a key are written."""
        return self.out / f"{file_of(key)}.toml", place_of(key, self.pool_formats)


class TableResult(NamedTuple):
    """One table: whose it is, and how well its held-out rows are predicted."""

    key: Key
    report: dict[str, Any]


def calibrate(
    tables: Sequence[Measurements],
    options: Options,
    progress: Callable[[Measurements], None],
    left_out: Sequence[LeftOut] = (),
    cluster: str = "",
) -> list[TableResult]:
    """Fit the tables and write the folder.

    It holds the parameters (`CHIP.toml`, and `prior.toml`, where they started), each table's rows
    with their part of the split and their predictions (`residuals/*.csv`), and how it was
    run (`run.toml`). Tables of one section, as the collectives of one library, are fitted together.

    **Arguments:**

    - `progress`: called after each fit, with its first table.
    - `left_out`: rows of the source that are not fitted, which are listed (`left_out.csv`).
    - `cluster`: the Ray cluster that fits; this process if empty.

    **Raises:**

    - `InputError`: before anything is fitted, when a chip has no matrix unit for a table's format, a table
      lacks a column by which rows are left out, the folder holds something else, another run writes it, or
      no cluster is there.
    """
    check_address(cluster)
    if cluster and options.out.resolve() in (FITTED.resolve(), options.start.resolve()):
        raise InputError(
            f"{options.out} is read by the workers while it is written; give another --out or --prior."
        )
    check_columns(tables, options.leave_out)
    for table in tables:
        options.chip_of(table.key)
        read_section(*options.section(table.key))
    with lock_folder(options.out, "calibration"):
        (options.out / "residuals").mkdir(parents=True, exist_ok=True)
        _write_prior(options)
        write_toml(options.out / "run.toml", _run(options, left_out))
        write_csv(options.out / "left_out.csv", _left_out(left_out))
        return _fit_sections(sections(tables, options.pool_formats), options, progress, cluster)


Group = Sequence[Measurements]
"""The tables of one section."""


def _fit_sections(
    groups: Sequence[Group],
    options: Options,
    progress: Callable[[Measurements], None],
    cluster: str,
) -> list[TableResult]:
    """Fit the sections that are not there, here or on a cluster, and write each when it is fitted."""
    done = [_already(group, options) if options.resume else None for group in groups]
    for group, found in zip(groups, done, strict=True):
        if found is not None:
            progress(group[0])
    left = [group for group, found in zip(groups, done, strict=True) if found is None]
    written = {}
    with workers(cluster if left else "", _places(options), PACKAGES) as run:
        for place, fitted in run(functools.partial(fit_section, options.for_workers()), left):
            _write_section(fitted, left[place], options, groups)
            written[place] = _outcomes(left[place], fitted.section)
            progress(left[place][0])
    fresh = iter(written[place] for place in range(len(left)))
    return [one for found in done for one in (next(fresh) if found is None else found)]


PACKAGES = ("numpy", "equinox", "optimistix")
"""Whose versions fits depend on, beside JAX."""


def _places(options: Options) -> list[Path]:
    """Files that a worker reads and that are not the program's."""
    return [path for path in (own_folder(options.start), options.chip_file) if path is not None]


def _write_section(
    fitted: "FittedSection", group: Group, options: Options, groups: Sequence[Group]
) -> None:
    """Write a section and its residuals; those of this run keep its order in their file."""
    for name, rows in fitted.residuals.items():
        write_csv(options.out / "residuals" / f"{name}.csv", rows)
    path, names = options.section(group[0].key)
    places = [options.section(one[0].key) for one in groups]
    write_section(path, names, fitted.section, [others for file, others in places if file == path])


class Trial(NamedTuple):
    """A table, its plan, the rows taken of each part of the split, and their predictions.

    - `groups`: of rows that trained, each held out of a fit of its own; 0 where the split holds rows out.
    """

    table: Measurements
    plan: Plan
    chosen: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]
    groups: int = 0

    @property
    def interval_part(self) -> tuple[str, int]:
        """The part from which an interval is read, and how many rows of it are enough."""
        return (
            ("heldout", MIN_LEFT_OUT_ROWS) if self.groups else ("development", MIN_DEVELOPMENT_ROWS)
        )

    def ratios(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and measured times of a part."""
        return self.predicted[part], self.table.time[self.chosen[part]]

    def residuals(self, part: str) -> pa.Table:
        """The rows of a part, with what is predicted."""
        taken = self.table.take(self.chosen[part])
        return taken.as_table({"part": part}, self.predicted[part])

    def all_residuals(self) -> pa.Table:
        """The rows of all parts."""
        return pa.concat_tables(self.residuals(part) for part in self.chosen)


class FittedSection(NamedTuple):
    """What is written of a section: its parameters with a report, and the rows of each table by file."""

    section: dict[str, Any]
    residuals: dict[str, pa.Table]


_last: list[str] = []
"""The chip whose section this process fitted last."""


def _begin_chip(chip: str) -> None:
    """Forget what was compiled for another chip: it takes maps of memory, of which a process has 65,530."""
    if _last != [chip]:
        jax.clear_caches()
    _last[:] = [chip]


def fit_section(options: Options, group: Group) -> FittedSection:
    """Fit on training rows; take the interval from development rows; report held-out rows."""
    first = group[0].key
    _begin_chip(first.chip)
    chip, plan = options.chip_of(first)
    plans = [options.chip_of(table.key)[1] for table in group]
    chosen = [_chosen(table, options) for table in group]
    several = list(zip(group, plans, chosen, strict=True))
    trained = [Table(plan, t.take(rows["train"])) for t, plan, rows in several]
    weight = RELEASE_WEIGHT if first.release else 1.0
    result = fit(chip, trained, weight)
    fitted = with_family(chip, KERNELS[first.op].family, result.fitted)
    trials = [_tried(fitted, *one) for one in several]
    if options.leave_out:
        trials = _left_out_trials(trials, chip, options.leave_out, weight)
    section = _section(result, trials, _interval_before(first, plan, options))
    if first.release:
        _add_errors_before(section, chip, several)
    rows = {_name(trial.table.key): trial.all_residuals() for trial in trials}
    return FittedSection(_release(group[0]) | section, rows)


def _left_out_trials(
    trials: Sequence[Trial], chip: Chip, columns: Sequence[str], weight: float
) -> list[Trial]:
    """The same trials, with held-out rows as fits predict them that have not seen their groups."""
    tables = [one.table.take(one.chosen["heldout"]) for one in trials]
    parts = parts_of(tables, columns)
    rows = [Table(one.plan, table) for one, table in zip(trials, tables, strict=True)]
    found = predict_left_out(chip, rows, parts, weight)
    ends = np.cumsum([len(table.time) for table in tables])[:-1]
    return [
        one._replace(predicted=one.predicted | {"heldout": own}, groups=len(np.unique(parts)))
        for one, own in zip(trials, np.split(found, ends), strict=True)
    ]


def _release(table: Measurements) -> dict[str, Any]:
    """Of which release a section is, where its name does not say it."""
    return {RELEASE: table.version} if table.version and not table.key.release else {}


BEFORE = "before"
"""In the report of a release: the median error of the newest one's parameters on the same held-out rows."""


def _add_errors_before(
    section: dict[str, Any],
    chip: Chip,
    several: Sequence[tuple[Measurements, Plan, dict[str, np.ndarray]]],
) -> None:
    for table, plan, chosen in several:
        rows = table.take(chosen["heldout"])
        median = errors(predict_rows(chip, plan, rows), rows.time).median
        section["report"][_label(table.key)][BEFORE] = round(median, 5)


def _interval_before(key: Key, plan: Plan, options: Options) -> tuple[float, float]:
    known, given = chip_files(), options.chip_file
    file = own_file(given) if given and key.chip not in known else known[key.chip]
    return load_interval(origin(key.chip, file), KERNELS[key.op].family, plan, options.start)


def _chosen(table: Measurements, options: Options) -> dict[str, np.ndarray]:
    op, shape = table.key.op, table.shape
    if options.leave_out:
        every = pick(op, shape, np.ones(len(table.time), bool), options.rows, options.seed)
        return {"train": every, "development": every[:0], "heldout": every}
    parts = part_of(op, shape)
    if np.sum(parts == "development") < MIN_DEVELOPMENT_ROWS:
        parts = np.where(parts == "development", "train", parts)
    most = {"train": options.rows, "development": MAX_REPORTED, "heldout": MAX_REPORTED}
    return {part: pick(op, shape, parts == part, most[part], options.seed) for part in PARTS}


def _tried(chip: Chip, table: Measurements, plan: Plan, chosen: dict[str, np.ndarray]) -> Trial:
    predicted = {part: predict_rows(chip, plan, table.take(rows)) for part, rows in chosen.items()}
    return Trial(table, plan, chosen, predicted)


def _section(result: Fit, trials: Sequence[Trial], before: tuple[float, float]) -> dict[str, Any]:
    """What is written of a fit: parameters, the interval, and a report for each table.

    The interval of a release is widened as a sibling's: with it 93 % of the held-out rows of the shipped
    ones lie inside, without it 79 %.

    **Arguments:**

    - `before`: the interval before the fit.
    """
    part, fewest = trials[0].interval_part
    enough = sum(len(t.chosen[part]) for t in trials) >= fewest
    part = part if enough or trials[0].groups else "train"
    both = [np.concatenate(x) for x in zip(*(t.ratios(part) for t in trials), strict=True)]
    low, high = interval(*both)
    if not enough:
        low, high = _pooled((low, high), before, len(both[0]))
    if trials[0].table.key.release:
        low, high = low / SIBLING_WIDENING, high * SIBLING_WIDENING
    reports = {_label(t.table.key): _report(t, result.steps, (low, high)) for t in trials}
    ends = {"low": round(low, 4), "high": round(high, 4)}
    return in_units(result.fitted) | ends | {"report": reports}


def _pooled(
    own: tuple[float, float], before: tuple[float, float], rows: int
) -> tuple[float, float]:
    """The interval of few rows that trained, pooled with the earlier one, which counts as so many more."""
    weight = rows / (rows + MIN_DEVELOPMENT_ROWS)
    low, high = (a**weight * b ** (1 - weight) for a, b in zip(own, before, strict=True))
    return low, high


def _name(key: Key) -> str:
    """Of the file that holds a table's residuals."""
    words = (key.op, key.chip, key.framework or SMOOTH, key.release, key.dtype, key.cache)
    return "-".join(filter(None, words))


def _label(key: Key) -> str:
    """A table's name within its section."""
    return f"{key.op}-{key.dtype}"


def _report(trial: Trial, steps: int, factors: tuple[float, float]) -> dict[str, Any]:
    predicted, measured = trial.ratios("heldout")
    report = {
        "source": trial.table.source,
        "train_rows": len(trial.chosen["train"]),
        "steps": steps,
        **errors(predicted, measured)._asdict(),
        "coverage": coverage(predicted, measured, factors),
    }
    if trial.groups:
        report["groups"] = trial.groups
    return rounded(report)


def _outcomes(group: Sequence[Measurements], section: dict[str, Any]) -> list[TableResult]:
    return [TableResult(table.key, section["report"][_label(table.key)]) for table in group]


def _already(group: Sequence[Measurements], options: Options) -> list[TableResult] | None:
    """What an earlier run into the same folder found, if it fitted all these tables."""
    found = read_section(*options.section(group[0].key))
    done = has_reports(found, [_label(table.key) for table in group])
    return _outcomes(group, found) if done else None


def _write_prior(options: Options) -> None:
    """The folder stands alone: the prior goes with it."""
    source = options.start / "prior.toml"
    source = source if source.exists() else FITTED / "prior.toml"
    if source.resolve() != (options.out / "prior.toml").resolve():
        write_whole(options.out / "prior.toml", source.read_bytes())


# What is not fitted


def _left_out(rows: Sequence[LeftOut]) -> pa.Table:
    """A line for each row or each part of a table."""
    return pa.table(
        {name: [getattr(one.key, name) for one in rows] for name in Key._fields}
        | {"row": [str(one.place or "") for one in rows]}
        | {name: [str(getattr(one, name)) for one in rows] for name in ("rows", "rule", "found")}
    )


def warnings_of(tables: Sequence[Measurements], left_out: Sequence[LeftOut]) -> list[str]:
    """What a user should know before the fit: rows that are left out, and kernels without rows."""
    single = [one for one in left_out if one.place]
    said = [f"row {one.place} is left out: {one.found}" for one in single[:MAX_NAMED_ROWS]]
    if len(single) > MAX_NAMED_ROWS:
        more = len(single) - MAX_NAMED_ROWS
        said.append(f"{more} more rows are left out; left_out.csv names them.")
    for chip in dict.fromkeys(table.key.chip for table in tables):
        fitted = {section_of(table.key)[0] for table in tables if table.key.chip == chip}
        silent = [name for name in KERNEL_FAMILIES if name not in fitted]
        if silent:
            said.append(f"{chip} has no rows of {', '.join(silent)}, which stay where they start.")
    return said


def _run(options: Options, left_out: Sequence[LeftOut]) -> dict[str, Any]:
    """How the folder was made."""
    rules = grouped((one.rule, one.rows) for one in left_out)
    by = ", ".join(options.leave_out) or "hash of the operation and its sizes"
    shares = {"train": TRAIN, "development": DEVELOPMENT}
    return {
        "rows": options.rows,
        "seed": options.seed,
        "split": {"by": by} | ({} if options.leave_out else shares),
        "left_out": {rule: sum(rows) for rule, rows in rules.items()},
        "versions": {n: version(n) for n in ("perfmodel", "jax", "optimistix", "numpy")},
    }
