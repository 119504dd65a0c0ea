"""Q1: does six thousand times the bandwidth make a user's tokens come that much faster?"""

import numpy as np

from perfmodel.files import cells_of, read_csv
from perfmodel.inference.placement import weight_bytes
from perfmodel.library.chip import chip_files
from perfmodel.library.files import ROOT
from perfmodel.library.schema import si_or
from perfmodel.studies.answer import Answer, Axis, Figure, Progress, Study, Table, show
from perfmodel.studies.draws import Draws, middle, share
from perfmodel.studies.machines import (
    Asked,
    Load,
    Machine,
    Seen,
    observe,
    setting_of,
    time_interval,
)

USER = Load(1, 1024, 1024)
WAFER, GPU = "wse-3", "h100-sxm"

PAIRS = [
    ("llama-3.1-8b", Machine("WSE-3", WAFER, weights="bf16"), Machine("H100", GPU, weights="bf16")),
    (
        "llama-3.1-70b",
        Machine("WSE-3", WAFER, pipeline=4, weights="bf16"),
        Machine("H100", GPU, tensor=8, weights="fp8", cache="fp8"),
    ),
    (
        "llama-3.1-70b",
        Machine("WSE-3", WAFER, pipeline=4, weights="bf16"),
        Machine("B200", "b200-sxm", tensor=8, weights="fp8", cache="fp8"),
    ),
]
"""A model, the wafers that serve it, and the GPUs that tune for one user, each in its usual format."""

FELT = 0.1
"""Part of the peak ratio that a user would have to feel for the ratio to mean speed."""


def peaks() -> dict[str, float]:
    """Ratios of the wafer's peak bandwidth to an H100's memory, and for each mm2, watt and dollar."""
    wafer, gpu = chip_files()[WAFER], chip_files()[GPU]
    ratio = si_or(_tier(WAFER).bandwidth, "byte/s") / si_or(_tier(GPU).bandwidth, "byte/s")
    own = si_or(gpu.private.bandwidth if gpu.private else None, "byte/s")
    area = si_or(wafer.area, "m2") / si_or(gpu.area, "m2")
    power = si_or(wafer.power.peak, "W") / si_or(gpu.power.peak, "W")
    money = si_or(wafer.money.price, "USD") / si_or(gpu.money.price, "USD")
    on_chip = si_or(_tier(WAFER).bandwidth, "byte/s") / own
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
    """The geometric mean of published single-stream speeds, in tokens/s; `nan` where there is none."""
    rows = cells_of(read_csv(ROOT / "published" / "speeds.csv"))
    places = zip(rows["chip"], rows["model"], rows["value"], strict=True)
    found = [float(value) for c, m, value in places if (c, m) == (chip, model)]
    return float(np.exp(np.mean(np.log(found)))) if found else float("nan")


def used(seen: Seen) -> float:
    """Share of its peak bandwidth with which a machine reads its weights at batch one."""
    machine = seen.asked.machine
    given = setting_of(machine, seen.asked.model)
    size = float(weight_bytes(given.model, given.plan))
    rate = _tier(machine.chip).bandwidth.si("byte/s") * machine.chips
    return size * seen.speed / rate


def run(progress: Progress) -> Answer:
    asked = [Asked(machine, model, USER) for model, *pair in PAIRS for machine in pair]
    seen = observe(asked, progress)
    draws, ratios = Draws(), []
    for wafer, gpu in zip(seen[::2], seen[1::2], strict=True):
        slower = draws.factor(time_interval(wafer.asked.machine, wafer.asked.model))
        quicker = draws.factor(time_interval(gpu.asked.machine, gpu.asked.model))
        ratios.append(wafer.speed / slower / (gpu.speed / quicker))
    peak, first = peaks(), seen[0]
    found = [middle(one) for one in ratios]
    latency = first.bounds["latency"] + first.bounds["network"]
    felt = share(np.stack(ratios) > FELT * peak["peak_ratio"])
    between = f"{show(min(m.median for m in found))} to {show(max(m.median for m in found))}"
    said = (
        f"On paper the wafer has {show(peak['peak_ratio'], 4)} times the bandwidth of an H100 "
        f"({show(peak['per_area'], 3)} times for its area, {show(peak['per_watt'], 3)} for its power, "
        f"{show(peak['on_chip_per_area'])} for its area against the H100's own on-chip memory), but one "
        f"user's tokens come only {between} times faster: a token uses "
        f"{show(100 * used(first))} % of the bandwidth, and {show(100 * latency)} % of its time is latency."
    )
    numbers = peak | {
        f"speed_ratio_{model}_{gpu.name}": m.median
        for (model, _, gpu), m in zip(PAIRS, found, strict=True)
    }
    return Answer(
        said,
        felt,
        "The ratio of speeds is known to a factor of two and a half: three published speeds of the wafer.",
        _table(seen),
        _figure(ratios),
        (
            "Wafers in bf16 and GPUs in fp8, as they are served; 70B on as many wafers as Cerebras named.",
            "Speeds published since 2025 are higher, and may use speculation that is not declared.",
            "The GPU is a smooth machine without a framework's overheads.",
        ),
        numbers | {"used_share": used(first), "latency_share": latency},
    )


def _table(seen: list[Seen]) -> Table:
    names = ["machine", "model", "tokens/s", "low", "high", "published tokens/s"]
    names += ["us a layer", "peak bandwidth used %", "latency %"]
    rows = []
    for one in dict.fromkeys(s.asked for s in seen):
        s = next(x for x in seen if x.asked == one)
        interval = time_interval(one.machine, one.model)
        layers = float(setting_of(one.machine, one.model).model.layers)
        waits = s.bounds["latency"] + s.bounds["network"]
        spreads = (s.speed, s.speed / interval.high, s.speed / interval.low)
        rest = (
            published(one.machine.chip, one.model),
            1e6 * s.step / layers,
            100 * used(s),
            100 * waits,
        )
        rows.append((one.machine.name, one.model, *spreads, *rest))
    return Table(names, rows)


def _figure(ratios: list[np.ndarray]) -> Figure:
    rows = []
    for (model, wafer, gpu), drawn in zip(PAIRS, ratios, strict=True):
        m = middle(drawn)
        name = f"{model}: {wafer.name} over {gpu.name}"
        rows.append(
            {
                "pair": name,
                "ratio": m.median,
                "low": m.low,
                "high": m.high,
                "what": "speed of one user",
            }
        )
    for name, key in (
        ("chips", "peak_ratio"),
        ("mm2", "per_area"),
        ("W", "per_watt"),
        ("USD", "per_dollar"),
    ):
        value = peaks()[key]
        row = {"pair": f"peak bandwidth: WSE-3 over H100, by {name}", "ratio": value}
        rows.append(row | {"low": value, "high": value, "what": "peak bandwidth"})
    return Figure(
        "What the ratio of peaks is worth to one user",
        "points",
        Axis("ratio", "wafer over GPU", "times", log=True),
        Axis("pair", ""),
        Axis("what", "ratio of"),
        rows,
        band=("low", "high"),
    )


STUDY = Study(
    name="peak-bandwidth",
    question="Q1",
    title="Does 6,000 times the bandwidth mean that much more speed?",
    claim="WSE-3 has 6,000 times the memory bandwidth of an H100.",
    source="Stratechery, The Inference Shift, 2026-05",
    test="a user of wafers gets at least a tenth of the ratio of peak bandwidths in tokens/s",
    seconds=30,
    run=run,
)
