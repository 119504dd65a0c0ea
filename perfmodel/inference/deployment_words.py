"""A deployment in words: its chips, its ranks, and one sentence."""

import collections
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from perfmodel.inference.pools import CHIP_COLUMNS, FEED_FORWARD, POOLS
from perfmodel.inference.serving_row import DISAGGREGATED
from perfmodel.workload.plan import REPLICA_RANKS

Row = Mapping[str, Any]
"""A deployment by column of the serving schema."""


def machine_of(row: Row) -> str:
    """Chips of a deployment: how many of each kind, such as `16 x h100-sxm + 576 x lpu-v1`."""
    counts: collections.Counter[str] = collections.Counter()
    for chip, count in _chips_of_each(row):
        counts[chip] += count
    return " + ".join(f"{count:.0f} x {chip}" for chip, count in counts.items())


def _chips_of_each(row: Row) -> Iterator[tuple[str, Any]]:
    """Chips of each side, and how many."""
    if row.get("mode") == DISAGGREGATED:
        for pool in POOLS:
            workers = row[f"{pool}_workers"]
            yield row[f"{pool}_chip"], workers * _chips_of_worker(row, f"{pool}_")
    elif row.get(f"{FEED_FORWARD}_chip"):
        for side in ("", f"{FEED_FORWARD}_"):
            yield row[f"{side}chip"], _chips_of_worker(row, side)
    else:
        yield row["chip"], row["n_chips"]


def _chips_of_worker(row: Row, side: str) -> Any:
    return row[f"{side}tp"] * row[f"{side}pp"] * row[f"{side}dp"]


def chip_kinds_of(row: Row) -> str:
    """Chips in all and their kinds, however they are shared out, such as `592 x h100-sxm + lpu-v1`."""
    chips = [row[name] for name in CHIP_COLUMNS if row.get(name)]
    return f"{row['n_chips']:.0f} x {' + '.join(dict.fromkeys(chips))}"


def ranks_of(row: Row) -> str:
    """Ranks above one, of both sides where there are two; and drafted tokens.

    Two sides are `2P(pp4) 1D(ep8 dp8)`, workers of prefill and decode, or `A(dp16) F(tp64 pp8)`, attention
    and FFN.
    """
    if row.get(f"{FEED_FORWARD}_chip"):
        return f"A({_short_ranks(row, '')}) F({_short_ranks(row, f'{FEED_FORWARD}_')})"
    if row["mode"] == DISAGGREGATED:
        return " ".join(
            f"{row[f'{pool}_workers']:.0f}{pool[0].upper()}({_short_ranks(row, f'{pool}_')})"
            for pool in POOLS
        )
    drafted = row.get("speculative_tokens", 0.0)
    return _short_ranks(row, "") + (f" draft{drafted:.0f}" if drafted > 0 else "")


def _short_ranks(row: Row, side: str) -> str:
    names = dict(zip(REPLICA_RANKS, REPLICA_RANKS, strict=True)) | (
        {} if side else {"replicas": "x"}
    )
    ranks = {short: row.get(f"{side}{name}", np.nan) for name, short in names.items()}
    return " ".join(f"{short}{x:.0f}" for short, x in ranks.items() if x > 1) or "tp1"


def in_words(row: Row) -> str:
    """A deployment, for a sentence."""
    words = " ".join(filter(None, (row["framework"], row["precision"])))
    users = f"{row['concurrency']:.0f} user{'s' if row['concurrency'] > 1.5 else ''}"
    return ", ".join(filter(None, (machine_of(row), words, *_sides_in_words(row), users)))


def _sides_in_words(row: Row) -> list[str]:
    """Ranks of each side."""
    if row["mode"] == DISAGGREGATED:
        return [_workers_in_words(row, pool) for pool in POOLS]
    if row.get(f"{FEED_FORWARD}_chip"):
        sides = {"attention": "", "FFN": f"{FEED_FORWARD}_"}
        return [f"{name} of {_all_ranks(row, side)}" for name, side in sides.items()]
    return [_ranks_in_words(row)]


def _ranks_in_words(row: Row) -> str:
    names = (*REPLICA_RANKS, "replicas", "speculative_tokens")
    ranks = {name: row.get(name, np.nan) for name in names}
    return " ".join(f"{name} {x:.0f}" for name, x in ranks.items() if x > 1 - (name == "tp"))


def _workers_in_words(row: Row, pool: str) -> str:
    workers = row[f"{pool}_workers"]
    return (
        f"{workers:.0f} {pool} worker{'s' if workers > 1 else ''} of {_all_ranks(row, f'{pool}_')}"
    )


def _all_ranks(row: Row, side: str) -> str:
    return " ".join(f"{name} {row[f'{side}{name}']:.0f}" for name in REPLICA_RANKS)
