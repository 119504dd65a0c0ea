"""Calibrate: fit every table of a source, and write what comes out, one table at a time.

A table's parameters and residuals are written, whole, as soon as it is fitted; a run that
was stopped goes on from there.
"""

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa

from perfmodel.calibration.errors import coverage, errors, interval
from perfmodel.calibration.fit import Fit, Table, fit, predict, with_family
from perfmodel.calibration.measurements import LeftOut, Measurements, fastest
from perfmodel.calibration.protocol import DEVELOPMENT, PARTS, TRAIN, part_of, pick
from perfmodel.calibration.sections import read_section, reports, write_section
from perfmodel.files import write_csv, write_toml, write_whole
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.parameters import parameters
from perfmodel.holding import held
from perfmodel.kernels.kernel_table import Key
from perfmodel.kernels.registry import OPERATIONS
from perfmodel.library.chip import chip_files, load_chip, origin
from perfmodel.library.files import read_as
from perfmodel.library.fitted import FITTED, SMOOTH, load_interval, section_name
from perfmodel.library.fitted import key as written
from perfmodel.library.schema import ChipFile
from perfmodel.units import as_values, to_si
from perfmodel.workload.framework import backend, library
from perfmodel.workload.plan import Plan

FEWEST_JUDGES = 20
"""Development rows of a table from which an interval can be read; with fewer they train too."""

MOST_REPORTED = 10_000
"""Held-out rows of a table that are predicted, at most."""


SAID = 5
"""Rows that are left out and named on the screen, at most."""

KERNELS = tuple(dict.fromkeys(operation.family for operation in OPERATIONS.values()))
"""Families of kernels that rows can speak of."""


class Options(NamedTuple):
    """What a run is asked to do.

    - `rows`: that train, of each table, at most.
    - `seed`: of their choice.
    - `prior`: folder of the parameters to start from.
    - `resume`: keep sections that are already there.
    - `chip_file`: of a chip that the library does not have.
    """

    out: Path
    rows: int = 2000
    seed: int = 0
    prior: Path = FITTED
    resume: bool = False
    chip_file: Path | None = None


def plan_of(key: Key, architecture: str) -> Plan:
    """The plan that a benchmark of a key's rows runs under: one chip, replayed."""
    return Plan(
        weights=key.dtype,
        cache=key.cache or "bf16",
        framework=key.framework or None,
        backend=backend(key.framework, architecture, key.cache),
        library=library(key.framework, architecture),
        replay=True,
    )


def section_of(key: Key) -> tuple[str, str, str]:
    """Family, framework and format by which a key's parameters are filed."""
    family = OPERATIONS[key.op].family
    return family, key.framework or SMOOTH, section_name(family, key.dtype, key.cache)


def with_smooth(tables: Sequence[Measurements]) -> Iterator[Measurements]:
    """The tables, and for each chip and format without a smooth one: the fastest of the frameworks.

    What NCCL alone was measured at is no such choice.
    """
    groups: dict[tuple, list[Measurements]] = {}
    for table in tables:
        _, _, dtype = section_of(table.key)
        groups.setdefault((table.key.op, table.key.chip, dtype), []).append(table)
        yield table
    for group in groups.values():
        names = {table.key.framework for table in group}
        if "" not in names and names != {"nccl"}:
            yield fastest(group)


class Outcome(NamedTuple):
    """One table: whose it is, and how well its held-out rows are predicted."""

    key: Key
    report: dict[str, Any]


def calibrate(
    tables: Sequence[Measurements],
    options: Options,
    progress: Callable[[Measurements], None],
    left_out: Sequence[LeftOut] = (),
) -> list[Outcome]:
    """Fit the tables and write the folder.

    It holds the parameters (`CHIP.toml`, and `prior.toml`, where they started), each table's rows
    with their part of the split and their predictions (`residuals/*.csv`), and how it was
    run (`run.toml`). Tables of one section, as the collectives of one library, are fitted together.

    **Arguments:**

    - `progress`: called before each fit, with its first table.
    - `left_out`: rows of the source that are not fitted, which are listed (`left_out.csv`).

    **Raises:**

    - `InputError`: before anything is fitted, when a chip has no matrix unit for a table's format, or
      the folder holds something else, or another run writes it.
    """
    for table in tables:
        chip_of(table.key, options)
        read_section(*_place(table.key, options))
    with held(options.out, "calibration"):
        return _fitted(tables, options, progress, left_out)


