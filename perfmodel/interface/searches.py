"""Many studies searched, each into a folder of its own: here, or on a cluster."""

import functools
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from perfmodel.cluster import own_files, workers
from perfmodel.design.resolve import find_study
from perfmodel.design.run import with_options
from perfmodel.design.state import load_state
from perfmodel.errors import InputError
from perfmodel.files import folder_beside
from perfmodel.interface.search import run_search
from perfmodel.interface.search_tables import objective_name
from perfmodel.interface.tables import Table
from perfmodel.units import figures

RESULT, CHECKPOINT = "result.json", "checkpoint.npz"
"""Of a folder, the file that comes last, and the one that says whose it is."""


class Changes(NamedTuple):
    """What is said instead of each study; empty: as it says."""

    starts: int | None
    seed: int | None
    cost_basis: str


class Searched(NamedTuple):
    """Files of a search by name; or why there are none."""

    files: dict[str, bytes]
    error: str = ""


class Outcome(NamedTuple):
    """A study: the report of its search; or why there is none."""

    name: str
    report: dict[str, Any]
    error: str


def search_all(
    studies: Sequence[Path],
    out: Path,
    resume: bool,
    changes: Changes,
    cluster: str,
    progress: Callable[[int, int], None],
) -> list[Outcome]:
    """Search every study into `OUT/NAME/`, in order; one that finds nothing costs no other.

    **Arguments:**

    - `resume`: studies whose folder is whole are not searched again.

    **Raises:**

    - `InputError`: for two studies of one name, for a cluster that is not there or has another version.
    """
    names = [study.stem for study in studies]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"two studies are named {twice[0]}; each has a folder of its name: rename one."
        )
    errors: dict[str, str] = {}
    left = [study for study in studies if not (resume and _is_whole(study, out, changes))]
    progress(len(studies) - len(left), len(studies))
    with workers(cluster, own_files(map(str, studies))) as run:
        for place, found in run(functools.partial(_search_one, changes), left):
            name = left[place].stem
            errors[name] = found.error or _written(found, out / name)
            progress(len(studies) - len(left) + len(errors), len(studies))
    return [_outcome(name, out, errors.get(name, "")) for name in names]


def _search_one(changes: Changes, study: Path) -> Searched:
    """One study, on whatever machine: its files, which are small."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / study.stem
        try:
            report = run_search(
                study, place, False, *changes[:2], _silent, None, changes.cost_basis
            )
        except InputError as wrong:
            return Searched({}, str(wrong))
        finally:
            jax.clear_caches()  # compiled code takes maps of memory, of which a process has 65,530
        if report["stopped"]:
            raise KeyboardInterrupt
        return Searched({path.name: path.read_bytes() for path in place.iterdir()})


def _silent(*_: Any) -> None:
    """Progress of one study among many is not shown."""


def _written(found: Searched, folder: Path) -> str:
    """Write a study's files, all or none; why they cannot be written, if so."""
    try:
        with folder_beside(folder, RESULT) as place:
            for name, content in found.files.items():
                (place / name).write_bytes(content)
    except InputError as wrong:
        return str(wrong)
    return ""


def _is_whole(study: Path, out: Path, changes: Changes) -> bool:
    """Whether a study's folder is there, and of the same study."""
    folder = out / study.stem
    if not (folder / RESULT).is_file():
        return False
    try:
        load_state(folder / CHECKPOINT, with_options(find_study(study)[1], *changes))
    except InputError:
        return False
    return True


def _outcome(name: str, out: Path, error: str) -> Outcome:
    report = {} if error else json.loads((out / name / RESULT).read_text())
    return Outcome(name, report, error)


def table_of_outcomes(found: Sequence[Outcome]) -> Table:
    """What each study found."""
    rows = [
        (one.name, f"{objective_name(one.report)} {figures(one.report['objective'])}")
        if one.report
        else (one.name, one.error)
        for one in found
    ]
    return Table("Studies", ("study", "best"), rows)
