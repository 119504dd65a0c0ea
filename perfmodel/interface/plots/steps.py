"""Pictures of decode steps: kernels under their rooflines, energy by term, memory placement."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from perfmodel.breakdown import JOULES
from perfmodel.inference.explanation import Step
from perfmodel.inference.step import Cost
from perfmodel.interface.plots.bars import stacked
from perfmodel.interface.plots.lines import roofline
from perfmodel.resources import NAMES

TIERS = {
    "private": "SRAM of the cores",
    "shared": "shared SRAM",
    "main": "main memory",
    "far": "far memory",
}
"""The memory tiers, fastest first, in words."""

MIN_SHARE = 0.01
"""Kernels that take a smaller share of the time are not drawn."""

NamedSteps = Sequence[tuple[str, Step]]


def step_rooflines(steps: NamedSteps, title: str) -> Any:
    """Kernels of each step, against the memory that holds most of its weights."""
    kernels = [kernel for named in steps for kernel in _kernels(*named)]
    return roofline([_roof(*named) for named in steps], kernels, title)


PLACED = {"weights": "#4477AA", "cache": "#EE6677", "free": "#E5E5E5"}


def memory_placement(steps: NamedSteps) -> Any:
    """What one chip of each step keeps in which memory: shares of each tier, its size beside it."""
    tiers = [tier for named in steps for tier in _tiers(*named)]
    return stacked(
        tiers, PLACED, "Memory placement per chip", "share of the tier (%)", "kept in it"
    )


def joules_of(cost: Cost) -> dict[str, float]:
    """Energy of a step in J, by term."""
    return dict(zip(JOULES, map(float, cost.breakdown.joules), strict=True))


def _tiers(name: str, step: Step) -> list[tuple[str, dict[str, float]]]:
    """What one chip keeps in each tier that may hold weights or cache, in percent."""
    placed, rows = step.cost.placement, []
    for tier, words in TIERS.items():
        capacity = float(getattr(step.chip, tier).usable_capacity)
        if capacity > 0:
            weights = float(getattr(placed.weights, tier) * placed.size)
            cache = float(getattr(placed.cache, tier) * placed.cache_size)
            sizes = (weights, cache, max(capacity - weights - cache, 0.0))
            shares = dict(zip(PLACED, (100 * size / capacity for size in sizes), strict=True))
            rows.append((f"{name}: {words}, {capacity / 1e9:,.3g} GB", shares))
    return rows


def _weights_tier(cost: Cost) -> str:
    """The tier that holds most of the weights."""
    return max(TIERS, key=lambda tier: float(getattr(cost.placement.weights, tier)))


def _roof(name: str, step: Step) -> tuple[str, float, float]:
    """Peak of one chip in the plan's format, in FLOP/s, and bandwidth of that tier, in byte/s."""
    peak = step.chip.matrix[step.plan.format.matrix]
    return name, float(peak), float(getattr(step.chip, _weights_tier(step.cost)).bandwidth)


def _kernels(name: str, step: Step) -> list[tuple[str, str, float, float]]:
    """Kernels that multiply matrices: FLOP for each byte of that tier, and the rate one chip reaches."""
    cost, tier = step.cost, _weights_tier(step.cost)
    demand, times = np.asarray(cost.kernels.demand), np.asarray(cost.kernels.time)
    found = []
    for label in dict.fromkeys(cost.labels):
        at = [i for i, other in enumerate(cost.labels) if other == label]
        flops, size = demand[at, 0].sum(), demand[at, NAMES.index(tier)].sum()
        time = times[at].sum()
        if flops > 0 and time > MIN_SHARE * times.sum():
            found.append((name, label, float(flops / max(size, 1.0)), float(flops / time)))
    return found
