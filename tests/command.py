"""A command of the program, run within the tests."""

import contextlib
import io
import sys
from unittest import mock

import pytest

from perfmodel.interface.cli import main

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
