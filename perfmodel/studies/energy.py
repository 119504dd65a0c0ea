"""Q13: does an LPU spend less energy on a token than a GPU, static power included?"""

from typing import NamedTuple

import numpy as np

from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.economics import assumption
from perfmodel.library.market import Spread, spread
from perfmodel.library.schema import si_or
from perfmodel.library.technology import load_node
from perfmodel.studies.claim import Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import COUNT, Draws, middle, share, show, within
from perfmodel.studies.machine_families import (
    FAMILIES,
    HBM,
    LPU,
    SRAM,
    Cloud,
    cloud,
    family_of,
    least,
)
from perfmodel.studies.machines import Observation

UNPUBLISHED_POWER = ("lp30",)
"""Chips whose power nobody has published."""

TARGETS = (10.0, 30.0, 60.0, 100.0, 200.0)
TESTED_SPEED = 60.0
"""Tokens/s of a user at which the claim is put: LPUs and GPUs can both do it."""

FAST_SPEED = 100.0
"""Tokens/s that SRAM machines are bought for."""

MODEL = Spread(1.0, 0.7, 1.4)
"""How far a GPU's energy by the model may be off (assumed: that of published wall energies)."""


class Static(NamedTuple):
    """Power of a chip that does nothing, in W: as the library has it, and draws."""

    nominal: float
    drawn: np.ndarray


def static(stem: str, draws: Draws) -> Static:
    """Of SRAM machines from the leakage of their logic and SRAM, of GPUs as measured idle."""
    file, chip = chip_files()[stem], load_chip(stem)
    nominal = float(chip.idle_power)
    if FAMILIES[stem] not in SRAM:
        return Static(nominal, nominal * draws.of(MODEL))
    node = load_node(file.node)
    assert node.leakage is not None and node.sram_leakage is not None
    capacity = float(chip.private.capacity + chip.shared.capacity)
    logic = draws.of(spread(node.leakage, "W/m2")) * si_or(file.area, "m2")
    return Static(nominal, logic + draws.of(spread(node.sram_leakage, "W/byte")) * capacity)


def joules(found: Cloud, draws: Draws) -> np.ndarray:
    """Energy of a token at every point: at least what is counted, at most the power limit all the time.

    What a token of an SRAM machine takes beside its arithmetic and its reads is not published; it
    is drawn between nothing and all that the machine may draw.
    """
    known = _unknowns(found, draws)
    return np.stack(
        [
            _token(seen, seen.speed / speed, known)
            for seen, speed in zip(found.seen, found.speed, strict=True)
        ]
    )


class Unknown(NamedTuple):
    """Draws of what is not known of a chip.

    - `static`: its power at rest; `hidden`: how much of what it may draw beside what is counted it does.
    - `around`: of the limit, at the wall; `scale`: what the model is off by.
    """

    static: Static
    hidden: np.ndarray
    around: np.ndarray
    scale: np.ndarray


def _unknowns(found: Cloud, draws: Draws) -> dict[str, Unknown]:
    """Of every chip whose power is published."""
    chips = sorted({s.asked.machine.chip for s in found.seen} - set(UNPUBLISHED_POWER))
    statics = [static(stem, draws) for stem in chips]
    hidden = [np.random.default_rng(i).random(COUNT) for i, _ in enumerate(chips)]
    around = [draws.of(spread(assumption("around"), "1")) for _ in chips]
    scale = [draws.of(MODEL) for _ in chips]
    drawn = zip(statics, hidden, around, scale, strict=True)
    return {stem: Unknown(*one) for stem, one in zip(chips, drawn, strict=True)}


def _token(seen: Observation, slow: np.ndarray, known: dict[str, Unknown]) -> np.ndarray:
    """Draws of J of one token at one point, where times are `slow` times as long."""
    stem = seen.asked.machine.chip
    if stem not in known:
        return np.full(COUNT, np.inf)
    one, counted = known[stem], seen.joules - seen.idle
    idle = seen.idle * slow * one.static.drawn / one.static.nominal
    most = float(load_chip(stem).peak_power) * seen.asked.machine.chips * seen.held * slow
    if family_of(seen) == HBM:
        return counted * one.scale + idle + one.around * most
    return np.minimum(counted + idle, most) ** (1 - one.hidden) * most**one.hidden


CAVEATS = (
    "LPU v1 is of 14 nm; of LP30 (4 nm) no power is published, so it is left out.",
    "GPUs at the wall of their server; SRAM machines between what is counted and their power limit.",
    "Each machine at the batch that takes the least energy at that speed.",
)


class Spent(NamedTuple):
    """Draws of the joules of a token: of an LPU and of a GPU where the claim is put.

    - `quick`: whether some SRAM machine takes less than any GPU at 100 tokens/s.
    """

    lpu: np.ndarray
    gpu: np.ndarray
    quick: np.ndarray


def run(progress: Progress) -> Answer:
    draws = Draws()
    found = cloud(progress, draws)
    spent = joules(found, draws)
    one, rows = _tested(found, spent), _rows(found, spent)
    return Answer(
        _said(one),
        share(one.lpu < one.gpu),
        "Static power of SRAM is known to a factor of ten each way, and no SRAM machine was ever measured.",
        Table(["tokens/s a user", "family", "J/token", "low", "high"], rows),
        _figure(rows),
        CAVEATS,
        _numbers(one),
    )


def _tested(found: Cloud, spent: np.ndarray) -> Spent:
    lpu, gpu = (least(found, spent, [family], TESTED_SPEED) for family in (LPU, HBM))
    return Spent(
        lpu, gpu, least(found, spent, SRAM, FAST_SPEED) < least(found, spent, [HBM], FAST_SPEED)
    )


def _said(one: Spent) -> str:
    lpu, gpu, ratio = middle(one.lpu), middle(one.gpu), middle(one.lpu / one.gpu)
    return (
        f"At {TESTED_SPEED:.0f} tokens/s a user an LPU v1 takes {show(lpu.median)} J a token and a GPU "
        f"{show(gpu.median)} J at the wall: {show(ratio.median)} times as much ({ratio.range}); "
        f"at {FAST_SPEED:.0f} tokens/s some SRAM machine takes less than any GPU in "
        f"{show(100 * share(one.quick))} % of draws."
    )


def _numbers(one: Spent) -> dict[str, float]:
    ratio = middle(one.lpu / one.gpu)
    return {
        "lpu_joules": middle(one.lpu).median,
        "gpu_joules": middle(one.gpu).median,
    } | ratio.numbers("lpu_over_gpu")


def _rows(found: Cloud, spent: np.ndarray) -> list[tuple[float, str, float, float, float]]:
    """Speed, family, and the least energy of a token there with its range."""
    rows = []
    for family in dict.fromkeys(FAMILIES.values()):
        for target in TARGETS:
            m = within(least(found, spent, [family], target))
            rows += [(target, family, *m)] if np.isfinite(m.median) else []
    return rows


def _figure(rows: list[tuple[float, str, float, float, float]]) -> Figure:
    return Figure(
        "Llama-3.1-70B: the least energy of a token at a user's speed",
        "lines",
        Axis("speed", "speed of one user", "tokens/s", log=True),
        Axis("joules", "energy, prompt included", "J per output token", log=True),
        Axis("family", "machine"),
        [dict(zip(("speed", "family", "joules", "low", "high"), row, strict=True)) for row in rows],
        band=("low", "high"),
    )
