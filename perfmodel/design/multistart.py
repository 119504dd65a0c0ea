"""Multi-start search: a few starts descend at once, their integers are rounded, others follow.

Starts come in waves of as many as descend together. A wave descends with its integers relaxed and, in its
first steps, schedules chosen less surely; at rest, its integers are rounded and fixed, and it descends
again. Waves begin at new places and beside the best design, by turns; when several starts in a row have
found nothing better, the search is over.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from perfmodel.design.abstract_problem import AbstractLandscape
from perfmodel.design.integers import MOST_CHOICES, merits, neighbour, other_choice, rounded
from perfmodel.design.sqp import FLAT, begin, look_again, rests, step
from perfmodel.design.starting_points import GROUP, at, beside, evaluate, spread
from perfmodel.design.state import BETTER, SOFT, SOFT_STEPS, State, archived, is_whole, least
from perfmodel.design.study import OptimiserTable
from perfmodel.units import as_scalar


class Found(NamedTuple):
    """One local optimum: coordinates and choices, value (minus the objective), slacks."""

    unit: np.ndarray
    choice: np.ndarray
    value: float
    slack: np.ndarray


class Result(NamedTuple):
    """What a search found.

    - `designs`: every local optimum that keeps all limits, the best first.
    - `loose`: the best before numbers of things were whole.
    - `values`, `looks`: evaluations without and with slopes; `seconds`: taken.
    - `broken`: the slacks of the design that comes nearest to keeping all limits.
    - `stopped`: whether it was ended before its time.
    """

    designs: list[Found]
    loose: float
    values: int
    looks: int
    seconds: float
    broken: np.ndarray
    stopped: bool


def search(
    land: AbstractLandscape,
    whole: np.ndarray,
    options: OptimiserTable,
    state: State | None = None,
    progress: Callable[[State], None] = lambda state: None,
    first: np.ndarray | None = None,
) -> Result:
    """Search a landscape.

    **Arguments:**

    - `whole`: which variables are numbers of things.
    - `state`: to go on from, of an earlier search.
    - `progress`: called after each step; Ctrl-C ends the search with what was found.
    - `first`: a start that is wanted beside the others.

    **Returns:**

    The result; with no designs where none keeps every limit.
    """
    began = time.perf_counter()
    state = first_state(land, options, first) if state is None else state
    stopped = False
    try:
        while not finished(land, state, whole, options):
            state = advance(land, state, whole, options)
            progress(state)
    except KeyboardInterrupt:
        stopped = True
    return result(land, state, whole, time.perf_counter() - began, stopped)


def best_first(values: np.ndarray) -> list[int]:
    """Places of the values that are numbers, the least first; a design that keeps no limit has none."""
    return [int(i) for i in np.argsort(values, kind="stable") if np.isfinite(values[i])]


def result(
    land: AbstractLandscape, state: State, whole: np.ndarray, seconds: float, stopped: bool
) -> Result:
    """What a state holds, the best design first."""
    last = archived(state, whole)
    order = best_first(last.lowest)
    unit, choice = last.unit[order], last.choice[order]
    value, slack = evaluate(land, unit, choice) if order else (last.lowest, last.lowest)
    designs = [Found(unit[i], choice[i], float(value[i]), slack[i]) for i in range(len(order))]
    loose = float(state.loose) if whole.any() else float(np.min(last.lowest, initial=np.inf))
    counts = int(state.values), int(state.looks)
    return Result(designs, loose, *counts, seconds, last.broken, stopped)


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


COARSE = 1e-3
"""A start with loose numbers is rounded when it has less than this to win, relative."""

HELD = 3
"""One step in so many is for numbers that are held."""

AGREE = 16
"""Starts in a row, or two waves, that find nothing better, after which a search is over: where every choice
has had its turn."""

FEW = 3
"""With more numbers of things than these, their neighbours are tried: what they round to has many optima."""


def advance(
    land: AbstractLandscape, state: State, whole: np.ndarray, options: OptimiserTable
) -> State:
    """One step of all lanes; before it, what is due: a sharper look, rounding, or the next wave."""
    state = _turned(land, state, whole, options)
    sharp = as_scalar(_sharpness(state))
    lanes, looked = state.lanes, len(state.lanes.unit)
    if not state.held and int(state.age) == SOFT_STEPS:
        lanes, looked = look_again(land, lanes, sharp), 2 * looked
    lanes = step(land, lanes, sharp)
    return state._replace(
        lanes=lanes, age=state.age + 1, done=state.done + 1, looks=state.looks + looked
    )


def _sharpness(state: State) -> float:
    return 1.0 if state.held or int(state.age) >= SOFT_STEPS else SOFT


def _turned(
    land: AbstractLandscape, state: State, whole: np.ndarray, options: OptimiserTable
) -> State:
    """With its numbers rounded, or in the next wave, if its lanes rest."""
    if not _rested(land, state, whole, options):
        return state
    if _due(land, state, whole):
        return _hold(land, state, whole)
    if _leads(state, whole):
        return _beside(land, state, whole)
    return next_wave(land, archived(state, whole), options)


def _due(land: AbstractLandscape, state: State, whole: np.ndarray) -> bool:
    """Whether a wave has something to round or to choose yet."""
    loose = not np.all(is_whole(state.lanes, whole))
    return int(state.held) < 2 and bool(loose or _chooses(land, state))


def _leads(state: State, whole: np.ndarray) -> bool:
    """Whether a wave at rest found the best design so far, and has numbers enough to move together."""
    best = np.min(state.lowest, initial=np.inf)
    return int(whole.sum()) > FEW and bool(least(state) < best - BETTER)


def _chooses(land: AbstractLandscape, state: State) -> bool:
    """The first starts try other choices where they come to rest; later ones keep those they were given."""
    first = int(state.begun) == len(state.lanes.unit)
    return bool(first and not state.held and np.prod(land.options) > 1)


def _rested(
    land: AbstractLandscape, state: State, whole: np.ndarray, options: OptimiserTable
) -> bool:
    """Whether a phase of a wave has come to its end."""
    late, age = options.steps // HELD, int(state.age)
    if age >= (late if state.held else options.steps - late):
        return True
    enough = COARSE if _due(land, state, whole) else FLAT
    return state.sharp and age > 0 and bool(np.all(rests(state.lanes, enough)))


def finished(
    land: AbstractLandscape, state: State, whole: np.ndarray, options: OptimiserTable
) -> bool:
    """Whether the last wave is at rest, and no further one is due."""
    due = _due(land, state, whole) or _leads(state, whole)
    if due or not _rested(land, state, whole, options):
        return False
    after = archived(state, whole)
    each = 2 * min(int(np.prod(land.options)), MOST_CHOICES)
    agree = max(AGREE, 2 * options.lanes)
    enough = int(after.quiet) >= agree and int(state.begun) > each
    return (enough and bool(np.isfinite(after.lowest).any())) or int(state.begun) >= options.starts


def _beside(land: AbstractLandscape, state: State, whole: np.ndarray) -> State:
    """The designs of the wave kept, and all lanes on their way from the best of their neighbours."""
    lanes, looked = neighbour(land, state.lanes, whole)
    looks = state.looks + looked
    return archived(state, whole)._replace(
        lanes=lanes, held=np.array(1), age=np.array(0), looks=looks
    )


def _hold(land: AbstractLandscape, state: State, whole: np.ndarray) -> State:
    """All lanes with numbers of things rounded and held; or on their way with a better choice."""
    if _chooses(land, state):
        lanes, looked = other_choice(land, state.lanes)
        state = state._replace(looks=state.looks + looked)
        if merits(lanes).min() < merits(state.lanes).min() - BETTER:
            return state._replace(lanes=lanes, age=np.array(SOFT_STEPS + 1))
    lanes, tried = rounded(land, state.lanes, whole)
    return state._replace(
        lanes=lanes,
        held=state.held + 1,
        age=np.array(0),
        loose=state.loose if state.held else np.minimum(state.loose, least(state)),
        looks=state.looks + len(lanes.unit),
        values=state.values + tried,
    )
