"""Q1: does six thousand times the bandwidth make a user's tokens come that much faster?"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from perfmodel.files import cells_of, read_csv, rows_of
from perfmodel.library.chip import chip_files
from perfmodel.library.files import ROOT
from perfmodel.library.framework import default_framework
from perfmodel.library.schema import si_or
from perfmodel.studies.claim import Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import Draws, middle, share, show
from perfmodel.studies.machines import (
    Load,
    Observation,
    Question,
    observe,
    served,
    weight_size,
)

USER = Load(1, 1024, 1024)
WAFER, GPU = "wse-3", "h100-sxm"

PAIRS = [
    ("llama-3.1-8b", served("WSE-3"), served("H100")),
    ("llama-3.3-70b", served("WSE-3", 1, 4), served("H100", 8)),
    ("llama-3.3-70b", served("WSE-3", 1, 4), served("B200", 8)),
]
"""A model, the wafers that serve it, and the GPUs that tune for one user, each in its usual format."""

FELT_SHARE = 0.1
"""Part of the peak ratio that a user would have to feel for the ratio to mean speed."""


def peaks() -> dict[str, float]:
    """Ratios of the wafer's peak bandwidth to an H100's memory, and for each mm2, watt and dollar."""
    wafer, gpu = chip_files()[WAFER], chip_files()[GPU]
    peak = _tier(WAFER).bandwidth.si("byte/s")
    ratio = peak / _tier(GPU).bandwidth.si("byte/s")
    area = si_or(wafer.area, "m2") / si_or(gpu.area, "m2")
    power = si_or(wafer.power.peak, "W") / si_or(gpu.power.peak, "W")
    money = si_or(wafer.money.price, "USD") / si_or(gpu.money.price, "USD")
    on_chip = peak / si_or(gpu.private.bandwidth if gpu.private else None, "byte/s")
    return {
        "peak_ratio": ratio,
        "per_area": ratio / area,
        "per_watt": ratio / power,
        "per_dollar": ratio / money,
        "on_chip_ratio": on_chip,
        "on_chip_per_area": on_chip / area,
    }


def _tier(stem: str):
    """The tier that a chip serves from."""
    file = chip_files()[stem]
    tier = file.main or file.shared or file.private
    assert tier is not None
    return tier


def published(chip: str, model: str) -> float:
    """The geometric mean of published single-stream speeds of a chip's newest software, in tokens/s; `nan`
    where there is none."""
    rows = rows_of(cells_of(read_csv(ROOT / "published" / "speeds.csv")))
    software = default_framework(chip_files()[chip].architecture)
    asked = (chip, model, software)
    found = [float(r["value"]) for r in rows if (r["chip"], r["model"], r["framework"]) == asked]
    return float(np.exp(np.mean(np.log(found)))) if found else float("nan")


def used(seen: Observation) -> float:
    """Share of its peak bandwidth with which a machine reads its weights at batch one."""
    machine = seen.asked.machine
    rate = _tier(machine.chip).bandwidth.si("byte/s") * machine.chips
    return weight_size(seen.deployment) * seen.speed / rate


def quicker(seen: list[Observation]) -> list[np.ndarray]:
    """Draws of the wafers' tokens/s over the GPUs', for each of `PAIRS`."""
    draws, ratios = Draws(), []
    for wafer, gpu in zip(seen[::2], seen[1::2], strict=True):
        slow, other = (draws.factor(one.interval) for one in (wafer, gpu))
        ratios.append(wafer.speed / slow / (gpu.speed / other))
    return ratios


def run(progress: Progress) -> Answer:
    asked = [Question(machine, model, USER) for model, *pair in PAIRS for machine in pair]
    seen = observe(asked, progress)
    ratios, peak = quicker(seen), peaks()
    return Answer(
        _said(peak, ratios, seen[0]),
        share(np.stack(ratios) > FELT_SHARE * peak["peak_ratio"]),
        "The ratio is known to a factor of two and a half, in which all published speeds of the wafer lie.",
        _table(seen),
        _figure(ratios),
        _numbers(peak, ratios, seen[0]),
    )


def _said(peak: dict[str, float], ratios: list[np.ndarray], first: Observation) -> str:
    medians = [middle(one).median for one in ratios]
    return (
        f"On paper the wafer has {show(peak['peak_ratio'], 4)} times the bandwidth of an H100 "
        f"({show(peak['per_area'], 3)} times for its area, {show(peak['per_watt'], 3)} for its power, "
        f"{show(peak['on_chip_per_area'])} for its area against the H100's own on-chip memory), but one "
        f"user's tokens come only {show(min(medians))} to {show(max(medians))} times faster: a token uses "
        f"{show(100 * used(first))} % of the bandwidth, and {show(100 * first.waits)} % of its time is "
        f"latency."
    )


def _numbers(
    peak: dict[str, float], ratios: list[np.ndarray], first: Observation
) -> dict[str, float]:
    speeds = {
        f"speed_ratio_{model}_{gpu.name}": middle(drawn).median
        for (model, _, gpu), drawn in zip(PAIRS, ratios, strict=True)
    }
    return peak | speeds | {"used_share": used(first), "latency_share": first.waits}


def _table(seen: list[Observation]) -> Table:
    once = {one.asked: one for one in reversed(seen)}
    return Table.of([_row(once[asked]) for asked in dict.fromkeys(s.asked for s in seen)])


def _row(one: Observation) -> dict[str, Any]:
    """A machine with one user: its speed, what is published of it, and what a layer takes."""
    machine, model = one.asked.machine, one.asked.model
    return {
        "machine": machine.name,
        "model": model,
        "tokens/s": one.speed,
        "low": one.speed / one.interval.high,
        "high": one.speed / one.interval.low,
        "published tokens/s": published(machine.chip, model),
        "us a layer": 1e6 * one.step / float(one.deployment.model.layers),
        "peak bandwidth used %": 100 * used(one),
        "latency %": 100 * one.waits,
    }


def _figure(ratios: list[np.ndarray]) -> Figure:
    return Figure(
        "What the ratio of peaks is worth to one user",
        "points",
        Axis("ratio", "wafer over GPU", "times", log=True),
        Axis("pair", ""),
        Axis("what", "ratio of"),
        [*_felt(ratios), *_on_paper()],
    )


def _felt(ratios: list[np.ndarray]) -> Iterator[dict[str, Any]]:
    for (model, wafer, gpu), drawn in zip(PAIRS, ratios, strict=True):
        pair = {"pair": f"{model}: {wafer.name} over {gpu.name}"}
        yield pair | middle(drawn).columns("ratio") | {"what": "speed of one user"}


PER = {"chips": "peak_ratio", "mm2": "per_area", "W": "per_watt", "USD": "per_dollar"}


def _on_paper() -> Iterator[dict[str, Any]]:
    for name, key in PER.items():
        value = peaks()[key]
        row = {"pair": f"peak bandwidth: WSE-3 over H100, by {name}", "ratio": value}
        yield row | {"low": value, "high": value, "what": "peak bandwidth"}
