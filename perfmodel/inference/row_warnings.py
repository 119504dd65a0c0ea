"""What to know of rows of the serving schema beside their predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from perfmodel.inference.deployment import Deployment, resolve_or_error
from perfmodel.inference.evaluate import NAMES, VERSION
from perfmodel.inference.framework_support import slow_kernels, unsupported_chip

MAX_NAMED_ROWS = 5
"""Rows that a sentence names, at most."""


def framework_warnings(
    cells: Mapping[str, Sequence[str]], count: int, calibration: Path
) -> list[str]:
    """A sentence for each framework on a chip that it does not run on, and for each kind of weights or cache
    without its fast kernels, with the rows that have it.

    Rows that name no chip of their own, as those of two pools, are passed over.
    """
    return by_words([_said(cells, place, calibration) for place in range(count)])


def by_words(said: Sequence[str]) -> list[str]:
    """A sentence for each that is said of some rows, with these before it; empty: nothing is said."""
    rows_by_words: dict[str, list[int]] = {}
    for row, words in enumerate(said, 1):
        if words:
            rows_by_words.setdefault(words, []).append(row)
    return [f"{_named(rows)}: {words}" for words, rows in rows_by_words.items()]


def _said(cells: Mapping[str, Sequence[str]], place: int, calibration: Path) -> str:
    names = [cells[name][place].strip() if name in cells else "" for name in (*NAMES, VERSION)]
    if not names[0]:
        return ""
    found = resolve_or_error(*names[:-1], calibration, names[-1])
    if not isinstance(found, Deployment):
        return ""
    return " ".join(filter(None, (as_if(unsupported_chip(found)), slow_kernels(found))))


def as_if(said: str) -> str:
    """What is said of a framework that does not run on a chip, with what is done about it."""
    return said and f"{said} Priced as if it did."


def _named(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:MAX_NAMED_ROWS]))
    more = f" and {len(rows) - MAX_NAMED_ROWS} more" if len(rows) > MAX_NAMED_ROWS else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"
