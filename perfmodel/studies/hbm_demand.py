"""Q9: how much HBM is not bought when fast tokens move to SRAM?"""

from typing import NamedTuple

import numpy as np

from perfmodel.library.chip import load_chip
from perfmodel.library.economics import load_ownership, market
from perfmodel.studies.claim import SPEED_AXIS, Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import Draws, middle, or_nan, share, show
from perfmodel.studies.machine_families import HBM, WAFER, Cloud, ahead, best, cloud, least
from perfmodel.studies.machines import Observation
from perfmodel.studies.searched_machines import Designed, cheapest, designed

TARGETS = tuple(float(round(x)) for x in np.geomspace(10, 250, 15))
ERODED_SHARE = 0.1
"""Share of all HBM from which on it is called erosion."""


def held(found: Cloud) -> np.ndarray:
    """Bytes of HBM that are taken for a second by one output token, at every point and draw."""
    held = [_memory(s) * s.held for s in found.seen]
    slow = np.array([s.speed for s in found.seen])[:, None] / found.speed
    return np.array(held)[:, None] * slow


def _memory(seen: Observation) -> float:
    """Bytes of main memory of all chips."""
    machine = seen.asked.machine
    return float(load_chip(machine.chip).main.capacity) * machine.chips


def speeds() -> tuple[float, float]:
    """Tokens/s per user in a usual tier, and in a fast one."""
    usual = market().demand["usual"].si("1/s")
    return usual, usual * market().premium["speed"].value


def erosion(
    part: np.ndarray, slow: np.ndarray, quick: np.ndarray, cheaper: np.ndarray
) -> np.ndarray:
    """Share of all HBM that is not bought if fast tokens go where they are cheaper.

    **Arguments:**

    - `part`: of tokens that are fast; `slow`, `quick`: bytes that a slow and a fast one holds.
    - `cheaper`: whether SRAM is, for fast tokens.
    """
    # What no GPU can serve would not have been bought as HBM.
    fast = part * np.where(np.isfinite(quick), quick, 0.0)
    return np.where(cheaper, fast, 0.0) / ((1 - part) * slow + fast)


class Demand(NamedTuple):
    """What a slow and a fast token hold of HBM, and where the fast one is cheaper, as draws.

    - `size`: bytes that a token holds for a second, at every point of the cloud; infinite without HBM.
    - `slow`, `quick`: the least of a token in the usual tier and in the fast one.
    - `cheaper`: whether SRAM is, for fast tokens; `part`: of tokens that are fast.
    """

    size: np.ndarray
    slow: np.ndarray
    quick: np.ndarray
    cheaper: np.ndarray
    part: np.ndarray

    @property
    def eroded(self) -> np.ndarray:
        """Share of all HBM that is not bought."""
        return erosion(self.part, self.slow, self.quick, self.cheaper)

    @property
    def medians(self) -> tuple[float, float]:
        """Bytes of a slow token and of a fast one, where a GPU can serve it."""
        quick = self.quick[np.isfinite(self.quick)]
        return middle(self.slow).median, middle(quick).median


def demand(found: Cloud, draws: Draws) -> Demand:
    """Machines that there are, in both tiers."""
    size = np.where(found.of([HBM])[:, None], held(found), np.inf)
    usual, fast = speeds()
    part = draws.fact(market().demand["fast"], "1")
    slow, quick = (least(found, size, [HBM], target) for target in (usual, fast))
    return Demand(size, slow, quick, ahead(found, found.dollars, fast), part)


def run(progress: Progress) -> Answer:
    draws = Draws()
    found = cloud(progress, draws)
    one = demand(found, draws)
    return Answer(
        _said(one, _contract(found)),
        share(one.eroded > ERODED_SHARE),
        f"SRAM is cheaper at {speeds()[1]:.0f} tokens/s in {100 * share(one.cheaper):.0f} % of draws; the "
        "share of fast tokens is drawn from 1 to 20 %, since nobody publishes it.",
        _table(found, one.size),
        _figure(found, one.size),
        _numbers(one, _contract(found)),
    )


