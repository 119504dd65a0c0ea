"""Q3: what is a wafer worth once the cache is larger than its SRAM?"""

import numpy as np

from perfmodel.studies.cache_placement import (
    CONTEXTS,
    GPU,
    INSIDE,
    MODEL,
    POOL,
    STREAMED,
    USERS,
    Option,
    cheapest,
    options,
)
from perfmodel.studies.claim import Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import middle, or_nan, share, show

WAYS = (INSIDE, STREAMED, POOL)
MAX_COST_RATIO = 3.0
"""Times the price of GPUs up to which a wafer might make sense for being faster."""

TESTED_CONTEXT, TESTED_USERS = 65536.0, 64.0
"""Where the claim is put: long texts of many users, which no four wafers hold."""


CAVEATS = (
    "A cell shows how many times the next way is dearer, 100 at most.",
    "Decode alone, Llama-3.1-70B in bf16 on wafers and fp8 on GPUs; each cache at full length.",
    "Layers go to the pool and back one after the other: overlap would make it cheaper.",
    "Behind the edge lie 150 GB/s for each wafer; whether that is both directions is not stated.",
)


def run(progress: Progress) -> Answer:
    found = [one for one in options(progress) if one.weights in ("wse-3", "h100-sxm", "b200-sxm")]
    over = _over(found, TESTED_CONTEXT)
    return Answer(
        _said(found),
        share(over > MAX_COST_RATIO),
        "Times of wafers are known to a factor of two and a half, their price to two, a round trip to four.",
        _table(found),
        _figure(found),
        CAVEATS,
        {
            "wafer_over_gpu_long": middle(over).median,
            "wafer_over_gpu_low": middle(over).low,
            "wafer_over_gpu_high": middle(over).high,
            "wafer_over_gpu_short": middle(_over(found, CONTEXTS[0])).median,
        },
    )


def _said(found: list[Option]) -> str:
    gpu, *ways = (
        _price(cheapest(found, [way], TESTED_CONTEXT, TESTED_USERS)) for way in (GPU, *WAYS)
    )
    over, early = middle(_over(found, TESTED_CONTEXT)), middle(_over(found, CONTEXTS[0]))
    prices = [f"{way} {price}" for way, price in zip(WAYS, ways, strict=True)]
    return (
        f"With {TESTED_USERS:.0f} users of {TESTED_CONTEXT:,.0f} tokens a million tokens cost, in USD: "
        f"{', '.join(prices)}, GPUs alone {gpu}: the best wafer {show(over.median)} times GPUs "
        f"({over.range}), against {show(early.median)} times at {CONTEXTS[0]:,.0f} tokens. The "
        f"pool beats cache in SRAM {_first(found, POOL)}, the edge {_first(found, STREAMED)}."
    )


def _over(found: list[Option], context: float) -> np.ndarray:
    """Draws of the best wafer's cost over that of GPUs, for `TESTED_USERS` users."""
    return cheapest(found, WAYS, context, TESTED_USERS) / cheapest(
        found, [GPU], context, TESTED_USERS
    )


def _price(drawn: np.ndarray) -> str:
    median = float(np.median(drawn)) * 1e6
    return show(median) if np.isfinite(median) else "(fits nowhere)"


def _first(found: list[Option], way: str) -> str:
    """The context from which on a way is cheaper than cache in SRAM for `TESTED_USERS` users."""
    for context in CONTEXTS:
        own, inside = (
            np.median(cheapest(found, [w], context, TESTED_USERS)) for w in (way, INSIDE)
        )
        if own < inside:
            return f"from {context:,.0f} tokens on"
    return "nowhere"


def _cells(found: list[Option]):
    for context in CONTEXTS:
        for users in USERS:
            yield context, users, {w: float(np.median(cheapest(found, [w], context, users)))
                                   for w in (*WAYS, GPU)}  # fmt: skip


def _table(found: list[Option]) -> Table:
    names = ["context", "users", *(f"{way}, USD/M" for way in (*WAYS, GPU)), "best wafer over GPUs"]
    rows = []
    for context, users, prices in _cells(found):
        known = [or_nan(1e6 * price) for price in prices.values()]
        ratio = min(prices[w] for w in WAYS) / prices[GPU]
        rows.append((int(context), int(users), *known, or_nan(ratio)))
    return Table(names, rows)


def _figure(found: list[Option]) -> Figure:
    rows = []
    for context, users, prices in _cells(found):
        ways = sorted((prices[way], way) for way in WAYS)
        if not np.isfinite(ways[0][0]):
            continue
        factor = min(ways[1][0] / ways[0][0], 100.0)
        rows.append({"context": context, "users": users, "way": ways[0][1], "factor": factor})
    return Figure(
        f"{MODEL} on wafers: where the cache is cheapest",
        "cells",
        Axis("context", "context of a user", "tokens"),
        Axis("users", "users", "users"),
        Axis("way", "cheapest"),
        rows,
    )
