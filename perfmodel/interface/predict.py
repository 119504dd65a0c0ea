"""`perfmodel predict`: tables of kernels and of served models, read, predicted and written."""

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from perfmodel.calibration.ingest.tools import refuse_results
from perfmodel.columns import as_cells, number_cells
from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv, table_of_texts, with_columns, write_csv
from perfmodel.inference.kernel_predictions import Predicted, predict_table, read_columns
from perfmodel.inference.percentiles import SIMULATED, add_percentiles
from perfmodel.inference.recommendation import ADDED
from perfmodel.inference.row_warnings import by_words, framework_warnings
from perfmodel.inference.serving_predictions import (
    ATTENTION_FFN_OUTPUTS,
    COLUMNS,
    OUTPUTS,
    predict_cells,
)
from perfmodel.inference.simulation import Limits
from perfmodel.interface.terminal import warn, warn_assumed
from perfmodel.library.files import fold, named

Cells = dict[str, list[str]]
"""Rows by column, as text."""


class Percentiles(NamedTuple):
    """What is asked of percentiles, and what is told how many rows are simulated, of how many."""

    limits: Limits
    progress: Callable[[int, int], None]


def predict_serving(
    rows: Path,
    out: Path,
    calibration: Path,
    progress: Callable[[int, int], None],
    percentiles: Percentiles | None = None,
) -> Cells:
    """Predict every row of a CSV file and write the same rows with the predictions; all of them.

    **Arguments:**

    - `percentiles`: of rows that are simulated, if they are.
    """
    refuse_results(rows)
    table = read_csv(rows)
    cells = cells_of(table)
    for names in (("chip", "decode_chip"), ("model",)):
        if not set(names) & set(cells):
            raise InputError(f"{rows} has no column {names[0]!r}; it has {named(cells)}.")
    columns = predict_cells(cells, len(table), calibration, progress)
    columns |= _percentiles(cells | columns, calibration, percentiles)
    for line in unread(cells, COLUMNS, (*OUTPUTS, *ATTENTION_FFN_OUTPUTS, *ADDED, *SIMULATED)):
        warn(line)
    for line in framework_warnings(cells, len(table), calibration):
        warn(line)
    warn_assumed(cells["model"])
    found = with_columns(table, columns)
    write_csv(out, found)
    return cells_of(found)


def _percentiles(cells: Cells, calibration: Path, asked: Percentiles | None) -> Cells:
    """Percentiles of predicted rows, and what is said of those that have none; those of an earlier prediction
    are emptied where none are asked for.
    """
    empty = {name: [""] * len(cells["error"]) for name in SIMULATED if name in cells}
    if asked is None:
        return empty
    columns, reasons = add_percentiles(cells, calibration, *asked)
    for line in by_words([why and f"no percentiles: {why}" for why in reasons]):
        warn(line)
    return empty | {name: as_cells(column) for name, column in columns.items()}


def predict_columns(
    cells: Cells,
    out: Path | None,
    calibration: Path,
    progress: Callable[[int, int], None],
    percentiles: Percentiles | None = None,
) -> Cells:
    """Predict rows that are given by column, and write them where a file is named; all of them.

    **Raises:**

    - `InputError`: where each row has a mistake: what is said of the first.
    """
    count = len(next(iter(cells.values())))
    columns = predict_cells(cells, count, calibration, progress)
    if all(
        error and not fits for error, fits in zip(columns["error"], columns["fits"], strict=True)
    ):
        raise InputError(columns["error"][0])
    columns |= _percentiles(cells | columns, calibration, percentiles)
    for line in framework_warnings(cells, count, calibration):
        warn(line)
    warn_assumed(cells.get("model", ()))
    if out is not None:
        write_csv(out, table_of_texts(cells | columns))
    return cells | columns


def predict_kernels(
    rows: Path, out: Path, calibration: Path, replay: bool, progress: Callable[[int, int], None]
) -> Predicted:
    """Predict every row of a CSV file and write the same rows with the predictions.

    **Arguments:**

    - `calibration`: folder of fitted parameters.
    - `replay`: whether operands are replayed, as benchmarks do.
    - `progress`: called with groups done and groups in all.
    """
    refuse_results(rows)
    table = read_csv(rows)
    predicted = predict_table(table, calibration, replay, progress)
    for line in unread(cells_of(table), read_columns(), WRITTEN):
        warn(line)
    texts = [number_cells(time * 1e6) for time in (predicted.time, predicted.low, predicted.high)]
    words = [list(column) for column in (predicted.bound, predicted.basis, predicted.error)]
    columns: dict[str, list[str]] = dict(zip(WRITTEN, [*texts, *words], strict=True))
    write_csv(out, with_columns(table, columns))
    return predicted


WRITTEN = ("predicted_us", "low_us", "high_us", "bound", "basis", "error")
"""Columns of a kernel's prediction."""


SIMILARITY_OF_SLIPS = 0.78
"""Likeness from which on one name is taken for a slip of another: `tpp` and `tp` have 0.8, `node` and `mode`
0.75."""


UNREAD_ON_PURPOSE = (
    "id",
    "name",
    "label",
    "note",
    "notes",
    "memo",
    "comment",
    "source",
    "url",
    "latency_us",
)
"""Columns that are plainly not meant for a prediction; those that begin with `measured_` are not either."""


def unread(
    cells: Mapping[str, Sequence[str]], read: Collection[str], written: Collection[str]
) -> list[str]:
    """A sentence for each column that is nearly one that is read, and one for all others that are not.

    **Arguments:**

    - `cells`: a table by column; one whose cells are all empty is passed over.
    - `read`, `written`: columns that a prediction reads, and those that it adds.
    """
    known = {*read, *written, *UNREAD_ON_PURPOSE, "error"}
    strange = [
        name
        for name, column in cells.items()
        if name not in known and not name.startswith("measured_") and any(column)
    ]
    folded = {fold(name): name for name in read}
    slips, others = [], []
    for name in strange:
        near = difflib.get_close_matches(fold(name)[:60], folded, n=1, cutoff=SIMILARITY_OF_SLIPS)
        if near:
            slips.append(f"column {name[:40]} is not read; the nearest that is: {folded[near[0]]}.")
        else:
            others.append(name)
    return slips + ([f"columns that are not read: {named(others)}."] if others else [])
