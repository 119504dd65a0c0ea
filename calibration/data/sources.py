"""Where measurements come from: the AIConfigurator tables, or a CSV of the kernel schema.

Times of a CSV that cannot be are found before anything is fitted, and named.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perfmodel.calibration.data.aiconfigurator import (
    OPERATIONS,
    SYSTEMS,
    Folder,
    locate,
    older_tables,
    tables,
)
from perfmodel.calibration.data.doubtful import (
    BEYOND_PEAK,
    CONTRADICTED,
    MAX_CONTRADICTION,
    MIN_OF_MATRIX_PEAK,
    NOISY,
    contradicted,
    lost_in_noise,
    lower_bound,
)
from perfmodel.calibration.data.measurements import (
    LeftOut,
    Measurements,
    benchmark_chip,
    joined,
    merged,
)
from perfmodel.calibration.data.noise import noise_of
from perfmodel.calibration.fit import predict_rows
from perfmodel.calibration.ingest.tools import refuse_results
from perfmodel.calibration.lockbox import is_locked
from perfmodel.calibration.metrics import grouped
from perfmodel.calibration.sections import read_section, section_of, with_smooth
from perfmodel.calibration.split import part_of
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv
from perfmodel.kernels.kernel_table import (
    NEEDED_COLUMNS,
    Key,
    check_columns,
    groups_of,
    number_of,
)
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.chip import find_chip, load_chip
from perfmodel.library.files import word_of
from perfmodel.library.fitted import FITTED, RELEASE
from perfmodel.library.framework import releases_of


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
    releases: bool = False,
) -> Source:
    """Read the tables of a source that are wanted.

    **Arguments:**

    - `source`: `aiconfigurator`, a path to its wheel or checkout, or a CSV file.
    - `chips`, `without`, `ops`: names; empty: all.
    - `chip_file`: of a chip that the library does not have.
    - `prior`: folder of the parameters that say which times of a CSV file cannot be.
    - `releases`: of the package other releases of frameworks, in place of the newest.

    **Raises:**

    - `InputError`: for an unknown name, times in another unit, or when nothing is left.
    """
    if not source.strip():
        raise InputError(
            "--data is empty; give aiconfigurator, the path of its wheel, or a CSV file with latency_us."
        )
    refuse_results(Path(source))
    known = {word_of(op, list(KERNELS), "op") for op in ops}
    if chip_file is not None:
        load_chip(chip_file)
    wanted, unwanted = ({_stem(name, chip_file) for name in given} for given in (chips, without))
    selection = Selection(wanted, unwanted, known)
    in_csv = source.lower().endswith(".csv")
    if in_csv and releases:
        raise InputError(
            "--releases is of the package; rows of a CSV file name theirs in the column framework_version."
        )
    found, left_out = (
        _csv(Path(source), chip_file, prior)
        if in_csv
        else _packaged(source, selection, prior if releases else None)
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


def _packaged(source: str, selection: Selection, prior: Path | None) -> Source:
    """Of the newest releases; or of all others, where the fit to start from is given."""
    root, left_out = locate(source), []
    found = [
        table
        for op in OPERATIONS
        for system, chip in SYSTEMS.items()
        if selection.reads(op, chip)
        for table in (
            other_releases(root, op, system, prior, left_out)
            if prior
            else tables(root, op, system, left_out)
        )
    ]
    return Source(found, left_out)


LOCKED = "kept for a final score: it takes part in no fit"


def other_releases(
    root: Folder, op: str, system: str, prior: Path, left_out: list[LeftOut]
) -> Iterator[Measurements]:
    """Tables of other releases than that of the chip's own section, but for those that are locked."""
    for table in older_tables(root, op, system):
        key = table.key
        if is_locked(key):
            left_out.append(LeftOut(key, len(table.time), LOCKED))
        elif key.release != _own_release(key, prior):
            yield table


def _csv(path: Path, chip_file: Path | None, prior: Path) -> Source:
    """Rows of the kernel schema with `latency_us`, but for those that are wrong."""
    table = read_csv(path)
    cells = cells_of(table)
    check_columns(cells, (*NEEDED_COLUMNS, "latency_us"), str(path))
    own = {chip_file.stem: chip_file.stem} if chip_file is not None else {}
    groups, errors = groups_of(cells, len(table), own)
    time = np.array([number_of(text.strip()) for text in cells["latency_us"]]) * 1e-6
    noise = noise_of(cells, len(table))
    wrong = [
        LeftOut(NOBODY, 1, UNREADABLE, int(i) + 1, errors[i]) for i in np.flatnonzero(errors != "")
    ]
    found = []
    for group in groups:
        named = f"{path.name}, {len(group.places)} rows"
        rows = Measurements(group.key, group.columns, time[group.places], named)
        asked = path, rows, group.places, noise[group.places]
        sound, outliers = sound_rows(*asked, chip_file, prior)
        found += [rows.take(sound)] if len(sound) else []
        wrong += outliers
    _check_wrong(path, wrong, len(table))
    return Source(_filed(found, prior), sorted(wrong, key=lambda one: one.place))


