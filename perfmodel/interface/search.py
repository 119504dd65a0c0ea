"""`perfmodel search`: run a study, compare it with a grid, and write what it found."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from perfmodel.design.analysis import analysis_dict, compare_existing
from perfmodel.design.devices import rounded_to_devices
from perfmodel.design.existing_chips import descend_from_existing
from perfmodel.design.multistart import Termination, search
from perfmodel.design.pareto import trace_front
from perfmodel.design.reoptimise import improve_by_neighbours
from perfmodel.design.report import (
    SearchReport,
    as_dict,
    describe_conflict,
    make_report,
    objective_value,
)
from perfmodel.design.resolve import find_study, presets, question, resolve_study
from perfmodel.design.sqp import CONSTRAINT_TOLERANCE
from perfmodel.design.starting_points import grid_best
from perfmodel.design.state import SearchState, integer_designs, load_state, save_state
from perfmodel.design.study import Study
from perfmodel.design.variables import read_space, start_vector
from perfmodel.errors import InputError
from perfmodel.files import write_csv, write_whole
from perfmodel.interface.report import write_report
from perfmodel.interface.search_page import page
from perfmodel.locking import lock_folder
from perfmodel.units import figures

PAUSE = 2.0
"""Seconds from one checkpoint to the next, at least."""


def run_search(
    name: Path,
    out: Path,
    resume: bool,
    starts: int | None,
    seed: int | None,
    progress: Callable[..., None],
    known: Path | None = None,
) -> dict[str, Any]:
    """Search a study, and write `result.json`, `designs.csv`, `front.csv`, `report.html` and a checkpoint.

    Ctrl-C ends it with what was found.

    **Arguments:**

    - `known`: folder with the checkpoint to go on from, where it is not `out`.

    **Raises:**

    - `InputError`: for a wrong study, a checkpoint of another one, a folder that another search
      is writing, or when no design keeps every limit.
    """
    title, study = find_study(name)
    study = changed(study, starts, seed)
    space, problem = read_space(study), resolve_study(study)
    first, checkpoint = start_vector(space, study.space.start), out / "checkpoint.npz"
    with lock_folder(out, "search"):
        begun = (known or out) / checkpoint.name
        state = load_state(begun, study) if resume and begun.exists() else None
        progress(0, study.optimiser.starts, "compiling")
        keeper = _Keeper(checkpoint, study, space.integer, progress, state)
        result = search(problem, space.integer, study.optimiser, state, keeper.step, first)
        keeper.save()
        if result.stopped and not result.designs:
            raise KeyboardInterrupt
        if not result.designs:
            raise InputError(f"{name}: {describe_conflict(problem, result)}")
        found = make_report(study, space, problem, result)
        found, more = _decided(found, progress)
        report = as_dict(found) | {"stopped": found.result.stopped, "grid": _grid(found)} | more
        write_whole(out / "result.json", json.dumps(report, indent=1).encode())
        write_csv(out / "designs.csv", _designs(found))
        front = _front(found)
        if front:
            progress(study.optimiser.starts, study.optimiser.starts, "front")
            write_csv(out / "front.csv", pa.Table.from_pylist(front))
        write_report(out / "report.html", page(title, found, report, front))
        return report


def _decided(
    found: SearchReport, progress: Callable[..., None]
) -> tuple[SearchReport, dict[str, Any]]:
    """With what helps to decide; where a search is stopped, what it found so far."""
    starts = found.study.optimiser.starts
    if found.result.stopped:
        return found, {}
    try:
        progress(starts, starts, "beside the best design")
        found = confirmed(found)
        progress(starts, starts, "beside other chips and facts")
        return found, analysis_dict(found)
    except KeyboardInterrupt:
        stopped = found.result._replace(termination=Termination.INTERRUPTED)
        return found._replace(result=stopped), {}


def confirmed(found: SearchReport) -> SearchReport:
    """The answer after descents from sold chips that are ahead of it, and from its neighbours in stacks."""
    study, space, problem, solver = found.study, found.space, found.problem, found.solver
    known = compare_existing(found)
    result = descend_from_existing(study, space, solver, found.result, known)
    result, near = improve_by_neighbours(solver, problem.names, result)
    return make_report(study, space, problem, result, near)


def _front(found: SearchReport) -> list[dict[str, Any]]:
    """Rows of the front of each node and memory that a study asks for; numbers of things are loose on it."""
    name = found.study.objective.front
    if name is None or found.result.stopped:
        return []
    return [
        {name: one.figure, "objective": found.objective(one.value), "beaten": one.dominated}
        | found.variables(one.unit, one.choice)
        for one in trace_front(found.solver, found.result.designs, name)
    ]


def listed() -> list[tuple[str, str]]:
    """Presets, and what each asks."""
    return [(name, question(path)) for name, path in presets().items()]


def best_so_far(study: Study, integer: np.ndarray, state: SearchState) -> str:
    """The best design that keeps every limit, in words."""
    lowest = float(np.min(integer_designs(state, integer)[2], initial=np.inf))
    return (
        f"best {figures(objective_value(study, lowest))}" if np.isfinite(lowest) else "descending"
    )


class _Keeper:
    """Shows progress after each step, and writes a checkpoint now and then."""

    def __init__(
        self,
        path: Path,
        study: Study,
        integer: np.ndarray,
        progress: Callable[..., None],
        state: SearchState | None,
    ) -> None:
        self.path, self.study, self.integer, self.progress = path, study, integer, progress
        self.state: SearchState | None = state
        self.saved = 0.0

    def step(self, state: SearchState) -> None:
        """After each step of a search."""
        self.state = state
        words = best_so_far(self.study, self.integer, state)
        self.progress(int(state.starts) - 1, self.study.optimiser.starts, words)
        if time.monotonic() - self.saved > PAUSE:
            self.save()

    def save(self) -> None:
        """Write what there is."""
        if self.state is not None:
            save_state(self.path, self.study, self.state)
            self.saved = time.monotonic()


def changed(study: Study, starts: int | None = None, seed: int | None = None) -> Study:
    """A study as it is searched: with other starts, another seed, as many at once as devices share."""
    given = {"starts": starts, "seed": seed, "lanes": rounded_to_devices(study.optimiser.lanes)}
    new = study.optimiser.model_copy(update={k: v for k, v in given.items() if v is not None})
    return study.model_copy(update={"optimiser": new})


def _grid(found: SearchReport) -> dict[str, Any]:
    began = time.perf_counter()
    value, points = grid_best(found.problem, found.space.integer, CONSTRAINT_TOLERANCE)
    best = found.objective(value) if np.isfinite(value) else None
    return {"points": points, "seconds": time.perf_counter() - began, "objective": best}


def _designs(found: SearchReport) -> pa.Table:
    rows = [
        found.variables(one.unit, one.choice)
        | {"objective": found.objective(one.value)}
        | {
            f"slack_{name}": float(slack)
            for name, slack in zip(found.problem.constraint_names, one.slack, strict=True)
        }
        for one in found.result.designs
    ]
    return pa.table({name: [row[name] for row in rows] for name in rows[0]})
