"""The search: spread starts, descend, make whole what must be whole, and begin again beside the best.

Where some variables are numbers of things, a search goes round: all lanes descend with these numbers loose;
the best are rounded, each way that promises most, and repaired with the numbers held; then the
loose lanes go on.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from perfmodel.design.descent import Lane, begin, look_again, step
from perfmodel.design.landscape import AbstractLandscape
from perfmodel.design.starts import GROUP, evaluate, rounded, spread
from perfmodel.design.study import OptimiserTable
from perfmodel.units import as_scalar

SOFT = (0.3, 0.6)
"""Sharpness of the first steps, a few at each: schedules are chosen less surely, the way is smoother."""

EACH = 3
"""Steps at each of these."""

ROUND = (14, 10)
"""Steps of a round: with numbers of things loose, and with them held."""


class State(NamedTuple):
    """Where a search stands.

    - `lanes`: all starts; `done`: steps taken; `held`: 1 while numbers of things are held.
    - `aside`: the lanes with loose numbers, while they are held.
    - `unit`, `choice`, `lowest`: the best whole designs of earlier rounds; infinite: none yet.
    - `values`, `looks`: evaluations so far, without and with slopes.
    """

    lanes: Lane
    done: np.ndarray
    held: np.ndarray
    aside: Lane
    unit: np.ndarray
    choice: np.ndarray
    lowest: np.ndarray
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
    """Before the first step."""
    slacks = evaluate(land, np.full((1, land.low.shape[0]), 0.5), _first_choice(land))[1].shape[1]
    starts = spread(land, options.starts, slacks, options.seed, first)
    lanes = begin(land, starts, as_scalar(SOFT[0]))
    counts = (np.array(options.starts * GROUP + 1), np.array(options.starts))
    zero, none = np.array(0), np.full(options.starts, np.inf)
    unit, choice = np.asarray(lanes.unit, float), np.asarray(lanes.choice)
    return State(lanes, zero, zero, lanes, unit, choice, none, *counts)


def _first_choice(land: AbstractLandscape) -> np.ndarray:
    return np.zeros((1, len(land.options)), np.int32)


def sharpness(done: int) -> float:
    """Of step `done`."""
    return SOFT[done // EACH] if done < EACH * len(SOFT) else 1.0


def advance(land: AbstractLandscape, state: State, whole: np.ndarray) -> State:
    """One step of all lanes; before it, what is due: rounding, or the return to loose lanes."""
    done = int(state.done)
    if whole.any() and not state.held and done % sum(ROUND) == ROUND[0]:
        state = _hold(land, state, whole)
    elif state.held and done % sum(ROUND) == 0:
        state = _archived(state)
    lanes, looked = state.lanes, len(state.lanes.unit)
    if done and sharpness(done) != sharpness(done - 1):
        lanes = look_again(land, lanes, as_scalar(sharpness(done)))
        looked *= 2
    lanes = step(land, lanes, as_scalar(sharpness(done)))
    return state._replace(lanes=lanes, done=np.array(done + 1), looks=state.looks + looked)


def _hold(land: AbstractLandscape, state: State, whole: np.ndarray) -> State:
    """The best lanes with numbers of things rounded and held; the others wait."""
    lanes = state.lanes
    order = np.argsort(np.asarray(lanes.lowest), kind="stable")
    unit, choice = np.asarray(lanes.best, float)[order], np.asarray(lanes.choice)[order]
    penalty = np.asarray(lanes.penalty)[order]
    starts, tried = rounded(land, unit, choice, penalty, whole, len(order))
    return state._replace(
        lanes=begin(land, starts, as_scalar(1.0)),
        aside=lanes,
        held=np.array(1),
        looks=state.looks + len(order),
        values=state.values + tried,
    )


def _archived(state: State) -> State:
    """The whole designs kept, the best of all rounds; loose lanes go on."""
    unit, choice, lowest = _kept(state)
    order = np.argsort(lowest, kind="stable")[: len(state.lowest)]
    return state._replace(
        lanes=state.aside,
        held=np.array(0),
        unit=unit[order],
        choice=choice[order],
        lowest=lowest[order],
    )


def _kept(state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole designs of earlier rounds and of this one."""
    lanes = state.lanes
    return (
        np.concatenate([state.unit, np.asarray(lanes.best, float)]),
        np.concatenate([state.choice, np.asarray(lanes.choice)]),
        np.concatenate([state.lowest, np.asarray(lanes.lowest, float)]),
    )


def whole_designs(state: State, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates, choices and values of the designs so far; of loose ones where there are no others."""
    if state.held or not whole.any():
        return _kept(state)
    if np.isfinite(state.lowest).any():
        return state.unit, state.choice, state.lowest
    lanes = state.lanes
    return np.asarray(lanes.best, float), np.asarray(lanes.choice), np.asarray(lanes.lowest, float)


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
        while int(state.done) < options.steps:
            state = advance(land, state, whole)
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
    unit, choice, lowest = whole_designs(state, whole)
    order = best_first(lowest)[: len(state.lowest)]
    value, slack = evaluate(land, unit[order], choice[order]) if order else (lowest, lowest)
    designs = [Found(unit[at], choice[at], float(value[i]), slack[i]) for i, at in enumerate(order)]
    loose = np.asarray((state.aside if state.held else state.lanes).lowest, float)
    seen = np.asarray(state.lanes.seen.slack)
    nearest = np.argmax(np.min(seen, axis=1))
    least = float(np.min(loose, initial=np.inf))
    counts = int(state.values), int(state.looks)
    return Result(designs, least, *counts, seconds, seen[nearest], stopped)
