"""Q2: half an H100's memory on a wafer. Is it room or bandwidth that sets the number of systems?"""

import functools
import math
from typing import NamedTuple

import numpy as np

from perfmodel.inference.placement import cache_bytes
from perfmodel.library.chip import load_chip
from perfmodel.library.economics import Spread
from perfmodel.library.model import load_model
from perfmodel.studies.claim import Answer, Axis, Figure, Progress, Table
from perfmodel.studies.draws import Draws, share, show
from perfmodel.studies.machines import model_bytes
from perfmodel.units import as_scalar
from perfmodel.workload.model import traced
from perfmodel.workload.plan import Plan

MODELS = ("llama-3.1-8b", "gpt-oss-120b", "llama-3.1-70b", "deepseek-v3", "kimi-k2")
CHIPS = {"H100": "h100-sxm", "WSE-3": "wse-3", "LPU v1": "lpu-v1", "LP30": "lp30"}
CONTEXTS = (1024, 8192, 32768, 131072)
USERS = 32
SPEED = 50.0
"""Tokens/s that each user wants: faster than one reads."""

BYTES = {"bf16": 2.0, "fp8": 1.0}
USABLE = Spread(0.9, 0.8, 0.95)
"""Share of a memory open to weights and cache: serving frameworks' defaults, and what buffers take."""


class Need(NamedTuple):
    """What a model asks for: bytes that must lie somewhere, and bytes/s that must be read."""

    weights: float
    cache: float
    traffic: float


@functools.cache
def need(model: str, context: float, weights: str = "fp8") -> Need:
    """Of `USERS` at `SPEED`, all reading all weights together and each its cache, at every token.

    Of a mixture of experts all experts are read: so many users touch nearly all of them.
    """
    size, shape = model_bytes(model, weights), traced(load_model(model))
    cache = float(cache_bytes(shape, Plan(), as_scalar(USERS), as_scalar(context)))
    return Need(size, cache, (size + cache) * SPEED)


@functools.cache
def room(stem: str) -> tuple[float, float]:
    """Bytes and bytes/s of the memory that a chip serves from."""
    tier = max(load_chip(stem).tiers[:3], key=lambda memory: float(memory.usable_capacity))
    return float(tier.capacity), float(tier.bandwidth)


def counts(stem: str, asked: Need, usable: float = USABLE.value) -> tuple[int, int]:
    """Chips that capacity asks for, and chips that bandwidth asks for."""
    capacity, bandwidth = room(stem)
    return (
        math.ceil((asked.weights + asked.cache) / (capacity * usable)),
        math.ceil(asked.traffic / bandwidth),
    )


def run(progress: Progress) -> Answer:
    progress(0, 1)
    halves, binds = room("wse-3")[0] / room("h100-sxm")[0], room_binds()
    big = need("llama-3.1-70b", 8192)
    wafers, gpus = counts("wse-3", big)[0], counts("h100-sxm", big)[0]
    progress(1, 1)
    return Answer(
        _said(halves, wafers, gpus, binds),
        share(np.full(1, 0.5 < halves < 0.6)),
        "Capacities are from datasheets; the share open to weights and cache is drawn from 0.80 to 0.95.",
        _table(),
        _figure(),
        {"capacity_ratio": halves, "wafers": wafers, "h100": gpus, "room_binds_share": binds},
    )


def room_binds() -> float:
    """Share of cases and draws in which room takes more wafers than bandwidth does."""
    drawn, (capacity, bandwidth) = Draws().of(USABLE), room("wse-3")
    cases = [need(model, context) for model in MODELS for context in CONTEXTS]
    return share(
        [(one.weights + one.cache) / (capacity * drawn) > one.traffic / bandwidth for one in cases]
    )


def _said(halves: float, wafers: int, gpus: int, binds: float) -> str:
    slow, fast = (room(name)[0] / room(name)[1] for name in ("h100-sxm", "wse-3"))
    return (
        f"A wafer holds {show(halves)} of an H100's memory, so Llama-3.1-70B in 8 bits with {USERS} users of "
        f"8,192 tokens takes {wafers} wafers or {gpus} H100; reading all of its memory once takes the H100 "
        f"{show(1e3 * slow)} ms and the wafer {show(1e6 * fast)} us, so room "
        f"alone sets the number of wafers in {show(100 * binds, 3)} % of cases."
    )


def _table() -> Table:
    cases = [(model, context) for model in MODELS for context in CONTEXTS]
    rows = [
        (*one, *(n for stem in CHIPS.values() for n in counts(stem, need(*one)))) for one in cases
    ]
    names = [f"{name} for {what}" for name in CHIPS for what in ("room", "bandwidth")]
    return Table(["model", "context", *names], rows)


def _figure() -> Figure:
    rows = [
        {"chip": name, "context": context, "chips": counts(stem, need("llama-3.1-70b", context))[0]}
        for name, stem in CHIPS.items()
        for context in CONTEXTS
    ]
    return Figure(
        f"Chips that hold Llama-3.1-70B with {USERS} users",
        "lines",
        Axis("context", "tokens of each user", "tokens", log=True),
        Axis("chips", "chips by room", "chips", log=True),
        Axis("chip", "chip"),
        rows,
    )
