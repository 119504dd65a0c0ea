"""Where a search stands: the starts that descend now, what earlier ones found, and what it took."""

from typing import NamedTuple

import numpy as np

from perfmodel.design.descent import Lane

SOFT, SOFT_STEPS = 0.3, 3
"""Sharpness of the first steps of a start, and how many: where schedules are chosen less surely, the way is
smoother."""

BETTER = 1e-4
"""A design that is better by less than this, relative, is the same."""


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

    @property
    def sharp(self) -> bool:
        """Whether the values of the lanes are those of the landscape, not of a smoother one."""
        return bool(self.held) or int(self.age) > SOFT_STEPS


def is_whole(lanes: Lane, whole: np.ndarray) -> np.ndarray:
    """Which lanes have all their numbers of things held."""
    return np.all((np.asarray(lanes.low) == np.asarray(lanes.high)) | ~whole, axis=1)


def whole_designs(state: State, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates, choices and values of the designs so far; loose and softened ones do not count."""
    lanes = state.lanes
    counts = is_whole(lanes, whole) & state.sharp
    return (
        np.concatenate([state.unit, np.asarray(lanes.best, float)[counts]]),
        np.concatenate([state.choice, np.asarray(lanes.choice)[counts]]),
        np.concatenate([state.lowest, np.asarray(lanes.lowest, float)[counts]]),
    )


def least(state: State) -> float:
    """The least value of the lanes as they are, if they are not softened."""
    return float(np.min(np.asarray(state.lanes.lowest, float))) if state.sharp else np.inf


def archived(state: State, whole: np.ndarray) -> State:
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
