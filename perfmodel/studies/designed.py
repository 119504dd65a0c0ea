"""Machines that nobody sells yet: at each speed of a user the chip that a search designs for it.

A search over SRAM alone and HBM (the preset `sram-or-hbm`), then the front of price against speed, all speeds
in one `vmap`. Numbers of chips and of users are loose along a front.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perfmodel.design.multistart import search
from perfmodel.design.pareto import trace
from perfmodel.design.report import made_of, objective, vector
from perfmodel.design.resolve import NO_MEMORY, find_study, pose
from perfmodel.design.variables import Space, read_space, shown
from perfmodel.library.technology import device

PRESET = Path("sram-or-hbm")
SPEED = "tokens_per_s_per_user"

POINTS = 48
"""Places of each front, at most: they are read between, not interpolated."""


class Designed(NamedTuple):
    """A place of a front.

    - `speed`: tokens/s of one user; `dollars`: of one output token, prompts left out.
    - `held`: bytes of HBM that an output token takes for a second.
    """

    speed: float
    dollars: float
    held: float


@functools.cache
def designed() -> dict[bool, list[Designed]]:
    """Fronts of machines with HBM (`True`) and of SRAM alone (`False`), the slowest first."""
    study = find_study(PRESET)[1]
    space, problem = read_space(study), pose(study)
    options = study.optimiser.model_copy(update={"points": POINTS})
    designs = search(problem, space.whole, options).designs
    found: dict[bool, list[Designed]] = {True: [], False: []}
    for p in trace(problem, designs, SPEED, space.whole, options):
        hbm = made_of(study, p.choice)["memory"] != NO_MEMORY
        held = _held(space, p.unit, p.figure) * hbm
        found[hbm].append(Designed(p.figure, 1e-6 * objective(study, p.value), held))
    return {hbm: sorted(front, key=lambda one: one.speed) for hbm, front in found.items()}


def _held(space: Space, unit: np.ndarray, speed: float) -> float:
    """Bytes of all stacks over tokens/s of all users."""
    one = shown(space, vector(space, unit))
    size = float(device("hbm3e").capacity) * one["stacks"] * one["tensor"] * one["pipeline"]
    return size / (one["batch"] * speed)


def cheapest(front: list[Designed], speed: float) -> Designed | None:
    """The cheapest of a front that is fast enough."""
    return min((p for p in front if p.speed >= speed), key=lambda p: p.dollars, default=None)


def cheaper(fronts: dict[bool, list[Designed]], speeds: np.ndarray) -> np.ndarray:
    """Those of the speeds at which SRAM alone is the cheaper, or all that is fast enough."""
    prices = {
        hbm: np.array([one.dollars if (one := cheapest(front, s)) else np.inf for s in speeds])
        for hbm, front in fronts.items()
    }
    return speeds[prices[False] < prices[True]]
