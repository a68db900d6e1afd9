"""One process a job: a file that it holds a lock on, and touches as long as it lives."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import threading
import time
from typing import TYPE_CHECKING, Final

from lindi_dask.batch.writing import writing
from lindi_dask.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

__all__ = ["JobLock"]

_log = logging.getLogger(__name__)

_BEAT_S: Final = 5.0
_DEAD_AFTER_S: Final = 60.0  # without a beat, of a process on another machine


class JobLock:
    """The lock of a job, held in a `with` block.

    The kernel lets go of it when the process dies. Where a file system does not share such locks between machines, the
    beat does: a lock whose file another machine touched less than a minute ago is held.

    Parameters
    ----------
    path
        Of the file.

    Raises
    ------
    ConfigurationError
        When entered, if another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        with writing(self._path):
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        held, who = _elsewhere(self._handle)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held = True
        except OSError as error:
            _log.warning("%s: this file system has no locks (%s); see that only one run uses it.", self._path, error)
        if held:
            os.close(self._handle)
            raise ConfigurationError(
                f"{self._path.parent.parent} is being written by {who}. Wait for it, or end it; then start again: "
                "nothing that it has done is lost."
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


def _elsewhere(handle: int) -> tuple[bool, str]:
    """Return whether a process on another machine holds the lock, and who is written into it."""
    try:
        held = json.loads(os.pread(handle, 4096, 0))
        host, pid = str(held["host"]), int(held["pid"])
    except (ValueError, KeyError, TypeError):
        return False, "another process"
    beat_s = time.time() - os.fstat(handle).st_mtime
    return host != platform.node() and beat_s < _DEAD_AFTER_S, f"process {pid} on {host}"
