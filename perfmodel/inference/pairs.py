"""Rows of the serving schema with two kinds of chips: pools for prompts and for decode steps, or attention
and feed-forward layers apart."""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import Array

from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.inference.alike import in_blocks
from perfmodel.inference.apart import Pool, serve_apart
from perfmodel.inference.cases import Case, block_of, case_of, plan_of, settled, with_ranks
from perfmodel.inference.halves import Link, serve_halves
from perfmodel.inference.rows import number
from perfmodel.inference.serving import Service
from perfmodel.inference.splits import Split
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan
from perfmodel.workload.traffic import Traffic
from perfmodel.workload.transformer import Transformer

POOLS = ("prefill", "decode")
OWN = ("chip", "workers", "tp", "ep", "dp")
FEED_FORWARD = "ffn"
OWN_OF_HALF = ("chip", "tp", "pp", "ep", "dp")
LINK = ("link_gb_per_s", "link_us")
READ = (
    *(f"{pool}_{name}" for pool in POOLS for name in OWN),
    *(f"{FEED_FORWARD}_{name}" for name in OWN_OF_HALF),
    *LINK,
)
"""Columns that are read besides those of every row."""


class Side(NamedTuple):
    """One pool: what it names and how it may be spread, and its workers."""

    case: Case
    workers: float


class Pair(NamedTuple):
    """A row that can be predicted, and its place.

    - `link`: where the sides are attention and feed-forward: GB/s of a chip, and us; `None` for pools.
    """

    place: int
    sides: tuple[Side, Side]
    link: tuple[float, float] | None = None

    @property
    def form(self) -> tuple:
        """What the compiled function depends on."""
        return self.link is None, *(side.case.setting.form for side in self.sides)

    @property
    def lead(self) -> Case:
        """The side whose row speaks for both."""
        return self.sides[1 if self.link is None else 0].case

    @property
    def names(self) -> tuple[str, str]:
        """What the columns of each side begin with."""
        return ("prefill_", "decode_") if self.link is None else ("", f"{FEED_FORWARD}_")

    @property
    def splits(self) -> list[tuple[Split, Split]]:
        """Every way to spread both pools."""
        first, second = (side.case.splits for side in self.sides)
        return list(itertools.product(first, second))


def pair_of(place: int, cells: dict[str, str], calibration: Path) -> Pair:
    """A row with pools.

    **Raises:**

    - `InputError`: for a row that cannot be predicted; it says in which pool.
    """
    first, second = (_side(pool, place, cells, calibration) for pool in POOLS)
    return Pair(place, (first, second))


def _side(pool: str, place: int, cells: dict[str, str], calibration: Path) -> Side:
    own = {name: cells.get(f"{pool}_{name}", "").strip() for name in OWN}
    own["chip"] = own["chip"] or cells.get("chip", "").strip()
    if not own["chip"]:
        raise InputError(f"{pool}_chip is missing; give the chip of the {pool} workers.")
    workers = number(f"{pool}_workers", own.pop("workers"))
    try:
        row = cells | own | {"n_chips": "", "pp": "1", "mode": "serving"}
        case = case_of(place, row, calibration)
    except InputError as wrong:
        raise InputError(f"{pool} workers: {wrong}") from None
    return Side(case, 1.0 if np.isnan(workers) else workers)


def halves_of_row(place: int, cells: dict[str, str], calibration: Path) -> Pair:
    """A row with attention and feed-forward layers on chips of their own.

    **Raises:**

    - `InputError`: for a row that cannot be predicted.
    """
    case = case_of(place, cells, calibration)
    if case.row.arrives or np.isnan(case.row.concurrency):
        raise InputError(
            "concurrency is missing; with ffn_chip give users who wait for their answers."
        )
    own = {name: cells.get(f"{FEED_FORWARD}_{name}", "").strip() for name in OWN_OF_HALF}
    try:
        row = cells | own | {"n_chips": ""}
        other = case_of(place, row, calibration, attends=False)
    except InputError as wrong:
        raise InputError(f"feed-forward chips: {wrong}") from None
    rate, wait = (number(name, cells.get(name, "").strip()) for name in LINK)
    return Pair(place, (Side(case, 1.0), Side(other, 1.0)), (rate, wait))


def serve_pairs(pairs: Sequence[Pair]) -> tuple[list[tuple[Pair, tuple[Split, Split]]], Service]:
    """Serve rows of one form in every way; the ways in the order of the leading axis."""
    rows = [(pair, ways) for pair in pairs for ways in pair.splits]
    blocks = [_block([(pair.sides[i], ways[i]) for pair, ways in rows]) for i in (0, 1)]
    first, second = (plan_of([pair.sides[i].case for pair in pairs]) for i in (0, 1))
    if pairs[0].link is None:
        return rows, in_blocks(functools.partial(_served, (first, second)), tuple(blocks))
    links = np.array([_link(pair) for pair, _ in rows], as_scalar(0.0).dtype)
    return rows, in_blocks(functools.partial(_halved, (first, second)), (*blocks, links))


def _link(pair: Pair) -> tuple[float, float]:
    """Bytes/s of a chip and s of a message: as given, else of the slower side's network between domains."""
    sides = [side.case.setting.chip.scale_out for side in pair.sides]
    rate, wait = pair.link or (np.nan, np.nan)
    slowest = min(float(one.bandwidth) for one in sides)
    longest = max(float(one.latency) for one in sides)
    return (
        slowest if np.isnan(rate) else rate * 1e9,
        longest if np.isnan(wait) else wait * 1e-6,
    )


@eqx.filter_jit
def _halved(plans: tuple[Plan, Plan], blocks: tuple) -> Service:
    def one(first: tuple, second: tuple, link: Array) -> Service:
        chip, plan, model, traffic = settled(first[0], plans[0], first[1], first[2])
        other = with_ranks(plans[1], second[2])
        return serve_halves(
            (chip, second[0]), (plan, other), Link(link[0], link[1]), model, traffic
        )

    return jax.vmap(one)(*blocks)


def _block(rows: Sequence[tuple[Side, Split]]) -> tuple[Chip, Transformer, dict]:
    chips, models, numbers = block_of([(side.case, split) for side, split in rows])
    workers = np.asarray([side.workers for side, _ in rows], as_scalar(0.0).dtype)
    return chips, models, numbers | {"workers": workers}


@eqx.filter_jit
def _served(plans: tuple[Plan, Plan], blocks: tuple) -> Service:
    def one(prefill: tuple, decode: tuple) -> Service:
        first, second = (
            Pool(chip, with_ranks(plan, row), row["workers"])
            for plan, (chip, _, row) in zip(plans, (prefill, decode), strict=True)
        )
        _, model, row = decode
        rest = {name: row[name] for name in ("rounds", "drafted", "acceptance", "cached")}
        traffic = Traffic(row["users"], row["prompt"], row["output"], as_scalar(1.0), **rest)
        return serve_apart(first, second, model, traffic)

    return jax.vmap(one)(*blocks)
