"""What the runs of the contest of searches come to: regrets, what was spent until them, and tables."""

from collections.abc import Iterable
from typing import Any

import numpy as np

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


def lines(report: dict[str, Any]) -> list[str]:
    """Two tables in Markdown: each problem beside its best baseline, and every method."""
    runs = [run for run in report["runs"] if run["seed"] < 1000]
    return [*_verdicts(report["problems"], runs), "", *_methods(runs)]


def _names(runs: Iterable[dict[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(run[key] for run in runs))


def _verdicts(facts: dict[str, Any], runs: list[dict[str, Any]]) -> list[str]:
    head = "| problem | variables (whole) | choices | a gradient costs | regret | "
    ends = [
        f"{what} to {100 * t:g} % (best baseline)"
        for t in TARGETS
        for what in ("evaluations", "CPU s")
    ]
    rows = [head + " | ".join(ends) + " |", "|---" * (5 + len(ends)) + "|"]
    for problem in _names([run for run in runs if run["method"] == "ours"], "problem"):
        mine = [run for run in runs if run["problem"] == problem]
        fact = facts[problem]
        cost = (
            f"{fact['gradient_cost']:.1f}"
            if "gradient_cost" in fact
            else f"{UNMEASURED:g}, not measured"
        )
        cells = [problem, f"{fact['variables']} ({fact['whole']})", str(fact["choices"]), cost]
        own = [run for run in mine if run["method"] == "ours"]
        cells.append(f"{100 * median(own, 'regret'):.3f} %")
        for target in TARGETS:
            for key in ("equivalents_to", "cpu_seconds_to"):
                cells.append(_beside(mine, own, f"{key}_{target:g}"))
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def _beside(runs: list[dict[str, Any]], own: list[dict[str, Any]], key: str) -> str:
    """Ours, and the best baseline's median."""
    others = {
        name: median([run for run in runs if run["method"] == name], key)
        for name in _names(runs, "method")
        if name != "ours"
    }
    baseline = min(others, key=lambda name: others[name], default="")
    if not baseline or np.isinf(others[baseline]):
        return f"{_number(median(own, key))} (none)"
    times = others[baseline] / median(own, key)
    return f"{_number(median(own, key))} ({baseline} {_number(others[baseline])}: {times:.2g}x)"


def _number(value: float) -> str:
    return "-" if np.isinf(value) else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _methods(runs: list[dict[str, Any]]) -> list[str]:
    keys = [f"{what}_to_{t:g}" for t in TARGETS for what in ("equivalents", "cpu_seconds")]
    heads = [f"{what} to {100 * t:g} %" for t in TARGETS for what in ("evaluations", "CPU s")]
    rows = ["| problem | method | seeds | regret, median | quartiles | " + " | ".join(heads) + " |"]
    rows.append("|---" * (5 + len(heads)) + "|")
    for problem in _names(runs, "problem"):
        mine = [run for run in runs if run["problem"] == problem]
        for method in _names(mine, "method"):
            some = [run for run in mine if run["method"] == method]
            cells = [problem, method, str(len(some)), *_regrets(some)]
            cells += [_number(median(some, key)) for key in keys]
            rows.append("| " + " | ".join(cells) + " |")
    return rows


def _regrets(runs: list[dict[str, Any]]) -> list[str]:
    """Median and quartiles."""
    values = sorted(np.inf if run["regret"] is None else run["regret"] for run in runs)
    low, middle, high = (values[min(len(values) * i // 4, len(values) - 1)] for i in (1, 2, 3))
    shown = ["-" if np.isinf(v) else f"{100 * v:.3f}" for v in (low, middle, high)]
    return [f"{shown[1]} %", f"{shown[0]} to {shown[2]}"]
