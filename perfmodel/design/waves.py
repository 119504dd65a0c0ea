"""Waves of starts, as many as descend together: at new places and beside the best design, by turns."""

import numpy as np

from perfmodel.design.descent import begin
from perfmodel.design.landscape import AbstractLandscape
from perfmodel.design.starts import GROUP, at, beside, evaluate, spread
from perfmodel.design.state import SOFT, SOFT_STEPS, State
from perfmodel.design.study import OptimiserTable
from perfmodel.units import as_scalar


def first_state(
    land: AbstractLandscape, options: OptimiserTable, first: np.ndarray | None = None
) -> State:
    """Before the first step; `first`: a start that is wanted beside the others."""
    size, zero = land.low.shape[0], np.array(0)
    unit, choice = spread(land, options.lanes, options.seed, 0)
    if first is not None:
        unit[0] = first
    slacks = evaluate(land, unit[:1], choice[:1])[1].shape[1]
    lanes = begin(land, at(unit, choice, slacks), as_scalar(SOFT))
    return State(
        lanes=lanes,
        held=zero,
        age=zero,
        begun=np.array(options.lanes),
        quiet=zero,
        done=zero,
        unit=np.zeros((0, size)),
        choice=np.zeros((0, len(land.options)), np.int32),
        lowest=np.zeros(0),
        loose=np.array(np.inf),
        broken=np.full(slacks, -np.inf),
        values=np.array(options.lanes * GROUP + 1),
        looks=np.array(options.lanes),
    )


def next_wave(land: AbstractLandscape, state: State, options: OptimiserTable) -> State:
    """New starts: beside the best design and at new places, by turns; every fourth wave is softened."""
    count = options.lanes
    wave, best = int(state.begun) // count, np.argmin(state.lowest) if len(state.lowest) else 0
    near = bool(wave % 2) and bool(np.isfinite(state.lowest).any())
    if near:
        rng = np.random.default_rng([options.seed, wave])
        ranks = int(state.quiet) // (2 * count) * count + np.arange(count)
        unit, choice = beside(state.unit[best], state.choice[best], land.options, ranks, rng)
    else:
        unit, choice = spread(land, count, options.seed, wave)
    sharp, start = bool(wave % 4), at(unit, choice, len(state.broken))
    return state._replace(
        lanes=begin(land, start, as_scalar(1.0 if sharp else SOFT)),
        held=np.array(0),
        age=np.array(SOFT_STEPS + 1 if sharp else 0),
        begun=state.begun + count,
        values=state.values + (0 if near else count * GROUP),
        looks=state.looks + count,
    )
