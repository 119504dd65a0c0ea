"""Files of facts: found by any of their names, read with one clear sentence where they are wrong."""

import difflib
import functools
import os
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from perfmodel.errors import InputError

ROOT = Path(__file__).parent

MAX_BYTES = 1_000_000
"""No file of facts is longer; a longer one is not read."""

MAX_NAME_LENGTH = 60
"""Characters of a name that are looked at and shown when it is not known."""

T = TypeVar("T", bound=BaseModel)


def fold(name: str) -> str:
    """A name without what does not matter in it: case and the characters - _ . / and space."""
    return name.lower().translate(str.maketrans("", "", "-_./ "))


def nearest(name: str, names: Iterable[str], most: int = 3) -> list[str]:
    """The names that look most like `name`."""
    folded = {fold(n): n for n in names}
    given = fold(name)[:MAX_NAME_LENGTH]
    return [folded[n] for n in difflib.get_close_matches(given, folded, n=most, cutoff=0.5)]


def named(columns: Iterable[str], most: int = 20) -> str:
    """Names for a sentence, the first of many."""
    names = list(columns)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return (", ".join(name[:40] for name in names[:most]) or "none") + more


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
    if not fold(name):
        raise InputError(f"{what} is missing; `{where}` lists all that there are.")
    close = _nearest_meant(name, names)
    those = f"the nearest are {', '.join(close)}" if close else "nothing is named like it"
    raise InputError(f"unknown {what} {name[:MAX_NAME_LENGTH]!r}; {those}; `{where}` lists all.")


def _nearest_meant(name: str, names: dict[str, str], most: int = 3) -> list[str]:
    """What the spellings that look most like `name` mean, each once."""
    given = fold(name)[:MAX_NAME_LENGTH]
    spellings = difflib.get_close_matches(given, names, n=4 * most, cutoff=0.5)
    return list(dict.fromkeys(names[one] for one in spellings))[:most]


ADVICE = {
    "missing": "it is missing; add it",
    "extra_forbidden": "no such key is known here; correct its name, or take it out",
    "too_short": "it is empty; give at least one",
    "model_type": "it is {given}, not a table of keys",
    "dict_type": "it is {given}, not a table of keys",
    "list_type": "it is {given}, not a list",
    "string_type": "it is {given}, not a text in quotation marks",
    "float_type": "it is {given}, not a number",
    "int_type": "it is {given}, not a whole number",
    "int_from_float": "it is {given}, not a whole number",
    "bool_type": "it is {given}, neither true nor false",
    "finite_number": "it is {given}, not a finite number",
}
"""What to say of a fault, where pydantic's own words do not say what to do about it."""


def first_fault(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, in words; an unknown key before what it leaves out."""
    faults = error.errors(include_url=False)
    fault = next((one for one in faults if one["type"] == "extra_forbidden"), faults[0])
    place = ".".join(str(part)[:MAX_NAME_LENGTH] for part in fault["loc"]) or "the file"
    given, said = in_words(fault["input"]), fault["msg"].removeprefix("Value error, ")
    plain = said.replace("Input should", f"it is {given}; it should")
    words = ADVICE.get(fault["type"], plain).replace("{given}", given)
    return f"{place}: {words.rstrip('.')}"


def in_words(value: Any) -> str:
    """What stands in a file, as its author would call it."""
    if isinstance(value, dict | list | tuple):
        return "a table of keys" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text[:MAX_NAME_LENGTH]


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dictionary.

    **Raises:**

    - `InputError`: when it cannot be read, is too long, or is not TOML.
    """
    try:
        too_long = path.stat().st_size > MAX_BYTES
        # A number of thousands of digits is a plain ValueError.
        content = {} if too_long else tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).rstrip(".")
        raise InputError(f"{path} is not a readable TOML file: {reason}.") from None
    if too_long:
        raise InputError(f"{path} is longer than {MAX_BYTES:,} bytes; a file of facts is not.")
    return content


def read_as(kind: type[T], path: Path) -> T:
    """A TOML file, checked against its schema.

    **Raises:**

    - `InputError`: naming the file, the field and what is wrong with it.
    """
    try:
        return kind.model_validate(read_toml(path))
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}.") from None


LIBRARY_VARIABLE = "PERFMODEL_LIBRARY"
"""Variable of the environment that names folders of one's own, which are laid out like the library."""


@functools.cache
def stems(folder: str) -> dict[str, Path]:
    """The files of a folder of the library, and of folders of one's own, by stem; a later one wins."""
    places = [
        ROOT,
        *map(Path, filter(None, os.environ.get(LIBRARY_VARIABLE, "").split(os.pathsep))),
    ]
    missing = [place for place in places if not place.is_dir()]
    if missing:
        raise InputError(
            f"{LIBRARY_VARIABLE} names {missing[0]}, which is no folder; correct or unset it."
        )
    return {path.stem: path for place in places for path in sorted((place / folder).glob("*.toml"))}


def word_of(given: str, allowed: Sequence[str], what: str) -> str:
    """The allowed word that a cell means; how it is spelled does not matter.

    **Raises:**

    - `InputError`: for another word, with the nearest that are allowed.
    """
    folded = {fold(word): word for word in allowed}
    if fold(given) in folded:
        return folded[fold(given)]
    problem = f"unknown {what} {given[:MAX_NAME_LENGTH]!r}" if fold(given) else f"{what} is missing"
    close = nearest(given, allowed)
    those = f"the nearest are {', '.join(close)}; " if close else ""
    raise InputError(f"{problem}; {those}allowed are {', '.join(allowed)}.")
