"""Predicted columns as numbers and words, and the same written as text."""

from collections.abc import Sequence

import numpy as np

Value = float | str
"""A number (`nan`: there is none) or a word (empty: there is none)."""

Columns = dict[str, list[Value]]
"""Predicted columns by name."""


def is_empty(value: Value) -> bool:
    """Whether a value is not there."""
    return not value if isinstance(value, str) else not np.isfinite(value)


def chosen_or_given(chosen: Sequence[Value], given: Sequence[str]) -> list[Value]:
    """What was chosen, and where nothing was, the cell as it was given."""
    return [old if is_empty(new) else new for new, old in zip(chosen, given, strict=True)]


def as_cells(column: Sequence[Value]) -> list[str]:
    """A column as text: numbers in six digits, what is not there empty."""
    return [cell if isinstance(cell, str) else number_cells(np.array([cell]))[0] for cell in column]


def number_cells(values: np.ndarray, digits: int = 6) -> list[str]:
    """Numbers as cells; a number that is not there is an empty cell."""
    return ["" if not np.isfinite(value) else f"{value:.{digits}g}" for value in values]
