"""The command line: one thin file a command, which imports its room when it runs."""

from lindi_dask.cli.main import main

__all__ = ["main"]
