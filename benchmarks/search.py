"""The contest of searches: `python -m benchmarks.search [--quick] --json OUT.json`.

One model, one box, one logarithmic parametrisation for all. Every run keeps its curve: the best integer
design within limits so far, over evaluations and seconds; methods are compared by what they spent until
they first came within a regret of the reference, the best that any run found, a long one of this
search among them. A gradient counts as the evaluations that take as long, measured in equal batches. Seconds
are of processors, without compilation. Nothing is tuned for a problem.

Runs are written one by one: the same command goes on where it was ended.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search_baselines import (
    BASELINES,
    SMALL_BATCH,
    Baseline,
    Budget,
    Objective,
    Progress,
    installed,
    run_baseline,
)
from benchmarks.search_table import lines, with_regrets
from benchmarks.timing import Stopwatch, fastest
from perfmodel.design.abstract_problem import EVALUATED_AT_ONCE, evaluate_all, linearise_batch
from perfmodel.design.multistart import MultiStart, Termination, search
from perfmodel.design.problem import Problem
from perfmodel.design.resolve import resolve_study
from perfmodel.design.state import integer_designs
from perfmodel.design.study import OptimiserTable, Study
from perfmodel.design.variables import read_space
from perfmodel.files import write_whole
from perfmodel.library.files import read_toml
from perfmodel.units import as_scalar, as_values

PROBLEMS = {
    name: Study.model_validate(table)
    for name, table in read_toml(Path(__file__).with_name("search_problems.toml")).items()
}
QUICK = ("speed", "cost", "nodes")
"""Of a quick run; also those that slow baselines are run on."""

MAX_CPU_SECONDS = {True: 15.0, False: 60.0}
"""Seconds of processors of one run of a baseline, at most, when quick and when not."""

VALUE_TOLERANCE = 1e-4
"""A baseline this close to the long search of ours, relative, has arrived, and ends."""

REFERENCE_SEED, REFERENCE_STARTS = 1000, 64
"""Seed of the long search, and its starts in a row without gain."""

SLOW_SEEDS = 5
"""Seeds of slow baselines, at most; they run on the problems of a quick run alone."""


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


def cost_of_slopes(problem: Problem) -> float:
    """Evaluations that take as long as one gradient, both in batches of the same size."""
    unit = np.random.default_rng(0).random((EVALUATED_AT_ONCE, len(problem.names)))
    choice = np.zeros((EVALUATED_AT_ONCE, len(problem.options)), np.int32)

    def gradients() -> None:
        linearise_batch(problem, as_values(unit), choice, as_scalar(1.0)).value.block_until_ready()

    return fastest(gradients, 10) / fastest(lambda: evaluate_all(problem, unit, choice), 10)


def warm(problem: Problem, integer: np.ndarray) -> float:
    """Compile everything that is timed later; seconds of processors that it took."""
    watch = Stopwatch()
    for count in (1, SMALL_BATCH + 1):
        Objective(problem, integer, Budget())(np.full((count, len(integer) + 2), 0.5))
    search(problem, integer, OptimiserTable(starts=1, steps=10))
    return watch.read()[1]


def wanted(names: list[str], seeds: int, quick: bool) -> Iterator[tuple[str, str, int]]:
    """Problem, method and seed of every run, all methods of a seed after the other."""
    yield from ((name, "ours", REFERENCE_SEED) for name in names)
    for seed in range(seeds):
        for name in names:
            yield name, "ours", seed
            for label, baseline in BASELINES.items():
                slow_too = seed < SLOW_SEEDS and (quick or name in QUICK)
                if installed(baseline) and (slow_too or not baseline.slow):
                    yield name, label, seed


class Contest:
    """All runs in one file, posed and compiled once a problem."""

    def __init__(self, path: Path | None, quick: bool) -> None:
        self.path, self.quick = path, quick
        self.posed: dict[str, tuple[Problem, np.ndarray]] = {}
        told = json.loads(path.read_text()) if path and path.exists() else {}
        self.runs, self.facts = told.get("runs", []), told.get("problems", {})

    def known(self, name: str, method: str, seed: int) -> dict[str, Any] | None:
        """A run that was made already."""
        key = (name, method, seed)
        runs = (r for r in self.runs if (r["problem"], r["method"], r["seed"]) == key)
        return next(runs, None)

    def problem(self, name: str) -> tuple[Problem, np.ndarray]:
        """A problem, ready to be timed."""
        if name not in self.posed:
            study = PROBLEMS[name]
            problem, integer = self.posed[name] = resolve_study(study), read_space(study).integer
            choices, limits = int(np.prod(problem.options)), len(problem.constraint_names)
            shape = {"variables": len(integer), "whole": int(integer.sum())}
            shape |= {"choices": choices, "limits": limits, "compile_s": warm(problem, integer)}
            self.facts.setdefault(name, shape)
        return self.posed[name]

    def run(self, name: str, method: str, seed: int) -> None:
        """Make one run, and add it."""
        curve = self._curve(name, method, seed)
        better = [s for i, s in enumerate(curve) if not i or s.value < curve[i - 1].value]
        told = [list(s) for s in [*better, *curve[-1:]] if np.isfinite(s.value)]
        last = curve[-1] if curve else Progress(0, 0, 0.0, 0.0, np.inf)
        spent = {"values": last.values, "looks": last.gradients, "seconds": last.seconds}
        spent |= {"cpu_seconds": last.cpu, "best_value": told[-1][-1] if told else None}
        named = {"problem": name, "method": method, "seed": seed}
        self.runs.append(named | spent | {"curve": told})
        self.save()

    def _curve(self, name: str, method: str, seed: int) -> list[Progress]:
        problem, integer = self.problem(name)
        if method == "ours":
            return ours(problem, integer, seed)
        objective = Objective(problem, integer, self._budget(name, method, seed))
        return run_baseline(BASELINES[method], objective, seed)

    def _budget(self, name: str, method: str, seed: int) -> Budget:
        baseline: Baseline = BASELINES[method]
        long, mine = (self.known(name, "ours", one) for one in (REFERENCE_SEED, seed))
        assert long is not None and mine is not None
        best = long["best_value"]
        value = -np.inf if best is None else best + VALUE_TOLERANCE
        if method == "random":
            return Budget(cpu=mine["cpu_seconds"])
        most = baseline.quick if self.quick else baseline.most
        return Budget(most, MAX_CPU_SECONDS[self.quick], value)

    def measure(self, name: str) -> None:
        """What a gradient costs."""
        if "gradient_cost" not in self.facts[name]:
            self.facts[name]["gradient_cost"] = cost_of_slopes(self.problem(name)[0])
            self.save()

    def report(self) -> dict[str, Any]:
        """Everything, with regrets and what was spent until them."""
        runs = with_regrets(self.runs, self.facts)
        return {"problems": self.facts, "quick": self.quick, "runs": runs}

    def save(self) -> None:
        """Write what there is."""
        if self.path:
            write_whole(self.path, json.dumps(self.report()).encode())


def main() -> None:
    """Run, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write, and to go on from")
    parser.add_argument("--quick", action="store_true", help="three problems, three seeds")
    parser.add_argument("--seeds", type=int, help="seeds of each problem; 20 if not given")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, help="all if not given")
    parser.add_argument(
        "--table", action="store_true", help="print what the file holds, run nothing"
    )
    options = parser.parse_args()
    names = options.problems or list(QUICK if options.quick else PROBLEMS)
    contest = Contest(options.json, options.quick)
    if not options.table:
        _play(contest, names, options.seeds or (3 if options.quick else 20))
    print("\n".join(lines(contest.report())))


def _play(contest: Contest, names: list[str], seeds: int) -> None:
    missing = [label for label, baseline in BASELINES.items() if not installed(baseline)]
    if missing:
        print(f"Not installed, so not compared: {', '.join(missing)} (group `contest`).")
    for name, method, seed in wanted(names, seeds, contest.quick):
        if contest.known(name, method, seed) is None:
            print(f"{name}, {method}, seed {seed}", flush=True)
            contest.run(name, method, seed)
    for name in names:
        contest.problem(name)
        contest.measure(name)


if __name__ == "__main__":
    main()
