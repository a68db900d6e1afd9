"""Which sessions a job has done, kept for the next run."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

from lindi_dask.errors import JobConflict

if TYPE_CHECKING:
    from pathlib import Path

    from sessions import Session

__all__ = ["Records"]


class Records:
    """Sessions that are done: by path, with the archive's id of their content, and how they were done.

    Parameters
    ----------
    path
        Of the file, a JSON object a line. It is made with the first session.
    how
        The settings of this run, in values that JSON has.
    """

    def __init__(self, path: Path, how: object) -> None:
        self._path, self._how = path, how
        self._lock = threading.Lock()
        self._last: dict[str, dict[str, Any]] = {}
        for line in path.read_bytes().splitlines() if path.exists() else []:
            try:
                record = json.loads(line)
                self._last[record["path"]] = record
            except (ValueError, KeyError, TypeError):
                continue  # it was being written when a run was killed: that session is looked at again

    def has(self, session: Session, out: Path) -> bool:
        """Return whether a session was done, with the same content and the same settings, and its output is there."""
        return self._last.get(session.path) == self._record(session) and out.exists()

    def check(self, session: Session, out: Path) -> None:
        """Raise `JobConflict` if there is an output of another file than the session is now."""
        last = self._last.get(session.path)
        if last is not None and last.get("blob") != session.blob and out.exists():
            raise JobConflict(f"It has another file since {out} was made. Move that away, and start again.")

    def add(self, session: Session) -> None:
        """Keep that a session is done."""
        record = self._record(session)
        with self._lock, self._path.open("ab") as file:
            self._last[session.path] = record
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _record(self, session: Session) -> dict[str, Any]:
        return {"path": session.path, "blob": session.blob, "how": self._how}
