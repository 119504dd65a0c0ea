"""Phases of a wave: it descends with numbers of things loose, is rounded at rest, descends again, ends."""

import numpy as np

from perfmodel.design.descent import FLAT, look_again, rests, step
from perfmodel.design.landscape import AbstractLandscape
from perfmodel.design.neighbours import MOST_CHOICES, merits, neighbour, other_choice
from perfmodel.design.rounding import rounded
from perfmodel.design.state import BETTER, SOFT, SOFT_STEPS, State, archived, is_whole, least
from perfmodel.design.study import OptimiserTable
from perfmodel.design.waves import next_wave
from perfmodel.units import as_scalar

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
