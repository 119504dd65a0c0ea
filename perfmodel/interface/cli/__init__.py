"""The command line: its commands, one a file, and what a mistake or a Ctrl-C comes to.

What a command needs it imports when it runs, so that help is instant.
"""

import atexit
import contextlib
import gc
import os
import signal
import sys
import threading
import warnings
from typing import Any, cast

import typer

from perfmodel.compiler_settings import set_compiler
from perfmodel.errors import InputError
from perfmodel.interface.cli.calibrate import calibrate
from perfmodel.interface.cli.chips import chips
from perfmodel.interface.cli.doctor import doctor
from perfmodel.interface.cli.explain import explain
from perfmodel.interface.cli.explore import explore
from perfmodel.interface.cli.help import TRY, help_text
from perfmodel.interface.cli.ingest import ingest
from perfmodel.interface.cli.measure import measure
from perfmodel.interface.cli.models import models
from perfmodel.interface.cli.predict import predict_kernels, predict_serving
from perfmodel.interface.cli.quickstart import quickstart
from perfmodel.interface.cli.recommend import recommend
from perfmodel.interface.cli.reproduce import reproduce
from perfmodel.interface.cli.search import search
from perfmodel.interface.cli.simulate import simulate
from perfmodel.interface.cli.study import study
from perfmodel.interface.cli.sweep import sweep
from perfmodel.interface.cli.validate import validate
from perfmodel.interface.terminal import errors, warn

app = typer.Typer(
    name="perfmodel",
    help="A differentiable, calibrated performance model of LLM inference that designs hardware.",
    epilog=TRY,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
predict = typer.Typer(help="Predict rows of a CSV file.", no_args_is_help=True)
app.add_typer(predict, name="predict")
predict.command("kernels", help=help_text(predict_kernels))(predict_kernels)
predict.command("serving", help=help_text(predict_serving))(predict_serving)

COMMANDS = (
    *(recommend, simulate, ingest, calibrate, measure, validate, reproduce, search, study, sweep),
    *(explain, chips, models, explore, doctor, quickstart),
)
"""In the order in which help lists them."""

for _command in COMMANDS:
    app.command(help=help_text(_command))(_command)


GC_THRESHOLD = 100_000
"""Made between two searches for what nothing refers to: importing and tracing make many, and few cycles."""


def run_process() -> None:
    """Run a command as a process of its own, which ends as soon as its work has."""
    status: list[int] = []
    atexit.register(_end, status)  # the first, so that it is called after all others
    try:
        main()
    except SystemExit as ended:
        status.append(int(ended.code or 0))
        raise


def _end(status: list[int]) -> None:
    """End without taking apart what JAX holds, which takes 0.6 s; an error that was not foreseen goes on."""
    if status:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status[0])


def main() -> None:
    """Run a command; a mistake of the user is one sentence and exit status 2."""
    set_compiler()
    gc.set_threshold(GC_THRESHOLD)
    sys.unraisablehook = _interrupt_again
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        status = app(standalone_mode=False) or 0
        sys.stdout.flush()
    except _NO_COMMAND:
        status = 2
    except (InputError, UsageError) as error:
        status = _report_mistake(_message(error))
    except (KeyboardInterrupt, typer.Abort):
        status = STOPPED
    except ImportError:  # a Ctrl-C while a module of compiled code begins comes out as this
        if not _interrupts:
            raise
        status = STOPPED
    except BrokenPipeError:
        status = _silence_stdout(1)
    except OSError as error:
        what = f"{error.filename or 'the output'} cannot be used: {error.strerror or error}"
        status = _silence_stdout(
            _report_mistake(f"{what}; give a path that can be read and written.")
        )
    if status == STOPPED:
        errors.print("perfmodel: stopped.")
    sys.exit(status)


_interrupts: list[int] = []
"""The signals of Ctrl-C that came."""


def _interrupt(signum: int, _: Any) -> None:
    _interrupts.append(signum)
    raise KeyboardInterrupt


def _interrupt_again(lost: Any) -> None:
    """A Ctrl-C that came where Python cannot raise it, as in JAX's callback on garbage, comes again."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


STOPPED = 130
"""Exit status after Ctrl-C, as shells have it."""

# Typer may carry a Click of its own, whose classes are reached through what Typer exports.
UsageError = cast(type[Exception], typer.BadParameter.__base__)


class _NeverRaisedError(Exception):
    """What is never raised, where this Typer's Click has no such class."""


_NO_COMMAND = getattr(sys.modules[UsageError.__module__], "NoArgsIsHelpError", _NeverRaisedError)
"""A command group without a command: its help has been printed."""


def _message(error: Exception) -> str:
    """What an error says; a usage error does not say where to look."""
    if not isinstance(error, UsageError):
        return str(error)
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "perfmodel"
    said = error.format_message().rstrip(".")  # pyright: ignore[reportAttributeAccessIssue]
    stop = "" if said.endswith("?") else ";"
    return f"{said}{stop} `{command} --help` shows what is allowed."


def _report_mistake(said: str) -> int:
    """Say it; the exit status of bad input."""
    warn(said)
    return 2


def _silence_stdout(status: int) -> int:
    """Write no more to stdout, which nobody reads or which is full: not even when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
