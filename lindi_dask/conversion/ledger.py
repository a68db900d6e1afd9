"""What a job has done: lines of JSON, appended and flushed to the disk by one process alone.

A line an event, each with the time (`t`, seconds since 1970). `done` says that an object is stored: array and place,
bytes (null: all fill value, no object), digest, seconds of each step. `failed` and `set_aside` have the reason,
`started` and `ended` what a run was, `sample` what was read and held meanwhile. All but `done` are for reports only.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lindi_dask.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from lindi_dask.conversion.plan import Shard

    Event = dict[str, Any]

__all__ = ["Ledger", "Stored", "events_of", "stored_of"]


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that is done."""

    nbytes: int | None
    """None: all of its block holds the fill value, and there is no object"""
    digest: str
    """SHA-256, hexadecimal"""


def events_of(path: Path) -> Iterator[Event]:
    """Yield the events of a ledger; a last line that was cut short is none.

    Raises
    ------
    ConversionError
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
            if reason is not None or not isinstance(event, dict):
                raise ConversionError(
                    f"{path} is damaged in line {number} ({reason or 'not an object'}): remove the lines from there "
                    "on, and resume; what they say was done is made again."
                )
            yield event


def stored_of(path: Path) -> dict[Shard, Stored]:
    """Return what a ledger says is done, by (array, place); the last line about an object holds."""
    done: dict[Shard, Stored] = {}
    for event in events_of(path):
        if event["event"] == "done":
            done[event["array"], event["place"]] = Stored(event["nbytes"], event["digest"])
    return done


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
        self._clock = clock
        self._lines: list[bytes] = []
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
        """See to it that all events are on the disk.

        Raises
        ------
        OSError
            If there is no room: what was not flushed is lost, as far as the ledger goes.
        """
        data = memoryview(b"".join(self._lines))
        self._lines.clear()
        while data:
            data = data[self._file.write(data) :]
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
