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


@functools.cache
def other_names() -> dict[str, str]:
    """Other names of usual fields, with these."""
    return {name: usual for usual, names in field_lists()["same"].items() for name in names}


INERT = ("sliding_window", "max_window_layers")
"""Fields that mean nothing where `use_sliding_window` says no."""


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
        and not (key in INERT and fields.table.get("use_sliding_window") is False)
        and (
            key in other_names()
            or ((key in core or not _harmless_by_pattern(key)) and _may_count(key, value))
        )
    )


def _harmless_by_pattern(key: str) -> bool:
    """Whether a name is of a harmless kind, and of no size of the language model."""
    if _pattern("towers").search(key):
        return True
    return bool(_pattern("harmless_patterns").search(key) and not _pattern("strong").search(key))


def _may_count(key: str, value: Any) -> bool:
    """Whether a name is that of a size, of a flag that brings parameters, or of a factor on a size."""
    kind = "factors" if isinstance(value, float) else "flags" if value is True else "counts"
    return bool(_pattern(kind).search(key))


def _says_the_same(key: str, value: Any, model: Fields) -> bool:
    """Whether a field is another name of one that was read, with the same value."""
    return value is not True and value == _as_read(model, other_names().get(key, ""))


def _as_read(model: Fields, usual: str) -> Any:
    """A usual field as the forms read it where it is missing: heads of keys as all heads, and their size."""
    table = model.table
    heads, hidden = table.get("num_attention_heads"), table.get("hidden_size")
    if usual == "num_key_value_heads":
        return table.get(usual) or heads
    if usual == "head_dim" and not table.get(usual):
        return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) else None
    return table.get(usual)


def _says_nothing(value: Any) -> bool:
    """Null, no, nought, a word, or nothing at all."""
    return not value or isinstance(value, str)


def refuse_unread(fields: Fields, model: Fields, how: Architecture, architecture: str) -> None:
    """Refuse a field that may change a count and that no reader knows.

    **Arguments:**

    - `fields`: as written; `model`: with the usual names and what is left to defaults.

    **Raises:**

    - `ValueError`: naming it.
    """
    names = [
        key for key in unread(fields, how) if not _says_the_same(key, fields.table[key], model)
    ]
    if names:
        key = names[0]
        _refuse_other_name(fields, model, key)
        raise fields.fault(
            f"{key} is {shown(fields.table[key])}, but {architecture} is read without it, so that "
            f"parameters or "
            "cache could be wrong; take it out if it changes neither"
        )


def _refuse_other_name(fields: Fields, model: Fields, key: str) -> None:
    """Say of another name of a usual field that it contradicts what was read."""
    usual = other_names().get(key, "")
    read = _as_read(model, usual)
    if read is not None:
        raise fields.fault(
            f"{key} is {shown(fields.table[key])}, but {usual} is read as {shown(read)}; keep the one that "
            f"is right, as {usual}"
        )
