"""Four places for a cache: in SRAM, behind a wafer's edge, in an HBM pool of its own, or all on GPUs.

Decode alone is counted. Where weights stay in SRAM and caches lie in a pool of GPUs, every layer's queries
go there and its result comes back; one after the other, so that nothing is hidden.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

from perfmodel.hardware.chip import Chip
from perfmodel.library.chip import load_chip
from perfmodel.library.economics import physics
from perfmodel.library.ledger import hour
from perfmodel.studies.claim import Progress
from perfmodel.studies.draws import COUNT, Draws
from perfmodel.studies.machines import (
    Load,
    Machine,
    Observation,
    Question,
    cache_size,
    deployment_of,
    observe,
    served,
)
from perfmodel.units import as_scalar
from perfmodel.workload.attention import Grouped

MODEL = "llama-3.1-70b"
CONTEXTS = (1024.0, 4096.0, 16384.0, 65536.0, 131072.0)
USERS = (1.0, 4.0, 16.0, 64.0, 256.0)

INSIDE, STREAMED = "cache in SRAM", "cache behind the edge"
POOL, GPU = "cache in an HBM pool", "GPUs alone"

SHORT_CONTEXT = 2.0
"""Tokens of context with which a machine is asked for everything but its attention."""

GROUP = 8
"""GPUs that share the heads of a pool's attention."""

WAFERS = (4, 6, 8, 12, 16, 24, 40, 80)
LPUS = ((8, 20), (8, 40))


class Option(NamedTuple):
    """A way to serve `users` with `context` tokens each, as draws.

    - `home`: where the cache is; `weights`: the chip that holds the weights.
    - `speed`: tokens/s of one user; `dollars`: of one output token.
    """

    home: str
    weights: str
    context: float
    users: float
    speed: np.ndarray
    dollars: np.ndarray


class Drawn:
    """Draws of what chips are off by: one factor on times and one on prices for each, and the round trip."""

    def __init__(self, machines: Sequence[Machine]):
        draws, given = Draws(), {one.chip: deployment_of(one, MODEL) for one in machines}
        self.slow = {chip: draws.factor(one.intervals.tpot) for chip, one in given.items()}
        self.hour = {chip: draws.of(hour(chip)) for chip in given}
        self.trip = draws.of(physics("round_trip", "s"))


def edge_opened(chip: Chip) -> Chip:
    """A wafer that may keep caches in the memory behind its edge."""
    return eqx.tree_at(lambda c: c.far.usable, chip, as_scalar(1.0))


def _wafer(count: float, opened: bool = False) -> Machine:
    return served("WSE-3", 1, count, edge_opened if opened else None)


GPUS = [served("H100", GROUP), served("B200", GROUP)]
LPU = [served("LP30", *ranks) for ranks in LPUS]


def options(progress: Progress) -> list[Option]:
    """Every option at every context and number of users, where it fits."""
    cells = [(users, context) for context in CONTEXTS for users in USERS]
    whole = [_wafer(n) for n in WAFERS] + [_wafer(n, True) for n in (4, 5)] + LPU + GPUS
    # In the middle of an output of one token, at a full context.
    asked = [Question(m, MODEL, Load(*cell, 1.0)) for m in whole for cell in cells]
    bare = [*(_wafer(n) for n in (4, 5)), *LPU]
    asked += [Question(m, MODEL, Load(users, SHORT_CONTEXT, 1.0)) for m in bare for users in USERS]
    seen = observe(asked, progress)
    drawn = Drawn([_wafer(4), *GPUS, LPU[0]])
    pools = {(s.asked.machine.chip, s.asked.load.concurrency, s.asked.load.isl): s
             for s in seen if s.asked.machine in GPUS}  # fmt: skip
    found = [_plain(s, drawn) for s in seen if s.fits and s.asked.load.isl > SHORT_CONTEXT]
    for s in seen:
        if s.fits and s.asked.load.isl == SHORT_CONTEXT:
            fewer = [
                p for p in pools.values() if p.asked.load.concurrency <= s.asked.load.concurrency
            ]
            found += [_split(s, p, drawn) for p in fewer]
    return found


def _plain(seen: Observation, drawn: Drawn) -> Option:
    """One kind of machine."""
    machine, load = seen.asked.machine, seen.asked.load
    home = GPU if machine in GPUS else STREAMED if _spills(seen) else INSIDE
    slow = drawn.slow[machine.chip]
    dollars = seen.step / load.concurrency * drawn.hour[machine.chip] * machine.chips * slow
    return Option(home, machine.chip, load.isl, load.concurrency, seen.speed / slow, dollars)


def _spills(seen: Observation) -> bool:
    """Whether the edge was opened, and SRAM alone would not have done."""
    far = float(seen.deployment.chip.far.capacity)
    return seen.asked.machine.change is not None and seen.slack < far


def _split(seen: Observation, pool: Observation, drawn: Drawn) -> Option:
    """Weights here, caches and attention in as many groups of a pool as hold them."""
    machine, users = seen.asked.machine, seen.asked.load.concurrency
    each, context = pool.asked.load.concurrency, pool.asked.load.isl
    groups, chip = users / each, pool.asked.machine.chip
    moved = _moved(seen, users)
    wait = float(seen.deployment.model.layers) * drawn.trip + moved
    attention = pool.kernels["attention"] * drawn.slow[chip]
    time = seen.step * drawn.slow[machine.chip] + attention + wait
    rate = drawn.hour[machine.chip] * machine.chips + drawn.hour[chip] * GROUP * groups
    room = _room(chip, each, context)
    dollars = np.where(room, time / users * rate, np.inf)
    return Option(POOL, machine.chip, context, users, np.where(room, 1 / time, 0.0), dollars)


def _moved(seen: Observation, users: float) -> float:
    """Seconds in which queries, keys and values go to the pool, and what attention finds comes back."""
    given = seen.deployment
    attention = given.model.stacks[0].layer.attention
    assert isinstance(attention, Grouped)
    numbers = float(attention.heads * (attention.key + attention.value) + attention.cached())
    port = float(given.chip.scale_out.bandwidth) * seen.asked.machine.chips
    return float(given.model.layers) * numbers * 2.0 * users / port


def _room(chip: str, users: float, context: float) -> bool:
    """Whether a group of the pool holds the caches of some users, without any weights."""
    size = cache_size(deployment_of(GPUS[0], MODEL), users, context)
    return size <= GROUP * float(load_chip(chip).main.usable_capacity)


def medians(
    found: Sequence[Option],
    homes: Sequence[str],
    context: float,
    users: float,
    target: float = 0.0,
) -> dict[str, float]:
    """The least USD for a token of each home alone, in the middle."""
    drawn = {home: cheapest(found, [home], context, users, target) for home in homes}
    return {home: float(np.median(one)) for home, one in drawn.items()}


def winner(prices: dict[str, float]) -> dict[str, Any]:
    """The cheapest, and how many times as expensive the next is, at most 100; empty if none is possible."""
    first, second = sorted((price, home) for home, price in prices.items())[:2]
    factor = min(second[0] / first[0], 100.0)
    return {"way": first[1], "factor": factor} if np.isfinite(first[0]) else {}


def cheapest(
    found: Sequence[Option], homes: Sequence[str], context: float, users: float, target: float = 0.0
) -> np.ndarray:
    """The least USD for a token among options for `users` at most; infinite where none is fast enough."""
    best = np.full(COUNT, np.inf)
    for one in found:
        if one.home in homes and one.context == context and one.users <= users:
            best = np.minimum(best, np.where(one.speed >= target, one.dollars, np.inf))
    return best
