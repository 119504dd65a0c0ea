"""Q8: weights in SRAM, caches in HBM: where does the division of labour pay?"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from perfmodel.design.chip import USABLE_SRAM
from perfmodel.design.variables import NO_MEMORY
from perfmodel.library.economics import physics
from perfmodel.studies.cache_placement import (
    CONTEXTS,
    GPU,
    INSIDE,
    MODEL,
    POOL,
    Option,
    cheapest,
    medians,
    options,
    winner,
)
from perfmodel.studies.claim import Answer, Axis, Figure, Progress, Side, Table, show, verdict
from perfmodel.studies.draws import Middle, middle, or_nan, share
from perfmodel.studies.machines import model_bytes
from perfmodel.studies.searched_machines import Winner, least, like_an_lpu, searched

SPEEDS = (30.0, 60.0, 100.0, 150.0, 200.0, 300.0, 400.0, 600.0)
USERS = 256.0
NAMES = {GPU: "HBM alone", INSIDE: "SRAM alone", POOL: "SRAM and HBM"}
TESTED = (65536.0, 200.0)
"""Tokens of context, and tokens/s per user, at which the claim is put: long texts, faster than GPUs."""

LITTLE_SRAM_MB = 50
"""MB of SRAM of a chip that lives from its HBM: the second cache of an H100 (NVIDIA, 2022)."""


Cell = dict[str, Any]
"""A context, a speed, the cheapest way there, and how many times as expensive the next is."""


class Tested(NamedTuple):
    """Draws of USD for a token, where the claim is put."""

    both: np.ndarray
    alone: np.ndarray

    @property
    def side(self) -> Side:
        """Draws of the claim, and of the best way's token."""
        return Side(self.both < self.alone, np.minimum(self.both, self.alone))

    @property
    def times(self) -> Middle:
        """Cost of both together over the better of the two alone, where one of them is so fast."""
        ratio = self.both / np.where(np.isfinite(self.alone), self.alone, np.nan)
        known = ratio[np.isfinite(ratio)]
        return middle(known if len(known) else np.full(1, np.nan))


def tested(found: list[Option]) -> Tested:
    """Machines that there are, at the context and the speed of the claim."""
    context, speed = TESTED
    ways = {way: cheapest(found, [way], context, USERS, speed) for way in NAMES}
    return Tested(ways[POOL], np.minimum(ways[GPU], ways[INSIDE]))


class Designed(NamedTuple):
    """What a search designs for the same: with both memories, with HBM and little SRAM, with SRAM alone."""

    both: Winner
    hbm: Winner
    sram: Winner

    @property
    def times(self) -> np.ndarray:
        """Draws of what both cost over the better of the two alone."""
        return self.both.drawn / least((self.hbm, self.sram))

    @property
    def side(self) -> Side:
        """Draws of the claim, and of the best design's token."""
        return Side(self.times < 1, least(self))

    @property
    def inside(self) -> float:
        """Share of the weights that both keep in SRAM."""
        size = model_bytes(MODEL, "int8")
        room = 1e6 * USABLE_SRAM * self.both.design["sram_mb"] * self.both.chips
        return min(room / size, 1.0)


@functools.cache
def designed() -> Designed:
    """Three searches' worth in two: with HBM and SRAM free, with little SRAM, and without HBM."""
    asked = like_an_lpu(*TESTED, memory=["hbm3e", NO_MEMORY])
    free = {one.memory: one for one in searched(asked)}
    little = asked | {"space": asked["space"] | {"sram_mb": {"low": 10, "high": LITTLE_SRAM_MB}}}
    return Designed(free["hbm3e"], searched(little)[0], free[NO_MEMORY])


def run(progress: Progress) -> Answer:
    found = options(progress)
    known, new, cells = tested(found), designed(), list(_cells(found))
    whose = verdict(known.side, new.side)
    return Answer(
        f"{_said(cells, known)} {_said_of(new)}",
        whose.share,
        f"{_sure(known)} {whose.said}",
        _table(found),
        _figure(cells),
        _numbers(cells, known, new) | whose.numbers,
    )


