"""Where the broker finds API keys: sent to it, in a file that only its user can read, in its environment."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from lindi_dask.errors import ConfigurationError

__all__ = ["BrokerKeys"]

_MAX_NBYTES = 65_536


class BrokerKeys(Mapping[str, str]):
    """Keys by the name of their environment variable, looked up anew each time. Never shown, never pickled.

    Parameters
    ----------
    file
        Path of a file of lines `NAME=key`, mode 600, of the user that runs the scheduler; None: no file.
    environ
        The scheduler's environment.

    Raises
    ------
    ConfigurationError
        When a key is looked up, if the file can't be read or others may read it.
    """

    def __init__(self, file: str | None, environ: Mapping[str, str] = os.environ) -> None:
        self._file = file
        self._environ = environ
        self._sent: dict[str, str] = {}

    def take(self, sent: Mapping[str, str]) -> None:
        """Use these keys before all others, until the broker ends."""
        self._sent.update(sent)

    def __getitem__(self, variable: str) -> str:
        for keys in (self._sent, _read(self._file), self._environ):
            if keys.get(variable, "").strip():
                return keys[variable]
        raise KeyError(variable)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._environ, **_read(self._file), **self._sent})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return "BrokerKeys()"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("keys stay in the process that has them")


def _read(file: str | None) -> dict[str, str]:
    if file is None:
        return {}
    where = f"The key file {file} on the scheduler's machine"
    failure = None
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(handle, encoding="utf-8") as opened:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_NBYTES:
                failure = f"{where} is not a file of keys."
            elif found.st_uid != os.geteuid() or found.st_mode & 0o077:
                failure = f"{where} can be read by others: `chmod 600 {Path(file).name}`, as its owner."
            else:
                text = opened.read()
    except (OSError, UnicodeDecodeError) as error:
        failure = f"{where} can't be read ({type(error).__name__})."
    if failure is not None:
        raise ConfigurationError(failure)
    lines = (line.strip().removeprefix("export ") for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): key.strip().strip("'\"") for name, _, key in pairs}
