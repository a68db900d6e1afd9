"""Reads ranges of local files: regular ones, inside the folders that they may lie in, however links lead there."""

from __future__ import annotations

import os
import stat
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from lindi_dask.errors import DataError, UrlRefused
from lindi_dask.transport.outcomes import contradiction
from lindi_dask.types import Target

if TYPE_CHECKING:
    from lindi_dask.errors import LindiError
    from lindi_dask.types import LocalFile

__all__ = ["LocalFiles", "pread"]

_OPEN = 64  # files kept open
_CALL = 2**30  # bytes of one pread: no system takes more than 2 GiB
# Not blocking: to open a FIFO would wait for its writer. Files that were checked are no FIFO, unless exchanged since
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW


class _Descriptor:
    """A file that is open for as long as anyone holds this: one that is dropped may still be read from."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, _FLAGS)

    def __del__(self) -> None:
        number = self.__dict__.get("number")  # none, if it could not be opened
        if number is not None:
            os.close(number)


class LocalFiles:
    """Reads ranges of local files, and keeps the last 64 open. Blocks; thread-safe; does not pickle."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[LocalFile, _Descriptor] = OrderedDict()

    def read(self, file: LocalFile, start: int, stop: int | None, *, size: int | None = None) -> memoryview:
        """Return the bytes from `start` to `stop` (None: the last) of a file.

        Parameters
        ----------
        file
            Looked at anew each time: a file that was put in its place is the one that is read.
        start, stop
            Bytes, from the start of the file.
        size
            Bytes that the references say it has, if they do.

        Raises
        ------
        UrlRefused
            If it is not a regular file, or lies outside of the folders that it may lie in.
        SourceMismatch
            If it ends before `stop`, or has another size.
        DataError
            If there is no such file here, or it can't be read.
        InvalidReferences
            If `stop` is None and it is larger than a chunk may be.
        """
        wrong: LindiError | None
        try:
            descriptor = self._descriptor(file)
            found = os.fstat(descriptor.number).st_size
            wrong = contradiction(Target(file, size=size), found, None, start, stop)
            if wrong is None:
                end = found if stop is None else stop
                data = pread(descriptor.number, start, end - start)
                wrong = contradiction(Target(file), start + len(data), None, start, end)
            if wrong is None:
                return memoryview(data)
        except OSError as error:
            wrong = _unreadable(file, error.strerror or type(error).__name__)
        except ValueError:  # what is no path at all, such as one with a zero byte
            wrong = _unreadable(file, "not a path")
        raise wrong

    def _descriptor(self, file: LocalFile) -> _Descriptor:
        with self._lock:
            descriptor = self._open.get(file)
        if descriptor is not None and os.path.samestat(Path(file.path).stat(), os.fstat(descriptor.number)):
            with self._lock:
                if file in self._open:
                    self._open.move_to_end(file)
            return descriptor
        descriptor = _Descriptor(_checked(file))
        if not stat.S_ISREG(os.fstat(descriptor.number).st_mode):
            raise _irregular(file)
        with self._lock:
            self._open[file] = descriptor
            self._open.move_to_end(file)
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return descriptor


def _checked(file: LocalFile) -> str:
    """Return the path of a file with all links resolved; it must be a regular one, inside what it may lie in."""
    real = os.path.realpath(file.path)
    if file.within and not any(_is_within(real, os.path.realpath(folder)) for folder in file.within):
        reason = (
            f"the file {real} lies outside of the folders that they may reach; if it is to be trusted, pass "
            f"allow=[{str(Path(real).parent)!r}]"
        )
        raise UrlRefused(f"A URL in the references may not be read: {reason}.", reason=reason)
    if not stat.S_ISREG(Path(real).stat().st_mode):
        raise _irregular(file)
    return real


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder if folder.endswith("/") else f"{folder}/")


def pread(descriptor: int, offset: int, length: int) -> bytes:
    """Return as much of a range of an open file as there is."""
    parts: list[bytes] = []
    done = 0
    while done < length:
        part = os.pread(descriptor, min(length - done, _CALL), offset + done)
        if not part:
            break
        parts.append(part)
        done += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _irregular(file: LocalFile) -> UrlRefused:
    reason = f"{file} is not a regular file"
    return UrlRefused(f"A URL in the references may not be read: {reason}.", reason=reason)


def _unreadable(file: LocalFile, why: str) -> DataError:
    return DataError(
        f"{file} can't be read here ({why}). The references need it under this path in each process that reads; if it "
        "lies elsewhere now, make them anew."
    )
