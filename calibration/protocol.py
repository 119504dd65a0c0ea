"""The protocol: which tables are asked what, and its result, a line for each table and split.

Splits:

- `shape`: fitted on training rows, reported on held-out rows.
- `size`: bf16 matrix products; fitted on n and k up to 4,096, reported above.
- `model`: mixtures; a third of the models is left out of the fit, and reported.
- `chip`: a chip without rows, from the reference chip of its architecture.
- `architecture`: the same, where no chip is a reference: a measured chip is left out.
- `vendor`: the same, from chips of other makers alone.
- `version`: other releases of a framework, from the newest one's parameters.
- `fewshot`: the same starts, then a fit to 32 rows of each table.
- `framework`: what frameworks disagree by on one chip, once the median ratio is taken out.

Intervals come from development rows, or from where a chip starts.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from perfmodel.calibration.calibrate import MAX_REPORTED
from perfmodel.calibration.data.aiconfigurator import SYSTEMS, TABLE_FILES, Folder, tables
from perfmodel.calibration.data.measurements import Measurements
from perfmodel.calibration.data.sources import other_releases
from perfmodel.calibration.metrics import grouped
from perfmodel.calibration.sections import section_of, sections
from perfmodel.calibration.split import Rows, split_table
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv, rows_of, write_csv
from perfmodel.kernels.kernel_table import Key
from perfmodel.kernels.registry import KERNELS
from perfmodel.library.files import word_of
from perfmodel.library.fitted import FITTED

MEASURED = ("a100-sxm-80gb", "h100-sxm", "l40s", "b200-sxm", "arc-pro-b60")
"""Chips whose rows the forms and the shared parameters were made from."""

CLOSED = ("h200-sxm", "b300-sxm", "gb300", "rtx-pro-6000")
"""Chips whose rows take no part in any fit but that of 32 rows."""


SPLITS = ("shape", "size", "model", "chip", "architecture", "vendor", "version", "fewshot")
"""What a fit leaves out, in the order of reports."""

ALL_SPLITS = (*SPLITS, "framework")
"""With what frameworks disagree by."""


class Protocol(NamedTuple):
    """How much is run.

    - `quick`: bf16 of one framework on five chips, by shape and for one unseen chip.
    - `rows`: that train, of each table, at most; `reported`: that are predicted, at most.
    - `folder`: of the prior, and of the parameters that unseen chips start from.
    - `splits`: that are run; empty: all of them.
    """

    quick: bool = True
    rows: int = 2000
    reported: int = 2000
    seed: int = 0
    folder: Path = FITTED
    splits: tuple[str, ...] = ()

    def asks(self, split: str) -> bool:
        """Whether a split is run."""
        return split in (self.splits or ALL_SPLITS)

    @property
    def chips(self) -> tuple[str, ...]:
        """Chips that take part."""
        return QUICK_CHIPS if self.quick else tuple(SYSTEMS.values())

    @property
    def ops(self) -> tuple[str, ...]:
        """Operations that take part."""
        return QUICK_OPS if self.quick else tuple(TABLE_FILES)

    def rows_of(self, split: str, table: Measurements) -> Rows:
        """Which rows of a table play which part in a split."""
        return split_table(split, table, self.rows, self.reported, self.seed)


QUICK_CHIPS = ("h100-sxm", "a100-sxm-80gb", "b200-sxm", "l40s", "h200-sxm")
QUICK_SPLITS = ("shape", "chip")
QUICK_OPS = ("gemm", "attention_decode", "attention_prefill")


def named_protocol(name: str, folder: Path, seed: int = 0, splits: Sequence[str] = ()) -> Protocol:
    """The quick protocol or the full one, or some splits of it.

    **Raises:**

    - `InputError`: for another name, or a split that it does not have.
    """
    quick = word_of(name, ("quick", "full"), "protocol") == "quick"
    asked = tuple(word_of(split, ALL_SPLITS, "split") for split in splits)
    if quick and set(asked) - set(QUICK_SPLITS):
        raise InputError(
            f"the quick protocol has the splits {', '.join(QUICK_SPLITS)}; give --protocol full."
        )
    reported = 2000 if quick else MAX_REPORTED
    return Protocol(quick, reported=reported, seed=seed, folder=folder, splits=asked)


class Unit(NamedTuple):
    """What is read at once: a chip and the operations of one family."""

    chip: str
    ops: tuple[str, ...]

    @property
    def name(self) -> str:
        """By which a run that is taken up again knows it."""
        return f"{self.chip}/{KERNELS[self.ops[0]].family}"


def units(chips: Iterable[str], ops: Iterable[str]) -> list[Unit]:
    """What is to be read, chip by chip."""
    families = grouped((KERNELS[op].family, op) for op in ops)
    return [Unit(chip, tuple(group)) for chip in chips for group in families.values()]


def read(root: Folder, unit: Unit, protocol: Protocol) -> list[Measurements]:
    """The tables of a unit; of the quick protocol those in bf16."""

    def wanted(key: Key) -> bool:
        return not protocol.quick or {key.dtype, key.cache} <= {"bf16", ""}

    (system,) = (name for name, chip in SYSTEMS.items() if chip == unit.chip)
    found = [table for op in unit.ops for table in tables(root, op, system, wanted=wanted)]
    if protocol.quick or not protocol.asks("version"):
        return found
    older = (other_releases(root, op, system, protocol.folder, []) for op in unit.ops)
    return [*found, *itertools.chain.from_iterable(older)]


class Job(NamedTuple):
    """One split of the tables of one section of parameters; and the tables of other frameworks."""

    split: str
    group: list[Measurements]
    others: list[Measurements]

    @property
    def name(self) -> str:
        """By which a run that is taken up again knows it."""
        key = self.group[0].key
        release = (key.op, key.cache, key.release) if key.release else ()
        return "/".join(filter(None, (key.chip, *section_of(key), *release, self.split)))


def jobs(tables: Sequence[Measurements], protocol: Protocol) -> Iterator[Job]:
    """Everything that is asked of the tables of one chip and family."""
    newest = [table for table in tables if not table.key.release]
    for group in sections(newest)[: 1 if protocol.quick else None]:
        for split in filter(protocol.asks, _splits(group[0].key, protocol.quick)):
            yield Job(split, group, newest)
    yield from (Job("version", [table], []) for table in tables if table.key.release)
    if len({table.key.framework for table in newest}) > 1 and protocol.asks("framework"):
        yield Job("framework", newest, newest)


def _splits(key: Key, quick: bool) -> Iterator[str]:
    measured = key.chip in MEASURED
    if key.chip not in CLOSED:
        yield "shape"
    if not measured:
        yield "chip"
    if quick:
        return
    if measured and key.op == "gemm" and key.dtype == "bf16":
        yield "size"
    if measured and key.op == "moe":
        yield "model"
    if measured:
        yield from ("architecture", "vendor")
    yield "fewshot"


# The result, of one run or of more, as a CSV file

Record = dict[str, Any]
"""One line: of the report's `kernels`."""

