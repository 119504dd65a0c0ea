"""A folder for one run alone: another that would write into it is refused, not mixed in."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from perfmodel.errors import InputError

LOCK = "lock"
"""The file that is locked."""


@contextlib.contextmanager
def lock_folder(folder: Path, what: str) -> Iterator[None]:
    """A folder, made if it is not there, for this run alone; the lock ends with the process, however it ends.

    **Arguments:**

    - `what`: the run, as it is called.

    **Raises:**

    - `InputError`: when it cannot be written, or another run holds it.
    """
    from filelock import FileLock, Timeout

    place = folder / LOCK
    lock = FileLock(place)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"another {what} is writing {folder}; wait for it, or give --out another place."
        ) from None
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written: {error.strerror}; give --out another place."
        ) from None
    try:
        yield
    finally:
        place.unlink(missing_ok=True)
        lock.release()
