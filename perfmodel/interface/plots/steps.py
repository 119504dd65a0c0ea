"""Pictures of decode steps: kernels under their rooflines, energy by term, memory placement."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from perfmodel.breakdown import JOULES
from perfmodel.inference.explanation import Step
from perfmodel.inference.step import Cost
from perfmodel.interface.plots.bars import TierUse, placement
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
    tiers = [_weights_tier(step.cost) for _, step in steps]
    roofs = [_roof(*named, tier) for named, tier in zip(steps, tiers, strict=True)]
    kernels = [
        kernel
        for (name, step), tier in zip(steps, tiers, strict=True)
        for kernel in _kernels(name, step.cost, tier)
    ]
    return roofline(roofs, kernels, title)


def memory_placement(steps: NamedSteps) -> Any:
    """What one chip of each step keeps in which memory."""
    return placement(
        [use for name, step in steps for use in _tier_uses(name, step)],
        "Memory placement per chip",
    )


def joules_of(cost: Cost) -> dict[str, float]:
    """Energy of a step in J, by term."""
    return dict(zip(JOULES, map(float, cost.breakdown.joules), strict=True))


def _tier_uses(name: str, step: Step) -> list[TierUse]:
    """What one chip keeps in each tier that may hold weights or cache, in bytes."""
    placed = step.cost.placement
    sizes = ((placed.weights, placed.size), (placed.cache, placed.cache_size))
    return [
        TierUse(
            name,
            TIERS[tier],
            room,
            *(float(getattr(shares, tier) * size) for shares, size in sizes),
        )
        for tier in TIERS
        if (room := float(getattr(step.chip, tier).room)) > 0
    ]


def _weights_tier(cost: Cost) -> str:
    """The tier that holds most of the weights."""
    return max(TIERS, key=lambda tier: float(getattr(cost.placement.weights, tier)))


def _roof(name: str, step: Step, tier: str) -> tuple[str, float, float]:
    """Peak of one chip in the plan's format, in FLOP/s, and bandwidth of a tier, in byte/s."""
    peak = step.chip.matrix[step.plan.format.matrix]
    return name, float(peak), float(getattr(step.chip, tier).bandwidth)


def _kernels(name: str, cost: Cost, tier: str) -> list[tuple[str, str, float, float]]:
    """Kernels that multiply matrices: FLOP for each byte of a tier, and the rate one chip reaches."""
    demand, times = np.asarray(cost.kernels.demand), np.asarray(cost.kernels.time)
    found = []
    for label in dict.fromkeys(cost.labels):
        at = [i for i, other in enumerate(cost.labels) if other == label]
        flops, size = demand[at, 0].sum(), demand[at, NAMES.index(tier)].sum()
        time = times[at].sum()
        if flops > 0 and time > MIN_SHARE * times.sum():
            found.append((name, label, float(flops / max(size, 1.0)), float(flops / time)))
    return found
