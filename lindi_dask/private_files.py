"""Files of a user's own, such as caches have: written whole, and read only where nobody else can have written them."""

from __future__ import annotations

import errno
import logging
import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    Buffer = bytes | memoryview

__all__ = ["TEMPORARY", "distrusted", "open_private", "read_private", "removed", "warn_once", "write_private"]

_log = logging.getLogger(__name__)

TEMPORARY: Final = ".lindi-temporary"
"""suffix of files that are being written"""


def open_private(path: Path) -> int | None:
    """Open a file that only this user or root can have made; None if there is none that can be trusted."""
    try:
        folder = path.parent.stat()
        # Neither a link to follow nor a pipe to wait for
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        warn_once(f"{path} can't be opened: {error.strerror}")
        return None
    found = os.fstat(handle)
    reason = distrusted(found) if stat.S_ISREG(found.st_mode) else "it is not a file"
    if reason is None:
        reason, path = distrusted(folder), path.parent
    if reason is None:
        return handle
    os.close(handle)
    warn_once(f"{path} is not used as an index: {reason}")
    return None


def read_private(path: Path) -> bytes | None:
    """Return the content of such a file; None if there is none that can be trusted."""
    handle = open_private(path)
    if handle is None:
        return None
    try:
        with os.fdopen(handle, "rb") as file:
            return file.read()
    except OSError as error:
        warn_once(f"{path} can't be read: {error.strerror}")
        return None


def write_private(path: Path, parts: Iterable[Buffer]) -> None:
    """Write a file for this user only, as a whole or not at all, however many processes do so at once.

    Raises
    ------
    OSError
        If it can't be: no room, no permission, or a folder that others may write.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    reason = distrusted(path.parent.stat())
    if reason is not None:
        raise PermissionError(errno.EPERM, reason, str(path.parent))
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=TEMPORARY)  # for this user only
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        removed(Path(name))
        raise


def distrusted(found: os.stat_result) -> str | None:
    """Return why others than this user and root may have written a file or in a folder; None if they can't have."""
    if found.st_uid not in {0, os.geteuid()}:
        return "it belongs to another user"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others may write it"
    return None


def removed(path: Path) -> bool:
    """Remove a file, and return whether that was done."""
    try:
        path.unlink()
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            _log.warning("%s can't be removed: %s", path, error.strerror)
        return False
    return True


@lru_cache(maxsize=256)
def warn_once(message: str) -> None:
    """Log a warning, the first time only."""
    _log.warning(message)