def _sure(known: Tested) -> str:
    reach, away = share(np.isfinite(known.both)), physics("round_trip", "s")
    return (
        f"Weights and caches apart are that fast in {100 * reach:.0f} % of draws: a layer's round trip, "
        f"{show(1e6 * away.low)} to {show(1e6 * away.high)} us, decides."
    )


def _numbers(cells: list[Cell], known: Tested, new: Designed) -> dict[str, float]:
    return {
        "cells_won": sum(cell["way"] == POOL for cell in cells),
        "cells": len(cells),
        "hybrid_over_alone": known.times.median,
        "hybrid_reaches_share": share(np.isfinite(known.both)),
        "hybrid_over_alone_designed": middle(new.times).median,
        "weights_in_sram_designed": new.inside,
    }


def _said(cells: list[Cell], known: Tested) -> str:
    wins = [cell for cell in cells if cell["way"] == POOL]
    slow = [cell["way"] for cell in cells if cell["speed"] == SPEEDS[0]]
    where = "nowhere"
    if wins:
        speed, context = (min(cell[name] for cell in wins) for name in ("speed", "context"))
        where = f"from {speed:.0f} tokens/s and {context:,.0f} tokens of context on"
    times = known.times
    return (
        f"The hybrid is the cheapest in {len(wins)} of {len(cells)} cells of speed and context, {where}; at "
        f"{SPEEDS[0]:.0f} tokens/s HBM alone wins {slow.count(GPU)} of {len(slow)}. At "
        f"{TESTED[0]:,.0f} tokens and {TESTED[1]:.0f} tokens/s per user it costs {show(times.median)} times "
        f"the better of the two alone ({times.range})."
    )


def _said_of(new: Designed) -> str:
    """What a search says, whose chip may have both."""
    ratio, chip = middle(new.times), new.both
    return (
        f"A chip that a search designs for it has {show(chip.design['stacks'], 1)} stacks of HBM3E beside "
        f"{show(chip.design['sram_mb'])} MB of SRAM, which keep {100 * new.inside:.0f} % of the weights, at "
        f"{show(1e6 * chip.dollars)} USD per million tokens; with SRAM alone it is "
        f"{show(1e6 * new.sram.dollars)}, with HBM and at most {LITTLE_SRAM_MB} MB of SRAM "
        f"{show(1e6 * new.hbm.dollars)}. Under draws both cost {show(ratio.median)} times the better of the "
        f"two alone ({show(ratio.low)} to {show(ratio.high)})."
    )


def _cells(found: list[Option]) -> Iterator[Cell]:
    """Context, speed, the cheapest way, and how many times as expensive the next is."""
    for context, speed in itertools.product(CONTEXTS, SPEEDS):
        if best := winner(medians(found, list(NAMES), context, USERS, speed)):
            yield {"context": context, "speed": speed} | best


def _table(found: list[Option]) -> Table:
    rows = []
    for context, speed in itertools.product(CONTEXTS, SPEEDS):
        drawn = np.stack([cheapest(found, [way], context, USERS, speed) for way in NAMES])
        prices = [or_nan(1e6 * float(price)) for price in np.median(drawn, axis=1)]
        wins = (np.argmin(drawn, axis=0) == 2) & np.isfinite(np.min(drawn, axis=0))
        rows.append((int(context), speed, *prices, 100 * share(wins)))
    names = ["context", "tokens/s a user", *(f"{name}, USD/M" for name in NAMES.values())]
    return Table([*names, "hybrid cheapest, % of draws"], rows)


def _figure(cells: list[Cell]) -> Figure:
    return Figure(
        f"{MODEL}: the cheapest machine for a context and a speed",
        "cells",
        Axis("context", "context of a user", "tokens"),
        Axis("speed", "speed of one user", "tokens/s"),
        Axis("way", "cheapest"),
        [cell | {"way": NAMES[cell["way"]]} for cell in cells],
    )
