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
from perfmodel.inference.serving_row import GivenRanks

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
    return int(best_candidates(resolved, served))


def best_candidates(resolved: ResolvedRow, served: Service) -> np.ndarray:
    """The place of the best candidate on the first axis, or that of each of many points on the second.

    That is the fewest chips on which it fits, of a static batch all of it; of these one with which all users
    together get the most tokens a second, of requests that come at a rate each the most. Where a row gives
    some ranks and no pipeline stages, those with the fewest stages come first.
    """
    time, some = _time(resolved, served), _some_ranks(resolved.ranks)
    sizes = np.array([(way.chips, way.pp if some else 0.0) for way in resolved.candidates]).T
    chips, stages = sizes.reshape(2, -1, *(1,) * (time.ndim - 1))
    keys = (time, np.broadcast_to(stages, time.shape), *by_size(chips, served.slack))
    if resolved.mode == "static_batch":
        keys += (np.maximum(served.concurrency - served.running, 0.0),)
    return np.lexsort(keys, axis=0)[0]


def _time(resolved: ResolvedRow, served: Service) -> np.ndarray:
    """What the best has least of: seconds of an answer for each user, or of a token where requests come
    at a rate; a queue that grows has no end."""
    if not resolved.open_loop:
        return np.asarray(served.total / served.concurrency)
    holds = resolved.request.requests_per_s < served.max_requests_per_s
    return np.where(holds, served.tpot, np.inf)


def _some_ranks(given: GivenRanks) -> bool:
    """Whether a row gives some ranks, and leaves pipeline stages out."""
    others = (given.tp, given.ep, given.dp, given.replicas)
    return bool(np.isnan(given.pp) and not np.isnan(others).all())


def best_pools(pooled: PooledRow, served: Service) -> int:
    """The place of the best candidate of pools: the fewest chips on which both fit, then the fastest."""
    chips = np.array([candidate.chips for candidate in pooled.candidates])
    return int(np.lexsort((served.total, *by_size(chips, served.slack)))[0])


def by_size(chips: np.ndarray, slack: Any) -> tuple[np.ndarray, np.ndarray]:
    """What candidates are sorted by: bytes short, then chips; those on which it fits come first."""
    short = np.maximum(-slack, 0.0)
    return short, np.where(short > 0, np.inf, chips)
