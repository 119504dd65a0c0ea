"""Tables and files that people hand in and take away: read with care, written whole or not at all."""

import contextlib
import csv
import io
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import tomli_w
from pyarrow.lib import StringBuilder

from perfmodel.errors import InputError


def read_csv(path: Path) -> pa.Table:
    """A CSV file, every cell as text, untouched.

    **Raises:**

    - `InputError`: when it cannot be read, is empty, or names a column twice.
    """
    if not os.path.isfile(path):
        raise InputError(f"there is no file {path}; give the path of a CSV file with a header.")
    try:
        with pyarrow.csv.open_csv(path, parse_options=_PARSE) as file:
            names = file.schema.names
        table = pyarrow.csv.read_csv(path, parse_options=_PARSE, convert_options=_as_text(names))
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        reason = (str(error).splitlines() or ["it is empty"])[0][:200].rstrip(".")
        raise InputError(
            f"{path} is not a readable CSV file in UTF-8 with a header: {reason}."
        ) from None
    _check(path, table)
    return table


_PARSE = pyarrow.csv.ParseOptions(newlines_in_values=True)


def _as_text(names: list[str]) -> pyarrow.csv.ConvertOptions:
    types = {name: pa.string() for name in names}
    return pyarrow.csv.ConvertOptions(
        column_types=types, strings_can_be_null=False, quoted_strings_can_be_null=False
    )


def _check(path: Path, table: pa.Table) -> None:
    counts = Counter(_plain(name) for name in table.column_names)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise InputError(f"{path} has the column {twice[0]!r} twice; name each column once.")
    if len(table) == 0:
        raise InputError(f"{path} has no rows; write at least one under the header.")


def _plain(name: str) -> str:
    """The name of a column as it is looked up: without surrounding space, in lower case."""
    return name.strip().lower()


def cells_of(table: pa.Table) -> dict[str, list[str]]:
    """Columns of a table as text, by name without surrounding space, in lower case."""
    return {_plain(name): table[name].to_pylist() for name in table.column_names}


def rows_of(columns: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """The rows of columns, each a cell by the column's name."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def rows_over(
    given: Mapping[str, str], columns: Mapping[str, Sequence[str]]
) -> list[dict[str, str]]:
    """The rows of columns, each over `given`: what is empty in a row is as that has it."""
    return [
        dict(given) | {name: cell for name, cell in row.items() if cell.strip()}
        for row in rows_of(columns)
    ]


def with_columns(table: pa.Table, columns: dict[str, list[str]]) -> pa.Table:
    """The table with `columns`: in the place of a column of the same name, else at the end."""
    places = {_plain(name): i for i, name in enumerate(table.column_names)}
    for name, values in columns.items():
        if name in places:
            table = table.set_column(places[name], name, _texts(values))
        else:
            table = table.append_column(name, _texts(values))
    return table


def table_of_texts(columns: Mapping[str, list[str]]) -> pa.Table:
    """A table of columns of text."""
    return pa.table({name: _texts(values) for name, values in columns.items()})


def _texts(values: list[str]) -> pa.ChunkedArray:
    """Texts as a column, without `pyarrow.array`: where pandas is installed, that imports it for a second.

    In chunks: one holds 2 GB of text at most, and drops without a word what is beyond.
    """
    parts = range(0, len(values), CHUNK)
    return pa.chunked_array([_chunk(values[at : at + CHUNK]) for at in parts], pa.string())


def _chunk(values: list[str]) -> pa.Array:
    column = StringBuilder()
    column.append_values(values)
    return column.finish()


CHUNK = 16_384
"""Rows of a table that are handled at a time."""


class _Lines:
    """A file of bytes, as `csv` writes text into it: with lines that end in a line feed alone."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file

    def write(self, line: str, /) -> int:
        return self._file.write((line.removesuffix("\r\n") + "\n").encode())


def write_csv(path: Path, table: pa.Table) -> None:
    """Write a CSV file whole or not at all."""
    _put(path, lambda file: _pour(table, file))


def csv_text(table: pa.Table) -> str:
    """A table as the text of a CSV file."""
    content = io.BytesIO()
    _pour(table, content)
    return content.getvalue().decode()


def _pour(table: pa.Table, file: io.BufferedIOBase) -> None:
    # Python 3.11 quotes only what is in its line ends: with both, no cell can break a row.
    writer = csv.writer(_Lines(file), lineterminator="\r\n")
    writer.writerow(table.column_names)
    for batch in table.to_batches(max_chunksize=CHUNK):
        writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def write_toml(path: Path, content: dict[str, Any]) -> None:
    """Write a TOML file whole or not at all."""
    write_whole(path, tomli_w.dumps(content).encode())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside it first, then in its place.

    A pipe or a device is written into, never replaced.

    **Raises:**

    - `InputError`: when it is a folder, or its folder is not there or may not be written.
    """
    _put(path, lambda file: file.write(content))


def _put(path: Path, pour: Callable[[io.BufferedIOBase], object]) -> None:
    """The same, with what pours the content into a file."""
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with path.open("wb") as file:
                pour(file)
        else:
            with beside(Path(os.path.realpath(path))) as place, place.open("wb") as file:
                pour(file)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; {_ELSEWHERE}") from None


_ELSEWHERE = (
    "give --out (or --json, --report) a place in a folder that is there and may be written."
)


def check_place(path: Path) -> None:
    """Find out before any work whether a file may be written at `path`, as far as can be told.

    **Raises:**

    - `InputError`: when it is a folder, or its folder is not there.
    """
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder, not a file; {_ELSEWHERE}")
    if not os.path.isdir(path.parent):
        raise InputError(
            f"{path} cannot be written: there is no folder {path.parent}; {_ELSEWHERE}"
        )


def check_folder(path: Path) -> None:
    """Find out before any work whether `path` is, or can become, a folder.

    **Raises:**

    - `InputError`: when it, or what it would lie in, is something else.
    """
    there = next(parent for parent in (path, *path.absolute().parents) if os.path.lexists(parent))
    if not os.path.isdir(there) or not os.access(there, os.W_OK):
        raise InputError(f"{there} is not a folder that may be written; {_ELSEWHERE}")


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A place to write, from which a file comes to `path` when it is whole; else nothing is left."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:50]}.")
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def folder_beside(path: Path, last: str) -> Iterator[Path]:
    """A folder to write files into, which come to the folder `path` when all are whole; else nothing is left.

    A folder that is not there appears with all its files at once. In one that is there the file named `last`
    goes first and comes last: while it is missing, the others are not of one piece.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:50]}."))
    try:
        yield made
        os.chmod(made, 0o755)
        if not path.exists():
            os.rename(made, path)
            return
        (path / last).unlink(missing_ok=True)
        for name in sorted(os.listdir(made), key=lambda name: name == last):
            os.replace(made / name, path / name)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; {_ELSEWHERE}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
