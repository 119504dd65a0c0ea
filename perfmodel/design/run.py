"""A run of a search: checkpoints while it descends, what helps to decide after it, the tables it writes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from perfmodel.cluster import Runner, here
from perfmodel.design.analysis import analysis_dict, compare_existing
from perfmodel.design.devices import rounded_to_devices
from perfmodel.design.existing_chips import descend_from_existing
from perfmodel.design.multistart import Termination, search
from perfmodel.design.pareto import trace_front
from perfmodel.design.reoptimise import improve_by_neighbours
from perfmodel.design.report import SearchReport, make_report, objective_value
from perfmodel.design.resolve import resolve_study
from perfmodel.design.sqp import CONSTRAINT_TOLERANCE
from perfmodel.design.starting_points import grid_best
from perfmodel.design.state import SearchState, integer_designs, save_state
from perfmodel.design.study import Study
from perfmodel.design.system import BASES
from perfmodel.design.variables import read_space
from perfmodel.errors import InputError
from perfmodel.library.files import word_of
from perfmodel.units import figures

CHECKPOINT_INTERVAL = 2.0
"""Seconds from one checkpoint to the next, at least."""


def decided(
    found: SearchReport, progress: Callable[..., None], run: Runner[Any, Any] = here
) -> tuple[SearchReport, dict[str, Any]]:
    """With what helps to decide; where a search is stopped, what it found so far."""
    starts = found.study.optimiser.starts
    if found.result.stopped:
        return found, {}
    try:
        progress(starts, starts, "beside the best design")
        found = confirmed(found)
        progress(starts, starts, "beside other chips and facts")
        return found, analysis_dict(found, run)
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


def front_rows(found: SearchReport, run: Runner[Any, Any] = here) -> list[dict[str, Any]]:
    """Rows of the front of each node and memory that a study asks for; numbers of things are loose on it."""
    name = found.study.objective.front
    if name is None or found.result.stopped:
        return []
    return [
        {name: one.figure, "objective": found.objective(one.value), "beaten": one.dominated}
        | found.variables(one.unit, one.choice)
        for one in trace_front(found.solver, found.result.designs, name, run)
    ]


def best_so_far(study: Study, integer: np.ndarray, state: SearchState) -> str:
    """The best design that keeps every limit, in words."""
    lowest = float(np.min(integer_designs(state, integer)[2], initial=np.inf))
    return (
        f"best {figures(objective_value(study, lowest))}" if np.isfinite(lowest) else "descending"
    )


class Checkpoints:
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
        if time.monotonic() - self.saved > CHECKPOINT_INTERVAL:
            self.save()

    def save(self) -> None:
        """Write what there is."""
        if self.state is not None:
            save_state(self.path, self.study, self.state)
            self.saved = time.monotonic()


def with_options(
    study: Study, starts: int | None = None, seed: int | None = None, cost_basis: str = ""
) -> Study:
    """A study as it is searched: with other starts, another seed, as many at once as devices share.

    **Raises:**

    - `InputError`: for a basis of USD that a search does not have.
    """
    given = {
        "starts": starts,
        "seed": seed,
        "batch_size": rounded_to_devices(study.optimiser.batch_size),
    }
    new = study.optimiser.model_copy(update={k: v for k, v in given.items() if v is not None})
    basis = word_of(cost_basis or study.objective.cost_basis, list(BASES), "cost_basis")
    objective = study.objective.model_copy(update={"cost_basis": basis})
    return study.model_copy(update={"optimiser": new, "objective": objective})


def best_of_grid(found: SearchReport) -> dict[str, Any]:
    began = time.perf_counter()
    value, points = grid_best(found.problem, found.space.integer, CONSTRAINT_TOLERANCE)
    best = found.objective(value) if np.isfinite(value) else None
    return {"points": points, "seconds": time.perf_counter() - began, "objective": best}


def designs_table(found: SearchReport) -> pa.Table:
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


def search_study(study: Study) -> SearchReport:
    """The designs of a study, without checkpoints.

    **Raises:**

    - `InputError`: when no design keeps every limit.
    """
    space, problem = read_space(study), resolve_study(study)
    result = search(problem, space.integer, study.optimiser)
    if not result.designs:
        raise InputError("no design keeps every limit; please report this.")
    return make_report(study, space, problem, result)
