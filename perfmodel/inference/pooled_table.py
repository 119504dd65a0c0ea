"""Deployments on two kinds of chips priced: pools for prompts and decode steps, attention and feed-forward
layers apart.

What a prefill worker and what a decode worker do is priced once for each way to spread them; of these the
ways that no other of the same chips beats are put together in every ratio, which takes no kernel
(`disaggregated.match_rates`).
"""

import collections
import contextlib
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from perfmodel.batching import gather, map_rows
from perfmodel.errors import InputError
from perfmodel.inference.candidates import SIZES, Parallelism, candidates
from perfmodel.inference.deployment_table import (
    ONE_USER,
    ROWS_AT_A_TIME,
    DeploymentTable,
    Progress,
    extra_numbers,
    joined,
    range_numbers,
    table_of,
    words_of,
)
from perfmodel.inference.disaggregated import (
    DecodeWorker,
    PrefillWorker,
    decode_worker,
    match_rates,
    prefill_worker,
)
from perfmodel.inference.evaluate import ResolvedRow, mapped_once, resolve_row
from perfmodel.inference.framework_support import refusal
from perfmodel.inference.pools import POOLS, SIDE_COLUMNS, evenly_chosen
from perfmodel.inference.question import Question, pairs
from perfmodel.inference.service import Service
from perfmodel.inference.serving_predictions import output_rate, serving_numbers
from perfmodel.inference.serving_row import DISAGGREGATED, GivenRanks, number
from perfmodel.inference.sweep_points import Segment, SweepPoints, request_at, serve_segments
from perfmodel.inference.token_cost import cost_of_pools
from perfmodel.library.fitted_intervals import widest
from perfmodel.trees import map_leaves
from perfmodel.units import as_scalar
from perfmodel.workload.request import Request
from perfmodel.xla import to_run_once

MAX_LAYOUTS = 24
"""Ways to spread a worker of one pool that are put together with those of the other, at most."""

MAX_RATIOS = 12
"""Numbers of workers tried for each pair of ways, at most: evenly chosen among all that use all chips."""


class Pair(NamedTuple):
    """Chips of both pools, and the words that both share."""

    prefill: str
    decode: str
    words: dict[str, str]


def price_disaggregated(
    question: Question, calibration: Path, progress: Progress
) -> DeploymentTable:
    """All deployments with a pool for prompts and one for decode steps.

    **Raises:**

    - `InputError`: where no pair of pools can be priced at all; it says why.
    """
    refused: collections.Counter[str] = collections.Counter()
    firsts, seconds = (
        own or question.chips for own in (question.prefill_chips, question.decode_chips)
    )
    asked = [
        functools.partial(_price_pair, question, Pair(*pair), chips, calibration, refused)
        for pair, chips in itertools.product(pairs(question, firsts, seconds), question.n_chips)
    ]
    return price_each(asked, refused, progress)


def price_each(
    asked: Sequence[Callable[[], DeploymentTable]],
    refused: collections.Counter[str],
    progress: Progress,
) -> DeploymentTable:
    """What several questions come to together; one that cannot be priced is counted among the refused.

    **Raises:**

    - `InputError`: where none of them can be priced; it says why.
    """
    tables: list[DeploymentTable] = []
    for done, price in enumerate(asked):
        progress(done, len(asked))
        try:
            tables.append(price())
        except InputError as wrong:
            refused[str(wrong)] += 1
    progress(len(asked), len(asked))
    if not tables:
        raise InputError(refused.most_common(1)[0][0])
    return joined(tables)._replace(refused=refused)


class Side(NamedTuple):
    """A worker of a pool: its cells, and every way to spread it."""

    cells: dict[str, str]
    resolved: ResolvedRow

    @property
    def chips(self) -> np.ndarray:
        """Chips of a worker, spread in each way."""
        return np.array([way.chips for way in self.resolved.candidates])

    def only(self, places: Sequence[int] | np.ndarray) -> "Side":
        """The same, spread in some of the ways."""
        ways = [self.resolved.candidates[int(i)] for i in places]
        return self._replace(resolved=self.resolved._replace(candidates=ways))


