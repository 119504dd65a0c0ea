"""The command line as `python -m perfmodel`."""

from perfmodel.interface.cli import run_process

run_process()