def _said(one: Demand, wafers: float) -> str:
    (usual, fast), (slow, quick), gone = speeds(), one.medians, middle(one.eroded)
    power = market().contract["power"].si("W") / 1e6
    return (
        f"A token at {usual:.0f} tokens/s holds {show(slow / 1e6)} MB of HBM for a second, one at {fast:.0f} "
        f"tokens/s {show(quick / 1e6)} MB; if {show(100 * market().demand['fast'].value, 1)} % of tokens are "
        f"that fast and go where they are cheaper, {show(100 * float(np.mean(one.eroded)))} % of HBM is not "
        f"bought ({show(100 * gone.low)} to {show(100 * gone.high)} in 90 %). OpenAI's {power:.0f} MW of "
        f"wafers stand for {show(wafers / 1e15)} PB of HBM at the slower speed. {_said_of()}"
    )


def _said_of() -> str:
    """What a search says, which designs a chip for each speed."""
    fronts, (usual, fast) = designed(), speeds()
    new = [held_designed(fronts[True], speed) for speed in (usual, fast)]
    return (
        f"Chips that a search designs with HBM for the two speeds hold {show(new[0] / 1e6)} and "
        f"{show(new[1] / 1e6)} MB{_dearer(fronts, fast)}."
    )


def _numbers(one: Demand, wafers: float) -> dict[str, float]:
    slow, quick = one.medians
    new = [held_designed(designed()[True], speed) for speed in speeds()]
    return {
        "hbm_bytes_slow": slow,
        "hbm_bytes_fast": quick,
        "hbm_bytes_slow_designed": new[0],
        "hbm_bytes_fast_designed": new[1],
        "eroded": float(np.mean(one.eroded)),
        "eroded_high": middle(one.eroded).high,
        "contract_hbm_bytes": wafers,
    }


def held_designed(front: list[Designed], speed: float) -> float:
    """Bytes of HBM that a token holds for a second on the cheapest searched chip; `nan`: none is so fast."""
    found = cheapest(front, speed)
    return float("nan") if found is None else found.held


def _dearer(fronts: dict[bool, list[Designed]], speed: float) -> str:
    """What a token of SRAM alone costs beside, if it can be that fast."""
    alone, other = (cheapest(fronts[hbm], speed) for hbm in (False, True))
    if alone is None or other is None:
        return "; SRAM alone is not that fast" if other else "; only SRAM alone is that fast"
    return f"; SRAM alone costs {show(alone.dollars / other.dollars)} times as much at the faster"


def _contract(found: Cloud) -> float:
    """Bytes of HBM that would serve what the contract's wafers serve, at a usual tier's speed."""
    usual = market().demand["usual"].si("1/s")
    wafer, gpu = best(found, [WAFER], usual), best(found, [HBM], usual)
    assert wafer is not None and gpu is not None
    power = float(load_chip("wse-3").peak_power) * float(load_ownership().overhead)
    rate = market().contract["power"].si("W") / power / wafer.asked.machine.chips / wafer.held
    return rate * gpu.held * _memory(gpu)


def _table(found: Cloud, size: np.ndarray) -> Table:
    half = [middle(least(found, size, [HBM], target)).median / 1e6 for target in TARGETS]
    wins = [100 * share(ahead(found, found.dollars, target)) for target in TARGETS]
    rows = list(zip(TARGETS, map(or_nan, half), wins, strict=True))
    return Table(["tokens/s a user", "MB of HBM for a token/s", "SRAM cheaper, % of draws"], rows)


def _figure(found: Cloud, size: np.ndarray) -> Figure:
    rows = [
        {"speed": target, "mb": mega, "wins": "yes" if wins > 50 else "no"}
        for target, mega, wins in _table(found, size).rows
        if np.isfinite(mega)
    ]
    return Figure(
        "HBM that a token holds for a second, on GPUs",
        "points",
        SPEED_AXIS,
        Axis("mb", "HBM for each token/s", "MB", log=True),
        Axis("wins", "SRAM cheaper"),
        rows,
    )
