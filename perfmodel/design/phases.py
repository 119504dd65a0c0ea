"""Phases of a wave: it descends with numbers of things loose, is rounded at rest, descends again, ends."""

import jax.numpy as jnp
import numpy as np

from perfmodel.design.descent import FLAT, look_again, rests, step
from perfmodel.design.landscape import AbstractLandscape
from perfmodel.design.neighbours import neighbour, other_choice
from perfmodel.design.rounding import MOST_CHOICES, rounded
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
    if _leads(land, state, whole):
        return _beside(land, state, whole, options)
    return next_wave(land, archived(state, whole), options)


def _due(land: AbstractLandscape, state: State, whole: np.ndarray) -> bool:
    """Whether a wave has something to round or to choose yet."""
    loose = not np.all(is_whole(state.lanes, whole))
    return int(state.held) < 2 and bool(loose or _chooses(land, state))


def _leads(land: AbstractLandscape, state: State, whole: np.ndarray) -> bool:
    """Whether a wave at rest found the best design so far, and there is something to try beside it."""
    best = np.min(state.lowest, initial=np.inf)
    more = int(whole.sum()) > FEW or _first_choice(land, state)
    return more and bool(least(state) < best - BETTER)


def _first_choice(land: AbstractLandscape, state: State) -> bool:
    """Whether nothing was found before, and there are others to choose."""
    return len(state.lowest) == 0 and int(np.prod(land.options)) > 1


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
    due = _due(land, state, whole) or _leads(land, state, whole)
    if due or not _rested(land, state, whole, options):
        return False
    after = archived(state, whole)
    each = 2 * min(int(np.prod(land.options)), MOST_CHOICES)
    agree = max(AGREE, 2 * options.lanes)
    enough = int(after.quiet) >= agree and int(state.begun) > each
    return (enough and bool(np.isfinite(after.lowest).any())) or int(state.begun) >= options.starts


def _beside(
    land: AbstractLandscape, state: State, whole: np.ndarray, options: OptimiserTable
) -> State:
    """On the way from the best beside the designs of the wave, which are kept; or in the next wave."""
    found = archived(state, whole)
    if _first_choice(land, state):
        lanes, looked = other_choice(land, state.lanes)
        found = found._replace(looks=found.looks + looked)
        if float(jnp.min(lanes.lowest)) < least(state) - BETTER:
            return found._replace(lanes=lanes, held=np.array(0), age=np.array(SOFT_STEPS + 1))
    if int(whole.sum()) <= FEW:
        return next_wave(land, found, options)
    lanes, looked = neighbour(land, state.lanes, whole)
    looks = found.looks + looked
    return found._replace(lanes=lanes, held=np.array(1), age=np.array(0), looks=looks)


def _hold(land: AbstractLandscape, state: State, whole: np.ndarray) -> State:
    """All lanes with numbers of things rounded and held; or on their way with another choice, where it is better."""
    if _chooses(land, state):
        chosen, tried = rounded(land, state.lanes, np.zeros_like(whole), choose=True)
        state = state._replace(values=state.values + tried)
        if np.any(np.asarray(chosen.choice) != np.asarray(state.lanes.choice)):
            looks = state.looks + len(chosen.unit)
            return state._replace(lanes=chosen, age=np.array(SOFT_STEPS + 1), looks=looks)
    lanes, tried = rounded(land, state.lanes, whole, choose=False)
    return state._replace(
        lanes=lanes,
        held=state.held + 1,
        age=np.array(0),
        loose=state.loose if state.held else np.minimum(state.loose, least(state)),
        looks=state.looks + len(lanes.unit),
        values=state.values + tried,
    )
