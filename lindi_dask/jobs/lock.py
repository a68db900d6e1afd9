"""One process a job: a file that it holds a lock on, and touches as long as it lives."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lindi_dask.errors import JobConflict
from lindi_dask.jobs.writing import writing

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

__all__ = ["Holder", "JobLock", "holder_of"]

_log = logging.getLogger(__name__)

_BEAT_S: Final = 5.0
_DEAD_AFTER_S: Final = 60.0  # without a beat, of a process on another machine


@dataclass(frozen=True, slots=True)
class Holder:
    """Who runs a job."""

    host: str
    pid: int
    beat_s: float
    """seconds since it was last heard of"""

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == platform.node()


def holder_of(path: Path) -> Holder | None:
    """Return who runs the job whose lock lies at a path, or None if nobody seems to."""
    holder = _written(path)
    if holder is None or (not holder.is_here and holder.beat_s > _DEAD_AFTER_S):
        return None
    if holder.is_here:
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return holder
        return None
    return holder


def _written(path: Path) -> Holder | None:
    try:
        held = json.loads(path.read_bytes())
        return Holder(str(held["host"]), int(held["pid"]), max(time.time() - path.stat().st_mtime, 0.0))
    except (OSError, ValueError, KeyError, TypeError):
        return None


class JobLock:
    """The lock of a job, held in a `with` block.

    The kernel lets go of it when the process dies. Where a file system does not share such locks between machines, the
    beat does: a lock whose file another machine touched less than a minute ago is held.

    Parameters
    ----------
    path
        Of the file.
    what
        How messages call what is locked.

    Raises
    ------
    JobConflict
        When entered, if another process holds it.
    ConfigurationError
        When entered, if the file can't be written.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._ended = threading.Event()
        self._handle = -1

    def __enter__(self) -> Self:
        with writing(self._path):
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        holder = _written(self._path)
        held = holder is not None and not holder.is_here and holder.beat_s < _DEAD_AFTER_S
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = True
        except OSError as error:
            _log.warning(
                "%s: this file system has no locks (%s); see that only one process uses it.", self._path, error
            )
        if held:
            os.close(self._handle)
            who = "another process" if holder is None else f"process {holder.pid} on {holder.host}"
            raise JobConflict(
                f"{self._what} is being written by {who}. Wait for it, or end it, and then go on: nothing that it has "
                "done is lost."
            )
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, json.dumps({"host": platform.node(), "pid": os.getpid()}).encode(), 0)
        self._beating = threading.Thread(target=self._beat, name="lindi-job", daemon=True)
        self._beating.start()
        return self

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_S):
            os.utime(self._handle)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._beating.join()
        os.ftruncate(self._handle, 0)
        os.close(self._handle)