TABLE = ("op", "chip", "framework", "release", "dtype", "cache", "split", "routing")
"""Columns that tell one line from another; `release` is empty of the newest, and may be missing."""

COUNTS = ("train", "n")
SHARES = ("mape", "median", "p90", "bias", "coverage90")
SHARES += ("roofline_mape", "forest_mape", "floor_mape")
"""Figures, as shares; empty where there is none."""

COLUMNS = (*TABLE, *COUNTS, *SHARES, "date", "version")

DIGITS = 4
"""Of a share, after the point: a hundredth of a per cent."""


def write_result(path: Path, records: Iterable[Record]) -> None:
    """Write records; what frameworks disagree by is no prediction, and is left out."""
    lines = [record for record in records if record["split"] != "framework"]
    write_csv(path, pa.table({name: [_text(one[name]) for one in lines] for name in COLUMNS}))


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.{DIGITS}f}"
    return "" if value is None else str(value)


def read_result(path: Path) -> list[Record]:
    """The records of a file.

    **Raises:**

    - `InputError`: when it is no such file.
    """
    cells = cells_of(read_csv(path))
    cells = {"release": [""] * len(next(iter(cells.values()), []))} | cells
    missing = [name for name in COLUMNS if name not in cells]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]}; give a protocol.csv that `validate --out` wrote."
        )
    return [_record(row) for row in rows_of({name: cells[name] for name in COLUMNS})]


def _record(cells: dict[str, str]) -> Record:
    counts = {name: int(cells[name]) for name in COUNTS}
    shares = {name: float(cells[name]) if cells[name] else None for name in SHARES}
    return cells | counts | shares


def merged_results(old: Sequence[Record], new: Sequence[Record]) -> list[Record]:
    """The old records, and in the place of those that were run again the new ones."""
    latest = {tuple(one[name] for name in TABLE): one for one in (*old, *new)}
    return [latest[place] for place in sorted(latest)]
