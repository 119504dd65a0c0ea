"""Several processes, on one machine or many, that search together."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perfmodel.errors import InputError

AUTO = "auto"
"""Coordinator, number and place of processes as SLURM, or whatever started them, says it: read by JAX."""


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Join the other processes, before anything is computed.

    **Raises:**

    - `InputError`: when only some of the three are given, or no cluster is recognised.
    """
    given = [coordinator not in (None, AUTO), processes is not None, process is not None]
    if any(given) and not all(given):
        raise InputError(
            "give --coordinator HOST:PORT, --processes and --process together, or --coordinator auto alone."
        )
    if processes is not None and process is not None and process >= processes:
        raise InputError(
            f"--process is {process}; of {processes} processes the last is {processes - 1}."
        )
    if coordinator is not None:
        _initialise(coordinator, processes, process)


def _initialise(coordinator: str, processes: int | None, process: int | None) -> None:
    import jax

    try:
        jax.distributed.initialize(None if coordinator == AUTO else coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        said = str(error).splitlines()[0]
        raise InputError(
            f"the processes did not come together ({said}); check --coordinator, --processes and --process."
        ) from None


@contextmanager
def place_of(out: Path) -> Iterator[Path]:
    """Where this process writes: the first into `out`; the others find the same, and drop it."""
    import jax

    if jax.process_index() == 0:
        yield out
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
