"""The best of some deployments: the one place where a choice among them is made.

Rows, points of a sweep, pools and the explorer all choose here.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from perfmodel.batching import gather
from perfmodel.inference.evaluate import ResolvedRow
from perfmodel.inference.pools import PooledRow
from perfmodel.inference.service import Service

R = TypeVar("R", ResolvedRow, PooledRow)


def best_of_each(
    rows: Sequence[R], served: Service, best: Callable[[R, Service], int]
) -> Iterator[tuple[R, Any, Service]]:
    """Each row with its best candidate and that one's service.

    **Arguments:**

    - `served`: of all candidates of all rows, one row after the other.
    """
    start = 0
    for row in rows:
        among = slice(start, start := start + len(row.candidates))
        own_service = gather(served, among)
        i = best(row, own_service)
        yield row, row.candidates[i], gather(own_service, i)


def best_candidate(resolved: ResolvedRow, served: Service) -> int:
    """The place of the best candidate of a row."""
    return int(best_candidates(resolved, _chips(resolved), served))


def best_candidates(resolved: ResolvedRow, chips: np.ndarray, served: Service) -> np.ndarray:
    """The place of the best candidate on the first axis, or that of each of many points on the second.

    That is the fewest chips on which it fits, of a static batch all of it; of these one with which
    the fewest users wait, then the fastest: of an offline run, all users together.
    """
    offline = resolved.mode == "offline"
    time = served.total / served.concurrency if offline else served.tpot
    waiting = np.maximum(served.concurrency - served.running, 0.0)
    if resolved.open_loop:  # one with which the queue grows is the last
        time = np.where(resolved.request.requests_per_s < served.max_requests_per_s, time, np.inf)
    if resolved.open_loop or offline:
        waiting = np.zeros_like(waiting)
    size = by_size(chips, served.slack)
    static = resolved.mode == "static_batch"
    keys = (time, *size, waiting) if static else (time, waiting, *size)
    return np.lexsort(keys, axis=0)[0]


def best_pools(pooled: PooledRow, served: Service) -> int:
    """The place of the best candidate of pools: the fewest chips on which both fit, then the fastest."""
    return int(np.lexsort((served.total, *by_size(_chips(pooled), served.slack)))[0])


def _chips(row: ResolvedRow | PooledRow) -> np.ndarray:
    return np.array([candidate.chips for candidate in row.candidates])


def by_size(chips: np.ndarray, slack: Any) -> tuple[np.ndarray, np.ndarray]:
    """What candidates are sorted by: bytes short, then chips; those on which it fits come first."""
    short = np.maximum(-slack, 0.0)
    return short, np.where(short > 0, np.inf, chips)
