"""How many bytes the files of a cache take up, known exactly to all processes that share it.

The number stands in a file that is locked while it, or what it counts, is changed: files are made, renamed and removed
by the holder of the lock only. The number is raised before a file is made, and lowered after one is removed, so that a
process that dies leaves it too high at worst.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
import zlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Usage", "locked", "on_disk"]

_BYTES: Final = struct.Struct("<Q")
_ENTRY: Final = struct.Struct("<QI")  # bytes, CRC-32 of that
_BLOCK: Final = 4096  # bytes that a file system gives out at a time, mostly
_PATIENCE_S: Final = 5.0  # a holder works for milliseconds, or removes thousands of files; or is a stopped process
_PAUSE_S: Final = 0.001


class Usage:
    """What the holder of the lock may see and change."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @property
    def nbytes(self) -> int | None:
        """Bytes that all files take up, or more; None: it isn't known, and they must be looked through."""
        entry = os.pread(self._handle, _ENTRY.size + 1, 0)
        if len(entry) != _ENTRY.size:
            return None
        nbytes, checksum = _ENTRY.unpack(entry)
        return int(nbytes) if checksum == zlib.crc32(_BYTES.pack(nbytes)) else None

    def set(self, nbytes: int) -> None:
        """Write what they take up."""
        os.pwrite(self._handle, _ENTRY.pack(nbytes, zlib.crc32(_BYTES.pack(nbytes))), 0)
        os.ftruncate(self._handle, _ENTRY.size)

    def add(self, nbytes: int) -> None:
        """Count more bytes, or fewer; nothing, if it isn't known how many there are."""
        known = self.nbytes
        if known is not None:
            self.set(max(known + nbytes, 0))


def on_disk(nbytes: int) -> int:
    """Return what a file of `nbytes` takes up."""
    return -(-nbytes // _BLOCK) * _BLOCK


@contextlib.contextmanager
def locked(path: Path, *, patience_s: float = _PATIENCE_S) -> Iterator[Usage]:
    """Hold the lock on a cache; no other thread or process does. Blocks.

    Parameters
    ----------
    path
        Of the file; made if it isn't there.
    patience_s
        Seconds to wait for it.

    Raises
    ------
    OSError
        If the file can't be made or locked; `TimeoutError`, if another process does not let it go.
    """
    deadline = time.monotonic() + patience_s
    handle = _locked_handle(path, deadline)
    try:
        yield Usage(handle)
    finally:
        os.close(handle)  # and so lets go of the lock


def _locked_handle(path: Path, deadline: float) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _lock(handle, path, deadline)
            with contextlib.suppress(FileNotFoundError):
                # Somebody may have removed the file meanwhile: others would then hold the lock on a new one
                if os.path.samestat(os.fstat(handle), path.lstat()):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _lock(handle: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                reason = "another process keeps it locked"
            else:
                time.sleep(_PAUSE_S)
                continue
        else:
            return
        raise TimeoutError(errno.ETIMEDOUT, reason, str(path))
