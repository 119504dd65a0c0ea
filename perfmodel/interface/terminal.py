"""What commands print: tables, JSON, sentences, and progress on stderr."""

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich import progress
from rich.console import Console
from rich.table import Table as RichTable

from perfmodel.interface.tables import Table

OUTPUT_WIDTH = None if sys.stdout.isatty() else 400
"""Width of what is printed, in characters: the terminal's, or wide enough to wrap nothing."""

# Names and sources may hold brackets and colons: they are no markup and no emoji.
console = Console(highlight=False, markup=False, emoji=False, width=OUTPUT_WIDTH)
errors = Console(stderr=True, highlight=False, markup=False, emoji=False)


def say(*lines: object) -> None:
    """Print each on a line, which the terminal may wrap."""
    for line in lines:
        console.print(line, soft_wrap=True)


MAX_MESSAGE_LENGTH = 2000
"""Characters of a sentence, at most."""


def warn(said: object) -> None:
    """Say it on one line of stderr, whatever is in it, in the program's name."""
    plain = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in str(said))
    line = " ".join(plain.split())
    short = line if len(line) <= MAX_MESSAGE_LENGTH else f"{line[:MAX_MESSAGE_LENGTH]} ..."
    errors.print(f"perfmodel: {short}", soft_wrap=True)


def warn_assumed(models: Iterable[str]) -> None:
    """Say once what is assumed of models whose architecture is not known."""
    from perfmodel.library.model import assumed_of

    for line in assumed_of(models):
        warn(line)


def warn_unsupported(chips: Iterable[str], frameworks: Iterable[str]) -> None:
    """Say once of each chip which of the frameworks does not run on it."""
    from perfmodel.inference.framework_support import unsupported_pairs
    from perfmodel.inference.row_warnings import as_if

    for line in unsupported_pairs(chips, frameworks):
        warn(as_if(line))


def show_table(table: Table, width: int | None = None) -> None:
    """Print a table, of `width` characters at most: numbers to the right, words to the left."""
    console.print(table.title, style="bold", soft_wrap=True)
    shown = RichTable(header_style="bold", box=None)
    for i, name in enumerate(table.names):
        justify = "right" if i and not any(_is_prose(row[i]) for row in table.rows) else "left"
        shown.add_column(name, justify=justify)
    for row in table.rows:
        shown.add_row(*row)
    console.print(shown, width=width and min(width, console.width))


def _is_prose(cell: str) -> bool:
    """Whether a cell holds words rather than a number with its unit."""
    return cell.count(" ") > 2


def show_json(value: Any) -> None:
    """Print JSON."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def as_value(text: str) -> float | str:
    """The number that a cell holds and nothing beside it; other words as they are."""
    plain = text.replace(",", "")
    if not NUMBER.fullmatch(plain):
        return text
    return float(plain) if set(plain) & set(".e") else int(plain)


NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
"""A number by itself, without a unit."""


def show_list(table: Table, as_json: bool) -> None:
    """Print a table, or the same as JSON: a dictionary for each row."""
    if as_json:
        show_json([{name: as_value(text) for name, text in row.items()} for row in table.records()])
    else:
        show_table(table)


@contextlib.contextmanager
def bar(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr; the function it gives takes how many are done, of how many."""
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
    )
    silent = not errors.is_terminal
    with progress.Progress(*columns, console=errors, transient=True, disable=silent) as shown:
        task = shown.add_task(what, total=total)

        def update(done: int, of: int | None = None, description: str | None = None) -> None:
            shown.update(task, completed=done, total=of or total, description=description or what)

        yield update
