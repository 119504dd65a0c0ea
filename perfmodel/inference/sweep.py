"""A sweep: every point of a grid, part by part, to a folder of parts or to one file.

Parts of a file lie in a folder beside it until all are there. A sweep that was stopped goes on from them,
and no process has more than one part in memory. Parts are priced here or on a cluster, by one function.
"""

import functools
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import csv, parquet

from perfmodel.cluster import check_address, content_of, own_files, workers
from perfmodel.errors import InputError
from perfmodel.files import beside, check_place
from perfmodel.folders import DiskFolder, Folder, folder_at, is_remote
from perfmodel.inference.grid import Grid, read_grid
from perfmodel.inference.sweep_points import Pricer, schema_of
from perfmodel.library.fitted import FITTED, own_folder
from perfmodel.locking import lock_folder
from perfmodel.xla import keep_memory

PART_POINTS = 16_384
"""Points of a part: a second or two of work."""

MANIFEST = "_manifest.json"
"""The file beside the parts that says whose they are, and whether all are there."""

OF_SWEEP, SWEPT = "perfmodel.sweep", "perfmodel.swept"
"""Keys of a part's metadata: the identity of its sweep; rows, errors and the first of them."""

WRITERS = {".csv": csv.CSVWriter, ".parquet": parquet.ParquetWriter}
"""What writes a file, by the end of its name."""


class Swept(NamedTuple):
    """Rows in a file, how many of them have an error, and the first error."""

    rows: int
    errors: int
    first_error: str


class Job(NamedTuple):
    """What every part of a sweep needs to know.

    - `calibration`: folder of fitted parameters; `None`: the shipped ones, where the part is priced.
    - `identity`: of the sweep, which its parts bear.
    - `kept`: parts of an earlier run are kept.
    """

    grid: Grid
    calibration: Path | None
    folder: Folder
    identity: str
    kept: bool


def sweep(
    path: Path,
    out: str | Path,
    calibration: Path,
    resume: bool,
    progress: Callable[[int, int], None],
    cluster: str = "",
) -> Swept:
    """Price every point of the grid in a file, and write them.

    **Arguments:**

    - `out`: a file, a folder that ends in /, or a folder of an object store, as a URL.
    - `cluster`: the Ray cluster that prices the parts; this process if empty.

    **Raises:**

    - `InputError`: for a wrong grid, a place that cannot be written or is being written, parts of
      another grid, or a cluster that is not there or has another version.
    """
    check_address(cluster)
    file = None if is_folder(out) else Path(out)
    if file is not None:
        check_out(file)
    grid = read_grid(path)
    place = str(out) if file is None else str(file.with_name(file.name + ".parts").absolute())
    folder = folder_at(place)
    with lock_folder(folder.path, "sweep") if isinstance(folder, DiskFolder) else nullcontext():
        identity = _identity(grid, calibration)
        folder.prepare()
        _begin(folder, identity, resume)
        job = Job(grid, own_folder(calibration), folder, identity, resume)
        found = _price_all(job, cluster, progress)
        if file is None:
            folder.write(MANIFEST, _manifest(identity, found))
        else:
            _join(grid, folder, file)
    if file is not None:
        shutil.rmtree(place)
    return found


def is_folder(out: str | Path) -> bool:
    """Whether a sweep is written as parts in a folder."""
    return is_remote(str(out)) or str(out).endswith("/")


