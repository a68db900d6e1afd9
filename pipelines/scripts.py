"""How the script of a job starts and ends: its one argument, what it says, its exit code."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lindi_dask import errors

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["code_of", "main_of", "place_of", "say"]

_CODES: Final = (
    (errors.ConfigurationError, 2),
    (errors.JobConflict, 2),
    (errors.JobIncomplete, 3),
    (errors.AccessError, 5),
    (errors.UnavailableError, 75),
)


def main_of(description: str | None, run: Callable[[Path], int], arguments: list[str] | None = None) -> int:
    """Run the job of the TOML file that the command line names, and return the exit code."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("settings", type=Path, help="the TOML file")
    path = parser.parse_args(arguments).settings
    try:
        return run(path)
    except KeyboardInterrupt:
        say("Interrupted. What is done is kept: start again for the rest.")
        return 130
    except errors.LindiError as error:
        say(f"Error: {error}")
        return code_of(type(error))


def code_of(error: type[BaseException]) -> int:
    """Return the exit code for an error that ended a run, or that all of its work has met."""
    return next((code for kind, code in _CODES if issubclass(error, kind)), 1)


def place_of(text: str, settings: Path) -> str:
    """Return a URL or an address as it is, and a path as one from the folder of the TOML file."""
    return text if "://" in text else str(settings.parent / text)


def say(text: str) -> None:
    """Print a line, with nothing in it that could steer a terminal."""
    print("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text), flush=True)
