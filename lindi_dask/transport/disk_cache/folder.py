"""The files of a disk cache: made and removed within its limit, by all processes that share it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lindi_dask.private_files import TEMPORARY, distrusted, removed
from lindi_dask.transport.disk_cache.range_file import file_nbytes, name_of, range_of
from lindi_dask.transport.disk_cache.usage import Usage, locked, on_disk
from lindi_dask.types import CacheUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["CacheFolder"]

_USAGE: Final = "usage.lindi-cache"
_SOURCE: Final = re.compile(r"[0-9a-f]{32}")
_FULL, _OF = 9, 10  # what is left after files were removed: so much that it is not done for each new one
_LARGEST: Final = 4  # a range may take up one in so many bytes of the limit
_LEFT_BEHIND_S: Final = 3600  # a temporary file of that age has lost its writer
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class CacheFolder:
    """A folder with one folder a source, and in it one file a range. Blocks; thread-safe.

    Parameters
    ----------
    path
        Made, for this user only, when the first file is.
    limit
        Bytes that the files may take up, those that are being written included.
    now
        The clock that files' times are compared with: seconds since 1970.
    """

    def __init__(self, path: Path, limit: int, *, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._limit = limit
        self._now = now

    def takes(self, start: int, stop: int) -> bool:
        """Return whether a range may be kept: a large one would drive out too much."""
        is_named = range_of(name_of(start, stop)) is not None  # one of no bytes, or beyond all sources, is not
        return is_named and on_disk(file_nbytes(stop - start)) <= self._limit // _LARGEST

    def file(self, source: str, start: int, stop: int) -> Path:
        """Return the path of the file of a range."""
        return self.path / source / name_of(start, stop)

    def changed_ns(self, source: str) -> int | None:
        """Return when files of a source were last added or removed: nanoseconds since 1970; None if there are none.

        Raises
        ------
        OSError
            If there is something else; `PermissionError` if others than this user may have made it.
        """
        try:
            _check(self.path.stat(), self.path)
            found = (self.path / source).lstat()
        except FileNotFoundError:
            return None
        _check(found, self.path / source)
        return found.st_mtime_ns

    def ranges(self, source: str) -> list[tuple[int, int]]:
        """Return the ranges of a source that there are files of."""
        with os.scandir(self.path / source) as entries:
            found = [(entry.name, range_of(entry.name)) for entry in entries]
        return [held for name, held in found if held is not None and name == name_of(*held)]

    def add(self, source: str, start: int, stop: int, parts: Sequence[bytes | memoryview]) -> bool:
        """Write the file of a range, unless there is one; remove others where that takes it.

        Nothing is flushed to the disk: checksums find what a crash left torn.

        Parameters
        ----------
        source, start, stop
            What the range is.
        parts
            The content of its file, of `file_nbytes(stop - start)` bytes.

        Returns
        -------
        bool
            Whether there is one now; False, if there is no room and nothing that could make way.

        Raises
        ------
        OSError
            If it can't be written: no room on the disk, no permission, or a folder that others may write.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check(self.path.stat(), self.path)
        path = self.file(source, start, stop)
        temporary = path.with_name(f"{start}-{stop}.{secrets.token_hex(8)}{TEMPORARY}")
        nbytes = on_disk(file_nbytes(stop - start))
        with self._locked() as usage:
            if os.path.lexists(path):
                return True
            if not self._make_room(usage, nbytes):
                return False
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _check(path.parent.lstat(), path.parent)
            usage.add(nbytes)
            try:
                handle = os.open(temporary, _NEW, 0o600)
            except BaseException:
                usage.add(-nbytes)
                raise
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(parts)
            with self._locked() as usage:
                if os.path.lexists(path):  # another process was as fast
                    self._remove(usage, temporary)
                else:
                    temporary.rename(path)
        except BaseException:
            with contextlib.suppress(OSError), self._locked() as usage:
                self._remove(usage, temporary)
            raise
        return True

    def discard(self, path: Path, found: os.stat_result) -> None:
        """Remove a file that is of no use, unless there is another one in its place by now.

        Parameters
        ----------
        path
            Of the file.
        found
            Its `stat`.
        """
        with contextlib.suppress(OSError), self._locked() as usage:
            if os.path.samestat(path.lstat(), found):
                self._remove(usage, path)

    def usage(self) -> CacheUsage:
        """Return what the files take up, but for those that are being written."""
        files = [file for file in self._files() if not file.is_temporary or self._is_left_behind(file)]
        return CacheUsage(self.path, len(files), sum(file.nbytes for file in files))

    def clear(self) -> CacheUsage:
        """Remove all files but those that are being written, and return what they took up.

        Processes that read from the cache go on: they fetch what they miss.

        Raises
        ------
        OSError
            If the folder is not this user's own, or can't be locked.
        """
        try:
            _check(self.path.stat(), self.path)
        except FileNotFoundError:
            return CacheUsage(self.path, 0, 0)
        with self._locked() as usage:
            kept: list[int] = []
            gone: list[int] = []
            for file in self._files():
                is_gone = (not file.is_temporary or self._is_left_behind(file)) and removed(file.path)
                (gone if is_gone else kept).append(file.nbytes)
            self._remove_empty_folders()
            usage.set(sum(kept))
        return CacheUsage(self.path, len(gone), sum(gone))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Usage]:
        with locked(self.path / _USAGE) as usage:
            yield usage

    def _remove(self, usage: Usage, path: Path) -> None:
        held = range_of(path.name)
        path.unlink()
        if held is not None:
            usage.add(-on_disk(file_nbytes(held[1] - held[0])))

    def _make_room(self, usage: Usage, nbytes: int) -> bool:
        """Have room for `nbytes` more; returns whether there is."""
        used = usage.nbytes
        if used is None or used + nbytes > self._limit:
            used = self._looked_through(nbytes)
            usage.set(used)
        return used + nbytes <= self._limit

    def _looked_through(self, nbytes: int) -> int:
        """Return how many bytes are really in use, once the least recently used files have made way for `nbytes`."""
        files = [
            file
            for file in self._files()
            if not ((file.is_damaged or self._is_left_behind(file)) and removed(file.path))
        ]
        used = sum(file.nbytes for file in files)
        if used + nbytes > self._limit:
            most = self._limit * _FULL // _OF - nbytes
            for file in sorted(files, key=lambda file: file.used_at):
                if used <= most:
                    break
                if not file.is_temporary and removed(file.path):
                    used -= file.nbytes
        self._remove_empty_folders()
        return used

    def _is_left_behind(self, file: _File) -> bool:
        return file.is_temporary and self._now() - file.used_at > _LEFT_BEHIND_S

    def _files(self) -> Iterator[_File]:
        """Yield all files that are the cache's."""
        for folder in self._folders():
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
                for entry in entries:
                    held = range_of(entry.name)
                    if held is None:
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        found = entry.stat(follow_symlinks=False)
                        nbytes = file_nbytes(held[1] - held[0])
                        yield _File(
                            Path(entry.path),
                            on_disk(nbytes),
                            found.st_mtime,
                            is_temporary=entry.name.endswith(TEMPORARY),
                            is_whole=stat.S_ISREG(found.st_mode) and found.st_size == nbytes,
                        )

    def _folders(self) -> list[Path]:
        try:
            with os.scandir(self.path) as entries:
                folders = [
                    Path(entry.path)
                    for entry in entries
                    if _SOURCE.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
                ]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return folders

    def _remove_empty_folders(self) -> None:
        for folder in self._folders():
            with contextlib.suppress(OSError):
                folder.rmdir()  # leaves those that hold anything


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    nbytes: int
    """bytes that it takes up, or will when it is written"""
    used_at: float
    """seconds since 1970"""
    is_temporary: bool
    is_whole: bool

    @property
    def is_damaged(self) -> bool:
        return not (self.is_temporary or self.is_whole)


def _check(found: os.stat_result, path: Path) -> None:
    """Raise for a folder that others than this user and root may have written in."""
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "it is not a folder", str(path))
    reason = distrusted(found)
    if reason is not None:
        raise PermissionError(errno.EPERM, reason, str(path))
