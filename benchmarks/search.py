"""The contest of searches: `python -m benchmarks.search [--quick] --json OUT.json`.

One model, one box, one logarithmic parametrisation for all. Every run keeps its curve: the best integer
design within limits so far, over evaluations and seconds; methods are compared by what they spent until
they first came within a regret of the reference, the best that any run found, a long one of this
search among them. A gradient counts as the evaluations that take as long, measured in equal batches. Seconds
are of processors, without compilation. Nothing is tuned for a problem.

Runs are made here or on a cluster (`--cluster`), those of this search first, and written one by one: the same
command goes on where it was ended. On a cluster evaluations are the same, and seconds are the worker's.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search_baselines import BASELINES, Baseline, Budget, installed
from benchmarks.search_runs import OURS, PROBLEMS, REFERENCE_SEED, Made, Run, make_run, posed
from benchmarks.search_table import lines, with_regrets
from benchmarks.timing import fastest
from perfmodel.cluster import workers
from perfmodel.compiler_settings import set_compiler
from perfmodel.design.abstract_problem import EVALUATED_AT_ONCE, evaluate_all, linearise_batch
from perfmodel.design.problem import Problem
from perfmodel.errors import InputError
from perfmodel.files import write_whole
from perfmodel.units import as_scalar, as_values

QUICK = ("speed", "cost", "nodes")
"""Of a quick run; also those that slow baselines are run on."""

MAX_CPU_SECONDS = {True: 15.0, False: 60.0}
"""Seconds of processors of one run of a baseline, at most, when quick and when not."""

VALUE_TOLERANCE = 1e-4
"""A baseline this close to the long search of ours, relative, has arrived, and ends."""

SLOW_SEEDS = 5
"""Seeds of slow baselines, at most; they run on the problems of a quick run alone."""

PACKAGES = ("numpy", "scipy", *dict.fromkeys(baseline.package for baseline in BASELINES.values()))
"""Whose versions runs depend on, beside JAX."""


def cost_of_slopes(problem: Problem) -> float:
    """Evaluations that take as long as one gradient, both in batches of the same size."""
    unit = np.random.default_rng(0).random((EVALUATED_AT_ONCE, len(problem.names)))
    choice = np.zeros((EVALUATED_AT_ONCE, len(problem.options)), np.int32)

    def gradients() -> None:
        linearise_batch(problem, as_values(unit), choice, as_scalar(1.0)).value.block_until_ready()

    return fastest(gradients, 10) / fastest(lambda: evaluate_all(problem, unit, choice), 10)


Named = tuple[str, str, int]
"""Problem, method and seed of a run."""


def wanted(names: list[str], seeds: int, quick: bool) -> Iterator[Named]:
    """Every run, all methods of a seed after the other."""
    yield from ((name, OURS, REFERENCE_SEED) for name in names)
    for seed in range(seeds):
        for name in names:
            yield name, OURS, seed
            for label, baseline in BASELINES.items():
                slow_too = seed < SLOW_SEEDS and (quick or name in QUICK)
                if installed(baseline) and (slow_too or not baseline.slow):
                    yield name, label, seed


class Contest:
    """All runs in one file, in the order in which they are wanted, whichever was made first."""

    def __init__(self, path: Path | None, quick: bool, order: Sequence[Named] = ()) -> None:
        self.path, self.quick, self.order = path, quick, list(order)
        told = json.loads(path.read_text()) if path and path.exists() else {}
        self.runs, self.facts = told.get("runs", []), told.get("problems", {})

    def known(self, named: Named) -> dict[str, Any] | None:
        """A run that was made already."""
        return next((run for run in self.runs if _named(run) == named), None)

    def play(self, cluster: str) -> None:
        """Make the runs that are missing: ours, then baselines, which end by what ours found."""
        missing = [named for named in self.order if self.known(named) is None]
        with workers(cluster if missing else "", [Path(__file__).parent], PACKAGES) as run_all:
            for of_ours in (True, False):
                runs = (self._run(one) for one in missing if (one[1] == OURS) is of_ours)
                for _, made in run_all(make_run, runs):
                    print("{}, {}, seed {}".format(*_named(made.run)), flush=True)
                    self.add(made)

    def add(self, made: Made) -> None:
        """Put a run in its place, and write the file."""
        places = {named: place for place, named in enumerate(self.order)}
        self.facts.setdefault(made.run["problem"], made.shape)
        self.runs.append(made.run)
        self.runs.sort(key=lambda one: places.get(_named(one), -1))
        self.save()

    def _run(self, named: Named) -> Run:
        name, method, seed = named
        return Run(*named) if method == OURS else Run(*named, self._budget(name, method, seed))

    def _budget(self, name: str, method: str, seed: int) -> Budget:
        baseline: Baseline = BASELINES[method]
        long, mine = (self.known((name, OURS, one)) for one in (REFERENCE_SEED, seed))
        assert long is not None and mine is not None
        best = long["best_value"]
        value = -np.inf if best is None else best + VALUE_TOLERANCE
        if method == "random":
            return Budget(cpu=mine["cpu_seconds"])
        most = baseline.quick if self.quick else baseline.most
        return Budget(most, MAX_CPU_SECONDS[self.quick], value)

    def measure(self, name: str) -> None:
        """What a gradient costs, here."""
        if "gradient_cost" not in self.facts[name]:
            self.facts[name]["gradient_cost"] = cost_of_slopes(posed(name).problem)
            self.save()

    def report(self) -> dict[str, Any]:
        """Everything, with regrets and what was spent until them."""
        runs = with_regrets(self.runs, self.facts)
        return {"problems": self.facts, "quick": self.quick, "runs": runs}

    def save(self) -> None:
        """Write what there is."""
        if self.path:
            write_whole(self.path, json.dumps(self.report()).encode())


def _named(run: dict[str, Any]) -> Named:
    return run["problem"], run["method"], run["seed"]


def main() -> None:
    """Run, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write, and to go on from")
    parser.add_argument("--quick", action="store_true", help="three problems, three seeds")
    parser.add_argument("--seeds", type=int, help="seeds of each problem; 20 if not given")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, help="all if not given")
    parser.add_argument("--cluster", default="", help="auto, local or ray://HOST:PORT")
    parser.add_argument(
        "--table", action="store_true", help="print what the file holds, run nothing"
    )
    options = parser.parse_args()
    names = options.problems or list(QUICK if options.quick else PROBLEMS)
    seeds = options.seeds or (3 if options.quick else 20)
    contest = Contest(options.json, options.quick, [*wanted(names, seeds, options.quick)])
    if not options.table:
        try:
            _play(contest, names, options.cluster)
        except InputError as error:
            parser.exit(2, f"search: {error}\n")
    print("\n".join(lines(contest.report())))


def _play(contest: Contest, names: list[str], cluster: str) -> None:
    missing = [label for label, baseline in BASELINES.items() if not installed(baseline)]
    if missing:
        print(f"Not installed, so not compared: {', '.join(missing)} (group `contest`).")
    set_compiler()  # of workers, which begin later and keep what they compile
    contest.play(cluster)
    for name in names:
        contest.measure(name)


if __name__ == "__main__":
    main()
