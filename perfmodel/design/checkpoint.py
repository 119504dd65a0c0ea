"""A search on disk: the study in one line of JSON, then the numbers of its state."""

import io
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from perfmodel.design.descent import Lane
from perfmodel.design.landscape import Look
from perfmodel.design.state import State
from perfmodel.design.study import Study
from perfmodel.errors import InputError
from perfmodel.files import write_whole

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