def _price_all(job: Job, cluster: str, progress: Callable[[int, int], None]) -> Swept:
    """Every part, here or on a cluster; the first error is that of the first part that has one."""
    points = job.grid.points
    done = errors = 0
    first = (points, "")
    progress(0, points)
    with workers(cluster, _places(job.grid, job.calibration)) as run:
        parts = range(-(-points // PART_POINTS))
        for number, part in run(functools.partial(price_part, job, PART_POINTS), parts):
            done, errors = done + part.rows, errors + part.errors
            if part.errors:
                first = min(first, (number, part.first_error))
            progress(done, points)
    return Swept(points, errors, first[1])


def price_part(job: Job, size: int, number: int) -> Swept:
    """One part: from its file, if it is there and whole, else priced and written.

    **Raises:**

    - `InputError`: when this process does not see the folder.
    """
    pricer = _pricer_of(job)
    if isinstance(job.folder, DiskFolder) and not (job.folder.path / MANIFEST).is_file():
        raise InputError(
            f"{platform.node()} does not see {job.folder}; give --out a folder that all machines "
            "share, or one of an object store."
        )
    start, stop = number * size, min((number + 1) * size, job.grid.points)
    name = part_name(number, -(-job.grid.points // size))
    found = _finished_part(job, name, stop - start) if job.kept else None
    if found is not None:
        return found
    table = pricer.table(start, stop)
    errors = table["error"].drop_null()
    found = Swept(len(table), len(errors), errors[0].as_py() if len(errors) else "")
    facts = {OF_SWEEP: job.identity, SWEPT: json.dumps(found)}
    content = pa.BufferOutputStream()
    parquet.write_table(table.replace_schema_metadata(facts), content)
    job.folder.write(name, content.getvalue().to_pybytes())
    return found


def part_name(number: int, parts: int) -> str:
    """Of the file of a part; sorted, they are in order."""
    return f"part-{number:0{max(5, len(str(parts - 1)))}d}.parquet"


_pricers: dict[str, Pricer] = {}
"""Of the sweep that this process takes part in, by its identity."""


def _pricer_of(job: Job) -> Pricer:
    if job.identity not in _pricers:
        keep_memory()
        _pricers.clear()
        _pricers[job.identity] = Pricer(job.grid, job.calibration or FITTED)
    return _pricers[job.identity]


def _finished_part(job: Job, name: str, count: int) -> Swept | None:
    """What a part holds that is there, whole, and of this sweep."""
    try:
        with job.folder.open(name) as file:
            about = parquet.ParquetFile(file).metadata
    except (pa.ArrowException, OSError):
        return None
    facts: dict[bytes, bytes] = about.metadata or {}
    ours = facts.get(OF_SWEEP.encode()) == job.identity.encode() and about.num_rows == count
    return Swept(*json.loads(facts[SWEPT.encode()])) if ours else None


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


def _begin(folder: Folder, identity: str, resume: bool) -> None:
    """Keep the parts of an earlier run of the same sweep where asked, else take them away."""
    known = folder.read(MANIFEST)
    names = [name for name in folder.names() if name.startswith(("part-", ".part-"))]
    if known is None and names:
        raise InputError(
            f"{folder} holds {names[0]}, which no sweep left there; give --out another place."
        )
    if resume and known is not None and json.loads(known).get("sweep") != identity:
        raise InputError(
            f"{folder} holds parts of another sweep; sweep without --resume, or give --out another place."
        )
    folder.write(MANIFEST, _manifest(identity, None), patient=False)
    for name in [] if resume else names:
        folder.remove(name)


def _manifest(identity: str, found: Swept | None) -> bytes:
    """What a folder of parts holds; without rows while it is written."""
    about = {"sweep": identity, "part_points": PART_POINTS, "complete": found is not None}
    about |= {} if found is None else found._asdict()
    return (json.dumps(about, indent=1) + "\n").encode()


def _identity(grid: Grid, calibration: Path) -> str:
    """What parts depend on: the grid, the fitted parameters, the program."""
    content = hashlib.sha256(repr((grid, PART_POINTS)).encode())
    for values in (grid.inner | grid.hardware).values():
        content.update(values.tobytes())
    facts = content_of(tuple(map(str, _places(grid, calibration))))
    return json.dumps({"points": grid.points, "grid": content.hexdigest(), "content": facts})


def _places(grid: Grid, calibration: Path | None) -> list[Path]:
    """Fitted parameters that are not the shipped ones, and files of chips and models of the user's own."""
    words = [word for name in ("chip", "model") for word in grid.outer.get(name, ())]
    return [*([] if calibration in (None, FITTED) else [calibration]), *own_files(words)]


def _join(grid: Grid, folder: Folder, out: Path) -> None:
    """All parts in one file, one after the other."""
    schema = schema_of(grid)
    try:
        with (
            beside(Path(os.path.realpath(out))) as place,
            WRITERS[out.suffix](place, schema) as file,
        ):
            for name in folder.names():
                if name.startswith("part-"):
                    with folder.open(name) as part:
                        file.write_table(parquet.read_table(part).replace_schema_metadata(None))
    except OSError as error:
        raise InputError(
            f"{out} cannot be written: {error.strerror or error}; give --out another place."
        ) from None
