"""What a decode step gives to draw: energy by term, rooms of memory, kernels under a roof."""

import numpy as np

from perfmodel.breakdown import JOULES
from perfmodel.inference.explanation import Step
from perfmodel.inference.step import Cost
from perfmodel.interface.plots import Room
from perfmodel.resources import NAMES

TIERS = {
    "private": "SRAM of the cores",
    "shared": "shared SRAM",
    "main": "main memory",
    "far": "far memory",
}
"""The memory tiers, fastest first, in words."""

SMALLEST_SHARE = 0.01
"""Kernels that take a smaller share of the time are not drawn."""


def joules_of(cost: Cost) -> dict[str, float]:
    """Energy of a step in J, by term."""
    return dict(zip(JOULES, map(float, cost.breakdown.joules), strict=True))


def rooms_of(name: str, step: Step) -> list[Room]:
    """What one chip keeps in each tier that may hold weights or cache, in bytes."""
    placed = step.cost.placement
    kept = ((placed.weights, placed.size), (placed.cache, placed.cache_size))
    return [
        Room(name, TIERS[tier], room, *(float(getattr(home, tier) * size) for home, size in kept))
        for tier in TIERS
        if (room := float(getattr(step.chip, tier).room)) > 0
    ]


def home_of(cost: Cost) -> str:
    """The tier that holds most of the weights."""
    return max(TIERS, key=lambda tier: float(getattr(cost.placement.weights, tier)))


def roof_of(name: str, step: Step, tier: str) -> tuple[str, float, float]:
    """Peak of one chip in the plan's format, in FLOP/s, and bandwidth of a tier, in byte/s."""
    peak = step.chip.matrix[step.plan.format.matrix]
    return name, float(peak), float(getattr(step.chip, tier).bandwidth)


def points_of(name: str, cost: Cost, tier: str) -> list[tuple[str, str, float, float]]:
    """Kernels that multiply matrices: FLOP for each byte of a tier, and the rate one chip reaches."""
    demand, times = np.asarray(cost.kernels.demand), np.asarray(cost.kernels.time)
    points = []
    for label in dict.fromkeys(cost.labels):
        at = [i for i, one in enumerate(cost.labels) if one == label]
        flops, size = demand[at, 0].sum(), demand[at, NAMES.index(tier)].sum()
        time = times[at].sum()
        if flops > 0 and time > SMALLEST_SHARE * times.sum():
            points.append((name, label, float(flops / max(size, 1.0)), float(flops / time)))
    return points