def _price_pair(
    question: Question,
    pair: Pair,
    chips: float,
    calibration: Path,
    refused: collections.Counter[str],
) -> DeploymentTable:
    """All ways of one pair of chips."""
    prefill, decode = (
        _side(question, pool, chip, pair, chips, calibration, refused)
        for pool, chip in zip(POOLS, (pair.prefill, pair.decode), strict=True)
    )
    users = np.array(question.users)
    prefill, prompts = _best_prefill_ways(prefill)
    decode = _best_decode_ways(decode, users, chips)
    ways = _ratios(prefill.chips, decode.chips, chips)
    if not len(ways):
        raise InputError(
            f"{chips:.0f} chips are too few for a pool of {pair.prefill} and one of {pair.decode} that hold "
            f"{question.model}; give more."
        )
    shares, places = np.unique(users / ways[:, 3:], return_inverse=True)
    steps = _workers(decode, shares, decode_worker)
    first = gather(prompts, ways[:, 0].astype(int).repeat(len(users)))
    at = ways[:, 1].astype(int).repeat(len(users)), places.ravel()
    second = map_leaves(lambda x: x[at], steps)
    counts = ways[:, 2:].repeat(len(users), axis=0)
    request = _request(decode, np.tile(users, len(ways)))
    served = _match(first, counts[:, 0], second, counts[:, 1], request)
    which = ways[:, :2].astype(int).repeat(len(users), axis=0)
    return _table(pair, (prefill, decode), which, counts, request, served)


# Workers


def _side(
    question: Question,
    pool: str,
    chip: str,
    pair: Pair,
    chips: float,
    calibration: Path,
    refused: collections.Counter[str],
) -> Side:
    """A worker of a pool, in every way that fits into the chips and that its framework does not refuse."""
    given = _given_ranks(question.cells, pool)
    cells = pair.words | {"chip": chip} | ONE_USER
    resolved = resolve_row(0, cells | {"n_chips": "", "pp": "", "tp": "1"}, calibration)
    if np.isnan(resolved.deployment.experts) and np.isnan(given.dp):
        given = given._replace(dp=1.0)  # of a model without experts, data ranks are workers
    ways: list[Parallelism] = []
    for size in (size for size in SIZES if size < chips):
        with contextlib.suppress(InputError):
            ways += candidates(given._replace(n_chips=size), resolved.deployment)
    reasons = [refusal(resolved.deployment, way) for way in ways]
    refused.update(filter(None, reasons))
    ways = [way for way, why in zip(ways, reasons, strict=True) if not why]
    few = f"n_chips is {chips:.0f}, but two pools need a chip each at least; give more."
    if not ways:
        raise InputError(next(filter(None, reasons), few))
    return Side(cells, resolved._replace(candidates=ways))


def _given_ranks(cells: dict[str, str], pool: str) -> GivenRanks:
    """Ranks of a worker that the question gives."""
    names = (f"{pool}_{rank}" for rank in SIDE_COLUMNS[1:])
    tp, pp, ep, dp = (number(name, cells.get(name, "")) for name in names)
    return GivenRanks(np.nan, tp, pp, ep, dp, 1.0)


def _request(side: Side, users: np.ndarray) -> Request:
    """The request of a side for each of some numbers of users."""
    points = SweepPoints(side.cells, {"concurrency": users}, {}, len(users))
    request, kind = request_at(side.cells, points, side.resolved.mode), as_scalar(0.0).dtype
    return map_leaves(lambda x: np.broadcast_to(np.asarray(x, kind), len(users)), request)


def _workers(side: Side, shares: np.ndarray, kind: Any) -> Any:
    """What a worker does in every way with every share of the users: two leading axes."""
    points = SweepPoints(side.cells, {"concurrency": shares}, {}, len(shares))
    segment = Segment(side.resolved._replace(request=_request(side, shares)), points)
    (found,) = serve_segments([segment], False, ROWS_AT_A_TIME, kind, mapped_once)
    shape = (len(side.resolved.candidates), len(shares))
    return map_leaves(lambda x: np.asarray(x, float).reshape(*shape, *x.shape[1:]), found)


def _best_prefill_ways(side: Side) -> tuple[Side, PrefillWorker]:
    """Ways that hold the model and that none beats in seconds of a prompt and in prompts a chip."""
    prompts = map_leaves(lambda x: x[:, 0], _workers(side, np.ones(1), prefill_worker))
    slow = np.stack([prompts.prompt, prompts.spacing * side.chips], axis=1)
    places = _unbeaten(slow, prompts.slack)
    return side.only(places), gather(prompts, places)


