"""`perfmodel predict kernels`: a time, an interval and what binds, for each row of a table."""

from collections.abc import Callable
from pathlib import Path

from perfmodel.columns import as_text
from perfmodel.files import cells_of, read_csv, with_columns, write_csv
from perfmodel.inference.kernel_predictions import Predicted, predict_table, read_columns
from perfmodel.interface.terminal import warn
from perfmodel.interface.unread import unread


def predict_kernels(
    rows: Path, out: Path, calibration: Path, replay: bool, progress: Callable[[int, int], None]
) -> Predicted:
    """Predict every row of a CSV file and write the same rows with the predictions.

    **Arguments:**

    - `calibration`: folder of fitted parameters.
    - `replay`: whether operands are replayed, as benchmarks do.
    - `progress`: called with groups done and groups in all.
    """
    table = read_csv(rows)
    predicted = predict_table(table, calibration, replay, progress)
    for line in unread(cells_of(table), read_columns(), WRITTEN):
        warn(line)
    write_csv(out, with_columns(table, _columns(predicted)))
    return predicted


WRITTEN = ("predicted_us", "low_us", "high_us", "bound", "basis", "error")
"""Columns of a prediction."""


def _columns(predicted: Predicted) -> dict[str, list]:
    times = (predicted.time, predicted.low, predicted.high)
    texts = [as_text(time * 1e6) for time in times]
    words = [list(one) for one in (predicted.bound, predicted.basis, predicted.error)]
    return dict(zip(WRITTEN, [*texts, *words], strict=True))