def _filed(tables: Sequence[Measurements], prior: Path) -> list[Measurements]:
    """Tables with the release that their section is filed under; none where it is the chip's own."""
    filed = []
    for table in tables:
        name = table.key.release
        same = name == _own_release(table.key, prior)
        key = table.key._replace(release="") if same else table.key
        filed.append(table._replace(key=key, version=name))
    together = grouped((table.key, table) for table in filed).values()
    return [merged(joined(group)) for group in together]


def _own_release(key: Key, prior: Path) -> str:
    """The release that a chip's own section is of: as the fit to start from says, else the newest."""
    section = read_section(prior / f"{key.chip}.toml", section_of(key))
    return section.get(RELEASE) or (releases_of(key.framework) or [""])[-1]


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


# Times that cannot be

MIN_OF_BOUND = 0.1
"""Of what the peak rates allow: no time is shorter, whatever is wrong with the datasheet."""

MAX_OF_PREDICTION = 1000.0
"""Times what the model says before the fit: no time is longer."""

UNITS = {"seconds": 1e-6, "milliseconds": 1e-3, "nanoseconds": 1e3}
"""What a file may hold in place of microseconds, and the ratio to the truth that this gives."""

UNIT_TOLERANCE = 3.0
"""Within this factor of such a ratio, half of a table's times are in another unit."""

MIN_ROWS = 3
"""Rows from which the unit of a table can be told."""

NOT_POSITIVE = "the time is not a number greater than zero"
TOO_FAST = f"the time is less than {MIN_OF_BOUND:g} of what the chip's peak rates allow"
TOO_SLOW = f"the time is more than {MAX_OF_PREDICTION:g} times what the model says before the fit"


def sound_rows(
    path: Path,
    rows: Measurements,
    places: np.ndarray,
    noise: np.ndarray,
    chip_file: Path | None,
    prior: Path,
) -> tuple[np.ndarray, list[LeftOut]]:
    """Which rows of a table can be and say something, and the others with what is wrong.

    **Arguments:**

    - `places`: of the rows in their file, from 0; `noise`: their relative standard errors.

    **Raises:**

    - `InputError`: when the times are in another unit.
    """
    chip, plan = benchmark_chip(rows.key, prior, chip_file)
    expected = predict_rows(chip, plan, rows)
    bound = np.asarray(lower_bound(rows.key.op, chip, plan, rows.values), float)
    time = rows.time
    positive = np.isfinite(time) & (time > 0)
    _check_unit(path, rows, (time / expected)[positive])
    rules = np.full(len(time), "", dtype=object)
    matrix = np.asarray(lower_bound(rows.key.op, chip, plan, rows.values, ("matrix",)), float)
    some = np.where(positive, time, expected)  # a time that is none has its own rule
    torn, middle = contradicted(rows.columns, some)
    rules[lost_in_noise(some, expected, noise)] = NOISY
    rules[torn] = CONTRADICTED
    rules[time < MIN_OF_MATRIX_PEAK * matrix] = BEYOND_PEAK
    rules[time > MAX_OF_PREDICTION * expected] = TOO_SLOW
    rules[time < MIN_OF_BOUND * bound] = TOO_FAST
    rules[~positive] = NOT_POSITIVE
    wrong = np.flatnonzero(rules != "")
    known = {"time": time, "expected": expected, "bound": bound, "matrix": matrix, "middle": middle}
    found = [_found(rules[i], noise[i], **{n: 1e6 * x[i] for n, x in known.items()}) for i in wrong]
    left = [
        LeftOut(rows.key, 1, rules[i], int(places[i]) + 1, said)
        for i, said in zip(wrong, found, strict=True)
    ]
    return np.flatnonzero(rules == ""), left


def _found(
    rule: str,
    noise: float,
    *,
    time: float,
    expected: float,
    bound: float,
    matrix: float,
    middle: float,
) -> str:
    """What a row says, and what is allowed, in microseconds."""
    allowed = {
        BEYOND_PEAK: f", but the peak of the matrix units allows {matrix:.4g}; allowed is at least "
        f"{MIN_OF_MATRIX_PEAK:g} times that",
        NOISY: f" with a standard error of {100 * noise:.3g} %, and the model says {expected:.4g} before the "
        "fit: the calls differ by more than that; measure it again with more repeats",
        CONTRADICTED: f", but the median of its shape's rows is {middle:.4g}; allowed is a factor of "
        f"{MAX_CONTRADICTION:g}, also between two",
        NOT_POSITIVE: "; allowed are numbers greater than zero",
        TOO_SLOW: f", but the model says {expected:.4g}; allowed is at most {MAX_OF_PREDICTION:g} times that",
        TOO_FAST: f", but the peak rates allow {bound:.4g}; allowed is at least {MIN_OF_BOUND:g} times that",
    }
    return f"latency_us is {time:.4g}{allowed[rule]}."


def _check_unit(path: Path, rows: Measurements, ratio: np.ndarray) -> None:
    if len(ratio) < MIN_ROWS:
        return
    middle = float(np.median(ratio))
    for unit, factor in UNITS.items():
        if factor / UNIT_TOLERANCE < middle < factor * UNIT_TOLERANCE:
            raise InputError(
                f"{path}: latency_us of {rows.key.op} on {rows.key.chip} seems to be in {unit}: half of its "
                f"{len(ratio)} times are under {middle:.2g} of what is expected; write microseconds."
            )