def _fitted(
    tables: Sequence[Measurements],
    options: Options,
    progress: Callable[[Measurements], None],
    left_out: Sequence[LeftOut],
) -> list[Outcome]:
    (options.out / "residuals").mkdir(parents=True, exist_ok=True)
    _write_prior(options)
    write_toml(options.out / "run.toml", _run(options, left_out))
    write_csv(options.out / "left_out.csv", _left_out(left_out))
    outcomes, last = [], ""
    for group in sections(tables):
        if group[0].key.chip != last:
            jax.clear_caches()  # compiled code takes maps of memory, of which a process has 65,530
        last = group[0].key.chip
        progress(group[0])
        done = _already(group, options) if options.resume else None
        outcomes += done or _one(group, options)
    return outcomes


def sections(tables: Sequence[Measurements]) -> list[list[Measurements]]:
    """The tables of each section of parameters."""
    groups: dict[tuple, list[Measurements]] = {}
    for table in tables:
        groups.setdefault((table.key.chip, *section_of(table.key)), []).append(table)
    return list(groups.values())


def _name(key: Key) -> str:
    """Of the file that holds a table's residuals."""
    return "-".join((key.op, key.chip, key.framework or SMOOTH, key.dtype, key.cache)).rstrip("-")


def chip_of(key: Key, options: Options) -> tuple[Chip, Plan]:
    """The chip of a key's rows before the fit, and the plan that they run under.

    **Raises:**

    - `InputError`: when the chip has no matrix unit for their format.
    """
    architecture = chip_files()[key.chip].architecture if key.chip in chip_files() else ""
    plan = plan_of(key, architecture)
    name = options.chip_file if key.chip not in chip_files() and options.chip_file else key.chip
    chip = load_chip(name, plan, options.prior)
    for kind in OPERATIONS[key.op].rates(plan):
        chip.rates(kind)
    return chip, plan


