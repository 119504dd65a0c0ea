"""`perfmodel search`: run a study, and write what it found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from perfmodel.cluster import Runner, check_address, workers
from perfmodel.design.multistart import search
from perfmodel.design.report import SearchReport, as_dict, describe_conflict, make_report
from perfmodel.design.resolve import find_study, resolve_study
from perfmodel.design.run import (
    Checkpoints,
    best_of_grid,
    decided,
    designs_table,
    front_rows,
    with_options,
)
from perfmodel.design.state import load_state
from perfmodel.design.variables import read_space, start_vector
from perfmodel.errors import InputError
from perfmodel.files import write_csv, write_whole
from perfmodel.interface.pages.page import write_report
from perfmodel.interface.pages.search import search_page
from perfmodel.locking import lock_folder


def run_search(
    name: Path,
    out: Path,
    resume: bool,
    starts: int | None,
    seed: int | None,
    progress: Callable[..., None],
    known: Path | None = None,
    cost_basis: str = "",
    cluster: str = "",
) -> dict[str, Any]:
    """Search a study, and write `result.json`, `designs.csv`, `front.csv`, `report.html` and a checkpoint.

    Ctrl-C ends it with what was found.

    **Arguments:**

    - `known`: folder with the checkpoint to go on from, where it is not `out`.
    - `cost_basis`: instead of the study's; empty: as it says.
    - `cluster`: the Ray cluster that makes the second searches and the fronts; this process if empty.

    **Raises:**

    - `InputError`: for a wrong study, a checkpoint of another one, a folder that another search
      is writing, or when no design keeps every limit.
    """
    check_address(cluster)
    title, study = find_study(name)
    study = with_options(study, starts, seed, cost_basis)
    space, problem = read_space(study), resolve_study(study)
    first, checkpoint = start_vector(space, study.space.start), out / "checkpoint.npz"
    with lock_folder(out, "search"):
        begun = (known or out) / checkpoint.name
        state = load_state(begun, study) if resume and begun.exists() else None
        progress(0, study.optimiser.starts, "compiling")
        checkpoints = Checkpoints(checkpoint, study, space.integer, progress, state)
        result = search(problem, space.integer, study.optimiser, state, checkpoints.step, first)
        checkpoints.save()
        if result.stopped and not result.designs:
            raise KeyboardInterrupt
        if not result.designs:
            raise InputError(f"{name}: {describe_conflict(problem, result)}")
        found = make_report(study, space, problem, result)
        with workers(cluster) as run:
            found, more = decided(found, progress, run)
            front = _front(found, progress, run)
        report = (
            as_dict(found) | {"stopped": found.result.stopped, "grid": best_of_grid(found)} | more
        )
        if front:
            write_csv(out / "front.csv", pa.Table.from_pylist(front))
        write_csv(out / "designs.csv", designs_table(found))
        write_report(out / "report.html", search_page(title, found, report, front))
        write_whole(out / "result.json", json.dumps(report, indent=1).encode())
        return report


def _front(
    found: SearchReport, progress: Callable[..., None], run: Runner[Any, Any]
) -> list[dict[str, Any]]:
    """The front that a study asks for."""
    if found.study.objective.front is not None:
        progress(found.study.optimiser.starts, found.study.optimiser.starts, "front")
    return front_rows(found, run)
