"""A sweep: every point of a grid, streamed to one file, part by part.

Parts lie in a folder beside the file until all are there: a sweep that was stopped goes on from
them, and no more than one part is in memory.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import pyarrow as pa
from pyarrow import csv, parquet

from perfmodel.errors import InputError
from perfmodel.files import beside, check_place, write_whole
from perfmodel.inference.grid import Grid, read_grid
from perfmodel.inference.sweep_points import Pricer, schema_of
from perfmodel.locking import lock_folder

PART_POINTS = 16_384
"""Points of a part: a second or two of work."""

WRITERS = {".csv": csv.CSVWriter, ".parquet": parquet.ParquetWriter}
"""What writes a file, by the end of its name."""


class Swept(NamedTuple):
    """Rows in a file, how many of them have an error, and the first error."""

    rows: int
    errors: int
    first_error: str


def sweep(
    path: Path,
    out: Path,
    calibration: Path,
    resume: bool,
    progress: Callable[[int, int], None],
) -> Swept:
    """Price every point of the grid in a file, and write them.

    **Raises:**

    - `InputError`: for a wrong grid, a place that cannot be written or is being written, or
      parts of another grid.
    """
    check_out(out)
    grid = read_grid(path)
    parts = out.with_name(out.name + ".parts")
    with lock_folder(parts, "sweep"):
        _begin(parts, _identity(grid, calibration), resume)
        pricer, starts = Pricer(grid, calibration), range(0, grid.points, PART_POINTS)
        written: list[Swept] = []
        for start in starts:
            progress(start, grid.points)
            written.append(_part(pricer, parts, start, min(start + PART_POINTS, grid.points)))
        progress(grid.points, grid.points)
        _join(grid, [parts / f"{start}.parquet" for start in starts], out)
        shutil.rmtree(parts)
    first = next((part.first_error for part in written if part.errors), "")
    return Swept(grid.points, sum(part.errors for part in written), first)


def check_out(out: Path) -> None:
    """Find out before any work whether a sweep may be written at `out`.

    **Raises:**

    - `InputError`: when its name ends in neither .csv nor .parquet, or its folder is not there.
    """
    if out.suffix not in WRITERS:
        raise InputError(
            f"{out} ends in neither {' nor '.join(WRITERS)}; give --out a name that does."
        )
    check_place(out)


def _begin(parts: Path, identity: str, resume: bool) -> None:
    """Keep the parts of an earlier run of the same sweep where asked, else take them away."""
    known = parts / "sweep.json"
    if not resume:
        for old in [*parts.glob("*.parquet"), *parts.glob(".*")]:
            old.unlink()
    elif known.is_file() and known.read_text() != identity:
        raise InputError(
            f"{parts} holds parts of another sweep; sweep without --resume, or give --out another place."
        )
    write_whole(known, identity.encode())


def _identity(grid: Grid, calibration: Path) -> str:
    """What parts depend on: the grid, the fitted parameters, the program."""
    content = hashlib.sha256(repr((grid, PART_POINTS)).encode())
    for values in (grid.inner | grid.hardware).values():
        content.update(values.tobytes())
    for file in sorted(calibration.glob("*.toml")):
        content.update(file.read_bytes())
    identity = {"perfmodel": version("perfmodel"), "jax": jax.__version__, "points": grid.points}
    return json.dumps(identity | {"content": content.hexdigest()}, indent=1)


def _part(pricer: Pricer, parts: Path, start: int, stop: int) -> Swept:
    """One part: from its file, if it is there and whole, else priced and written."""
    place = parts / f"{start}.parquet"
    table = _finished_part(place, pricer.schema, stop - start)
    if table is None:
        table = pricer.table(start, stop)
        content = pa.BufferOutputStream()
        parquet.write_table(table, content)
        write_whole(place, content.getvalue().to_pybytes())
    errors = table["error"].drop_null()
    return Swept(len(table), len(errors), errors[0].as_py() if len(errors) else "")


def _finished_part(place: Path, schema: pa.Schema, count: int) -> pa.Table | None:
    if not place.is_file():
        return None
    try:
        table = parquet.read_table(place)
    except (pa.ArrowException, OSError):
        return None
    return table if table.schema.equals(schema) and len(table) == count else None


def _join(grid: Grid, parts: list[Path], out: Path) -> None:
    """All parts in one file, one after the other."""
    schema = schema_of(grid)
    try:
        with (
            beside(Path(os.path.realpath(out))) as place,
            WRITERS[out.suffix](place, schema) as file,
        ):
            for part in parts:
                file.write_table(parquet.read_table(part))
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror or error}; give --out another place."
        ) from None
