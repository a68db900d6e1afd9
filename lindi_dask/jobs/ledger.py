"""What a job has done: lines of JSON, appended and flushed to the disk by one process alone.

A line an event, each with the time (`t`, seconds since 1970) and what it is (`event`).
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from lindi_dask.errors import JobError
from lindi_dask.jobs.writing import writing

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
    JobError
        If another line is broken.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            reason = None
            try:
                event = json.loads(line)
            except ValueError as error:
                reason = str(error)
            if reason is not None or not isinstance(event, dict) or "event" not in event:
                raise JobError(
                    f"{path} is damaged in line {number} ({reason or 'not an event'}): remove the lines from there "
                    "on, and resume; what they say was done is made again."
                )
            yield event


class Ledger:
    """Appends events. Used by one thread; not until the file's lock is held.

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
        self._lines: list[bytes] = []
        with writing(path):
            self._file = path.open("ab+", buffering=0)
            self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        """Remove what was being written when its process died."""
        end = self._file.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:
            start = max(keep - 4096, 0)
            self._file.seek(start)
            at = self._file.read(keep - start).rfind(b"\n")
            if at >= 0:
                keep = start + at + 1
                break
            keep = start
        if keep < end:
            self._file.truncate(keep)

    def add(self, event: str, **what: Any) -> None:  # noqa: ANN401 - whatever JSON takes
        """Append an event; it is on the disk after the next `flush`."""
        line = {"t": round(self._clock(), 3), "event": event, **what}
        self._lines.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def flush(self) -> None:
        """See to it that all events are on the disk; if that fails, that nothing of them is.

        Raises
        ------
        OSError
            If there is no room: what was not flushed is lost, as far as the ledger goes.
        """
        data = memoryview(b"".join(self._lines))
        self._lines.clear()
        end = self._file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)
            raise

    def record(self, event: str, **what: Any) -> None:  # noqa: ANN401 - likewise
        """Append an event, which is on the disk then.

        Raises
        ------
        ConfigurationError
            If there is no room.
        """
        self.add(event, **what)
        with writing(self._path):
            self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
