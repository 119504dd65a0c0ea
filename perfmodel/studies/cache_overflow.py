"""Q3: what is a wafer worth once the cache is larger than its SRAM?"""

import itertools

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
    medians,
    options,
    winner,
)
from perfmodel.studies.claim import Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import middle, or_nan, share, show

WAYS = (INSIDE, STREAMED, POOL)
MAX_COST_RATIO = 3.0
"""Times the price of GPUs up to which a wafer might make sense for being faster."""

TESTED_CONTEXT, TESTED_USERS = 65536.0, 64.0
"""Where the claim is put: long texts of many users, which no four wafers hold."""


def run(progress: Progress) -> Answer:
    found = [one for one in options(progress) if one.weights in ("wse-3", "h100-sxm", "b200-sxm")]
    over, cells = middle(_over(found, TESTED_CONTEXT)), _cells(found)
    return Answer(
        _said(found),
        share(_over(found, TESTED_CONTEXT) > MAX_COST_RATIO),
        "Times of wafers are known to a factor of two and a half, their price to two, a round trip to four.",
        _table(cells),
        _figure(cells),
        {
            "wafer_over_gpu_long": over.median,
            "wafer_over_gpu_low": over.low,
            "wafer_over_gpu_high": over.high,
            "wafer_over_gpu_short": middle(_over(found, CONTEXTS[0])).median,
        },
    )


def _said(found: list[Option]) -> str:
    prices = medians(found, (GPU, *WAYS), TESTED_CONTEXT, TESTED_USERS)
    gpu, *ways = map(_price, prices.values())
    over, early = middle(_over(found, TESTED_CONTEXT)), middle(_over(found, CONTEXTS[0]))
    shown = [f"{way} {price}" for way, price in zip(WAYS, ways, strict=True)]
    return (
        f"With {TESTED_USERS:.0f} users of {TESTED_CONTEXT:,.0f} tokens a million tokens cost, in USD: "
        f"{', '.join(shown)}, GPUs alone {gpu}: the best wafer {show(over.median)} times GPUs "
        f"({over.range}), against {show(early.median)} times at {CONTEXTS[0]:,.0f} tokens. The "
        f"pool beats cache in SRAM {_first(found, POOL)}, the edge {_first(found, STREAMED)}."
    )


def _over(found: list[Option], context: float) -> np.ndarray:
    """Draws of the best wafer's cost over that of GPUs, for `TESTED_USERS` users."""
    wafer, gpu = (cheapest(found, ways, context, TESTED_USERS) for ways in (WAYS, [GPU]))
    return wafer / gpu


def _price(median: float) -> str:
    return show(1e6 * median) if np.isfinite(median) else "(fits nowhere)"


def _first(found: list[Option], way: str) -> str:
    """The context from which on a way is cheaper than cache in SRAM for `TESTED_USERS` users."""
    for context in CONTEXTS:
        prices = medians(found, (way, INSIDE), context, TESTED_USERS)
        if prices[way] < prices[INSIDE]:
            return f"from {context:,.0f} tokens on"
    return "nowhere"


Cells = dict[tuple[float, float], dict[str, float]]
"""Prices of each way, by context and users."""


def _cells(found: list[Option]) -> Cells:
    cells = itertools.product(CONTEXTS, USERS)
    return {cell: medians(found, (*WAYS, GPU), *cell) for cell in cells}


def _table(cells: Cells) -> Table:
    names = ["context", "users", *(f"{way}, USD/M" for way in (*WAYS, GPU)), "best wafer over GPUs"]
    rows = []
    for (context, users), prices in cells.items():
        known = [or_nan(1e6 * price) for price in prices.values()]
        ratio = min(prices[w] for w in WAYS) / prices[GPU]
        rows.append((int(context), int(users), *known, or_nan(ratio)))
    return Table(names, rows)


def _figure(cells: Cells) -> Figure:
    rows = [
        {"context": context, "users": users} | best
        for (context, users), prices in cells.items()
        if (best := winner({way: prices[way] for way in WAYS}))
    ]
    return Figure(
        f"{MODEL} on wafers: where the cache is cheapest",
        "cells",
        Axis("context", "context of a user", "tokens"),
        Axis("users", "users", "users"),
        Axis("way", "cheapest"),
        rows,
    )
