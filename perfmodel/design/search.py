"""The search: a few starts descend; what must be whole is made whole; others follow until they agree.

Starts come in waves of as many as descend together. A wave descends with numbers of things loose
and, in its first steps, schedules chosen less surely; at rest, its numbers are rounded and held,
and it descends again. Waves begin at new places and beside the best design, by turns; when several starts
in a row have found nothing better, the search is over.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from perfmodel.design.descent import FLAT, Lane, begin, look_again, rests, step
from perfmodel.design.landscape import AbstractLandscape
from perfmodel.design.rounding import MOST_CHOICES, rounded
from perfmodel.design.starts import GROUP, at, beside, evaluate, spread
from perfmodel.design.study import OptimiserTable
from perfmodel.units import as_scalar

SOFT, SOFT_STEPS = 0.3, 3
"""Sharpness of the first steps of a start, and how many: where schedules are chosen less surely, the way is
smoother."""

COARSE = 1e-3
"""A start with loose numbers is rounded when it has less than this to win, relative."""

HELD = 3
"""One step in so many is for numbers that are held."""

BETTER = 1e-4
"""A design that is better by less than this, relative, is the same."""

AGREE = 16
"""Starts in a row, or two waves, that find nothing better, after which a search is over: where every choice
has had its turn."""


class State(NamedTuple):
    """Where a search stands.

    - `lanes`: the starts that descend now; `held`: how many times numbers of things were held.
    - `age`: steps of the wave so far, with numbers loose or held; `begun`: starts so far; `quiet`: of
      them, in a row to the last, that found nothing better; `done`: steps of all waves.
    - `unit`, `choice`, `lowest`: the local optima of earlier waves.
    - `loose`: the least value before numbers of things were whole.
    - `broken`: the slacks of the place of earlier waves that came nearest to keeping all limits.
    - `values`, `looks`: evaluations so far, without and with slopes.
    """

    lanes: Lane
    held: np.ndarray
    age: np.ndarray
    begun: np.ndarray
    quiet: np.ndarray
    done: np.ndarray
    unit: np.ndarray
    choice: np.ndarray
    lowest: np.ndarray
    loose: np.ndarray
    broken: np.ndarray
    values: np.ndarray
    looks: np.ndarray


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
    return _next_wave(land, _archived(state, whole), options)


def _due(land: AbstractLandscape, state: State, whole: np.ndarray) -> bool:
    """Whether a wave has something to round or to choose yet."""
    loose = not np.all(_is_whole(state.lanes, whole))
    return int(state.held) < 2 and bool(loose or _chooses(land, state))


def _chooses(land: AbstractLandscape, state: State) -> bool:
    """The first starts try other choices where they come to rest; later ones keep those they were given."""
    first = int(state.begun) == len(state.lanes.unit)
    return bool(first and not state.held and np.prod(land.options) > 1)


def _is_whole(lanes: Lane, whole: np.ndarray) -> np.ndarray:
    """Which lanes have all their numbers of things held."""
    return np.all((np.asarray(lanes.low) == np.asarray(lanes.high)) | ~whole, axis=1)


def _rested(
    land: AbstractLandscape, state: State, whole: np.ndarray, options: OptimiserTable
) -> bool:
    """Whether a phase of a wave has come to its end."""
    late, age = options.steps // HELD, int(state.age)
    if age >= (late if state.held else options.steps - late):
        return True
    enough = COARSE if _due(land, state, whole) else FLAT
    soft = not state.held and age <= SOFT_STEPS
    return not soft and age > 0 and bool(np.all(rests(state.lanes, enough)))


def finished(
    land: AbstractLandscape, state: State, whole: np.ndarray, options: OptimiserTable
) -> bool:
    """Whether the last wave is at rest, and no further one is due."""
    if _due(land, state, whole) or not _rested(land, state, whole, options):
        return False
    after = _archived(state, whole)
    each = 2 * min(int(np.prod(land.options)), MOST_CHOICES)
    enough = int(after.quiet) >= max(AGREE, 2 * options.lanes) and int(state.begun) > each
    return (enough and bool(np.isfinite(after.lowest).any())) or int(state.begun) >= options.starts


def _hold(land: AbstractLandscape, state: State, whole: np.ndarray) -> State:
    """All lanes with numbers of things rounded and held."""
    lanes, tried = rounded(land, state.lanes, whole, _chooses(land, state))
    return state._replace(
        lanes=lanes,
        held=state.held + 1,
        age=np.array(0),
        loose=state.loose if state.held else np.minimum(state.loose, _least(state)),
        looks=state.looks + len(lanes.unit),
        values=state.values + tried,
    )


def _least(state: State) -> float:
    """The least value of the lanes as they are, if they are not softened."""
    sharp = state.held or int(state.age) > SOFT_STEPS
    return float(np.min(np.asarray(state.lanes.lowest, float))) if sharp else np.inf


def _archived(state: State, whole: np.ndarray) -> State:
    """What the wave found, kept among the designs."""
    unit, choice, lowest = whole_designs(state, whole)
    known = np.min(state.lowest, initial=np.inf)
    better = np.min(lowest, initial=np.inf) < known - BETTER
    seen = np.asarray(state.lanes.seen.slack, float)
    nearest = seen[np.argmax(np.min(seen, axis=1))]
    return state._replace(
        unit=unit,
        choice=choice,
        lowest=lowest,
        broken=max(state.broken, nearest, key=np.min),
        quiet=np.array(0 if better else int(state.quiet) + len(state.lanes.unit)),
    )


def _next_wave(land: AbstractLandscape, state: State, options: OptimiserTable) -> State:
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


def whole_designs(state: State, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates, choices and values of the designs so far; loose and softened ones do not count."""
    lanes = state.lanes
    counts = _is_whole(lanes, whole) & (bool(state.held) or int(state.age) > SOFT_STEPS)
    return (
        np.concatenate([state.unit, np.asarray(lanes.best, float)[counts]]),
        np.concatenate([state.choice, np.asarray(lanes.choice)[counts]]),
        np.concatenate([state.lowest, np.asarray(lanes.lowest, float)[counts]]),
    )


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
    last = _archived(state, whole)
    order = best_first(last.lowest)
    unit, choice = last.unit[order], last.choice[order]
    value, slack = evaluate(land, unit, choice) if order else (last.lowest, last.lowest)
    designs = [Found(unit[i], choice[i], float(value[i]), slack[i]) for i in range(len(order))]
    loose = float(state.loose) if whole.any() else float(np.min(last.lowest, initial=np.inf))
    counts = int(state.values), int(state.looks)
    return Result(designs, loose, *counts, seconds, last.broken, stopped)
