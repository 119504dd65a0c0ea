"""Folders that many write into: of this machine, or of an object store (`s3://`, `gs://`).

A file is there whole or not at all: on a disk it is written beside and renamed; a put into an object store
is whole by itself.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.errors import InputError
from perfmodel.files import check_folder, write_whole

WAITS = (1, 2, 4, 8, 16, 32)
"""Seconds between tries to reach an object store that does not answer: a minute in all."""

NOT_TRIED_AGAIN = (FileNotFoundError, PermissionError, ImportError, InputError)
"""What another try does not change."""


def is_remote(place: str) -> bool:
    """Whether a place is in an object store."""
    return "://" in place


class DiskFolder(NamedTuple):
    """A folder of this machine, or one that several share."""

    path: Path

    def prepare(self) -> None:
        """Make it, if it is not there."""
        check_folder(self.path)
        self.path.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, content: bytes, patient: bool = True) -> None:
        """Write a file whole or not at all."""
        write_whole(self.path / name, content)

    def read(self, name: str) -> bytes | None:
        """What is in a file; `None` where there is none."""
        path = self.path / name
        return path.read_bytes() if path.is_file() else None

    def open(self, name: str) -> Any:
        """A file to read, from any place in it."""
        return (self.path / name).open("rb")

    def names(self) -> list[str]:
        """Of its files, those that a run that was killed left half among them."""
        return sorted(path.name for path in self.path.iterdir() if path.is_file())

    def remove(self, name: str) -> None:
        """Take a file away."""
        (self.path / name).unlink(missing_ok=True)

    def __str__(self) -> str:
        return str(self.path)


class RemoteFolder(NamedTuple):
    """A folder of an object store, by its URL; rights and endpoints are those of the environment."""

    url: str

    def _store(self) -> tuple[Any, str]:
        """What reads and writes the store, and the folder's path in it."""
        try:
            import fsspec
        except ImportError:
            raise InputError(
                f"{self.url} is in an object store; install perfmodel[cluster] to write there."
            ) from None
        try:
            return fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"{self.url} cannot be opened ({error}); allowed are a folder of this machine, s3:// and gs://."
            ) from None

    def _try(self, action: str, *arguments: Any, patient: bool = True) -> Any:
        """Ask the store, again and again while it does not answer.

        **Raises:**

        - `FileNotFoundError`: where nothing is there; `InputError`: when the store refuses.
        """
        store, _ = self._store()
        for wait in (*(WAITS if patient else ()), None):
            try:
                return getattr(store, action)(*arguments)
            except FileNotFoundError:
                raise
            except Exception as error:  # of botocore, aiohttp, google: they share no class
                if wait is None or isinstance(error, NOT_TRIED_AGAIN):
                    raise InputError(_refusal(self.url, error)) from None
            store.invalidate_cache()
            time.sleep(wait)

    def prepare(self) -> None:
        """Nothing: an object store has no folders."""

    def write(self, name: str, content: bytes, patient: bool = True) -> None:
        """Write a file whole or not at all."""
        try:
            self._try("pipe_file", self._at(name), content, patient=patient)
        except FileNotFoundError as error:
            raise InputError(_refusal(self.url, error)) from None

    def read(self, name: str) -> bytes | None:
        """What is in a file; `None` where there is none."""
        try:
            return self._try("cat_file", self._at(name), patient=False)
        except FileNotFoundError:
            return None

    def open(self, name: str) -> Any:
        """A file to read, from any place in it."""
        return self._try("open", self._at(name), "rb")

    def names(self) -> list[str]:
        """Of its files."""
        store, path = self._store()
        store.invalidate_cache()
        try:
            found = self._try("ls", path.rstrip("/"), False)
        except FileNotFoundError:
            return []
        return sorted(one.rpartition("/")[2] for one in found)

    def remove(self, name: str) -> None:
        """Take a file away."""
        self._try("rm_file", self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._store()[1].rstrip('/')}/{name}"

    def __str__(self) -> str:
        return self.url


Folder = DiskFolder | RemoteFolder


def folder_at(place: str) -> Folder:
    """The folder at a path or a URL."""
    return RemoteFolder(place) if is_remote(place) else DiskFolder(Path(place))


def _refusal(url: str, error: Exception) -> str:
    """Why a store cannot be used, in one sentence."""
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
    return (
        f"{url} cannot be used ({said}); give --out a bucket that is there and that you may write, with its "
        "rights in the environment."
    )
