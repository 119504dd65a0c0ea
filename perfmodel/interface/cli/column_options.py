"""Columns of the serving schema as options of a command."""

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from perfmodel.errors import InputError
from perfmodel.interface.cli.options import listed
from perfmodel.interface.serving_columns import SERVING_COLUMNS

MAX_ROWS = 5000
"""That values of options come to, at most."""


def flag(column: str) -> str:
    """The option of a column."""
    return f"--{column.replace('_', '-')}"


def takes(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a command with an option for each of some columns; those given reach it as `columns`."""

    def taking(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def wrapped(**given: Any) -> Any:
            columns = {name: given.pop(name) for name in names}
            asked = {name: text for name, text in columns.items() if text is not None}
            return command(**given, columns=asked)

        own = inspect.signature(command).parameters.values()
        parameters = [one for one in own if one.name != "columns"] + list(map(_option, names))
        wrapped.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
        wrapped.__annotations__ = {one.name: one.annotation for one in parameters}
        return wrapped

    return taking


takes_columns = takes(*SERVING_COLUMNS)
"""A command with an option for each column of the serving schema."""


def _option(name: str) -> inspect.Parameter:
    """The parameter of a column; its text may hold several values."""
    panel, meaning, example = SERVING_COLUMNS[name]
    option = typer.Option(
        flag(name), help=f"{meaning}: {example}", rich_help_panel=panel, show_default=False
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, option],
    )


def product(columns: Mapping[str, str]) -> dict[str, list[str]]:
    """The table of every combination of the values of options; the last one varies fastest.

    **Raises:**

    - `InputError`: for more rows than are predicted at once.
    """
    values = {name: listed(text) or [""] for name, text in columns.items()}
    count = math.prod(map(len, values.values()))
    if count > MAX_ROWS:
        raise InputError(
            f"the options come to {count:,} rows; allowed are {MAX_ROWS:,}: give fewer values, or "
            "use `perfmodel sweep`."
        )
    return dict(
        zip(values, map(list, zip(*itertools.product(*values.values()), strict=True)), strict=True)
    )
