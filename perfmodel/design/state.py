"""Where a search stands, and its checkpoint: the study in one line of JSON, then the numbers of its state."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.design.abstract_problem import Linearisation
from perfmodel.design.sqp import SQPState
from perfmodel.design.study import Study
from perfmodel.errors import InputError
from perfmodel.files import write_whole

INITIAL_SHARPNESS, SOFTENED_STEPS = 0.3, 3
"""Sharpness of the first steps of a start, and how many: where schedules are chosen less surely, the way is
smoother."""

MIN_GAIN = 1e-4
"""A design that is better by less than this, relative, is the same."""


class SearchState(NamedTuple):
    """Where a search stands; a checkpoint holds its numbers in this order.

    - `sqp`: the starts that descend now; `roundings`: how many times their integers were rounded and fixed.
    - `age`: their steps since then; `starts`: begun so far; `without_gain`: of them, in a row to the last,
      that found nothing better; `steps`: of all waves.
    - `unit`, `choice`, `value`: the local optima of earlier waves.
    - `relaxed`: the least value before integers were rounded.
    - `nearest_slack`: the slacks of the place of earlier waves that came nearest to keeping all limits.
    - `evaluations`, `gradients`: so far, without and with slopes.
    """

    sqp: SQPState
    roundings: np.ndarray
    age: np.ndarray
    starts: np.ndarray
    without_gain: np.ndarray
    steps: np.ndarray
    unit: np.ndarray
    choice: np.ndarray
    value: np.ndarray
    relaxed: np.ndarray
    nearest_slack: np.ndarray
    evaluations: np.ndarray
    gradients: np.ndarray

    @property
    def sharp(self) -> bool:
        """Whether the values of the starts are those of the problem, not of a smoother one."""
        return bool(self.roundings) or int(self.age) > SOFTENED_STEPS


def integers_fixed(states: SQPState, integer: np.ndarray) -> np.ndarray:
    """Which starts have all their integers fixed."""
    return np.all((np.asarray(states.low) == np.asarray(states.high)) | ~integer, axis=1)


def integer_designs(
    state: SearchState, integer: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates, choices and values of the designs so far; relaxed and softened ones do not count."""
    states = state.sqp
    counts = integers_fixed(states, integer) & state.sharp
    return (
        np.concatenate([state.unit, np.asarray(states.best, float)[counts]]),
        np.concatenate([state.choice, np.asarray(states.choice)[counts]]),
        np.concatenate([state.value, np.asarray(states.best_value, float)[counts]]),
    )


def best_value(state: SearchState) -> float:
    """The least value of the starts as they are, if they are not softened."""
    return float(np.min(np.asarray(state.sqp.best_value, float))) if state.sharp else np.inf


def archive(state: SearchState, integer: np.ndarray) -> SearchState:
    """What the wave found, kept among the designs."""
    unit, choice, value = integer_designs(state, integer)
    known = np.min(state.value, initial=np.inf)
    better = np.min(value, initial=np.inf) < known - MIN_GAIN
    slacks = np.asarray(state.sqp.linearisation.constraints, float)
    nearest = slacks[np.argmax(np.min(slacks, axis=1))]
    return state._replace(
        unit=unit,
        choice=choice,
        value=value,
        nearest_slack=max(state.nearest_slack, nearest, key=np.min),
        without_gain=np.array(0 if better else int(state.without_gain) + len(state.sqp.unit)),
    )


def _structure() -> Any:
    """How the numbers of a state belong together."""
    linearisation = Linearisation(*(0,) * len(Linearisation._fields))  # pyright: ignore[reportArgumentType]
    states = dict.fromkeys(SQPState._fields, 0) | {"linearisation": linearisation}
    numbers = dict.fromkeys(SearchState._fields, 0) | {"sqp": SQPState(**states)}  # pyright: ignore[reportArgumentType]
    return jax.tree.structure(SearchState(**numbers))  # pyright: ignore[reportArgumentType]


STRUCTURE = _structure()


def save_state(path: Path, study: Study, state: SearchState) -> None:
    """Write a checkpoint whole or not at all: a search that is killed finds the last one."""
    content = io.BytesIO(study.model_dump_json().encode() + b"\n")
    content.seek(0, io.SEEK_END)
    np.savez(content, *map(np.asarray, jax.tree.leaves(state)))
    write_whole(path, content.getvalue())


def load_state(path: Path, study: Study) -> SearchState:
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
            leaves = [file[f"arr_{i}"] for i in range(STRUCTURE.num_leaves)]
    except Exception as error:  # archives break in many ways, each with an error of its own
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is damaged ({reason}); search without --resume.") from None
    state = jax.tree.unflatten(STRUCTURE, leaves)
    return state._replace(sqp=jax.tree.map(jnp.asarray, state.sqp))
