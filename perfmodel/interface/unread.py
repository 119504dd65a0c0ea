"""Columns of a table that nothing reads: slips of the pen, and what only passes through."""

import difflib
from collections.abc import Collection, Mapping, Sequence

from perfmodel.library.files import fold, named

SLIP = 0.78
"""Likeness from which on one name is taken for a slip of another: `tpp` and `tp` have 0.8, `node` and `mode`
0.75."""

PASSED = ("id", "name", "label", "note", "notes", "memo", "comment", "source", "url", "latency_us")
"""Columns that are plainly not meant for a prediction; those that begin with `measured_` are not either."""


def unread(
    cells: Mapping[str, Sequence[str]], read: Collection[str], written: Collection[str]
) -> list[str]:
    """A sentence for each column that is nearly one that is read, and one for all others that are not.

    **Arguments:**

    - `cells`: a table by column; one whose cells are all empty is passed over.
    - `read`, `written`: columns that a prediction reads, and those that it adds.
    """
    known = {*read, *written, *PASSED, "error"}
    strange = [
        name
        for name, column in cells.items()
        if name not in known and not name.startswith("measured_") and any(column)
    ]
    meant = {name: _meant(name, read) for name in strange}
    slips = [
        f"column {name[:40]} is not read; the nearest that is: {near}."
        for name, near in meant.items()
        if near
    ]
    others = [name for name, near in meant.items() if not near]
    return slips + ([f"columns that are not read: {named(others)}."] if others else [])


def _meant(name: str, read: Collection[str]) -> str:
    """The column that a name is a slip of; empty where it is like none."""
    folded = {fold(n): n for n in read}
    close = difflib.get_close_matches(fold(name)[:60], folded, n=1, cutoff=SLIP)
    return folded[close[0]] if close else ""
