"""The command line as `python -m perfmodel`."""

from perfmodel.interface.cli import main

main()
