"""One run of the contest of searches: a problem, a method and a seed, here or on a worker of a cluster."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.search_baselines import (
    BASELINES,
    SMALL_BATCH,
    Budget,
    Objective,
    Progress,
    run_baseline,
)
from benchmarks.timing import Stopwatch
from perfmodel.design.multistart import MultiStart, Termination, search
from perfmodel.design.problem import Problem
from perfmodel.design.resolve import resolve_study
from perfmodel.design.state import integer_designs
from perfmodel.design.study import OptimiserTable, Study
from perfmodel.design.variables import read_space
from perfmodel.library.files import read_toml

PROBLEMS = {
    name: Study.model_validate(table)
    for name, table in read_toml(Path(__file__).with_name("search_problems.toml")).items()
}

OURS = "ours"
"""The method that is this program's gradient search."""

REFERENCE_SEED, REFERENCE_STARTS = 1000, 64
"""Seed of the long search, and its starts in a row without gain."""


class Run(NamedTuple):
    """What is run, and when it ends; our search has an end of its own."""

    problem: str
    method: str
    seed: int
    budget: Budget = Budget()


class Posed(NamedTuple):
    """A problem, which of its variables are whole, and seconds of processors that compiling it took."""

    problem: Problem
    integer: np.ndarray
    compiled: float

    @property
    def shape(self) -> dict[str, Any]:
        """How large it is."""
        choices, limits = int(np.prod(self.problem.options)), len(self.problem.constraint_names)
        shape = {"variables": len(self.integer), "whole": int(self.integer.sum())}
        return shape | {"choices": choices, "limits": limits, "compile_s": self.compiled}


@functools.cache
def posed(name: str) -> Posed:
    """A problem, ready to be timed, once in a process."""
    study = PROBLEMS[name]
    problem, integer = resolve_study(study), read_space(study).integer
    return Posed(problem, integer, warm(problem, integer))


def warm(problem: Problem, integer: np.ndarray) -> float:
    """Compile everything that is timed later; seconds of processors that it took."""
    watch = Stopwatch()
    for count in (1, SMALL_BATCH + 1):
        Objective(problem, integer, Budget())(np.full((count, len(integer) + 2), 0.5))
    search(problem, integer, OptimiserTable(starts=1, steps=10))
    return watch.read()[1]


def ours(problem: Problem, integer: np.ndarray, seed: int) -> list[Progress]:
    """The gradient search, to its own end."""
    starts = {"starts": 4 * REFERENCE_STARTS} if seed == REFERENCE_SEED else {}
    options = OptimiserTable.model_validate({"seed": seed} | starts)
    watch, curve = Stopwatch(), []
    solver = MultiStart(problem, integer, options)
    state = solver.init()
    while solver.terminate(state) is Termination.RUNNING:
        state = solver.step(state)
        lowest = float(np.min(integer_designs(state, integer)[2], initial=np.inf))
        curve.append(Progress(int(state.evaluations), int(state.gradients), *watch.read(), lowest))
    return curve


class Made(NamedTuple):
    """A run: what it spent, its best value and its curve; and how large its problem is."""

    run: dict[str, Any]
    shape: dict[str, Any]


def make_run(run: Run) -> Made:
    """Make a run."""
    curve = _curve(run)
    better = [s for i, s in enumerate(curve) if not i or s.value < curve[i - 1].value]
    told = [list(s) for s in [*better, *curve[-1:]] if np.isfinite(s.value)]
    last = curve[-1] if curve else Progress(0, 0, 0.0, 0.0, np.inf)
    spent = {"values": last.values, "looks": last.gradients, "seconds": last.seconds}
    spent |= {"cpu_seconds": last.cpu, "best_value": told[-1][-1] if told else None}
    named = {"problem": run.problem, "method": run.method, "seed": run.seed}
    return Made(named | spent | {"curve": told}, posed(run.problem).shape)


def _curve(run: Run) -> list[Progress]:
    problem, integer, _ = posed(run.problem)
    if run.method == OURS:
        return ours(problem, integer, run.seed)
    objective = Objective(problem, integer, run.budget)
    return run_baseline(BASELINES[run.method], objective, run.seed)
