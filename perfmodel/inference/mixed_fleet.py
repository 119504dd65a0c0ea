r"""Fleets of several kinds of replicas: whole numbers of each that carry a rate for the least.

With $n_b$ replicas of kind $b$, each of which answers up to $r_b$ requests a second within the limits and has
$c_b$ chips or USD an hour,

$$\min_n \sum_b c_b n_b \quad \text{where} \quad \sum_b r_b n_b \ge R$$

a mixed-integer linear program (HiGHS). Each kind then has its part of the rate in proportion to what it can
answer, so that all are busy alike.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from perfmodel.inference.deployment_table import DeploymentTable
from perfmodel.inference.question import Question
from perfmodel.inference.replica_rate import WITHIN_LIMITS, price_replicas

KINDS = 12
"""Kinds of replicas that are mixed, at most: those that make the best fleets alone."""

WEIGHTS = {"throughput": "n_chips", "cost": "usd_per_hour"}
"""What a fleet has least of, by objective; no other objective mixes."""


def cheapest_mix(
    question: Question, fleets: DeploymentTable, best: np.ndarray, calibration: Path
) -> list[dict[str, Any]]:
    """The kinds of replicas of the best mix, each with its number and its part of the rate; empty where one
    kind alone is as good.

    **Arguments:**

    - `best`: places of fleets of one kind each, the best first.
    """
    sized = question.open_loop and not question.n_chips
    if not sized or question.objective not in WEIGHTS or len(best) < 2:
        return []
    kinds = fleets.take(best[:KINDS])
    weights, replicas = _weights(question, kinds), kinds.numbers["replicas"]
    rates = kinds.numbers[WITHIN_LIMITS] / replicas
    counts = _solve(weights, rates, question.requests_per_s)
    if np.count_nonzero(counts) < 2 or counts @ weights > 0.999 * replicas[0] * weights[0]:
        return []
    shares = question.requests_per_s * counts * rates / (counts @ rates)
    return _priced(question, kinds, counts, shares, calibration)


def _weights(question: Question, kinds: DeploymentTable) -> np.ndarray:
    """Chips or USD/h of one replica of each kind."""
    numbers = kinds.numbers
    chips = numbers["n_chips"] / numbers["replicas"]
    return chips if question.objective == "throughput" else chips * numbers["usd_per_chip_hour"]


def _solve(weights: np.ndarray, rates: np.ndarray, rate: float) -> np.ndarray:
    """Whole numbers of replicas that carry the rate for the least; zeros where none can."""
    optimize: Any = importlib.import_module("scipy.optimize")  # a second, for the few that mix
    usable = (rates > 0) & np.isfinite(weights)
    carried = optimize.LinearConstraint(np.where(usable, rates, 0.0)[None], lb=rate)
    most = np.where(usable, np.inf, 0.0)
    found = optimize.milp(
        np.where(usable, weights, 1.0),
        constraints=[carried],
        integrality=np.ones(len(rates)),
        bounds=optimize.Bounds(np.zeros(len(rates)), most),
    )
    counts: np.ndarray = found.x if found.success else np.zeros(len(rates))
    return np.round(counts)


def _priced(
    question: Question,
    kinds: DeploymentTable,
    counts: np.ndarray,
    shares: np.ndarray,
    calibration: Path,
) -> list[dict[str, Any]]:
    """The kinds that are used, at their part of the rate."""
    used = np.flatnonzero(counts)
    own, columns = kinds.take(used), (counts[used][:, None], shares[used][:, None])
    table = price_replicas(question, own, *columns, calibration)
    return [table.row(i) for i in range(len(used))]
