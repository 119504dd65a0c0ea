"""Rows of the serving schema with pools of their own for prompts and decode steps."""

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np

from perfmodel.errors import InputError
from perfmodel.hardware.chip import Chip
from perfmodel.inference.alike import in_blocks
from perfmodel.inference.apart import Pool, serve_apart
from perfmodel.inference.cases import Case, block_of, case_of, plan_of, with_ranks
from perfmodel.inference.rows import number
from perfmodel.inference.serving import Service
from perfmodel.inference.splits import Split
from perfmodel.units import as_scalar
from perfmodel.workload.plan import Plan
from perfmodel.workload.traffic import Traffic
from perfmodel.workload.transformer import Transformer

POOLS = ("prefill", "decode")
OWN = ("chip", "workers", "tp", "ep", "dp")
READ = tuple(f"{pool}_{name}" for pool in POOLS for name in OWN)
"""Columns that are read besides those of every row."""


class Side(NamedTuple):
    """One pool: what it names and how it may be spread, and its workers."""

    case: Case
    workers: float


class Pair(NamedTuple):
    """A row that can be predicted, and its place."""

    place: int
    sides: tuple[Side, Side]

    @property
    def form(self) -> tuple:
        """What the compiled function depends on."""
        return tuple(side.case.setting.form for side in self.sides)

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


def serve_pairs(pairs: Sequence[Pair]) -> tuple[list[tuple[Pair, tuple[Split, Split]]], Service]:
    """Serve rows of one form in every way; the ways in the order of the leading axis."""
    rows = [(pair, ways) for pair in pairs for ways in pair.splits]
    blocks = [_block([(pair.sides[i], ways[i]) for pair, ways in rows]) for i in (0, 1)]
    first, second = (plan_of([pair.sides[i].case for pair in pairs]) for i in (0, 1))
    return rows, in_blocks(functools.partial(_served, (first, second)), tuple(blocks))


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
