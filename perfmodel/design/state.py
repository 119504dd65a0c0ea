"""Where a search stands, and its checkpoint: the study in one line of JSON, then the numbers of its state."""

import io
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.design.abstract_problem import Look
from perfmodel.design.sqp import Lane
from perfmodel.design.study import Study
from perfmodel.errors import InputError
from perfmodel.files import write_whole

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


_NOTHING = np.zeros(0)
_LOOK = Look(*[_NOTHING] * len(Look._fields))  # pyright: ignore[reportArgumentType]
_LANE = Lane(*[_NOTHING] * len(Lane._fields))._replace(seen=_LOOK)  # pyright: ignore[reportArgumentType]
_STATE = State(*[_NOTHING] * len(State._fields))  # pyright: ignore[reportArgumentType]
_SHAPE = jax.tree.structure(_STATE._replace(lanes=_LANE))
"""How the numbers of a state belong together."""


def save_state(path: Path, study: Study, state: State) -> None:
    """Write a checkpoint whole or not at all: a search that is killed finds the last one."""
    content = io.BytesIO(study.model_dump_json().encode() + b"\n")
    content.seek(0, io.SEEK_END)
    np.savez(content, *map(np.asarray, jax.tree.leaves(state)))
    write_whole(path, content.getvalue())


def load_state(path: Path, study: Study) -> State:
    """Read a checkpoint.

    **Raises:**

    - `InputError`: when it is another study's, or damaged.
    """
    try:
        first, _, rest = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    if first != study.model_dump_json().encode():
        raise InputError(
            f"{path} belongs to another study; search without --resume, or into another folder."
        )
    try:
        with np.load(io.BytesIO(rest)) as file:
            leaves = [file[f"arr_{i}"] for i in range(_SHAPE.num_leaves)]
    except Exception as error:  # archives break in many ways, each with an error of its own
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is damaged ({reason}); search without --resume.") from None
    state = jax.tree.unflatten(_SHAPE, leaves)
    return state._replace(lanes=jax.tree.map(jnp.asarray, state.lanes))
