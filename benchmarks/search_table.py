"""What the runs of the contest of searches come to: regrets, what was spent until them, and tables."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from perfmodel.calibration.metrics import grouped

TARGETS = (1e-2, 1e-3)
"""Regrets, relative, whose price is told."""

UNMEASURED = 4.0
"""Evaluations that a gradient counts as where it has not been measured: about as elsewhere."""


def with_regrets(runs: list[dict[str, Any]], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs with their regret, and what they had spent when they first came within each target."""
    return [
        run | _score(run, _best(runs, run["problem"]), _gradient_cost(facts, run["problem"]))
        for run in runs
    ]


def _best(runs: list[dict[str, Any]], problem: str) -> float:
    """The least value that any run found."""
    values = (run["best_value"] for run in runs if run["problem"] == problem)
    return min((value for value in values if value is not None), default=np.inf)


def _gradient_cost(facts: dict[str, Any], problem: str) -> float:
    return facts.get(problem, {}).get("gradient_cost", UNMEASURED)


def _score(run: dict[str, Any], best: float, cost: float) -> dict[str, Any]:
    value = run["best_value"]
    found: dict[str, Any] = {
        "regret": None if value is None else float(np.expm1(value - best)),
        "function_equivalents": run["values"] + cost * run["looks"],
    }
    for target in TARGETS:
        at = next((s for s in run["curve"] if np.expm1(s[-1] - best) <= target), None)
        found[f"equivalents_to_{target:g}"] = at and at[0] + cost * at[1]
        found[f"cpu_seconds_to_{target:g}"] = at and at[3]
    return found


def median(runs: list[dict[str, Any]], key: str) -> float:
    """Infinite where half of the runs or more did not arrive."""
    values = [np.inf if run[key] is None else run[key] for run in runs]
    return float(np.median(values)) if values else np.inf


SPENT = {
    f"{key}_to_{target:g}": f"{word} to {100 * target:g} %"
    for target in TARGETS
    for key, word in (("equivalents", "evaluations"), ("cpu_seconds", "CPU s"))
}
"""What is told of each target, and its heading."""


def lines(report: dict[str, Any]) -> list[str]:
    """Two tables in Markdown: each problem beside its best baseline, and every method."""
    runs = [run for run in report["runs"] if run["seed"] < 1000]
    names = ["problem", "variables (whole)", "choices", "a gradient costs", "regret"]
    beside = [*names, *(f"{heading} (best baseline)" for heading in SPENT.values())]
    each = ["problem", "method", "seeds", "regret, median", "quartiles", *SPENT.values()]
    verdicts = _table(beside, _verdicts(report["problems"], runs))
    return [*verdicts, "", *_table(each, _methods(runs))]


def _table(names: list[str], rows: Iterable[list[str]]) -> list[str]:
    head, *rest = (f"| {' | '.join(row)} |" for row in (names, *rows))
    return [head, "|---" * len(names) + "|", *rest]


def _by(runs: Iterable[dict[str, Any]], key: str) -> dict[str, list[dict[str, Any]]]:
    return grouped((run[key], run) for run in runs)


def _verdicts(facts: dict[str, Any], runs: list[dict[str, Any]]) -> Iterator[list[str]]:
    """A line for each problem that this search ran."""
    for problem, of_problem in _by(runs, "problem").items():
        methods, fact = _by(of_problem, "method"), facts[problem]
        if own := methods.pop("ours", []):
            measured = "gradient_cost" in fact
            cost = f"{fact['gradient_cost']:.1f}" if measured else f"{UNMEASURED:g}, not measured"
            size = f"{fact['variables']} ({fact['whole']})"
            regret = f"{100 * median(own, 'regret'):.3f} %"
            spent = [_beside(own, methods, key) for key in SPENT]
            yield [problem, size, str(fact["choices"]), cost, regret, *spent]


def _beside(own: list[dict[str, Any]], baselines: dict[str, list[dict[str, Any]]], key: str) -> str:
    """Ours, and the best baseline's median."""
    mine, others = median(own, key), {n: median(runs, key) for n, runs in baselines.items()}
    best = min(others, key=lambda name: others[name], default="")
    if not best or np.isinf(others[best]):
        return f"{_number(mine)} (none)"
    return f"{_number(mine)} ({best} {_number(others[best])}: {others[best] / mine:.2g}x)"


def _number(value: float) -> str:
    return "-" if np.isinf(value) else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _methods(runs: list[dict[str, Any]]) -> Iterator[list[str]]:
    """A line for each method on each problem."""
    for problem, of_problem in _by(runs, "problem").items():
        for method, own in _by(of_problem, "method").items():
            spent = [_number(median(own, key)) for key in SPENT]
            yield [problem, method, str(len(own)), *_regrets(own), *spent]


def _regrets(runs: list[dict[str, Any]]) -> list[str]:
    """Median and quartiles."""
    values = sorted(np.inf if run["regret"] is None else run["regret"] for run in runs)
    low, middle, high = (values[min(len(values) * i // 4, len(values) - 1)] for i in (1, 2, 3))
    shown = ["-" if np.isinf(v) else f"{100 * v:.3f}" for v in (low, middle, high)]
    return [f"{shown[1]} %", f"{shown[0]} to {shown[2]}"]