def _best_decode_ways(side: Side, users: np.ndarray, chips: float) -> Side:
    """Ways that hold the model and that none beats in TPOT and in tokens of a chip, at some number of users:
    about half of the chips decode."""
    shares = np.unique(np.round(np.geomspace(1.0, float(max(users.max(), 2.0)), 8)))
    steps: DecodeWorker = _workers(side, shares, decode_worker)
    tpot, slack = np.asarray(steps.full), np.asarray(steps.slack)
    each = side.chips[:, None] / np.asarray(steps.most) * tpot
    kept = [
        _unbeaten(np.stack([tpot[:, i], each[:, i], side.chips], axis=1), slack[:, i])
        for i in range(len(shares))
    ]
    places = sorted({int(place) for own in kept for place in own})
    return side.only(np.array(evenly_chosen(places, MAX_LAYOUTS), int))


def _unbeaten(slow: np.ndarray, slack: np.ndarray) -> np.ndarray:
    """Places that fit and that no other beats in all of several numbers, of which less is better."""
    fits = np.flatnonzero(slack >= 0)
    ours = slow[fits]
    better = (ours[:, None] <= ours).all(axis=2) & (ours[:, None] < ours).any(axis=2)
    return fits[~better.any(axis=0)]


def _ratios(prefill: np.ndarray, decode: np.ndarray, chips: float) -> np.ndarray:
    """Places of both ways, and workers of both, in every ratio that uses all chips."""
    found: list[tuple[float, float, float, float]] = []
    for (i, first), (j, second) in itertools.product(enumerate(prefill), enumerate(decode)):
        counts = [float(n) for n in range(1, int(chips // first) + 1)]
        workers = [(n, (chips - n * first) / second) for n in counts]
        usable = [pair for pair in workers if pair[1] >= 1 and pair[1] == round(pair[1])]
        found += [(float(i), float(j), *pair) for pair in evenly_chosen(usable, MAX_RATIOS)]
    return np.array(found)


# Both together


@to_run_once
def _matched(*arguments: Any) -> Service:
    return jax.vmap(match_rates)(*arguments)


def _match(
    first: PrefillWorker,
    prefill_workers: np.ndarray,
    second: DecodeWorker,
    decode_workers: np.ndarray,
    request: Request,
) -> Service:
    """Services of pairs of workers, in blocks of one size."""
    rows, kind = (first, prefill_workers, second, decode_workers, request), as_scalar(0.0).dtype
    return map_rows(_of_block, map_leaves(lambda x: x.astype(kind), rows))


def _of_block(block: tuple[Any, ...]) -> Service:
    return _matched(*block)


def _table(
    pair: Pair,
    sides: tuple[Side, Side],
    which: np.ndarray,
    workers: np.ndarray,
    request: Request,
    served: Service,
) -> DeploymentTable:
    """Numbers and words of all ways of one pair."""
    served = map_leaves(lambda x: np.asarray(x, float), served)
    chips = np.stack([sides[i].chips[which[:, i]] * workers[:, i] for i in (0, 1)], axis=1)
    numbers, bases = priced_together([side.resolved for side in sides], chips, request, served)
    for i, pool in enumerate(POOLS):
        ranks = np.array(sides[i].resolved.candidates)[which[:, i]].T
        names = (f"{pool}_{name}" for name in Parallelism._fields[:-1])
        numbers |= dict(zip(names, ranks, strict=False)) | {f"{pool}_workers": workers[:, i]}
    words = words_of(sides[1].resolved, pair.words) | bases | {"chip": "", "mode": DISAGGREGATED}
    words |= {f"{pool}_chip": name for pool, name in zip(POOLS, pair[:2], strict=True)}
    return table_of(numbers, words, served, programs=3)


def priced_together(
    sides: Sequence[ResolvedRow], chips: np.ndarray, request: Request, served: Service
) -> tuple[dict[str, Any], dict[str, str]]:
    """Numbers of services on two kinds of chips, and what prediction and USD rest on.

    **Arguments:**

    - `chips`: of each service, on both sides.
    """
    rate = output_rate(request, served)
    dollars, basis = cost_of_pools(sides, chips, served, rate)
    intervals = widest([side.deployment.intervals for side in sides])
    numbers = serving_numbers(request, intervals, chips.sum(axis=1), served, rate, dollars)
    numbers |= extra_numbers(served, request.osl) | range_numbers(intervals)
    bases = {"basis": intervals.basis, "cost_basis": basis}
    return numbers, bases
