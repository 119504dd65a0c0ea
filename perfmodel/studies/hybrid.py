"""Q8: weights in SRAM, caches in HBM: where does the division of labour pay?"""

import numpy as np

from perfmodel.library.market import physics
from perfmodel.studies.answer import Answer, Axis, Figure, Progress, Study, Table, show
from perfmodel.studies.draws import middle, share
from perfmodel.studies.hybrids import CONTEXTS, GPU, INSIDE, MODEL, POOL, Option, cheapest, options

SPEEDS = (30.0, 60.0, 100.0, 150.0, 200.0, 300.0, 400.0, 600.0)
USERS = 256.0
NAMES = {GPU: "HBM alone", INSIDE: "SRAM alone", POOL: "SRAM and HBM"}
TESTED = (65536.0, 200.0)
"""Tokens of context, and tokens/s of a user, at which the claim is put: long texts, faster than GPUs."""


def run(progress: Progress) -> Answer:
    found = options(progress)
    context, speed = TESTED
    alone = np.minimum(*(cheapest(found, [w], context, USERS, speed) for w in (GPU, INSIDE)))
    both = cheapest(found, [POOL], context, USERS, speed)
    cells = list(_cells(found))
    wins = [cell for cell in cells if cell[2] == POOL]
    slow = [cell for cell in cells if cell[1] == SPEEDS[0]]
    reach = share(np.isfinite(both))
    ratio = both / np.where(np.isfinite(alone), alone, np.nan)
    known = ratio[np.isfinite(ratio)]
    times = middle(known) if len(known) else middle(np.full(1, np.nan))
    away = physics("round_trip", "s")
    trip = f"{show(1e6 * away.low)} to {show(1e6 * away.high)} us"
    where = (
        f"from {min(c[1] for c in wins):.0f} tokens/s and {min(c[0] for c in wins):,.0f} tokens of context on"
        if wins
        else "nowhere"
    )
    said = (
        f"The hybrid is the cheapest in {len(wins)} of {len(cells)} cells of speed and context, {where}; at "
        f"{SPEEDS[0]:.0f} tokens/s HBM alone wins {sum(c[2] == GPU for c in slow)} of {len(slow)}. At "
        f"{context:,.0f} tokens and {speed:.0f} tokens/s a user it costs {show(times.median)} times the "
        f"better of the two alone ({show(times.low)} to {show(times.high)} in 90 %)."
    )
    return Answer(
        said,
        share(both < alone),
        f"It is that fast in {100 * reach:.0f} % of draws: a layer's round trip, {trip}, decides.",
        _table(found),
        _figure(cells),
        (
            "A cell shows how many times the next is dearer; 100 where nothing else is possible.",
            "Weights on WSE-3 or on LP30, caches on groups of eight H100 or B200; decode alone.",
            "Nobody has published a round trip; one layer after the other, nothing overlapped.",
            "LP30 has no price; it is guessed within a factor of eight.",
        ),
        {
            "cells_won": len(wins),
            "cells": len(cells),
            "hybrid_over_alone": times.median,
            "hybrid_reaches_share": reach,
        },
    )


def _cells(found: list[Option]):
    """Context, speed, the cheapest way, and how many times the next it is better."""
    for context in CONTEXTS:
        for speed in SPEEDS:
            prices = sorted(
                (float(np.median(cheapest(found, [way], context, USERS, speed))), way)
                for way in NAMES
            )
            if np.isfinite(prices[0][0]):
                yield context, speed, prices[0][1], min(prices[1][0] / prices[0][0], 100.0)


def _table(found: list[Option]) -> Table:
    rows = []
    for context in CONTEXTS:
        for speed in SPEEDS:
            drawn = [cheapest(found, [way], context, USERS, speed) for way in NAMES]
            prices = [1e6 * float(np.median(d)) for d in drawn]
            best = np.argmin(np.stack(drawn), axis=0)
            there = np.isfinite(np.min(np.stack(drawn), axis=0))
            rows.append((int(context), speed, *(p if np.isfinite(p) else float("nan") for p in prices),
                         100 * share((best == 2) & there)))  # fmt: skip
    names = ["context", "tokens/s a user", *(f"{name}, USD/M" for name in NAMES.values())]
    return Table([*names, "hybrid cheapest, % of draws"], rows)


def _figure(cells: list[tuple[float, float, str, float]]) -> Figure:
    return Figure(
        f"{MODEL}: the cheapest machine for a context and a speed",
        "cells",
        Axis("context", "context of a user", "tokens"),
        Axis("speed", "speed of one user", "tokens/s"),
        Axis("way", "cheapest"),
        [{"context": c, "speed": s, "way": NAMES[w], "factor": f} for c, s, w, f in cells],
    )


STUDY = Study(
    name="hybrid",
    question="Q8",
    title="Where does a division of labour between SRAM and HBM pay?",
    claim="SRAM and HBM divide the labour: weights in SRAM, caches in HBM.",
    source="conference-call summary, SRAM: A New AI Inference Paradigm; podcast notes on Cerebras and Groq",
    test=f"at {TESTED[0]:,.0f} tokens and {TESTED[1]:.0f} tokens/s a user the hybrid is the cheapest",
    seconds=50,
    run=run,
)