class Trial(NamedTuple):
    """A table, its plan, the rows taken of each part of the split, and their predictions."""

    table: Measurements
    plan: Plan
    chosen: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]

    def ratios(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Predicted and measured times of a part."""
        return self.predicted[part], self.table.time[self.chosen[part]]


def _one(group: Sequence[Measurements], options: Options) -> list[Outcome]:
    """Fit on training rows; take the interval from development rows; report held-out rows."""
    chip, _ = chip_of(group[0].key, options)
    plans = [chip_of(table.key, options)[1] for table in group]
    chosen = [_chosen(table, options) for table in group]
    several = zip(plans, group, chosen, strict=True)
    result = fit(chip, [Table(plan, t.take(rows["train"])) for plan, t, rows in several])
    fitted = with_family(chip, OPERATIONS[group[0].key.op].family, result.fitted)
    trials = [_tried(fitted, *one) for one in zip(group, plans, chosen, strict=True)]
    section = _section(result, trials, _interval_before(group[0].key, plans[0], options))
    for trial in trials:
        rows = pa.concat_tables(_residuals(trial, part) for part in trial.chosen)
        write_csv(options.out / "residuals" / f"{_name(trial.table.key)}.csv", rows)
    write_section(*_place(group[0].key, options), section)
    return _outcomes(group, section)


def _interval_before(key: Key, plan: Plan, options: Options) -> tuple[float, float]:
    known, given = chip_files(), options.chip_file
    new = given is not None and key.chip not in known
    file = read_as(ChipFile, given) if given and new else known[key.chip]
    family = OPERATIONS[key.op].family
    return load_interval(origin(key.chip, file), family, plan, options.prior)


def _chosen(table: Measurements, options: Options) -> dict[str, np.ndarray]:
    op, shape = table.key.op, table.shape
    parts = part_of(op, shape)
    if np.sum(parts == "development") < FEWEST_JUDGES:
        parts = np.where(parts == "development", "train", parts)
    most = {"train": options.rows, "development": MOST_REPORTED, "heldout": MOST_REPORTED}
    return {part: pick(op, shape, parts == part, most[part], options.seed) for part in PARTS}


def _tried(chip: Chip, table: Measurements, plan: Plan, chosen: dict[str, np.ndarray]) -> Trial:
    predicted = {part: _predicted(chip, plan, table.take(rows)) for part, rows in chosen.items()}
    return Trial(table, plan, chosen, predicted)


def _section(result: Fit, trials: Sequence[Trial], before: tuple[float, float]) -> dict[str, Any]:
    """What is written of a fit: parameters, the interval, and a report for each table.

    **Arguments:**

    - `before`: the interval before the fit.
    """
    seen = sum(len(trial.chosen["development"]) for trial in trials)
    judge = "development" if seen >= FEWEST_JUDGES else "train"
    both = [np.concatenate(x) for x in zip(*(t.ratios(judge) for t in trials), strict=True)]
    low, high = interval(*both)
    if judge == "train":
        low, high = _pooled((low, high), before, len(both[0]))
    reports = {_label(t.table.key): _report(t, result.steps, (low, high)) for t in trials}
    return in_units(result.fitted) | {
        "low": round(low, 4),
        "high": round(high, 4),
        "report": reports,
    }


def _pooled(
    own: tuple[float, float], before: tuple[float, float], rows: int
) -> tuple[float, float]:
    """The interval of few rows that trained, pooled with the earlier one as with `FEWEST_JUDGES` more."""
    weight = rows / (rows + FEWEST_JUDGES)
    low, high = (a**weight * b ** (1 - weight) for a, b in zip(own, before, strict=True))
    return low, high


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
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in report.items()}


def _outcomes(group: Sequence[Measurements], section: dict[str, Any]) -> list[Outcome]:
    return [Outcome(table.key, section["report"][_label(table.key)]) for table in group]


def _predicted(chip: Chip, plan: Plan, rows: Measurements) -> np.ndarray:
    if len(rows.time) == 0:
        return rows.time
    columns = jax.tree.map(as_values, rows.columns)
    return np.asarray(predict(rows.key.op, chip, plan, columns), float)


def in_units(fitted: Any) -> dict[str, float]:
    """Parameters in their units, to four digits."""
    values = {}
    for field in parameters(type(fitted)):
        unit = field.metadata["unit"]
        scale = 1.0 if unit == "1" else to_si(1.0, unit, "s")
        values[written(field)] = float(f"{float(getattr(fitted, field.name)) / scale:.4g}")
    return values


def _residuals(trial: Trial, part: str) -> pa.Table:
    taken = trial.table.take(trial.chosen[part])
    words = taken.key._asdict() | {"part": part}
    texts = {name: pa.array([word] * len(taken.time), pa.string()) for name, word in words.items()}
    times = {"latency_us": taken.time * 1e6, "predicted_us": trial.predicted[part] * 1e6}
    return pa.table(texts | taken.columns | times)


def _already(group: Sequence[Measurements], options: Options) -> list[Outcome] | None:
    """What an earlier run into the same folder found, if it fitted all these tables."""
    found = read_section(*_place(group[0].key, options))
    done = reports(found, [_label(table.key) for table in group])
    return _outcomes(group, found) if done else None


def _place(key: Key, options: Options) -> tuple[Path, tuple[str, str, str]]:
    return options.out / f"{key.chip}.toml", section_of(key)


def _write_prior(options: Options) -> None:
    """The folder stands alone: the prior goes with it."""
    source = options.prior / "prior.toml"
    source = source if source.exists() else FITTED / "prior.toml"
    if source.resolve() != (options.out / "prior.toml").resolve():
        write_whole(options.out / "prior.toml", source.read_bytes())


def _left_out(rows: Sequence[LeftOut]) -> pa.Table:
    """What is not fitted, a line for each row or each part of a table."""
    return pa.table(
        {name: [getattr(one.key, name) for one in rows] for name in Key._fields}
        | {"row": [str(one.place or "") for one in rows]}
        | {name: [str(getattr(one, name)) for one in rows] for name in ("rows", "rule", "found")}
    )


def warnings_of(tables: Sequence[Measurements], left_out: Sequence[LeftOut]) -> list[str]:
    """What a user should know before the fit: rows that are left out, and kernels without rows."""
    single = [one for one in left_out if one.place]
    said = [f"row {one.place} is left out: {one.found}" for one in single[:SAID]]
    if len(single) > SAID:
        said.append(f"{len(single) - SAID} more rows are left out; left_out.csv names them.")
    for chip in dict.fromkeys(table.key.chip for table in tables):
        fitted = {section_of(table.key)[0] for table in tables if table.key.chip == chip}
        silent = [name for name in KERNELS if name not in fitted]
        if silent:
            said.append(f"{chip} has no rows of {', '.join(silent)}, which stay where they start.")
    return said


def counts_of(left_out: Sequence[LeftOut]) -> dict[str, int]:
    """Rows left out by each rule."""
    return {
        rule: sum(x.rows for x in left_out if x.rule == rule)
        for rule in {x.rule: 0 for x in left_out}
    }


def _run(options: Options, left_out: Sequence[LeftOut]) -> dict[str, Any]:
    versions = {
        n: importlib.metadata.version(n) for n in ("perfmodel", "jax", "optimistix", "numpy")
    }
    split = {
        "by": "hash of the operation and its sizes",
        "train": TRAIN,
        "development": DEVELOPMENT,
    }
    asked = {"rows": options.rows, "seed": options.seed}
    return asked | {"split": split, "left_out": counts_of(left_out), "versions": versions}
