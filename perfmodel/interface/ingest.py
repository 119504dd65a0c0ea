"""`perfmodel ingest`: results of others' benchmark tools as rows, completed by what the user says."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from perfmodel.calibration.ingest.content import Row
from perfmodel.calibration.ingest.products import UNITS
from perfmodel.calibration.ingest.tools import Reading, read_results
from perfmodel.errors import InputError
from perfmodel.files import table_of_texts, write_csv
from perfmodel.inference.serving_row import number
from perfmodel.interface.serving_columns import SERVING_COLUMNS, holds_numbers
from perfmodel.interface.tables import Table, table_of
from perfmodel.library.chip import chip_file
from perfmodel.library.files import word_of
from perfmodel.library.framework import releases_of
from perfmodel.library.model import find_model

KERNEL_COLUMNS = {
    "op": ("operation of the kernel schema", "all_reduce"),
    "dtype": ("format", "bf16"),
    "m": ("rows of a product: tokens", "16"),
    "n": ("columns of the weights", "4096"),
    "k": ("rows of the weights", "4096"),
    "n_gpus": ("ranks", "8"),
    "n_nodes": ("hosts", "1"),
    "unit": (f"unit of columns without one: {', '.join(UNITS)}", "tflops"),
    "provider": ("the only column of a product's CSV that is read", "cublas"),
}
"""Columns of kernels that a file may leave out, and words on how to read one: meaning, and an example."""


class Ingested(NamedTuple):
    """Rows of all files, their schema, and a sentence for each file or result that is left out or changed."""

    readings: list[Reading]
    rows: list[Row]
    schema: str
    left_out: list[str]
    notes: list[str]


def ingest(
    paths: Sequence[Path],
    out: Path,
    options: Mapping[str, str],
    progress: Callable[[int, int], None],
) -> Ingested:
    """Read files, complete their rows, and write them whole or not at all.

    **Arguments:**

    - `options`: what the user says, by column.
    - `progress`: called with files done and files in all.

    **Raises:**

    - `InputError`: when no file can be read, they are of two schemas, or something is not said.
    """
    options = _checked(options)
    readings, left_out = _read(paths, options, progress)
    schema = _schema(readings)
    notes: dict[str, None] = dict.fromkeys(_idle(options, schema))
    rows = [_completed(row, one, options, notes) for one in readings for row in one.rows]
    _ask(rows, notes)
    names = _columns(rows)
    write_csv(out, table_of_texts({name: [row.get(name, "") for row in rows] for name in names}))
    return Ingested(readings, rows, schema, left_out, list(notes))


def _checked(options: Mapping[str, str]) -> dict[str, str]:
    """Options that hold what they may, the unit as it is known.

    **Raises:**

    - `InputError`: for a word in place of a number, or an unknown unit.
    """
    for name, text in options.items():
        if name in SIZES or (name in SERVING_COLUMNS and holds_numbers(name)):
            number(_flag(name), text)
    unit = options.get("unit", "")
    return dict(options) | ({"unit": word_of(unit, list(UNITS), "--unit")} if unit else {})


SIZES = ("m", "n", "k", "n_gpus", "n_nodes")
"""Columns of kernels that hold numbers."""


def _read(
    paths: Sequence[Path], options: Mapping[str, str], progress: Callable[[int, int], None]
) -> tuple[list[Reading], list[str]]:
    """The files that can be read, and a sentence for each other one, and for each result without a row."""
    readings: list[Reading] = []
    left_out: list[str] = []
    for done, path in enumerate(paths):
        progress(done, len(paths))
        try:
            readings.append(read_results(path, options))
        except InputError as wrong:
            left_out.append(str(wrong))
            continue
        left_out += [
            f"{path}: {said.rstrip('.')}; it is left out." for said in readings[-1].left_out
        ]
    progress(len(paths), len(paths))
    if not readings:
        raise InputError(left_out[0] if len(left_out) == 1 else _several(left_out))
    return readings, left_out


def _several(said: Sequence[str]) -> str:
    return f"none of {len(said)} files can be read; the first: {said[0]}"


def _schema(readings: Sequence[Reading]) -> str:
    schemas = {one.tool.schema: one for one in readings}
    if len(schemas) > 1:
        serving, kernels = schemas["serving"].path, schemas["kernels"].path
        raise InputError(
            f"{serving} holds serving runs and {kernels} times of kernels; make a file of rows of each."
        )
    return next(iter(schemas))


def _columns(rows: Iterable[Row]) -> list[str]:
    """Columns that any row has a cell of: first those that are read, in their order."""
    known = [*SERVING_COLUMNS, *KERNEL_COLUMNS]
    used = dict.fromkeys(name for row in rows for name, text in row.items() if text)
    return sorted(used, key=lambda name: known.index(name) if name in known else len(known))


# What a row lacks


UNKNOWN = "is not in the library."
"""What is said of a name that is to be asked for."""


def _completed(
    row: Row, reading: Reading, options: Mapping[str, str], notes: dict[str, None]
) -> Row:
    """A row with what the user says over what its file does, and what follows from both."""
    said = _allowed(reading, row, options)
    for name, text in said.items():
        if row.get(name) and row[name] != text:
            notes[f"{reading.path}: {name} is {row[name]} there; {text} is taken, as given."] = None
    row = {name: text for name, text in (row | said).items() if text or name not in said}
    if "concurrency" in said or "requests_per_s" in said:
        other = "requests_per_s" if "concurrency" in said else "concurrency"
        row.pop(other, None)
    row = _with_names(row, reading, notes)
    if "framework_version" not in said:
        row = _with_release(row, reading, notes)
    row = row if reading.tool.schema == "kernels" else _with_ranks(row)
    return row | {"source": reading.path.name}


FOR_KERNELS = (
    "op",
    "chip",
    "dtype",
    "m",
    "n",
    "k",
    "n_gpus",
    "n_nodes",
    "framework",
    "framework_version",
)
"""Columns of the kernel schema that options give; a unit and a provider are read before."""


def _allowed(reading: Reading, row: Row, options: Mapping[str, str]) -> dict[str, str]:
    """Of what the user says, the columns of the row's schema, and of its operation."""
    serving = reading.tool.schema == "serving"
    taken = (
        SERVING_COLUMNS if serving else [name for name in FOR_KERNELS if name in (*row, *SOFTWARE)]
    )
    return {name: text for name, text in options.items() if name in taken}


