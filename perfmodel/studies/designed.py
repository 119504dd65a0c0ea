"""Machines that nobody sells yet: at each speed of a user the chip that a search designs for it.

Searches over SRAM alone and HBM (the preset `sram-or-hbm`) at three speeds, then the front of price against
speed from each, all speeds in one `vmap`. Numbers of chips and of users are loose along a front.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perfmodel.design.answer import made_of, objective, vector
from perfmodel.design.front import trace
from perfmodel.design.pose import NO_MEMORY, pose
from perfmodel.design.presets import find_study
from perfmodel.design.search import search
from perfmodel.design.space import Space, read_space, shown
from perfmodel.design.study import Study
from perfmodel.library.technology import device

PRESET = Path("sram-or-hbm")
SPEED = "tokens_per_s_per_user"


class Designed(NamedTuple):
    """A place of a front.

    - `speed`: tokens/s of one user; `dollars`: of one output token, prompts left out.
    - `held`: bytes of HBM that an output token takes for a second.
    """

    speed: float
    dollars: float
    held: float


BEGINS = (1.0, 125.0, 150.0)
"""Tokens/s of the searches from which fronts are traced: descents from slow machines miss fast ones."""


@functools.cache
def designed() -> dict[bool, list[Designed]]:
    """Fronts of machines with HBM (`True`) and of SRAM alone (`False`), the slowest first."""
    study = find_study(PRESET)[1]
    found = [place for speed in BEGINS for place in _traced(study, speed)]
    return {
        hbm: sorted((one for own, one in found if own == hbm), key=lambda one: one.speed)
        for hbm in (True, False)
    }


def _traced(study: Study, speed: float) -> Iterator[tuple[bool, Designed]]:
    """Places of the fronts that begin at the best designs of at least `speed`, and whether they have HBM."""
    limits = study.constraints.model_copy(update={SPEED: speed})
    asked = study.model_copy(update={"constraints": limits})
    space, problem, options = read_space(asked), pose(asked), asked.optimiser
    designs = search(problem, space.whole, options).designs
    for hbm in (True, False):
        mine = [d for d in designs if (made_of(asked, d.choice)["memory"] != NO_MEMORY) == hbm]
        for p in trace(problem, mine, SPEED, options.points, options.starts):
            held = _held(space, p.unit, p.figure) * hbm
            yield hbm, Designed(p.figure, 1e-6 * objective(asked, p.value), held)


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
