"""Four places for a cache: in SRAM, behind a wafer's edge, in an HBM pool of its own, or all on GPUs.

Decode alone is counted. Where weights stay in SRAM and caches lie in a pool of GPUs, every layer's queries
go there and its result comes back; one after the other, so that nothing is hidden.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import numpy as np

from perfmodel.hardware.chip import Chip
from perfmodel.library.chip import load_chip
from perfmodel.library.market import hour, physics
from perfmodel.studies.claim import Progress
from perfmodel.studies.draws import COUNT, Draws
from perfmodel.studies.machines import (
    Load,
    Machine,
    Observation,
    Question,
    cache_size,
    observe,
    setting_of,
    time_interval,
)
from perfmodel.units import as_scalar
from perfmodel.workload.attention import Grouped

MODEL = "llama-3.1-70b"
CONTEXTS = (1024.0, 4096.0, 16384.0, 65536.0, 131072.0)
USERS = (1.0, 4.0, 16.0, 64.0, 256.0)

INSIDE, STREAMED, POOL, GPU = (
    "cache in SRAM",
    "cache behind the edge",
    "cache in an HBM pool",
    "GPUs alone",
)

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

    def __init__(self, chips: Sequence[tuple[str, Machine]]):
        draws = Draws()
        self.slow = {chip: draws.factor(time_interval(one, MODEL)) for chip, one in chips}
        self.hour = {chip: draws.of(hour(chip)) for chip, _ in chips}
        self.trip = draws.of(physics("round_trip", "s"))


def edge_opened(chip: Chip) -> Chip:
    """A wafer that may keep caches in the memory behind its edge."""
    return eqx.tree_at(lambda c: c.far.usable, chip, as_scalar(1.0))


def _wafer(count: float, opened: bool = False) -> Machine:
    return Machine(
        "WSE-3", "wse-3", 1, count, weights="bf16", change=edge_opened if opened else None
    )


GPUS = [Machine("H100", "h100-sxm", GROUP, weights="fp8", cache="fp8"),
        Machine("B200", "b200-sxm", GROUP, weights="fp8", cache="fp8")]  # fmt: skip
LPU = [Machine("LP30", "lp30", n, m, weights="fp8") for n, m in LPUS]
ALL = [("wse-3", _wafer(4)), ("h100-sxm", GPUS[0]), ("b200-sxm", GPUS[1]), ("lp30", LPU[0])]


def _load(users: float, context: float) -> Load:
    """In the middle of an output of one token, at a full context."""
    return Load(users, context, 1.0)


def options(progress: Progress) -> list[Option]:
    """Every option at every context and number of users, where it fits."""
    cells = [(users, context) for context in CONTEXTS for users in USERS]
    whole = [_wafer(n) for n in WAFERS] + [_wafer(n, True) for n in (4, 5)] + LPU + GPUS
    asked = [Question(m, MODEL, _load(*cell)) for m in whole for cell in cells]
    bare = [*(_wafer(n) for n in (4, 5)), *LPU]
    asked += [Question(m, MODEL, _load(users, SHORT_CONTEXT)) for m in bare for users in USERS]
    seen = observe(asked, progress)
    drawn = Drawn(ALL)
    pools = {(s.asked.machine.chip, s.asked.load.users, s.asked.load.prompt): s
             for s in seen if s.asked.machine in GPUS}  # fmt: skip
    found = [_plain(s, drawn) for s in seen if s.fits and s.asked.load.prompt > SHORT_CONTEXT]
    for s in seen:
        if s.fits and s.asked.load.prompt == SHORT_CONTEXT:
            found += [
                _split(s, p, drawn)
                for p in pools.values()
                if p.asked.load.users <= s.asked.load.users
            ]
    return found


def _plain(seen: Observation, drawn: Drawn) -> Option:
    """One kind of machine."""
    machine, load = seen.asked.machine, seen.asked.load
    home = GPU if machine in GPUS else STREAMED if _spills(seen) else INSIDE
    slow = drawn.slow[machine.chip]
    dollars = seen.step / load.users * drawn.hour[machine.chip] * machine.chips * slow
    return Option(home, machine.chip, load.prompt, load.users, seen.speed / slow, dollars)


def _spills(seen: Observation) -> bool:
    """Whether the edge was opened, and SRAM alone would not have done."""
    far = float(setting_of(seen.asked.machine, MODEL).chip.far.capacity)
    return seen.asked.machine.change is not None and seen.slack < far


def _split(seen: Observation, pool: Observation, drawn: Drawn) -> Option:
    """Weights here, caches and attention in as many groups of a pool as hold them."""
    machine, users = seen.asked.machine, seen.asked.load.users
    each, context = pool.asked.load.users, pool.asked.load.prompt
    groups, chip = users / each, pool.asked.machine.chip
    moved = _moved(seen, users)
    wait = float(setting_of(machine, MODEL).model.layers) * drawn.trip + moved
    attention = pool.kernels["attention"] * drawn.slow[chip]
    time = seen.step * drawn.slow[machine.chip] + attention + wait
    rate = drawn.hour[machine.chip] * machine.chips + drawn.hour[chip] * GROUP * groups
    room = _room(chip, each, context)
    dollars = np.where(room, time / users * rate, np.inf)
    return Option(POOL, machine.chip, context, users, np.where(room, 1 / time, 0.0), dollars)


def _moved(seen: Observation, users: float) -> float:
    """Seconds in which queries, keys and values go to the pool, and what attention finds comes back."""
    machine = seen.asked.machine
    given = setting_of(machine, MODEL)
    attention = given.model.stacks[0].layer.attention
    assert isinstance(attention, Grouped)
    numbers = float(attention.heads * (attention.key + attention.value) + attention.cached())
    port = float(given.chip.scale_out.bandwidth) * machine.chips
    return float(given.model.layers) * numbers * 2.0 * users / port


def _room(chip: str, users: float, context: float) -> bool:
    """Whether a group of the pool holds the caches of some users, without any weights."""
    given = setting_of(GPUS[0], MODEL)
    size = cache_size(given, users, context)
    return size <= GROUP * float(load_chip(chip).main.room)


def cheapest(
    found: Sequence[Option], homes: Sequence[str], context: float, users: float, target: float = 0.0
) -> np.ndarray:
    """The least USD for a token among options for `users` at most; infinite where none is fast enough."""
    best = np.full(COUNT, np.inf)
    for one in found:
        if one.home in homes and one.context == context and one.users <= users:
            best = np.minimum(best, np.where(one.speed >= target, one.dollars, np.inf))
    return best
