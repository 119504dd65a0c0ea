"""`perfmodel predict serving`: TTFT, TPOT, throughput, energy and price, for each row of a table.

TTFT is a mean over the requests of a run: from sending one to its first token, with the wait
for room and the burst at the beginning. TPOT is (total - TTFT) / (output - 1), and with the first token
total / output.
"""

from collections.abc import Callable
from pathlib import Path

from perfmodel.errors import InputError
from perfmodel.files import cells_of, read_csv, with_columns, write_csv
from perfmodel.inference.serving_predictions import (
    ATTENTION_FFN_OUTPUTS,
    COLUMNS,
    OUTPUTS,
    predict_cells,
)
from perfmodel.interface.terminal import warn
from perfmodel.interface.unread import unread
from perfmodel.library.economics import COST_BASES
from perfmodel.library.files import named

DEFINITIONS = {
    "ttft": "mean time from sending a request to its first token, waiting included",
    "tpot": "(total - TTFT) / (output tokens - 1), the mean over requests",
    "tpot_with_first": "total / output tokens: the other convention",
    "tokens/s per user": "1 / TPOT",
    "tokens/s per chip": "output tokens alone",
    "total tokens/s": "input and output tokens",
    "joules at the wall": "what chips, host, fans and conversion draw; cooling of the site is not in it",
    "USD": "of what cost_basis names: "
    + "; ".join(f"{word}, {COST_BASES[word]}" for word in ("marginal", "rental", "unknown")),
}
"""What the words of every output mean."""


def predict_serving(
    rows: Path, out: Path, calibration: Path, progress: Callable[[int, int], None]
) -> dict[str, list[str]]:
    """Predict every row of a CSV file and write the same rows with the predictions."""
    table = read_csv(rows)
    cells = cells_of(table)
    for names in (("chip", "decode_chip"), ("model",)):
        if not set(names) & set(cells):
            raise InputError(f"{rows} has no column {names[0]!r}; it has {named(cells)}.")
    columns = predict_cells(cells, len(table), calibration, progress)
    for line in unread(cells, COLUMNS, (*OUTPUTS, *ATTENTION_FFN_OUTPUTS)):
        warn(line)
    write_csv(out, with_columns(table, columns))
    return columns