SOFTWARE = ("framework", "framework_version")
"""Columns that rows of every operation may have."""


def _idle(options: Mapping[str, str], schema: str) -> list[str]:
    """A sentence for each option that rows of a schema do not have."""
    taken = SERVING_COLUMNS if schema == "serving" else (*FOR_KERNELS, "unit", "provider")
    rows = "serving runs" if schema == "serving" else "kernels"
    return [
        f"{_flag(name)} is not taken: rows of {rows} have none."
        for name in options
        if name not in taken
    ]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _with_names(row: Row, reading: Reading, notes: dict[str, None]) -> Row:
    """A row whose names are those of the library; one that is not known there is to be asked for."""
    for name, know in (("chip", _chip), ("model", _model)):
        if not (given := row.get(name, "")):
            continue
        row = row | {name: know(given)}
        if not row[name]:
            notes[f"{reading.path}: {name} {given[:60]!r} {UNKNOWN}"] = None
    return row


def _with_release(row: Row, reading: Reading, notes: dict[str, None]) -> Row:
    """A row whose release was measured; without one, where it was not."""
    release = row.get("framework_version", "")
    known = releases_of(row.get("framework", ""))
    if release and release not in known:
        newest = f"known are {', '.join(known)}; the newest is taken" if known else "it is left out"
        notes[f"{reading.path}: framework_version {release[:40]} was not measured; {newest}."] = (
            None
        )
        row = {column: text for column, text in row.items() if column != "framework_version"}
    return row


def _chip(name: str) -> str:
    try:
        return chip_file(name)[0]
    except InputError:
        return ""


def _model(name: str) -> str:
    """A model's name as it is given, or its last part, where the library knows it; empty where not."""
    if name.endswith(".json"):
        return name
    for spelling in (name, name.rstrip("/").split("/")[-1]):
        try:
            find_model(spelling)
        except InputError:
            continue
        return spelling
    return ""


