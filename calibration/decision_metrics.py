"""What comes of decisions: how many break their limit, what throughput is lost, and of which runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from perfmodel.calibration.data.inferencex import OPEN, Run
from perfmodel.calibration.decisions import (
    CHANCE,
    CHOSEN,
    GROUP,
    POINT,
    Options,
    Outcome,
    answered,
    best_options,
    configurations_of,
    group_of,
    options_of,
    outcomes_of,
)
from perfmodel.library.fitted_intervals import BASES

DIGITS = 4
"""Of what is reported."""


def decisions_of(
    runs: Sequence[Run], predicted: Sequence[dict[str, str]], configurator: Sequence[float]
) -> tuple[list[dict[str, Any]], pa.Table]:
    """Metrics by who chooses, of all decisions and of parts of them; and a row for each choice.

    **Arguments:**

    - `predicted`: the columns predicted for each run; `configurator`: TPOT by AIConfigurator, in s.
    """
    configurations = configurations_of(runs, predicted, configurator)
    groups = [group_of(runs[place]) for place in configurations.run]
    options = options_of(configurations, groups)
    outcomes = outcomes_of(options)
    masks = _masks(options, outcomes[POINT], runs, predicted)
    metrics = [
        {"group": group, "by": name} | decision_metrics(outcome, mask)
        for group, mask in masks.items()
        for name, outcome in outcomes.items()
    ]
    return metrics, choices_table(options, outcomes, runs)


def decision_metrics(outcome: Outcome, mask: np.ndarray) -> dict[str, Any]:
    """Share of limits broken, and regret: its median, 90th percentile, and mean where the limit is kept.

    A broken limit counts 1, so what the regrets have beyond the broken ones is lost where limits are kept.
    """
    known = mask & np.isfinite(outcome.regret)
    broken, regret = outcome.broken[known], outcome.regret[known]
    if not len(regret):
        return {"n": 0} | dict.fromkeys(("broken", "median", "p90", "mean_kept"))
    median, p90 = np.quantile(regret, [0.5, 0.9])
    share = float(np.mean(broken))
    kept = float(np.mean(regret) - share) / (1 - share) if share < 1 else None
    found = {"broken": share, "median": float(median), "p90": float(p90), "mean_kept": kept}
    return {"n": len(regret)} | {
        name: None if value is None else round(value, DIGITS) for name, value in found.items()
    }


def _masks(
    options: Options, point: Outcome, runs: Sequence[Run], predicted: Sequence[dict[str, str]]
) -> dict[str, np.ndarray]:
    """Which decisions are of all, of a basis, of a part, of several deployments, and answered by another."""
    of_point = options.of.run[point.option]
    bases = np.array([predicted[place]["basis"] for place in of_point])
    parts = np.array([runs[place].part for place in of_point])
    found = {"all": np.ones(len(of_point), bool)}
    found |= {f"basis {one}": bases == one for one in BASES if one in bases}
    found |= {f"part {one}": parts == one for one in OPEN if one in parts}
    found["ranks differ"] = ranks_differ(options, runs)
    found["answered by AIConfigurator"] = answered(options)
    return found


def ranks_differ(options: Options, runs: Sequence[Run]) -> np.ndarray:
    """Whether the options of each decision are of several deployments, not of users alone."""
    deployments = np.unique(
        [str(runs[place].config) for place in options.of.run], return_inverse=True
    )[1]
    most, least = (
        extreme.reduceat(deployments, options.starts) for extreme in (np.maximum, np.minimum)
    )
    return most > least


def choices_table(options: Options, outcomes: dict[str, Outcome], runs: Sequence[Run]) -> pa.Table:
    """A row for each decision and who chooses: what was asked, chosen, and best as measured."""
    best = best_options(options, options.of.tpot, options.of.throughput)
    tables = [
        _choices(options, by, outcome, best, runs)
        for by, outcome in outcomes.items()
        if by != CHANCE and np.isfinite(outcome.regret).any()
    ]
    return pa.concat_tables(tables)


def _choices(
    options: Options, by: str, outcome: Outcome, best: np.ndarray, runs: Sequence[Run]
) -> pa.Table:
    known = np.isfinite(outcome.regret)
    chosen = outcome.option[known]
    of_chosen = [runs[place] for place in options.of.run[chosen]]
    columns: dict[str, Any] = {name: [run.cells[name] for run in of_chosen] for name in GROUP}
    columns |= {"part": [run.part for run in of_chosen], "by": [by] * len(chosen)}
    columns |= {"limit_ms": 1e3 * options.limit[chosen]}
    columns |= _of_options("chosen", options, chosen, runs)
    columns |= _of_options("best", options, best[known], runs)
    return pa.table(columns | {"broken": outcome.broken[known], "regret": outcome.regret[known]})


def _of_options(
    word: str, options: Options, places: np.ndarray, runs: Sequence[Run]
) -> dict[str, Any]:
    """Ranks and users of options, and what was measured of them."""
    given = options.of.at(places)
    cells = [runs[place].cells for place in given.run]
    found: dict[str, Any] = {name: [row[name] for row in cells] for name in CHOSEN}
    found |= {"tpot_ms": 1e3 * given.tpot, "output_tokens_per_s_per_chip": given.throughput}
    return {f"{word}_{name}": values for name, values in found.items()}
