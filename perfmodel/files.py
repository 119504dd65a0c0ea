"""Tables and files that people hand in and take away: read with care, written whole or not at all."""

import csv
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import tomli_w

from perfmodel.errors import InputError


def read_csv(path: Path) -> pa.Table:
    """A CSV file, every cell as text, untouched.

    **Raises:**

    - `InputError`: when it cannot be read, is empty, or names a column twice.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the path of a CSV file with a header.")
    try:
        with path.open("rb") as file:
            header = file.readline()
        names = pyarrow.csv.read_csv(pa.BufferReader(header)).column_names
        table = pyarrow.csv.read_csv(path, parse_options=_PARSE, convert_options=_as_text(names))
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        reason = str(error).splitlines()[0][:200]
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
    names = table.column_names
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path} has the column {twice[0]!r} twice; name each column once.")
    if len(table) == 0:
        raise InputError(f"{path} has no rows; write at least one under the header.")


def cells_of(table: pa.Table) -> dict[str, list[str]]:
    """Columns of a table as text, by name without surrounding space, in lower case."""
    return {name.strip().lower(): table[name].to_pylist() for name in table.column_names}


def with_columns(table: pa.Table, columns: dict[str, Any]) -> pa.Table:
    """The table with `columns` at its end; columns of the same name are replaced."""
    kept = table.select([name for name in table.column_names if name not in columns])
    for name, values in columns.items():
        kept = kept.append_column(name, pa.array(values))
    return kept


def write_csv(path: Path, table: pa.Table) -> None:
    """Write a CSV file whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    for batch in table.to_batches(max_chunksize=65_536):
        writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    write_whole(path, text.getvalue().encode())


def write_toml(path: Path, content: dict[str, Any]) -> None:
    """Write a TOML file whole or not at all."""
    write_whole(path, tomli_w.dumps(content).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside it first, then in its place.

    **Raises:**

    - `InputError`: when its folder is not there or may not be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
