r"""The most requests a second that one replica answers within limits, in an open loop.

TTFT and TPOT grow with the rate, so that limits are kept up to some rate $r$, below the one from which on a
queue grows. $r$ is sought for all kinds of replicas together: each round looks at `POINTS` rates between the
greatest that was kept and the next one.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from perfmodel.inference.candidates import Parallelism
from perfmodel.inference.deployment_table import (
    DeploymentTable,
    price_segments,
    segment_at,
    silent,
)
from perfmodel.inference.evaluate import NAMES, resolve_row
from perfmodel.inference.limits import keeps, limited_numbers, serves
from perfmodel.inference.question import Question, loads
from perfmodel.inference.sweep_points import Segment
from perfmodel.workload.plan import REPLICA_RANKS

POINTS, MOST_ROUNDS = 10, 6
"""Rates of each round; rounds, at most: they end where the fewest replicas are known to one."""

WITHIN_LIMITS = "max_requests_per_s_within_limits"
"""Column of what all replicas of a fleet answer within the limits."""


def most_requests_per_s(
    question: Question, kinds: DeploymentTable, calibration: Path
) -> np.ndarray:
    """Requests a second that one replica of each kind answers within the limits, at most; 0 where it answers
    none.

    **Arguments:**

    - `kinds`: deployments; of each the ranks of one replica count, not how many there are.
    """
    if not kinds.size:
        return np.zeros(0)
    ones = np.ones((kinds.size, 1))
    idle = price_replicas(question, kinds, ones, ones, calibration)
    least, most = np.zeros(kinds.size), idle.numbers["max_requests_per_s"]
    each = np.arange(kinds.size)
    for _ in range(MOST_ROUNDS):
        steps = np.linspace(0.0, 1.0, POINTS + 1)
        rates = least[:, None] + (most - least)[:, None] * steps
        kept = _kept(question, kinds, rates[:, 1:], calibration)
        last = np.max(np.where(kept, np.arange(1, POINTS + 1), 0), axis=1)
        least, most = rates[each, last], rates[each, np.minimum(last + 1, POINTS)]
        if np.all(question.requests_per_s * (most - least) <= least * most):  # to one replica
            break
    return least


def _kept(
    question: Question, kinds: DeploymentTable, rates: np.ndarray, calibration: Path
) -> np.ndarray:
    """Whether one replica of each kind keeps the limits at each of some rates."""
    table = price_replicas(question, kinds, np.ones((kinds.size, 1)), rates, calibration)
    bounded = limited_numbers(table, question.confidence)
    return (keeps(bounded, question.limits) & serves(table, bounded)).reshape(rates.shape)


def price_replicas(
    question: Question,
    kinds: DeploymentTable,
    counts: np.ndarray,
    rates: np.ndarray,
    calibration: Path,
) -> DeploymentTable:
    """Each kind in several numbers of replicas at several rates, kind by kind.

    **Arguments:**

    - `counts`: of replicas, kinds by numbers; `rates`: requests/s of all replicas together, kinds by rates.
    """
    cells = [_cells(question, kinds, place) for place in range(kinds.size)]
    resolved = {key: resolve_row(0, dict(key), calibration) for key in map(_key, cells)}
    segments: list[Segment] = []
    for place, own in enumerate(cells):
        ranks = [float(kinds.numbers[name][place]) for name in REPLICA_RANKS]
        ways = [Parallelism(*ranks, replicas=float(count)) for count in counts[place]]
        drafts = np.full(len(rates[place]), kinds.numbers["speculative_tokens"][place])
        axes = {"requests_per_s": rates[place], "speculative_tokens": drafts}
        segments.append(segment_at(resolved[_key(own)], own, ways, axes))
    return price_segments(segments, question, silent)


def _cells(question: Question, kinds: DeploymentTable, place: int) -> dict[str, str]:
    words = {name: str(kinds.words[name][place]) for name in NAMES}
    return loads(question) | words | {"requests_per_s": "1"}


def _key(cells: dict[str, str]) -> Sequence[tuple[str, str]]:
    return tuple(sorted(cells.items()))
