"""The contest of searches: `python -m benchmarks.search [--quick] --json OUT.json`.

One model, one box, one logarithmic parametrisation for all. Every run keeps its curve: the best whole
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
    RIVALS,
    SMALL,
    Bounds,
    Game,
    Rival,
    Spent,
    Stopwatch,
    installed,
    play,
)
from benchmarks.search_problems import PROBLEMS, QUICK
from benchmarks.search_table import lines, scored
from perfmodel.design.abstract_problem import EVALUATED_AT_ONCE, evaluate_all, linearise_batch
from perfmodel.design.multistart import MultiStart, Termination, search
from perfmodel.design.problem import Problem
from perfmodel.design.resolve import resolve_study
from perfmodel.design.state import integer_designs
from perfmodel.design.study import OptimiserTable
from perfmodel.design.variables import read_space
from perfmodel.files import write_whole
from perfmodel.units import as_scalar, as_values

PATIENCE = {True: 15.0, False: 60.0}
"""Seconds of processors of one run of a rival, at most, when quick and when not."""

ENOUGH = 1e-4
"""A rival this close to the long search of ours, relative, has arrived, and ends."""

LONG, PATIENT = 1000, 64
"""Seed of the long search, and its starts in a row without gain."""

SLOW_SEEDS = 5
"""Seeds of slow rivals, at most; they run on the problems of a quick run alone."""


def ours(problem: Problem, whole: np.ndarray, seed: int) -> list[Spent]:
    """The gradient search, to its own end."""
    long = seed == LONG
    options = OptimiserTable(seed=seed, starts=4 * PATIENT) if long else OptimiserTable(seed=seed)
    watch, curve = Stopwatch(), []
    solver = MultiStart(problem, whole, options)
    state = solver.init()
    while solver.terminate(state) is Termination.RUNNING:
        state = solver.step(state)
        lowest = float(np.min(integer_designs(state, whole)[2], initial=np.inf))
        curve.append(Spent(int(state.evaluations), int(state.gradients), *watch.read(), lowest))
    return curve


def cost_of_slopes(problem: Problem) -> float:
    """Evaluations that take as long as one gradient, both in batches of the same size."""
    unit = np.random.default_rng(0).random((EVALUATED_AT_ONCE, len(problem.names)))
    choice = np.zeros((EVALUATED_AT_ONCE, len(problem.options)), np.int32)

    def gradients() -> None:
        linearise_batch(problem, as_values(unit), choice, as_scalar(1.0)).value.block_until_ready()

    return _fastest(gradients) / _fastest(lambda: evaluate_all(problem, unit, choice))


def _fastest(function: Any) -> float:
    times = []
    for _ in range(10):
        watch = Stopwatch()
        function()
        times.append(watch.read()[1])
    return min(times)


def warm(problem: Problem, whole: np.ndarray) -> float:
    """Compile everything that is timed later; seconds of processors that it took."""
    watch = Stopwatch()
    for count in (1, SMALL + 1):
        Game(problem, whole, Bounds()).many(np.full((count, len(whole) + 2), 0.5))
    search(problem, whole, OptimiserTable(starts=1, steps=10))
    return watch.read()[1]


def wanted(names: list[str], seeds: int, quick: bool) -> Iterator[tuple[str, str, int]]:
    """Problem, method and seed of every run, whole seeds one after the other."""
    yield from ((name, "ours", LONG) for name in names)
    for seed in range(seeds):
        for name in names:
            yield name, "ours", seed
            for label, rival in RIVALS.items():
                few = seed < SLOW_SEEDS and (quick or name in QUICK)
                if installed(rival) and (few or not rival.slow):
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
            problem, whole = self.posed[name] = resolve_study(study), read_space(study).integer
            shape = {"variables": len(whole), "whole": int(whole.sum())}
            shape |= {
                "choices": int(np.prod(problem.options)),
                "limits": len(problem.constraint_names),
            }
            compiled = {"compile_s": warm(problem, whole)}
            self.facts.setdefault(name, shape | compiled)
        return self.posed[name]

    def run(self, name: str, method: str, seed: int) -> None:
        """Make one run and keep it."""
        problem, whole = self.problem(name)
        curve = (
            ours(problem, whole, seed)
            if method == "ours"
            else play(RIVALS[method], Game(problem, whole, self._bounds(name, method, seed)), seed)
        )
        better = [s for i, s in enumerate(curve) if not i or s.value < curve[i - 1].value]
        kept = [list(s) for s in [*better, *curve[-1:]] if np.isfinite(s.value)]
        last = curve[-1] if curve else Spent(0, 0, 0.0, 0.0, np.inf)
        spent = {"values": last.values, "looks": last.looks, "seconds": last.seconds}
        spent |= {"cpu_seconds": last.cpu, "best_value": kept[-1][-1] if kept else None}
        self.runs.append(
            {"problem": name, "method": method, "seed": seed} | spent | {"curve": kept}
        )
        self.save()

    def _bounds(self, name: str, method: str, seed: int) -> Bounds:
        rival: Rival = RIVALS[method]
        long, mine = (self.known(name, "ours", one) for one in (LONG, seed))
        assert long is not None and mine is not None
        best = long["best_value"]
        value = -np.inf if best is None else best + ENOUGH
        if method == "random":
            return Bounds(cpu=mine["cpu_seconds"])
        return Bounds(rival.quick if self.quick else rival.most, PATIENCE[self.quick], value)

    def measure(self, name: str) -> None:
        """What a gradient costs."""
        if "gradient_cost" not in self.facts[name]:
            self.facts[name]["gradient_cost"] = cost_of_slopes(self.problem(name)[0])
            self.save()

    def report(self) -> dict[str, Any]:
        """Everything, with regrets and what was spent until them."""
        return {"problems": self.facts, "quick": self.quick, "runs": scored(self.runs, self.facts)}

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
    missing = [label for label, rival in RIVALS.items() if not installed(rival)]
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
