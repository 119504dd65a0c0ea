"""The best of some deployments: the one place where a choice among them is made.

Rows, points of a sweep, pools and the explorer all choose here.
"""

from typing import Any

import jax
import numpy as np

from perfmodel.inference.evaluate import ResolvedRow
from perfmodel.inference.service import Service


def best_candidate(resolved: ResolvedRow, served: Service, among: slice) -> int:
    """The place of the best candidate of a row; `among`: the places of its candidates."""
    chips = np.array([parallelism.chips for parallelism in resolved.candidates])
    own = jax.tree.map(lambda leaf: np.asarray(leaf)[among], served)
    return among.start + int(best_candidates(resolved, chips, own))


def best_candidates(resolved: ResolvedRow, chips: np.ndarray, served: Service) -> np.ndarray:
    """The place of the best candidate on the first axis, or that of each of many points on the second.

    That is the fewest chips on which it fits, of a static batch all of it; of these one with which
    the fewest users wait, then the fastest: of an offline run, all users together.
    """
    offline = resolved.mode == "offline"
    time = served.total / served.concurrency if offline else served.tpot
    waiting = np.maximum(served.concurrency - served.running, 0.0)
    if resolved.row.arrives:  # one with which the queue grows is the last
        time = np.where(resolved.row.requests_per_s < served.max_requests_per_s, time, np.inf)
    if resolved.row.arrives or offline:
        waiting = np.zeros_like(waiting)
    size = by_size(chips, served.slack)
    static = resolved.mode == "static_batch"
    keys = (time, *size, waiting) if static else (time, waiting, *size)
    return np.lexsort(keys, axis=0)[0]


def best_pools(chips: np.ndarray, served: Service) -> int:
    """The place of the best of some pairs of pools: the fewest chips on which both fit, then the fastest."""
    return int(np.lexsort((served.total, *by_size(chips, served.slack)))[0])


def by_size(chips: np.ndarray, slack: Any) -> tuple[np.ndarray, np.ndarray]:
    """What candidates are sorted by: bytes short, then chips; those on which it fits come first."""
    short = np.maximum(-slack, 0.0)
    return short, np.where(short > 0, np.inf, chips)
