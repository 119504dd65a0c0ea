"""A command of the program, run within the tests."""

import contextlib
import csv
import io
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

import pytest

from perfmodel.inference.serving_predictions import predict_cells
from perfmodel.interface.cli import main
from perfmodel.library.files import ROOT
from perfmodel.library.fitted import FITTED

COMMAND = [sys.executable, "-m", "perfmodel"]
"""The program, in a process of its own."""


def run(*words: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command, with every warning an error."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["perfmodel", *map(str, words)]),
        mock.patch.object(sys, "warnoptions", ["error"]),
        mock.patch.object(sys, "unraisablehook", sys.unraisablehook),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    status = ended.value.code
    assert isinstance(status, int)
    return status, out.getvalue(), err.getvalue()


def predict(
    kind: str, folder: Path, rows: Sequence[Mapping[str, object]], *options: object
) -> list[dict[str, str]]:
    """What `perfmodel predict` makes of rows; of those that leave a column out its cell is empty.

    Nothing is said beside, but of rows that have slow kernels.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with (folder / "in.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    status, _, err = run("predict", kind, folder / "in.csv", "--out", folder / "out.csv", *options)
    said = [line for line in err.splitlines() if not line.startswith("perfmodel: row")]
    assert (status, said) == (0, [])
    with (folder / "out.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def predict_changes(cells: Mapping[str, str], *changes: Mapping[str, str]) -> list[dict[str, str]]:
    """What a prediction adds to a row of the serving schema with some changes, without the command."""
    rows = [{**cells, **change} for change in changes]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name, "") for row in rows] for name in names}
    found = predict_cells(columns, len(rows), FITTED)
    return [{name: column[i] for name, column in found.items()} for i in range(len(rows))]


def without_money(stem: str) -> str:
    """The path of a file of its own, in a folder of its own, of a chip of the library without its money."""
    path = Path(tempfile.mkdtemp()) / f"{stem}-unpriced.toml"
    text = (ROOT / f"chips/{stem}.toml").read_text("utf-8")
    path.write_text(text.partition("[money]")[0], encoding="utf-8")
    return str(path)
