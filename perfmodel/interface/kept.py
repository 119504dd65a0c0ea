"""The protocol's result to keep: a CSV file with a line for each table and split, of one run or of more."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv, write_csv
from perfmodel.interface.musts import Record

TABLE = ("op", "chip", "framework", "dtype", "cache", "split", "routing")
"""Columns that tell one line from another."""

COUNTS = ("train", "n")
SHARES = ("mape", "median", "p90", "bias", "coverage90")
SHARES += ("roofline_mape", "forest_mape", "floor_mape")
"""Figures, as shares; empty where there is none."""

COLUMNS = (*TABLE, *COUNTS, *SHARES, "date", "version")

DIGITS = 4
"""Of a share, after the point: a hundredth of a per cent."""


def write(path: Path, records: Iterable[Record]) -> None:
    """Write records; what frameworks disagree by is no prediction, and is left out."""
    lines = [record for record in records if record["split"] != "framework"]
    write_csv(path, pa.table({name: [_text(one[name]) for one in lines] for name in COLUMNS}))


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.{DIGITS}f}"
    return "" if value is None else str(value)


def read(path: Path) -> list[Record]:
    """The records of a file.

    **Raises:**

    - `InputError`: when it is no such file.
    """
    cells = cells_of(read_csv(path))
    missing = [name for name in COLUMNS if name not in cells]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]}; give a protocol.csv that `validate --out` wrote."
        )
    rows = zip(*(cells[name] for name in COLUMNS), strict=True)
    return [_record(dict(zip(COLUMNS, row, strict=True))) for row in rows]


def _record(cells: dict[str, str]) -> Record:
    counts = {name: int(cells[name]) for name in COUNTS}
    shares = {name: float(cells[name]) if cells[name] else None for name in SHARES}
    return cells | counts | shares


def merged(old: Sequence[Record], new: Sequence[Record]) -> list[Record]:
    """The old records, and in the place of those that were run again the new ones."""
    latest = {tuple(one[name] for name in TABLE): one for one in (*old, *new)}
    return [latest[place] for place in sorted(latest)]
