"""Files of facts: found by any of their names, read with one clear sentence where they are wrong."""

import difflib
import functools
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from perfmodel.errors import InputError

ROOT = Path(__file__).parent

MOST_BYTES = 1_000_000
"""No file of facts is longer; a longer one is not read."""

T = TypeVar("T", bound=BaseModel)


def fold(name: str) -> str:
    """A name without what does not matter in it: case and the characters - _ . / and space."""
    return name.lower().translate(str.maketrans("", "", "-_./ "))


def nearest(name: str, names: Iterable[str], most: int = 3) -> list[str]:
    """The names that look most like `name`."""
    folded = {fold(n): n for n in names}
    return [folded[n] for n in difflib.get_close_matches(fold(name), folded, n=most, cutoff=0.5)]


def pick(name: str, names: dict[str, str], what: str, where: str) -> str:
    """The file stem that `name` means.

    **Arguments:**

    - `names`: every spelling, folded, with the stem it means.
    - `what`, `where`: for the sentence, when there is none.

    **Raises:**

    - `InputError`: naming the nearest spellings.
    """
    if fold(name) in names:
        return names[fold(name)]
    close = list(dict.fromkeys(nearest(name, names.values()) or sorted(set(names.values()))[:5]))
    raise InputError(
        f"unknown {what} {name!r}; the nearest are {', '.join(close)}; `{where}` lists all."
    )


def first_fault(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, in words."""
    fault = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"]) or "the file"
    return f"{place}: {fault['msg'].removeprefix('Value error, ')}"


def read_toml(path: Path) -> dict:
    """A TOML file as a dictionary.

    **Raises:**

    - `InputError`: when it cannot be read, is too long, or is not TOML.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} is longer than {MOST_BYTES:,} bytes; a file of facts is not.")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not a readable TOML file: {error}.") from None


def read_as(kind: type[T], path: Path) -> T:
    """A TOML file, checked against its schema.

    **Raises:**

    - `InputError`: naming the file, the field and what is wrong with it.
    """
    try:
        return kind.model_validate(read_toml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}.") from None


@functools.cache
def stems(folder: str) -> dict[str, Path]:
    """The files of a folder of the library, by stem."""
    return {path.stem: path for path in sorted((ROOT / folder).glob("*.toml"))}