def _with_ranks(row: Row) -> Row:
    """A row with its ranks: 1 of each kind that is not said, as servers start; n_chips follows from them."""
    if row.get("mode") == "disaggregated":
        return row
    given = {name: row.get(name, "") for name in ("tp", "pp", "dp")}
    if not any(given.values()) and row.get("n_chips") not in ("1", "1.0"):
        return row | ({"tp": ""} if row.get("n_chips") else {"tp": "", "n_chips": ""})
    ranks = {name: text or "1" for name, text in given.items()} | {"ep": row.get("ep") or "1"}
    try:
        chips = round(float(ranks["tp"]) * float(ranks["pp"]) * float(ranks["dp"]))
    except ValueError:
        chips = 0
    return row | ranks | {"n_chips": row.get("n_chips") or str(chips)}


def _ask(rows: Sequence[Row], notes: Iterable[str]) -> None:
    """Ask for all that any row lacks, in one sentence, with what was found there and is not known."""
    lacking: dict[str, dict[str, None]] = {}
    for row in rows:
        for name in (name for name, text in row.items() if text == "" and _needed(name, row)):
            lacking.setdefault(name, {})[row["source"]] = None
    if lacking:
        files = list(dict.fromkeys(file for names in lacking.values() for file in names))
        asked = ", ".join(_asked(name) for name in lacking)
        more = f" and {len(files) - 1} more files do" if len(files) > 1 else " does"
        unknown = [note.rstrip(".") for note in notes if note.endswith(UNKNOWN)]
        because = "".join(f"; {note}" for note in unknown[:3])
        raise InputError(f"{files[0]}{more} not say all that rows need; give {asked}{because}.")


LLAMA = "llama.cpp"
"""Its files are not in the format in which a model is published."""

OPTIONAL = ("precision", "kv_precision", "prefix_tokens", "measured_ttft_ms", "measured_tpot_ms")
"""Columns that may be empty in a row."""


def _needed(name: str, row: Row) -> bool:
    """Whether an empty cell has to be filled."""
    if name in ("tp", "n_chips") and row.get("mode") == "disaggregated":
        return False
    if name == "precision" and row.get("framework") == LLAMA:
        return True
    return name not in (*OPTIONAL, "requests_per_user", "latency_us", "label", "length_ratio")


def _asked(name: str) -> str:
    """A column to be given: its option with an example, and what it means."""
    if name in KERNEL_COLUMNS:
        meaning, example = KERNEL_COLUMNS[name]
    else:
        _, meaning, example = SERVING_COLUMNS[name]
    return f"{_flag(name)} ({meaning}: {example})"


# What is shown


SHOWN = {
    "serving": (
        *("chip", "n_chips", "model", "precision", "framework", "tp", "isl", "osl", "concurrency"),
        *("requests_per_s", "measured_ttft_ms", "measured_tpot_ms", "source"),
    ),
    "kernels": (
        *("op", "chip", "framework", "dtype", "m", "n", "k", "n_gpus", "n_nodes", "bytes"),
        *("latency_us", "label", "source"),
    ),
}
"""Columns that the table of rows shows, where any row has them."""

MAX_ROWS = 20
"""Rows that it shows."""


def table_of_rows(found: Ingested) -> Table:
    """The first rows."""
    shown = found.rows[:MAX_ROWS]
    names = [name for name in SHOWN[found.schema] if any(row.get(name) for row in shown)]
    records = [{name: row.get(name, "") for name in names} for row in shown]
    count = len(found.rows)
    title = f"{count:,} rows" if count <= MAX_ROWS else f"The first {MAX_ROWS} of {count:,} rows"
    return table_of(title, records)


def outcome(found: Ingested, out: Path) -> dict[str, Any]:
    """The same as JSON has it, with all rows."""
    files = [
        {"file": str(one.path), "tool": one.tool.name, "rows": len(one.rows)}
        for one in found.readings
    ]
    numbers = {"out": str(out), "schema": found.schema, "files": files}
    return numbers | {"rows": found.rows, "left_out": found.left_out, "notes": found.notes}
