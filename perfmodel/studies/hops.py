"""Q4: what does it cost to spread a model over hundreds of SRAM chips, and would faster hops mend it?"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import equinox as eqx
import numpy as np

from perfmodel.hardware.chip import Chip
from perfmodel.studies.claim import SPEED_AXIS, Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import COUNT, Draws, middle, share, show
from perfmodel.studies.machines import Load, Machine, Observation, Question, observe, served

MODEL = "llama-3.1-8b"
USER = Load(1, 1024, 1024)
PUBLISHED = 0.722
"""Latency of one hop, in us, that Groq published."""

HOPS = (0.0, 0.1, 0.2, 0.5, PUBLISHED, 1.5, 3.0, 6.0)
"""Latencies that are tried."""

SYNC = (1.0, 0.5, 0.25, 0.1)
"""What starting a product takes, over what was fitted."""

BETWEEN = ("all-reduce", "stage", "logits")
"""Kernels that go from chip to chip."""

WAFER = served("WSE-3")

LAYOUTS = {
    "LPU v1": ((8, 24), (16, 12), (32, 6), (64, 3)),
    "LP30": ((8, 11), (16, 6), (32, 3), (64, 1)),
}
"""Ways to lay the model on as many chips as hold a wafer's SRAM: ranks of a group, groups."""


def changed(hop: float, sync: float):
    """A chip whose hops take `hop` us and whose products start in `sync` of their time."""

    def change(chip: Chip) -> Chip:
        fitted = chip.efficiency
        return eqx.tree_at(
            lambda c: (c.scale_up.latency, c.efficiency.gemm.launch, c.efficiency.unquantised.launch,
                       c.efficiency.attention_decode.launch),
            chip,
            (0.0 * chip.scale_up.latency + hop * 1e-6, fitted.gemm.launch * sync,
             fitted.unquantised.launch * sync, fitted.attention_decode.launch * sync),
        )  # fmt: skip

    return change


def tax(seen: Observation) -> float:
    """Share of a token's time that goes into kernels between chips."""
    return sum(seen.kernels.get(name, 0.0) for name in BETWEEN) / seen.step


Key = tuple[str, float, float]
"""A family, microseconds of a hop, and a factor on what starts a product."""


def _machines() -> Iterator[tuple[Key, Machine]]:
    for family, layouts in LAYOUTS.items():
        for hop, sync, ranks in itertools.product(HOPS, SYNC, layouts):
            yield (family, hop, sync), served(family, *ranks, changed(hop, sync))


class Found(NamedTuple):
    """One user on the wafer, and on the fastest layout of each of the others."""

    wafer: Observation
    best: dict[Key, Observation]

    @property
    def shown(self) -> dict[Key, Observation]:
        """With products as they start, and ten times sooner."""
        return {key: seen for key, seen in self.best.items() if key[2] in (1.0, 0.1)}

    def changed(self, hop: float = PUBLISHED, sync: float = 1.0) -> Observation:
        """LPU v1 with other hops, or with products that start in `sync` of their time."""
        return self.best["LPU v1", hop, sync]

    @property
    def lpu(self) -> Observation:
        """LPU v1 as it is."""
        return self.changed()

    @property
    def ahead(self) -> np.ndarray:
        """Draws of the wafer's tokens/s over LPU v1's."""
        draws = Draws()
        wafer = self.wafer.speed / draws.factor(self.wafer.interval)
        return wafer / self.lpu.speed * draws.factor(self.lpu.interval)

    @property
    def taxed(self) -> np.ndarray:
        """Draws of the share of LPU v1's time that is on the way between chips.

        A published speed says what a layer takes in all, not how much of it is on the way.
        """
        least, drawn = tax(self.lpu), np.random.default_rng(2).random(COUNT)
        return least + drawn * np.maximum(self.lpu.waits - least, 0.0)


def _seen(progress: Progress) -> Found:
    keys, machines = zip(*_machines(), strict=True)
    wafer, *others = observe([Question(one, MODEL, USER) for one in (WAFER, *machines)], progress)
    best: dict[Key, Observation] = {}
    for key, seen in zip(keys, others, strict=True):
        if key not in best or seen.step < best[key].step:
            best[key] = seen
    return Found(wafer, best)


def run(progress: Progress) -> Answer:
    found = _seen(progress)
    return Answer(
        _said(found),
        share(found.taxed > 0.5),
        "How much of the fitted waiting is on the way is not identified: drawn evenly between both ends.",
        _table(found),
        _figure(found),
        _numbers(found),
    )


def _said(found: Found) -> str:
    lpu, ratio = found.lpu, middle(found.ahead)
    reach = [hop for hop in HOPS if found.changed(hop, 0.1).speed >= found.wafer.speed]
    equal = f"hops of up to {reach[-1]:g} us" if reach else "no hop at all"
    return (
        f"On {lpu.asked.machine.chips:.0f} LPU v1, as much SRAM as a wafer's, a user gets {show(lpu.speed)} "
        f"tokens/s, on the wafer {show(ratio.median)} times that ({ratio.range}); "
        f"{show(100 * tax(lpu))} to {show(100 * lpu.waits)} % of the time is on the way between "
        f"chips. Hops of no time would give {show(found.changed(hop=0.0).speed)}, products that start ten "
        f"times sooner {show(found.changed(sync=0.1).speed)}: with those, {equal} would equal the wafer."
    )


def _numbers(found: Found) -> dict[str, float]:
    return {
        "lpu_tokens_per_s": found.lpu.speed,
        "wafer_over_lpu": middle(found.ahead).median,
        "tax_low": tax(found.lpu),
        "tax_high": found.lpu.waits,
        "lpu_without_hops": found.changed(hop=0.0).speed,
        "lpu_quick_starts": found.changed(sync=0.1).speed,
    }


def _table(found: Found) -> Table:
    rows = [
        (s.asked.machine.name, hop, sync, int(s.asked.machine.tp), s.speed, 100 * tax(s))
        for (_, hop, sync), s in found.shown.items()
    ]
    names = ["machine", "us a hop", "start of a product, times", "chips in a group", "tokens/s"]
    return Table([*names, "between chips % at least"], rows)


def _figure(found: Found) -> Figure:
    how = {1.0: "as fitted", 0.1: "products start 10 times sooner"}
    rows = [
        {"hop": hop, "speed": s.speed, "who": f"{family}, {how[sync]}"}
        for (family, hop, sync), s in found.shown.items()
    ]
    return Figure(
        f"{MODEL} on as much SRAM as a wafer's; the line is the wafer",
        "lines",
        Axis("hop", "latency of a hop", "us"),
        SPEED_AXIS,
        Axis("who", "machine"),
        rows,
        rule=found.wafer.speed,
    )
