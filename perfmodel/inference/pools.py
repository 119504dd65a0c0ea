"""Rows of the serving schema with two kinds of chips: pools for prompts and for decode steps, or attention
and feed-forward layers apart."""

import functools
import itertools
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax import Array

from perfmodel.batching import map_rows
from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.inference.attention_ffn import Link, serve_attention_ffn
from perfmodel.inference.candidates import Parallelism, candidates
from perfmodel.inference.disaggregated import Pool, serve_disaggregated
from perfmodel.inference.evaluate import (
    ResolvedRow,
    RowNumbers,
    arguments_of,
    block_of,
    plan_of,
    resolve_row,
    started_plan,
)
from perfmodel.inference.service import Service
from perfmodel.inference.serving_row import number, read_row
from perfmodel.units import as_scalar
from perfmodel.workload.model import Transformer
from perfmodel.workload.plan import Plan
from perfmodel.xla import to_run_once

POOLS = ("prefill", "decode")
SIDE_COLUMNS = ("chip", "tp", "pp", "ep", "dp")
FEED_FORWARD = "ffn"
CHIP_COLUMNS = ("chip", *(f"{side}_chip" for side in (*POOLS, FEED_FORWARD)))
"""Columns that name a chip."""

LINK = ("link_gb_per_s", "link_us")
READ = (
    *(f"{pool}_workers" for pool in POOLS),
    *(f"{side}_{name}" for side in (*POOLS, FEED_FORWARD) for name in SIDE_COLUMNS),
    *LINK,
)
"""Columns that are read besides those of every row."""


SINGLE_WORKERS = (1.0, 1.0)
"""Workers of attention and of feed-forward layers: one of each."""

MAX_CANDIDATES = 512
"""Ways to spread attention and feed-forward layers that are tried, at most: evenly chosen among all."""

MAX_RATIOS = 16
"""Numbers of workers tried for each way to spread a worker, at most: evenly chosen among all."""

MAX_COUNTS = 2**12
"""Numbers of chips or workers looked at, at most."""

T = TypeVar("T")


