"""Q12: from which speed of a user on is SRAM the cheaper machine?"""

from typing import Any, NamedTuple

import numpy as np

from perfmodel.library.chip import load_chip
from perfmodel.library.ledger import hour
from perfmodel.studies.claim import PRICE_AXIS, SPEED_AXIS, Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import Draws, Middle, middle, share, show
from perfmodel.studies.machine_families import (
    HBM,
    KINDS,
    SRAM,
    Cloud,
    best,
    cloud,
    crossings,
    least,
    speed_rows,
)
from perfmodel.studies.machines import model_bytes
from perfmodel.studies.searched_machines import cheaper, designed

TARGETS = tuple(float(round(x)) for x in np.geomspace(10, 2000, 24))
"""Tokens/s of one user."""

FINE_TARGETS = np.geomspace(TARGETS[0], TARGETS[-1], 400)
"""The same for searched machines, whose fronts are traced; a step is 1.3 %."""

SLOW_SPEED, FAST_SPEED = 30.0, 300.0
"""Tokens/s at which the claim is put: reading speed, and ten times that."""

LARGE_MODEL = "kimi-k2"
"""A model of a trillion parameters."""


class Crossed(NamedTuple):
    """Where SRAM becomes the cheaper machine.

    - `slow`, `fast`: draws in which GPUs are cheaper at `SLOW_SPEED`, and SRAM at `FAST_SPEED`.
    - `at`: the speed from which on SRAM is never more expensive.
    - `gpu`, `sram`: USD of a token at `SLOW_SPEED`, in the middle.
    """

    slow: np.ndarray
    fast: np.ndarray
    at: Middle
    gpu: float
    sram: float

    @property
    def both(self) -> np.ndarray:
        """Draws in which both halves of the claim hold."""
        return self.slow & self.fast


def crossed(found: Cloud) -> Crossed:
    """Machines that there are."""
    gpu, sram = (
        np.stack([least(found, found.dollars, who, t) for t in (*TARGETS, SLOW_SPEED, FAST_SPEED)])
        for who in ([HBM], SRAM)
    )
    at = crossings(TARGETS, sram[:-2], gpu[:-2])
    one, other = best(found, [HBM], SLOW_SPEED), best(found, SRAM, SLOW_SPEED)
    assert one is not None and other is not None
    last = middle(np.minimum(at, TARGETS[-1]))
    return Crossed(gpu[-2] < sram[-2], sram[-1] < gpu[-1], last, one.dollars, other.dollars)


def run(progress: Progress) -> Answer:
    found = cloud(progress, Draws())
    one, new = crossed(found), cheaper(designed(), FINE_TARGETS)
    return Answer(
        _said(one) + _designed(new),
        share(one.both),
        f"GPUs are cheaper at {SLOW_SPEED:.0f} tokens/s in {100 * share(one.slow):.0f} % of draws of prices "
        "and times.",
        _table(found),
        _figure(found),
        _numbers(one, new),
    )


def _said(one: Crossed) -> str:
    large, begin = _hold(LARGE_MODEL), "Both halves hold: at" if share(one.both) >= 0.5 else "At"
    return (
        f"{begin} {SLOW_SPEED:.0f} tokens/s per user GPUs serve Llama-3.1-70B for {show(1e6 * one.gpu)} USD "
        f"per million tokens and SRAM machines for {show(one.sram / one.gpu)} times that; from "
        f"{show(one.at.median)} tokens/s on ({one.at.range}) SRAM is "
        f"cheaper; to hold a trillion parameters in 8 bits costs {show(large['WSE-3'])} USD/h in wafers and "
        f"{show(large['H100'])} in H100."
    )


def _numbers(one: Crossed, new: np.ndarray) -> dict[str, float]:
    return {
        "crossing_tokens_per_s": one.at.median,
        "crossing_low": one.at.low,
        "crossing_high": one.at.high,
        "crossing_designed": float(new[0]) if len(new) else float("inf"),
        "usd_per_million_gpu_slow": 1e6 * one.gpu,
        "sram_over_gpu_slow": one.sram / one.gpu,
    } | {f"usd_per_hour_{name}_{LARGE_MODEL}": value for name, value in _hold(LARGE_MODEL).items()}


def _designed(speeds: np.ndarray) -> str:
    """What a search says, whose machines are all of one making."""
    where = f"from {show(speeds[0])} to {show(speeds[-1])} tokens/s" if len(speeds) else "nowhere"
    return f" Among chips that a search designs for each speed SRAM alone is cheaper {where}."


def _hold(model: str) -> dict[str, float]:
    """USD/h of as many chips as hold the weights of a model in 8 bits."""
    size = model_bytes(model, "fp8")
    found = {}
    for name, stem in (("H100", "h100-sxm"), ("WSE-3", "wse-3"), ("LP30", "lp30")):
        room = max(float(tier.usable_capacity) for tier in load_chip(stem).tiers[:3])
        found[name] = float(np.ceil(size / room)) * hour(stem).value * 3600
    return found


def _table(found: Cloud) -> Table:
    speeds = (10.0, 30.0, 60.0, 100.0, 200.0, 400.0, 800.0)
    rows = [_row(found, t, family) for t in speeds for family in dict.fromkeys(KINDS.values())]
    return Table.of([row for row in rows if row])


def _row(found: Cloud, target: float, family: str) -> dict[str, Any] | None:
    """The cheapest machine of a family that is so fast."""
    seen = best(found, [family], target)
    if seen is None:
        return None
    return {
        "tokens/s a user": target,
        "family": family,
        "cheapest machine": seen.asked.machine.name,
        "users": int(seen.asked.load.concurrency),
    } | middle(found.dollars[found.seen.index(seen)] * 1e6).columns("USD/M tokens")


def _figure(found: Cloud) -> Figure:
    return Figure(
        "Llama-3.1-70B: the least price at a user's speed",
        "lines",
        SPEED_AXIS,
        PRICE_AXIS,
        Axis("family", "machine"),
        speed_rows(found, 1e6 * found.dollars, TARGETS, "price"),
    )
