"""Results as plain numbers: dictionaries, columns, JSON, and text to look at."""

import abc
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer

from perfmodel.units import figures

Plain = dict[str, Any]
"""Numbers, words and lists of them, by a name that ends in its unit."""


class AbstractResult(eqx.Module):
    """What a prediction gives. It prints itself in a terminal and in a notebook."""

    @abc.abstractmethod
    def as_dict(self) -> Plain:
        """Its numbers by name and unit; lists, where it is a result of `vmap`."""

    def __str__(self) -> str:
        return repr(self) if _traced(self) else as_text(self.as_dict())

    def _repr_html_(self) -> str:
        """For a notebook."""
        return f"<pre>{html.escape(repr(self))}</pre>" if _traced(self) else as_html(self.as_dict())


def _traced(result: AbstractResult) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(result))


def plain(value: Any) -> Any:
    """An array as numbers: one, or a list of them."""
    return np.asarray(value).tolist()


def named(values: Any, names: Sequence[str]) -> Any:
    """The name of the largest along the last axis: one, or a list of them."""
    return np.array(names)[np.asarray(values).argmax(axis=-1)].tolist()


def as_dict(result: AbstractResult) -> Plain:
    """A result as numbers by name and unit."""
    return result.as_dict()


def as_rows(results: AbstractResult | Sequence[AbstractResult]) -> dict[str, list[Any]]:
    """Results as columns, for `pandas.DataFrame`, `polars.DataFrame` or `pyarrow.table`.

    **Arguments:**

    - `results`: one for each row, or one of `vmap` over one axis, which has a row for each place.
    """
    if isinstance(results, AbstractResult):
        columns = results.as_dict()
        count = max((len(x) for x in columns.values() if isinstance(x, list)), default=1)
        return {n: x if isinstance(x, list) else [x] * count for n, x in columns.items()}
    rows = [result.as_dict() for result in results]
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def as_json(result: AbstractResult) -> str:
    """A result as JSON; what is not known (`nan`) or without bound is null."""
    finite = {name: _finite(value) for name, value in result.as_dict().items()}
    return json.dumps(finite, indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def as_text(content: Mapping[str, Any]) -> str:
    """Lines of a name and a value; terms that are zero are left out."""
    shown = _shown(content)
    wide = max(map(len, shown))
    return "\n".join(f"{name:<{wide}}  {value}" for name, value in shown.items())


def as_html(content: Mapping[str, Any]) -> str:
    """The same as a table."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in _shown(content).items()
    )
    return f"<table>{rows}</table>"


def rows_as_text(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Rows below the names of their columns; columns in which no row has a value are left out."""
    lines = _lines(rows, names)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{word:<{wide}}" for word, wide in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def rows_as_html(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """The same as a table."""
    heading, *others = ([html.escape(word) for word in line] for line in _lines(rows, names))
    body = "".join(f"<tr><td>{'</td><td>'.join(line)}</td></tr>" for line in others)
    return f"<table><tr><th>{'</th><th>'.join(heading)}</th></tr>{body}</table>"


def _lines(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[str]]:
    """Names of columns, then each row in words."""
    words = [{name: _cell(row.get(name, "")) for name in names} for row in rows]
    used = [name for name in names if any(row[name] for row in words)]
    return [used, *([row[name] for name in used] for row in words)]


def _cell(value: Any) -> str:
    """A number with four digits; nothing where it is not known."""
    if isinstance(value, float):
        return figures(value) if np.isfinite(value) else ""
    return str(value)


def _shown(content: Mapping[str, Any]) -> dict[str, str]:
    return {name: _word(value) for name, value in content.items() if np.any(np.asarray(value) != 0)}


def _word(value: Any) -> str:
    """A number with four digits; of many, the first few."""
    if isinstance(value, list):
        more = ", ..." if len(value) > MAX_ENTRIES else ""
        return f"[{', '.join(map(_word, value[:MAX_ENTRIES]))}{more}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


MAX_ENTRIES = 4
"""Of a list, that are shown."""
