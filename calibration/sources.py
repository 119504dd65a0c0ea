"""Where measurements come from: the AIConfigurator tables, or a CSV of the kernel schema."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from perfmodel.calibration.aiconfigurator import LINEAR, SOURCES, SYSTEMS, locate, tables
from perfmodel.calibration.calibrate import with_smooth
from perfmodel.calibration.measurements import Measurements, merged
from perfmodel.calibration.protocol import part_of
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv
from perfmodel.kernels.catalogue import OPERATIONS
from perfmodel.kernels.rows import groups_of, word_of
from perfmodel.library.chip import find_chip, load_chip


def read_source(
    source: str,
    chips: Sequence[str],
    without: Sequence[str],
    ops: Sequence[str],
    chip_file: Path | None = None,
) -> list[Measurements]:
    """Read the tables of a source that are wanted.

    **Arguments:**

    - `source`: `aiconfigurator`, a path to its wheel or checkout, or a CSV file.
    - `chips`, `without`, `ops`: names; empty: all.
    - `chip_file`: of a chip that the library does not have.

    **Raises:**

    - `InputError`: for an unknown name, or when nothing is left.
    """
    if not source.strip():
        raise InputError(
            "--data is empty; give aiconfigurator, the path of its wheel, or a CSV file with latency_us."
        )
    ops = [word_of(op, list(OPERATIONS), "op") for op in ops]
    if chip_file is not None:
        load_chip(chip_file)
    wanted = {_stem(name, chip_file) for name in chips}
    unwanted = {_stem(name, chip_file) for name in without}
    found = (
        _csv(Path(source), chip_file)
        if source.lower().endswith(".csv")
        else _packaged(source, ops, wanted)
    )
    kept = [
        table
        for table in found
        if (not wanted or table.key.chip in wanted)
        and table.key.chip not in unwanted
        and (not ops or table.key.op in ops)
    ]
    if not kept:
        raise InputError(
            f"{source} has no rows of the chips and operations that are wanted; "
            "give others to --chips, --exclude-chips or --ops."
        )
    for table in kept:
        _check(source, table)
    return [table for table in with_smooth(kept) if _trains(table)]


def _trains(table: Measurements) -> bool:
    """Whether any row of a table falls into the training part of the split."""
    return "train" in part_of(table.key.op, table.shape)


def _check(source: str, table: Measurements) -> None:
    key = table.key
    if not _trains(table):
        raise InputError(
            f"{source} has {len(table.time)} different shapes of {key.op} on {key.chip} in {key.dtype}, "
            "none of which falls into the training part of the split; measure 32 or more."
        )


def _stem(name: str, chip_file: Path | None) -> str:
    return chip_file.stem if chip_file is not None and name == chip_file.stem else find_chip(name)


def _packaged(source: str, ops: Sequence[str], wanted: set[str]) -> list[Measurements]:
    root = locate(source)
    return [
        table
        for op in (*SOURCES, LINEAR)
        for system, chip in SYSTEMS.items()
        if (not ops or op in ops) and (not wanted or chip in wanted)
        for table in tables(root, op, system)
    ]


def _csv(path: Path, chip_file: Path | None) -> list[Measurements]:
    """Rows of the kernel schema with `latency_us`."""
    table = read_csv(path)
    cells = cells_of(table)
    if "latency_us" not in cells:
        raise InputError(
            f"{path} has no column 'latency_us'; write the measured time in microseconds there."
        )
    own = {chip_file.stem: chip_file.stem} if chip_file is not None else {}
    groups, errors = groups_of(cells, len(table), own)
    time = np.array([_time(text) for text in cells["latency_us"]])
    errors = np.where(
        (errors == "") & ~((time > 0) & np.isfinite(time)),
        "latency_us is not a number greater than zero.",
        errors,
    )
    wrong = np.flatnonzero(errors != "")
    if len(wrong):
        raise InputError(f"{path}, row {wrong[0] + 1} of {len(errors)}: {errors[wrong[0]]}")
    return [
        merged(Measurements(g.key, g.columns, time[g.places], f"{path.name}, {len(g.places)} rows"))
        for g in groups
    ]


def _time(text: str) -> float:
    try:
        return float(text) * 1e-6
    except ValueError:
        return float("nan")
