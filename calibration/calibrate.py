"""Calibrate: fit every table of a source, and write what comes out, one table at a time.

A table's parameters and residuals are written, whole, as soon as it is fitted; a run that
was stopped goes on from there.
"""

import importlib.metadata
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa

from perfmodel.calibration.errors import coverage, errors, interval
from perfmodel.calibration.fit import fit, predict, with_family
from perfmodel.calibration.measurements import Measurements, fastest
from perfmodel.calibration.protocol import DEVELOPMENT, TRAIN, part_of, pick
from perfmodel.files import write_csv, write_toml, write_whole
from perfmodel.hardware.chip import Chip
from perfmodel.hardware.efficiency import parameters
from perfmodel.kernels.catalogue import OPERATIONS
from perfmodel.kernels.rows import Key
from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.efficiency import FITTED, SMOOTH
from perfmodel.library.efficiency import key as written
from perfmodel.units import as_values, to_si
from perfmodel.workload.framework import backend
from perfmodel.workload.plan import Plan

MOST_REPORTED = 10_000
"""Held-out rows of a table that are predicted, at most."""


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
        backend=backend(key.framework, architecture),
        replay=True,
    )


def section_of(key: Key) -> tuple[str, str, str]:
    """Family, framework and format by which a key's parameters are filed."""
    family = OPERATIONS[key.op].family
    return family, key.framework or SMOOTH, key.cache or key.dtype


def with_smooth(tables: Sequence[Measurements]) -> Iterator[Measurements]:
    """The tables, and for each chip and format without a smooth one: the fastest of the frameworks."""
    groups: dict[tuple, list[Measurements]] = {}
    for table in tables:
        _, _, dtype = section_of(table.key)
        groups.setdefault((table.key.op, table.key.chip, dtype), []).append(table)
        yield table
    for group in groups.values():
        if all(table.key.framework for table in group):
            yield fastest(group)


class Outcome(NamedTuple):
    """One section: whose it is, what was fitted, and rows with their predictions."""

    key: Key
    section: dict[str, Any]
    report: dict[str, Any]


def calibrate(
    tables: Sequence[Measurements], options: Options, progress: Callable[[Measurements], None]
) -> list[Outcome]:
    """Fit each table and write the folder.

    It holds the parameters (`CHIP.toml`, and `prior.toml`, where they started), each table's rows
    with their part of the split and their predictions (`residuals/*.csv`), and how it was
    run (`run.toml`).

    **Arguments:**

    - `progress`: called before each fit.
    """
    (options.out / "residuals").mkdir(parents=True, exist_ok=True)
    _write_prior(options)
    write_toml(options.out / "run.toml", _run(options))
    outcomes = []
    for table in tables:
        progress(table)
        done = _already(table.key, options) if options.resume else None
        outcome, rows = (done, None) if done else _one(table, options)
        outcomes.append(outcome)
        if rows is not None:
            write_csv(options.out / "residuals" / f"{_name(table.key)}.csv", rows)
            _merge(options.out / f"{table.key.chip}.toml", section_of(table.key), outcome.section)
    return outcomes


def _name(key: Key) -> str:
    """Of the file that holds a table's residuals."""
    return "-".join((key.op, key.chip, *section_of(key)[1:]))


def _chip(key: Key, options: Options) -> tuple[Chip, Plan]:
    architecture = chip_files()[key.chip].architecture if key.chip in chip_files() else ""
    plan = plan_of(key, architecture)
    name = options.chip_file if key.chip not in chip_files() and options.chip_file else key.chip
    return load_chip(name, plan, options.prior), plan


