"""A file of results as it is first taken apart: JSON objects, cells of a table, or lines of text."""

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.errors import InputError

MAX_BYTES = 500_000_000
"""No file of results is longer; a longer one is not read. Runs with every token's time have some 100 MB."""

Row = dict[str, str]
"""A row of the serving or of the kernel schema; a column that is needed and not said is empty."""

Options = Mapping[str, str]
"""What the user says of the files, by column."""


class Content(NamedTuple):
    """A file.

    - `records`: its JSON objects: the one that it is, those of its list, or one on each line.
    - `cells`: of its lines, where it is no JSON, parted at commas.
    - `faults`: a sentence for each line of JSON that cannot be read.
    """

    text: str
    records: list[dict[str, Any]]
    cells: list[list[str]]
    faults: list[str]

    @property
    def header(self) -> list[str]:
        """The cells of its first line that is no comment, in lower case."""
        first = next((line for line in self.cells if any(line)), [])
        return [cell.strip().lower() for cell in first]

    def has(self, *keys: str) -> bool:
        """Whether any of its JSON objects has all of some keys."""
        return any(set(keys) <= set(record) for record in self.records)

    def table(self) -> Iterator[Row]:
        """The rows of a CSV by their columns, in lower case; those of another length are padded or cut."""
        lines = iter(line for line in self.cells if any(cell.strip() for cell in line))
        names = [cell.strip().lower() for cell in next(lines, [])]
        for line in lines:
            padded = [cell.strip() for cell in line] + [""] * len(names)
            yield dict(zip(names, padded, strict=False))


def read_content(path: Path) -> Content:
    """A file taken apart.

    **Raises:**

    - `InputError`: when it is not there, is too long, or is no text in UTF-8.
    """
    if not os.path.isfile(path):
        raise InputError(f"there is no file {path}; give a file that a benchmark tool wrote.")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} is longer than {MAX_BYTES / 1e6:.0f} MB; give a summary of it.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path} is no text in UTF-8 that can be read.") from None
    return parse(text)


def peek(path: Path, characters: int) -> Content:
    """The beginning of a file taken apart; of JSON all of it.

    **Raises:**

    - `InputError`: as `read_content` does.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(characters)
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path} is no text in UTF-8 that can be read.") from None
    whole = len(text) < characters or text.lstrip()[:1] not in ("{", "[")
    return parse(text) if whole else read_content(path)


def parse(text: str) -> Content:
    """Text taken apart."""
    if text.lstrip()[:1] in ("{", "["):
        records, faults = _json(text)
        return Content(text, records, [], faults)
    try:
        cells = list(csv.reader(text.splitlines()))
    except csv.Error:
        cells = []
    return Content(text, [], cells, [])


def _json(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The objects of JSON, or of a line each, and a sentence for each line that is none."""
    try:
        return _objects(json.loads(text)), []
    except (ValueError, RecursionError):
        records, faults = [], []
    for place, line in enumerate(text.splitlines(), 1):
        try:
            records += _objects(json.loads(line)) if line.strip() else []
        except (ValueError, RecursionError):
            faults.append(f"line {place} is no JSON")
    return records, faults


def _objects(value: Any) -> list[dict[str, Any]]:
    found = value if isinstance(value, list) else [value]
    return [one for one in found if isinstance(one, dict)]


def number(record: Mapping[str, Any], *keys: str) -> float:
    """The first of some keys that holds a finite number, as one; `nan` where none does."""
    for key in keys:
        try:
            value = float(str(record.get(key, "")).replace(",", ""))
        except ValueError:
            continue
        if math.isfinite(value) and not isinstance(record[key], bool):
            return value
    return math.nan


def word(record: Mapping[str, Any], *keys: str) -> str:
    """The first of some keys that holds a word or a number, as text; empty where none does."""
    for key in keys:
        value = record.get(key)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value):
            return str(value).strip()
    return ""


def cell(value: float) -> str:
    """A number as a cell; empty where it is not there or not above zero."""
    return f"{value:.10g}" if math.isfinite(value) and value > 0 else ""