def evenly_chosen(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly chosen, with the first and the last."""
    places = np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(int)
    return [items[i] for i in places]


def _counts_to(most: float) -> list[float]:
    """Whole numbers from 1 to `most`."""
    return evenly_chosen(range(1, int(most) + 1), MAX_COUNTS)


class PooledCandidate(NamedTuple):
    """How both sides are spread, and how many workers each has."""

    parallelisms: tuple[Parallelism, Parallelism]
    workers: tuple[float, float]

    @property
    def chips(self) -> float:
        """In all."""
        return sum(
            n * parallelism.chips
            for n, parallelism in zip(self.workers, self.parallelisms, strict=True)
        )


class PooledRow(NamedTuple):
    """A row that can be predicted, and its place.

    - `candidates`: ways to spread both sides.
    - `link`: where the sides are attention and feed-forward: GB/s of a chip, and us; `None` for pools.
    """

    place: int
    sides: tuple[ResolvedRow, ResolvedRow]
    candidates: list[PooledCandidate]
    link: tuple[float, float] | None = None

    @property
    def form(self) -> Hashable:
        """What the compiled function depends on."""
        return self.link is None, *(side.deployment.form for side in self.sides)

    @property
    def lead(self) -> ResolvedRow:
        """The side whose row the answer is of."""
        return self.sides[1 if self.link is None else 0]

    @property
    def names(self) -> tuple[str, str]:
        """What the columns of each side begin with."""
        return ("prefill_", "decode_") if self.link is None else ("", f"{FEED_FORWARD}_")


def resolve_disaggregated(place: int, cells: dict[str, str], calibration: Path) -> PooledRow:
    """A row with pools.

    **Raises:**

    - `InputError`: for a row that cannot be predicted; it says in which pool.
    """
    read_row(cells)  # what is wrong with the row itself is said before what is wrong with a pool
    first, second = (_pool(pool, place, cells, calibration) for pool in POOLS)
    workers = [number(f"{pool}_workers", _cell(cells, f"{pool}_workers")) for pool in POOLS]
    return PooledRow(
        place, (first, second), _pool_candidates((first, second), workers, _chips_of(cells))
    )


def _pool(pool: str, place: int, cells: dict[str, str], calibration: Path) -> ResolvedRow:
    """A worker of a pool: what the pool does not give is as the row gives it for both; without stages."""
    side_cells = {
        name: _cell(cells, f"{pool}_{name}") or _cell(cells, name) for name in SIDE_COLUMNS
    }
    if not side_cells["chip"]:
        raise InputError(f"{pool}_chip is missing; give the chip of the {pool} workers.")
    side_cells["pp"] = side_cells["pp"] or "1"
    try:
        return resolve_row(
            place, cells | side_cells | {"n_chips": "", "mode": "serving"}, calibration
        )
    except InputError as wrong:
        raise InputError(f"{pool} workers: {wrong}") from None


def _cell(cells: dict[str, str], name: str) -> str:
    return cells.get(name, "").strip()


def _chips_of(cells: dict[str, str]) -> float:
    """Chips of both sides together; `nan` where they are not given."""
    return number("n_chips", _cell(cells, "n_chips"))


def _pool_candidates(
    sides: tuple[ResolvedRow, ResolvedRow], given: list[float], chips: float
) -> list[PooledCandidate]:
    """Every way to spread both pools, on all of the `chips` where they are given.

    **Raises:**

    - `InputError`: when there is none.
    """
    both = list(itertools.product(sides[0].candidates, sides[1].candidates))
    if np.isnan(chips):
        first, second = (1.0 if np.isnan(n) else n for n in given)
        return [PooledCandidate(parallelisms, (first, second)) for parallelisms in both]
    pooled = [
        PooledCandidate(parallelisms, workers)
        for parallelisms in both
        for workers in _workers(parallelisms, given, chips)
    ]
    if not pooled:
        raise InputError(
            f"n_chips is {chips:.0f}, the chips of both pools, but workers of the ranks given cannot "
            f"use exactly so many; leave {', '.join(f'{pool}_workers' for pool in POOLS)} or some "
            "ranks empty, or give the chips that they add up to."
        )
    return pooled


def _workers(
    parallelisms: tuple[Parallelism, Parallelism], workers: list[float], chips: float
) -> list[tuple[float, float]]:
    """Workers of both pools that use exactly `chips`; of many the first, the last and some between."""
    first, second = (parallelism.chips for parallelism in parallelisms)
    firsts = np.array(_counts_to(chips // first) if np.isnan(workers[0]) else workers[:1], float)
    seconds = (chips - firsts * first) / second
    usable = (seconds >= 1) & (seconds == np.round(seconds))
    usable &= np.isnan(workers[1]) | (seconds == workers[1])
    counts = np.stack([firsts[usable], seconds[usable]], axis=1).tolist()
    return [(first, second) for first, second in evenly_chosen(counts, MAX_RATIOS)]


def resolve_attention_ffn(place: int, cells: dict[str, str], calibration: Path) -> PooledRow:
    """A row with attention and feed-forward layers on chips of their own.

    Experts are feed-forward layers: ranks of experts are `ffn_ep`, those of attention are one.

    **Raises:**

    - `InputError`: for a row that cannot be predicted.
    """
    chips = _chips_of(cells)
    attention = resolve_row(place, cells | {"n_chips": "", "ep": "1"}, calibration)
    if attention.open_loop or np.isnan(attention.request.concurrency):
        raise InputError(
            "concurrency is missing; with ffn_chip give users who wait for their answers."
        )
    side_cells = {name: _cell(cells, f"{FEED_FORWARD}_{name}") for name in SIDE_COLUMNS}
    side_cells["dp"] = side_cells["dp"] or "1"
    try:
        row = cells | side_cells | {"n_chips": ""}
        feed_forward = resolve_row(place, row, calibration, attends=False)
    except InputError as wrong:
        raise InputError(f"feed-forward chips: {wrong}") from None
    rate, wait = (number(name, _cell(cells, name)) for name in LINK)
    return PooledRow(
        place,
        (attention, feed_forward),
        _attention_ffn_candidates((attention, feed_forward), chips),
        (rate, wait),
    )


def _attention_ffn_candidates(
    sides: tuple[ResolvedRow, ResolvedRow], chips: float
) -> list[PooledCandidate]:
    """Every way to spread attention and feed-forward layers, on all of the `chips` where they are given.

    **Raises:**

    - `InputError`: when there is none.
    """
    if np.isnan(chips):
        return [
            PooledCandidate(parallelisms, SINGLE_WORKERS)
            for parallelisms in itertools.product(sides[0].candidates, sides[1].candidates)
        ]
    pooled = [
        PooledCandidate(parallelisms, SINGLE_WORKERS)
        for count in _counts_to(chips - 1)
        for parallelisms in itertools.product(
            candidates_on(sides[0], count), candidates_on(sides[1], chips - count)
        )
    ]
    if not pooled:
        raise InputError(
            f"n_chips is {chips:.0f}, the chips of attention and feed-forward layers together, but "
            "the ranks given cannot use exactly so many; leave n_chips or some ranks empty."
        )
    return evenly_chosen(pooled, MAX_CANDIDATES)


def candidates_on(side: ResolvedRow, count: float) -> list[Parallelism]:
    """Every way to spread one side on `count` chips; none where they cannot be used."""
    try:
        given = side.ranks._replace(n_chips=float(count), replicas=1.0)
        return candidates(given, side.deployment)
    except InputError:
        return []


def serve_pooled(
    pooled_rows: Sequence[PooledRow],
) -> tuple[list[tuple[PooledRow, PooledCandidate]], Service]:
    """Serve rows of one form in every way; the ways in the order of the leading axis."""
    rows = [(pooled, candidate) for pooled in pooled_rows for candidate in pooled.candidates]
    blocks = [_block(rows, i) for i in (0, 1)]
    first, second = (plan_of([pooled.sides[i] for pooled in pooled_rows]) for i in (0, 1))
    if pooled_rows[0].link is None:
        return rows, map_rows(
            functools.partial(_serve_disaggregated, (first, second)), tuple(blocks)
        )
    links = np.array([_link(pooled) for pooled, _ in rows], as_scalar(0.0).dtype)
    return rows, map_rows(
        functools.partial(_serve_attention_ffn, (first, second)), (*blocks, links)
    )


def _link(pooled: PooledRow) -> tuple[float, float]:
    """Bytes/s of a chip and s of a message: as given, else of the slower side's network between domains."""
    sides = [side.deployment.chip.scale_out for side in pooled.sides]
    rate, wait = pooled.link or (np.nan, np.nan)
    slowest = min(float(network.bandwidth) for network in sides)
    longest = max(float(network.latency) for network in sides)
    return (
        slowest if np.isnan(rate) else rate * 1e9,
        longest if np.isnan(wait) else wait * 1e-6,
    )


PoolBlock = tuple[Chip, Transformer, RowNumbers, Any]
"""One side of rows, and how many workers it has, on a leading axis."""


@to_run_once
def _serve_attention_ffn(
    plans: tuple[Plan, Plan], blocks: tuple[PoolBlock, PoolBlock, Array]
) -> Service:
    def of_row(first: PoolBlock, second: PoolBlock, link: Array) -> Service:
        chip, plan, model, request = arguments_of(plans[0], *first[:3])
        other = started_plan(plans[1], second[2])
        return serve_attention_ffn(
            (chip, second[0]), (plan, other), Link(link[0], link[1]), model, request
        )

    return jax.vmap(of_row)(*blocks)


def _block(rows: Sequence[tuple[PooledRow, PooledCandidate]], i: int) -> PoolBlock:
    """One side of all rows, and how many workers it has."""
    block = block_of([(pooled.sides[i], candidate.parallelisms[i]) for pooled, candidate in rows])
    workers = np.asarray([candidate.workers[i] for _, candidate in rows], as_scalar(0.0).dtype)
    return *block, workers


@to_run_once
def _serve_disaggregated(plans: tuple[Plan, Plan], blocks: tuple[PoolBlock, PoolBlock]) -> Service:
    def of_row(prefill: PoolBlock, decode: PoolBlock) -> Service:
        first, second = (
            Pool(chip, started_plan(plan, numbers), workers)
            for plan, (chip, _, numbers, workers) in zip(plans, (prefill, decode), strict=True)
        )
        return serve_disaggregated(first, second, decode[1], decode[2].request)

    return jax.vmap(of_row)(*blocks)
