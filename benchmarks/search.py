"""The contest of searches: `python -m benchmarks.search [--quick] --json OUT.json`.

One model, one box, one logarithmic parametrisation for all; a gradient counts as the function
evaluations that it takes as long as, measured; seconds are without compilation, which is told apart.
Nothing is tuned for a problem. The reference of each problem is the best of a long search and of
every rival.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.problems import PROBLEMS, QUICK
from benchmarks.rivals import RIVALS, Game, Rival, Spent, installed, play, uniform
from perfmodel.design.landscape import looks
from perfmodel.design.pose import pose
from perfmodel.design.problem import Problem
from perfmodel.design.search import State, advance, first_state, whole_designs
from perfmodel.design.space import read_space
from perfmodel.design.starts import BATCH, evaluate
from perfmodel.design.study import OptimiserTable
from perfmodel.files import write_whole
from perfmodel.units import as_scalar

STARTS, STEPS, LONG = 16, 72, 480
"""Of ours in the contest, and steps of the reference."""

PATIENCE = {True: 15.0, False: 600.0}
"""Seconds of one run of a rival, at most, when quick and when not."""

TARGETS = (1e-2, 1e-3)
"""Regrets, relative, whose price is told."""


def ours(problem: Problem, whole: np.ndarray, seed: int, steps: int, dear: float) -> list[Spent]:
    """The gradient search; a gradient counts as `dear` evaluations."""
    options = OptimiserTable(starts=STARTS, steps=steps, seed=seed)
    began = time.perf_counter()
    state, curve = first_state(problem, options), []
    while int(state.done) < steps:
        state = advance(problem, state, whole)
        curve.append(_spent(state, whole, time.perf_counter() - began, dear))
    return curve


def _spent(state: State, whole: np.ndarray, seconds: float, dear: float) -> Spent:
    """Where it stands; designs with loose numbers do not count."""
    counts = state.held or np.isfinite(state.lowest).any() or not whole.any()
    lowest = float(np.min(whole_designs(state, whole)[2])) if counts else np.inf
    return Spent(float(state.values) + dear * float(state.looks), seconds, lowest)


def cost_of_slopes(problem: Problem) -> tuple[float, float]:
    """Evaluations that take as long as one gradient, in the batches they are used in; seconds to compile."""
    began = time.perf_counter()
    unit = np.full((BATCH, len(problem.names)), 0.5)
    choice = np.zeros((BATCH, len(problem.options)), np.int32)
    state = first_state(problem, OptimiserTable(starts=STARTS))
    compiled = time.perf_counter() - began
    lanes = state.lanes

    def gradients() -> None:
        looks(problem, lanes.unit, lanes.choice, as_scalar(1.0)).value.block_until_ready()

    each = [_fastest(lambda: evaluate(problem, unit, choice)) / BATCH, _fastest(gradients) / STARTS]
    return each[1] / each[0], compiled


def _fastest(function: Any) -> float:
    times = []
    for _ in range(20):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def contest(name: str, seeds: int, quick: bool) -> list[dict[str, Any]]:
    """All methods on one problem."""
    study = PROBLEMS[name]
    problem, whole = pose(study), read_space(study).whole
    dear, compiled = cost_of_slopes(problem)
    curves: dict[tuple[str, int], list[Spent]] = {}
    for seed in range(seeds):
        curves["ours", seed] = ours(problem, whole, seed, STEPS, dear)
        again = Rival(uniform, "numpy", 10**9, 10**9)
        seconds = curves["ours", seed][-1].seconds
        curves["random", seed] = play(again, Game(problem, whole, 10**9), seed, seconds)
        for label, rival in RIVALS.items():
            if installed(rival):
                most = rival.quick if quick else rival.most
                patience = PATIENCE[quick]
                curves[label, seed] = play(rival, Game(problem, whole, most), seed, patience)
    long = ours(problem, whole, 1000, LONG, dear)[-1].value
    best = min([long, *(curve[-1].value for curve in curves.values() if curve)])
    shape = {"problem": name, "variables": len(whole), "choices": int(np.prod(problem.options))}
    facts = shape | {"whole": int(whole.sum()), "gradient_cost": dear, "compile_s": compiled}
    return [
        facts | {"method": method, "seed": seed} | _line(curve, best)
        for (method, seed), curve in curves.items()
    ]


def _line(curve: list[Spent], best: float) -> dict[str, Any]:
    """What a curve comes to: its end, and when it first came within each regret."""
    last = curve[-1] if curve else Spent(0, 0, np.inf)
    found: dict[str, Any] = {
        "best_value": _finite(last.value),
        "regret": _finite(np.expm1(last.value - best)),
        "function_equivalents": last.evaluations,
        "seconds": last.seconds,
    }
    for target in TARGETS:
        first = next((s for s in curve if np.expm1(s.value - best) <= target), None)
        found[f"equivalents_to_{target:g}"] = first.evaluations if first else None
        found[f"seconds_to_{target:g}"] = first.seconds if first else None
    return found


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Medians over seeds, in Markdown; a method that did not arrive in half of its seeds has a dash."""
    head = "| problem | method | regret | equivalents to 1 % | seconds to 1 % |"
    lines = [head, "|---|---|---|---|---|"]
    for problem in dict.fromkeys(row["problem"] for row in rows):
        mine = [row for row in rows if row["problem"] == problem]
        for method in dict.fromkeys(row["method"] for row in mine):
            runs = [row for row in mine if row["method"] == method]
            cells = [
                _median(runs, key) for key in ("regret", "equivalents_to_0.01", "seconds_to_0.01")
            ]
            regret = "-" if np.isinf(cells[0]) else f"{100 * cells[0]:.3f} %"
            numbers = ["-" if np.isinf(c) else f"{c:,.3g}" for c in cells[1:]]
            lines.append(f"| {problem} | {method} | {regret} | {' | '.join(numbers)} |")
    return lines


def _median(runs: list[dict[str, Any]], key: str) -> float:
    values = [np.inf if run[key] is None else run[key] for run in runs]
    return float(sorted(values)[(len(values) - 1) // 2])


def main() -> None:
    """Run, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--quick", action="store_true", help="three problems, three seeds")
    parser.add_argument("--seeds", type=int, help="seeds of each problem; 20 if not given")
    parser.add_argument("--problems", help=f"names with commas, of {', '.join(PROBLEMS)}")
    options = parser.parse_args()
    names = (
        options.problems.split(",") if options.problems else QUICK if options.quick else PROBLEMS
    )
    seeds = options.seeds or (3 if options.quick else 20)
    missing = [label for label, rival in RIVALS.items() if not installed(rival)]
    if missing:
        print(f"Not installed, so not compared: {', '.join(missing)} (group `contest`).")
    rows: list[dict[str, Any]] = []
    for name in names:
        rows += contest(name, seeds, options.quick)
        print("\n".join(table([row for row in rows if row["problem"] == name])), flush=True)
        if options.json:
            report = {"runs": rows, "seeds": seeds, "quick": options.quick, "missing": missing}
            write_whole(options.json, json.dumps(report, indent=1).encode())


if __name__ == "__main__":
    main()