def _one(table: Measurements, options: Options) -> tuple[Outcome, pa.Table]:
    """Fit on training rows; take the interval from development rows; report held-out rows."""
    chip, plan = _chip(table.key, options)
    op, parts = table.key.op, part_of(table.key.op, table.shape)
    chosen = {
        "train": pick(op, table.shape, parts == "train", options.rows, options.seed),
        "development": pick(op, table.shape, parts == "development", MOST_REPORTED, options.seed),
        "heldout": pick(op, table.shape, parts == "heldout", MOST_REPORTED, options.seed),
    }
    result = fit(chip, plan, table.take(chosen["train"]))
    fitted = with_family(chip, OPERATIONS[op].family, result.fitted)
    predicted = {part: _predicted(fitted, plan, table.take(rows)) for part, rows in chosen.items()}
    measured = {part: table.time[rows] for part, rows in chosen.items()}
    judge = "development" if len(chosen["development"]) >= 20 else "train"
    factors = interval(predicted[judge], measured[judge])
    report = {
        "source": table.source,
        "train_rows": len(chosen["train"]),
        "steps": result.steps,
        **errors(predicted["heldout"], measured["heldout"])._asdict(),
        "coverage": coverage(predicted["heldout"], measured["heldout"], factors),
    }
    section: dict[str, Any] = _written(result.fitted) | {
        "low": round(factors[0], 4),
        "high": round(factors[1], 4),
    }
    section["report"] = {k: round(v, 5) if isinstance(v, float) else v for k, v in report.items()}
    rows = pa.concat_tables(
        _residuals(table, part, chosen[part], predicted[part]) for part in chosen
    )
    return Outcome(table.key, section, section["report"]), rows


def _predicted(chip: Chip, plan: Plan, rows: Measurements) -> np.ndarray:
    if len(rows.time) == 0:
        return rows.time
    columns = jax.tree.map(as_values, rows.columns)
    return np.asarray(predict(rows.key.op, chip, plan, columns), float)


def _written(fitted: Any) -> dict[str, float]:
    """Parameters in their units, to four digits."""
    values = {}
    for field in parameters(type(fitted)):
        unit = field.metadata["unit"]
        scale = 1.0 if unit == "1" else to_si(1.0, unit, "s")
        values[written(field)] = float(f"{float(getattr(fitted, field.name)) / scale:.4g}")
    return values


def _residuals(table: Measurements, part: str, rows: np.ndarray, predicted: np.ndarray) -> pa.Table:
    taken = table.take(rows)
    words = taken.key._asdict() | {"part": part}
    texts = {name: pa.array([word] * len(rows), pa.string()) for name, word in words.items()}
    times = {"latency_us": taken.time * 1e6, "predicted_us": predicted * 1e6}
    return pa.table(texts | taken.columns | times)


def _already(key: Key, options: Options) -> Outcome | None:
    """The section of an earlier run into the same folder, if it is there."""
    path = options.out / f"{key.chip}.toml"
    found = tomllib.loads(path.read_text()) if path.exists() else {}
    for name in section_of(key):
        found = found.get(name, {})
    return Outcome(key, found, found["report"]) if "report" in found else None


def _merge(path: Path, names: tuple[str, str, str], section: dict[str, Any]) -> None:
    content = tomllib.loads(path.read_text()) if path.exists() else {}
    family, framework, dtype = names
    content.setdefault(family, {}).setdefault(framework, {})[dtype] = section
    write_toml(path, content)


def _write_prior(options: Options) -> None:
    """The folder stands alone: the prior goes with it."""
    source = options.prior / "prior.toml"
    source = source if source.exists() else FITTED / "prior.toml"
    if source.resolve() != (options.out / "prior.toml").resolve():
        write_whole(options.out / "prior.toml", source.read_bytes())


def _run(options: Options) -> dict[str, Any]:
    versions = {
        n: importlib.metadata.version(n) for n in ("perfmodel", "jax", "optimistix", "numpy")
    }
    split = {
        "by": "hash of the operation and its sizes",
        "train": TRAIN,
        "development": DEVELOPMENT,
    }
    return {"rows": options.rows, "seed": options.seed, "split": split, "versions": versions}
