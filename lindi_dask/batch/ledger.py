"""What a job has done: lines of JSON, appended and flushed to the disk by one process alone."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from lindi_dask.batch.writing import writing
from lindi_dask.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    Event = dict[str, Any]

__all__ = ["Ledger", "events_of"]


def events_of(path: Path) -> Iterator[Event]:
    """Yield the events of a ledger; a last line that was cut short is none.

    Raises
    ------
    ConfigurationError
        If another line is broken.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            event = None
            try:
                event = json.loads(line)
            except ValueError as error:
                reason = str(error)
            else:
                reason = "not an event"
            if not isinstance(event, dict) or "event" not in event:
                raise ConfigurationError(
                    f"{path} is damaged in line {number} ({reason}): remove the lines from there on, and start again; "
                    "what they say was done is done anew."
                )
            yield event


class Ledger:
    """Appends events, each of which is on the disk when `add` returns. Used by one thread, under the job's lock.

    Parameters
    ----------
    path
        Of the file, which may be there.
    clock
        Seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        with writing(path):
            self._file = path.open("ab+", buffering=0)
            self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        """Remove what was being written when its process died."""
        self._file.seek(0)
        content = self._file.read()
        keep = content.rfind(b"\n") + 1
        if keep < len(content):
            self._file.truncate(keep)

    def add(self, event: str, **what: Any) -> None:  # noqa: ANN401 - whatever JSON takes
        """Append an event, all of it or nothing.

        Raises
        ------
        ConfigurationError
            If there is no room.
        """
        line = {"t": round(self._clock(), 3), "event": event, **what}
        end = self._file.seek(0, os.SEEK_END)
        with writing(self._path):
            try:
                data = memoryview(json.dumps(line, separators=(",", ":")).encode() + b"\n")
                while data:
                    data = data[self._file.write(data) :]
                os.fsync(self._file.fileno())
            except BaseException:
                self._file.truncate(end)
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
