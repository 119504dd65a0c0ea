"""Run the explorer's page on this machine."""

import importlib.util
import os
import socket
import sys
from typing import NoReturn

from perfmodel.errors import InputError
from perfmodel.interface.explore import page_path

HOST = "127.0.0.1"
"""Nobody outside this machine sees the page."""


def run(port: int, browser: bool) -> NoReturn:
    """Serve the page until Ctrl-C.

    **Raises:**

    - `InputError`: without the extra `app`, or when the port is taken.
    """
    missing = [name for name in ("streamlit", "altair", "vl_convert") if not _there(name)]
    if missing:
        raise InputError(f"the explorer needs {' and '.join(missing)}; install `perfmodel[app]`.")
    _check_port(port)
    words = command(port, browser)
    os.execv(words[0], words)  # in this process: what ends it ends the page too


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
        "runner.magicEnabled": "false",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "streamlit", "run", str(page_path()), *words]


def _there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _check_port(port: int) -> None:
    with socket.socket() as one:
        if one.connect_ex((HOST, port)) == 0:
            raise InputError(f"port {port} of this machine is taken; give another with --port.")
