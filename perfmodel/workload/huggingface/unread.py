"""Fields that no reader asked for: harmless ones pass, one that may change a count is refused by its name."""

import functools
import re
import tomllib
from typing import Any

from perfmodel.workload.huggingface.architecture import ARCHITECTURES, Architecture
from perfmodel.workload.huggingface.fields import Fields, shown

FIELDS = ARCHITECTURES.with_name("config_fields.toml")
"""Which fields are harmless, and which may count."""


@functools.cache
def field_lists() -> dict[str, Any]:
    """The lists of `library/config_fields.toml`."""
    return tomllib.loads(FIELDS.read_text(encoding="utf-8"))


@functools.cache
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile("|".join(field_lists()[name]))


@functools.cache
def _harmless() -> frozenset[str]:
    return frozenset(field_lists()["harmless"])


def unread(fields: Fields, how: Architecture) -> list[str]:
    """Fields that were not read, say more than no, and may change a count."""
    usual = {how.names.get(key, key) for key in fields.seen} | set(how.ignored) | _harmless()
    core = field_lists()["core"]
    return sorted(
        key
        for key, value in fields.table.items()
        if key not in usual
        and how.names.get(key, key) not in usual
        and not _says_nothing(value)
        and (key in core or not _pattern("harmless_patterns").search(key))
        and _may_count(key, value)
    )


def _may_count(key: str, value: Any) -> bool:
    """Whether a name is that of a size, of a flag that brings parameters, or of a factor on a size."""
    if isinstance(value, float):
        return bool(_pattern("factors").search(key))
    return bool(_pattern("counts").search(key) or (value is True and _pattern("flags").search(key)))


def _says_nothing(value: Any) -> bool:
    """Null, no, nought, a word, or nothing at all."""
    return not value or isinstance(value, str)


def refuse_unread(fields: Fields, how: Architecture, architecture: str) -> None:
    """Refuse a field that may change a count and that no reader knows.

    **Raises:**

    - `ValueError`: naming it.
    """
    names = unread(fields, how)
    if names:
        key = names[0]
        raise fields.fault(
            f"{key} is {shown(fields.table[key])}, but {architecture} is read without it, so that "
            f"parameters or "
            "cache could be wrong; take it out if it changes neither"
        )
