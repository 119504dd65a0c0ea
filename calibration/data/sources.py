"""Where measurements come from: the AIConfigurator tables, or a CSV of the kernel schema."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perfmodel.calibration.data.aiconfigurator import SYSTEMS, locate, tables
from perfmodel.calibration.data.aiconfigurator_columns import LINEAR_ATTENTION, TABLE_FILES
from perfmodel.calibration.data.measurements import LeftOut, Measurements, merged
from perfmodel.calibration.data.outliers import sound_rows
from perfmodel.calibration.sections import with_smooth
from perfmodel.calibration.split import part_of
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv
from perfmodel.kernels.kernel_table import Key, groups_of, number_of
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.chip import find_chip, load_chip
from perfmodel.library.files import word_of
from perfmodel.library.fitted import FITTED


class Source(NamedTuple):
    """Tables to fit, and rows that are left out."""

    tables: list[Measurements]
    left_out: list[LeftOut]


def read_source(
    source: str,
    chips: Sequence[str],
    without: Sequence[str],
    ops: Sequence[str],
    chip_file: Path | None = None,
    prior: Path = FITTED,
) -> Source:
    """Read the tables of a source that are wanted.

    **Arguments:**

    - `source`: `aiconfigurator`, a path to its wheel or checkout, or a CSV file.
    - `chips`, `without`, `ops`: names; empty: all.
    - `chip_file`: of a chip that the library does not have.
    - `prior`: folder of the parameters that say which times of a CSV file cannot be.

    **Raises:**

    - `InputError`: for an unknown name, times in another unit, or when nothing is left.
    """
    if not source.strip():
        raise InputError(
            "--data is empty; give aiconfigurator, the path of its wheel, or a CSV file with latency_us."
        )
    known = {word_of(op, list(KERNELS), "op") for op in ops}
    if chip_file is not None:
        load_chip(chip_file)
    wanted, unwanted = ({_stem(name, chip_file) for name in given} for given in (chips, without))
    selection = Selection(wanted, unwanted, known)
    in_csv = source.lower().endswith(".csv")
    found, left_out = (
        _csv(Path(source), chip_file, prior) if in_csv else _packaged(source, selection)
    )
    selected = [table for table in found if selection.includes(table.key)]
    if not selected:
        raise InputError(
            f"{source} has no rows of the chips and operations that are wanted; "
            "give others to --chips, --exclude-chips or --ops."
        )
    for table in selected:
        _check(source, table)
    return Source([table for table in with_smooth(selected) if _trains(table)], left_out)


class Selection(NamedTuple):
    """What is wanted of a source: chips, none of others, and operations; empty: all."""

    chips: set[str]
    without: set[str]
    ops: set[str]

    def reads(self, op: str, chip: str) -> bool:
        """Whether an operation on a chip is looked at."""
        return (not self.ops or op in self.ops) and (not self.chips or chip in self.chips)

    def includes(self, key: Key) -> bool:
        """Whether a table is wanted."""
        return self.reads(key.op, key.chip) and key.chip not in self.without


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


def _packaged(source: str, selection: Selection) -> Source:
    root, left_out = locate(source), []
    found = [
        table
        for op in (*TABLE_FILES, LINEAR_ATTENTION)
        for system, chip in SYSTEMS.items()
        if selection.reads(op, chip)
        for table in tables(root, op, system, left_out)
    ]
    return Source(found, left_out)


def _csv(path: Path, chip_file: Path | None, prior: Path) -> Source:
    """Rows of the kernel schema with `latency_us`, but for those that are wrong."""
    table = read_csv(path)
    cells = cells_of(table)
    if "latency_us" not in cells:
        raise InputError(
            f"{path} has no column 'latency_us'; write the measured time in microseconds there."
        )
    own = {chip_file.stem: chip_file.stem} if chip_file is not None else {}
    groups, errors = groups_of(cells, len(table), own)
    time = np.array([number_of(text.strip()) for text in cells["latency_us"]]) * 1e-6
    wrong = [
        LeftOut(NOBODY, 1, UNREADABLE, int(i) + 1, errors[i]) for i in np.flatnonzero(errors != "")
    ]
    found = []
    for group in groups:
        named = f"{path.name}, {len(group.places)} rows"
        rows = Measurements(group.key, group.columns, time[group.places], named)
        sound, outliers = sound_rows(path, rows, group.places, chip_file, prior)
        found += [merged(rows.take(sound))] if len(sound) else []
        wrong += outliers
    _check_wrong(path, wrong, len(table))
    return Source(found, sorted(wrong, key=lambda one: one.place))


NOBODY = Key("", "", "", "")
UNREADABLE = "a cell is missing or wrong"

MAX_WRONG = 0.5
"""Share of the rows of a file that may be left out; with more, something is wrong with the file."""


def _check_wrong(path: Path, wrong: list[LeftOut], count: int) -> None:
    if len(wrong) > MAX_WRONG * count:
        first = min(wrong, key=lambda one: one.place)
        raise InputError(
            f"{path}: {len(wrong)} of {count} rows are wrong; "
            f"the first is row {first.place}: {first.found}"
        )
