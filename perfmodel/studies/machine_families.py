"""Who serves a user at a speed for the least money: machines of three families, at every batch.

Each chip is drawn as a whole: all of its times are off by one factor, all of its prices by another.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from perfmodel.library.economics import Spread
from perfmodel.library.ledger import hour
from perfmodel.studies.claim import Progress
from perfmodel.studies.draws import Draws, within
from perfmodel.studies.machines import (
    SERVED,
    Load,
    Observation,
    Question,
    deployment_of,
    observe,
    served,
)

MODEL = "llama-3.1-70b"
PROMPT = OUTPUT = 1024.0
USERS = tuple(2.0**i for i in range(11))

HBM, WAFER, LPU = "GPU with HBM", "wafer of SRAM", "LPU of SRAM"
KINDS = {"H100": HBM, "B200": HBM, "WSE-3": WAFER, "LPU v1": LPU, "LP30": LPU}
FAMILIES = {SERVED[name][0]: family for name, family in KINDS.items()}
SRAM = (WAFER, LPU)

LAYOUTS = {
    "H100": [(n, 1) for n in (1, 2, 4, 8)],
    "B200": [(n, 1) for n in (1, 2, 4, 8)],
    "WSE-3": [(1, n) for n in (4, 5, 6, 8, 10, 16, 20)],
    "LPU v1": [(8, 40), (8, 80), (16, 40), (16, 80), (32, 20), (64, 10)],
    "LP30": [(8, 20), (8, 40), (16, 10), (16, 20), (32, 8)],
}
"""Ranks of a group, and groups: LPUs as pipelines of groups, from as few as hold the model."""

MACHINES = [served(name, *ranks) for name, layouts in LAYOUTS.items() for ranks in layouts]


class Cloud(NamedTuple):
    """All machines at all batches that fit, with draws on the last axis.

    - `speed`: tokens/s of one user; `dollars`, `joules`: of one output token.
    """

    seen: list[Observation]
    speed: np.ndarray
    dollars: np.ndarray
    joules: np.ndarray

    def of(self, families: Sequence[str]) -> np.ndarray:
        """Which points belong to some families."""
        return np.array([family_of(seen) in families for seen in self.seen])


def family_of(seen: Observation) -> str:
    """The family of a machine."""
    return FAMILIES[seen.asked.machine.chip]


def cloud(
    progress: Progress, draws: Draws, prompt: float = PROMPT, output: float = OUTPUT
) -> Cloud:
    """Every machine with every number of users, as far as they fit."""
    asked = [Question(m, MODEL, Load(u, prompt, output)) for m in MACHINES for u in USERS]
    seen = [one for one in observe(asked, progress) if one.fits]
    intervals = {m.chip: deployment_of(m, MODEL).intervals.tpot for m in map(served, KINDS)}
    slower = {chip: draws.factor(interval) for chip, interval in intervals.items()}
    cost_factors = {chip: draws.of(_relative(hour(chip))) for chip in FAMILIES}
    chips = [one.asked.machine.chip for one in seen]
    slow = np.stack([slower[chip] for chip in chips])
    costs = np.stack([cost_factors[chip] for chip in chips])
    speed, dollars, joules, idle = (
        np.array([getattr(one, name) for one in seen])[:, None]
        for name in ("speed", "dollars", "joules", "idle")
    )
    # Of some chips no power is published: they take part in everything but energy.
    spent = np.nan_to_num(joules + idle * (slow - 1), nan=np.inf)
    return Cloud(seen, speed / slow, dollars * slow * costs, spent)


def _relative(known: Spread) -> Spread:
    return Spread(1.0, known.low / known.value, known.high / known.value)


def least(found: Cloud, values: np.ndarray, families: Sequence[str], target: float) -> np.ndarray:
    """The least of `values` among points of some families at `target` tokens/s or more, for each draw.

    Infinite where none is so fast.
    """
    there = found.of(families)[:, None] & (found.speed >= target)
    return np.min(np.where(there, values, np.inf), axis=0)


def ahead(found: Cloud, values: np.ndarray, target: float) -> np.ndarray:
    """Draws in which SRAM takes less than HBM at `target` tokens/s or more."""
    return least(found, values, SRAM, target) < least(found, values, [HBM], target)


def speed_rows(
    found: Cloud, values: np.ndarray, targets: Sequence[float], name: str
) -> list[dict[str, Any]]:
    """Of each family at each speed that it can serve: the least of `values`, with its range."""
    cells = [(family, target) for family in dict.fromkeys(KINDS.values()) for target in targets]
    middles = [within(least(found, values, [family], target)) for family, target in cells]
    return [
        {"speed": target, "family": family} | m.columns(name)
        for (family, target), m in zip(cells, middles, strict=True)
        if np.isfinite(m.median)
    ]


def best(found: Cloud, families: Sequence[str], target: float) -> Observation | None:
    """The cheapest point of some families at `target` tokens/s or more, by the middle estimate."""
    there = [s for s in found.seen if family_of(s) in families and s.speed >= target]
    return min(there, key=lambda seen: seen.dollars, default=None)


def crossings(targets: Sequence[float], own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """For each draw, the least target from which on one side is nowhere more expensive than the other.

    Infinite where that side cannot serve it.

    **Arguments:**

    - `own`, `other`: the least of both sides, for each target and each draw.
    """
    lost = other < own
    last = np.where(lost.any(axis=0), len(targets) - np.argmax(lost[::-1], axis=0), 0)
    inside = np.minimum(last, len(targets) - 1)
    served = np.isfinite(np.take_along_axis(own, inside[None], axis=0)[0])
    return np.where((last < len(targets)) & served, np.asarray(targets)[inside], np.inf)
