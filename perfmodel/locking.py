"""A folder for one run alone: another that would write into it is refused, not mixed in."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from perfmodel.errors import InputError

LOCK = "lock"
"""The file that is held."""


@contextlib.contextmanager
def held(folder: Path, what: str) -> Iterator[None]:
    """A folder, made if it is not there, for this run alone; the lock ends with the process, however it ends.

    **Arguments:**

    - `what`: the run, as it is called.

    **Raises:**

    - `InputError`: when it cannot be written, or another run holds it.
    """
    place = folder / LOCK
    handle = _opened(place)
    try:
        if not _taken(handle, place):
            raise InputError(
                f"another {what} is writing {folder}; wait for it, or give --out another place."
            )
        try:
            yield
        finally:
            place.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _opened(place: Path) -> int:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        return os.open(place, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise InputError(
            f"{place.parent} cannot be written: {error.strerror}; give --out another place."
        ) from None


def _taken(handle: int, place: Path) -> bool:
    """Whether the lock is ours now, and its file still there: the run that held it takes it away."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), place.stat())
    except OSError:
        return False
