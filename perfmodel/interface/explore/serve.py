"""Run the explorer's page on this machine."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from perfmodel.errors import InputError
from perfmodel.interface.terminal import show_json

PAGE = Path(__file__).with_name("page.py")
"""The file that Streamlit runs."""

HOST = "127.0.0.1"
"""Nobody outside this machine sees the page."""

BLUE = "#3366AA"
"""Of sliders and buttons: red would say that something is wrong."""


def run(port: int, browser: bool, as_json: bool = False) -> NoReturn:
    """Serve the page until Ctrl-C; `as_json`: print its address when it answers, and nothing else.

    **Raises:**

    - `InputError`: without the extra `app`, or when the port is taken.
    """
    missing = [name for name in ("streamlit", "altair", "vl_convert") if not _there(name)]
    if missing:
        raise InputError(f"the explorer needs {' and '.join(missing)}; install `perfmodel[app]`.")
    _check_port(port)
    if as_json:  # from beside, for this process becomes the page
        told = f"from perfmodel.interface.explore.serve import announce; announce({port})"
        subprocess.Popen([sys.executable, "-c", told])
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    words = command(port, browser)
    os.execv(words[0], words)  # in this process: what ends it ends the page too


STARTUP_TIMEOUT = 120.0
"""Seconds in which a page begins, on a slow machine."""


def announce(port: int) -> None:
    """Print where the page is, as JSON, as soon as it answers; nothing where it never does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    server, end = os.getppid(), time.monotonic() + STARTUP_TIMEOUT
    while os.getppid() == server and time.monotonic() < end:
        if _answers(port):
            place = {"address": f"http://{HOST}:{port}", "host": HOST, "port": port}
            show_json(place | {"process": server})
            return
        time.sleep(0.1)


def command(port: int, browser: bool) -> list[str]:
    """The command that serves the page."""
    options = {
        "server.address": HOST,
        "server.port": port,
        "server.headless": str(not browser).lower(),
        "server.maxUploadSize": 1,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.showErrorDetails": "none",
        "client.toolbarMode": "viewer",
        "theme.primaryColor": BLUE,
        "runner.magicEnabled": "false",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "streamlit", "run", str(PAGE), *words]


def _there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _check_port(port: int) -> None:
    if _answers(port):
        raise InputError(f"port {port} of this machine is taken; give another with --port.")


def _answers(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as one:
        return one.connect_ex((HOST, port)) == 0
