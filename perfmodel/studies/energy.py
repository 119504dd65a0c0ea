"""Q13: does an LPU spend less energy on a token than a GPU, static power included?"""

from typing import Any, NamedTuple

import numpy as np

from perfmodel.library.chip import chip_files, load_chip
from perfmodel.library.economics import Spread, assumption
from perfmodel.library.schema import si_or
from perfmodel.library.technology import load_node
from perfmodel.studies.claim import SPEED_AXIS, Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import COUNT, Draws, middle, share, show
from perfmodel.studies.machine_families import (
    FAMILIES,
    HBM,
    LPU,
    SRAM,
    Cloud,
    ahead,
    cloud,
    family_of,
    least,
    speed_rows,
)
from perfmodel.studies.machines import Observation

UNPUBLISHED_POWER = ("lp30",)
"""Chips whose power nobody has published."""

TARGETS = (10.0, 30.0, 60.0, 100.0, 200.0)
NAMES = ("tokens/s a user", "family", "J/token", "low", "high")
TESTED_SPEED = 60.0
"""Tokens/s per user at which the claim is put: LPUs and GPUs can both do it."""

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
    capacity = float(chip.private.capacity + chip.shared.capacity)
    logic = draws.fact(node.leakage, "W/m2") * si_or(file.area, "m2")
    return Static(nominal, logic + draws.fact(node.sram_leakage, "W/byte") * capacity)


def joules(found: Cloud, draws: Draws) -> np.ndarray:
    """Energy of a token at every point: at least what is counted, at most the power limit all the time.

    What a token of an SRAM machine takes beside its arithmetic and its reads is not published; it
    is drawn between nothing and all that the machine may draw.
    """
    known = _unknowns(found, draws)
    pairs = zip(found.seen, found.speed, strict=True)
    return np.stack([_token(seen, seen.speed / speed, known) for seen, speed in pairs])


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
    around = [draws.fact(assumption("around"), "1") for _ in chips]
    scale = [draws.of(MODEL) for _ in chips]
    drawn = map(Unknown, statics, hidden, around, scale)
    return dict(zip(chips, drawn, strict=True))


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
    one, rows = _tested(found, spent), speed_rows(found, spent, TARGETS, "joules")
    return Answer(
        _said(one),
        share(one.lpu < one.gpu),
        "Static power of SRAM is known to a factor of ten each way, and no SRAM machine was ever measured.",
        Table(NAMES, [tuple(row.values()) for row in rows]),
        _figure(rows),
        _numbers(one),
    )


def _tested(found: Cloud, spent: np.ndarray) -> Spent:
    lpu, gpu = (least(found, spent, [family], TESTED_SPEED) for family in (LPU, HBM))
    return Spent(lpu, gpu, ahead(found, spent, FAST_SPEED))


def _said(one: Spent) -> str:
    lpu, gpu, ratio = middle(one.lpu), middle(one.gpu), middle(one.lpu / one.gpu)
    return (
        f"At {TESTED_SPEED:.0f} tokens/s per user an LPU v1 takes {show(lpu.median)} J/token and a GPU "
        f"{show(gpu.median)} J at the wall: {show(ratio.median)} times as much ({ratio.range}); "
        f"at {FAST_SPEED:.0f} tokens/s some SRAM machine takes less than any GPU in "
        f"{show(100 * share(one.quick))} % of draws."
    )


def _numbers(one: Spent) -> dict[str, float]:
    ratio = middle(one.lpu / one.gpu)
    joules = {"lpu_joules": middle(one.lpu).median, "gpu_joules": middle(one.gpu).median}
    return joules | ratio.numbers("lpu_over_gpu")


def _figure(rows: list[dict[str, Any]]) -> Figure:
    return Figure(
        "Llama-3.1-70B: the least energy of a token at a user's speed",
        "lines",
        SPEED_AXIS,
        Axis("joules", "energy, prompt included", "J per output token", log=True),
        Axis("family", "machine"),
        rows,
    )
