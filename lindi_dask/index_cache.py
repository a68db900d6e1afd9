"""The index cache: parsed references as files that every process of a node maps, so that they are parsed once."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import os
import stat
import struct
import tempfile
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from lindi_dask.content_cache import CONTENT_MAGIC, CONTENT_SUFFIX
from lindi_dask.errors import ConfigurationError, RefsUnreachable
from lindi_dask.index_file import MAGIC, DamagedIndexError, lay_out, read_index, release
from lindi_dask.private_files import TEMPORARY, open_private, removed, warn_once, write_private
from lindi_dask.refs.manifest import ColumnManifest
from lindi_dask.secrecy import grants_access, holds_secret
from lindi_dask.types import CacheUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lindi_dask.index_file import Buffer
    from lindi_dask.refs.references import References

__all__ = [
    "IndexCache",
    "configured_folder",
    "default_folder",
    "is_cacheable",
    "open_index",
    "write_index",
]

_log = logging.getLogger(__name__)

WORTH_FROM: Final = 10_000
"""chunks of a reference file; one of fewer is parsed as fast as its index is found"""

_INDEX, _FINGERPRINT, _CONTENT = ".lindi-index", ".lindi-fingerprint", CONTENT_SUFFIX
_FINGERPRINT_MAGIC = b"\x89LDFP1\r\n"
_FINGERPRINT_NBYTES = 4096  # more than any of these files has
_LEFT_BEHIND_S = 3600  # a temporary file of that age has lost its writer
_UNUSED_S = 30 * 86400  # files that nobody opened for that long are removed when another is written
_TOUCHED_S = 86400  # a file's time of change says when it was last used, to the day
_RACY_S = 2  # a file changed so lately may change again within the same tick of its clock


def default_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of the cache where none is configured: `lindi-dask/index` in the user's cache folder."""
    configured = Path(environ.get("XDG_CACHE_HOME", ""))
    if configured.is_absolute():  # the standard says to ignore others: https://specifications.freedesktop.org/basedir/
        return configured / "lindi-dask" / "index"
    return Path(environ.get("HOME") or tempfile.gettempdir()) / ".cache" / "lindi-dask" / "index"


def configured_folder(value: object, environ: Mapping[str, str]) -> Path | None:
    """Return the folder that a value of `lindi-dask.index-cache` stands for.

    Parameters
    ----------
    value
        A path; True for the default folder; None or False for no cache.
    environ
        The process's environment.

    Raises
    ------
    ConfigurationError
        If it is anything else.
    """
    if value is None or value is False:
        return None
    if value is True:
        return default_folder(environ)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"lindi-dask.index-cache must be a path, true or false, not {value!r}.")
    return Path(os.path.expanduser(value)).absolute()  # noqa: PTH111 - Path's raises where there is no home


def is_cacheable(references: References) -> bool:
    """Return whether references may be written to an index.

    Not those whose manifests are read lazily, and none that hold presigned URLs: those are secrets.
    """
    if not all(isinstance(manifest, ColumnManifest) for manifest in references.manifests.values()):
        return False
    sources = [references.sources[number] for number in range(len(references.sources))]
    if any(source.data is None and grants_access(source.url) for source in sources):
        return False
    texts = (*references.links.values(), *references.unreadable.values())
    contents: list[Buffer] = [text.encode("utf-8", "replace") for text in texts]
    contents += references.metadata.values()
    contents += [source.data for source in sources if source.data is not None]
    return not any(map(holds_secret, contents))


def write_index(references: References, path: Path) -> None:
    """Write an index file, as a whole or not at all, however many processes do so at once.

    Raises
    ------
    ValueError
        If the references may not be written (see `is_cacheable`).
    OSError
        If they can't be: no room, no permission, or a folder that others may write.
    TypeError
        If JSON can't have a name in them.
    """
    if not is_cacheable(references):
        raise ValueError("these references are not for a file: they hold presigned URLs, or are read lazily")
    write_private(path, lay_out(references))


def open_index(path: Path, fingerprint: str, rebuild: Callable[[], References]) -> References | None:
    """Return the references in an index file, mapped into memory; None if there is none that can be trusted.

    Not trusted are files and folders of other users (but root), or which others may write. A damaged file is removed.

    Parameters
    ----------
    path
        Of the index file.
    fingerprint
        Of the references that are wanted.
    rebuild
        Parses the references anew, when a part of the index turns out damaged at its first use. Its errors are then
        raised by the manifests' methods.
    """
    handle = open_private(path)
    if handle is None:
        return None
    damage = None
    try:
        found = os.fstat(handle)
        if found.st_size == 0:
            return None
        mapped = mmap.mmap(handle, 0, access=mmap.ACCESS_READ)

        def recover(damage: str) -> References:
            _discard(path, found, damage)
            return rebuild()

        return read_index(mapped, fingerprint, recover)
    except DamagedIndexError as error:
        damage = str(error)
    except OSError as error:
        _log.warning("the index %s can't be read: %s", path, error.strerror)
        return None
    finally:
        os.close(handle)
    _discard(path, found, damage)
    return None


class IndexCache:
    """A folder of index files, shared by all processes of a node.

    Whatever goes wrong with the folder is logged and costs time only: references are then parsed as if there were no
    cache. Thread-safe; any number of processes may use one folder.

    Parameters
    ----------
    folder
        Made, for this user only, when the first file is written.
    now
        The clock that files' times are compared with: seconds since 1970.
    """

    def __init__(self, folder: Path, *, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._now = now

    def get(self, fingerprint: str, load: Callable[[], References], *, always: bool = False) -> References:
        """Return references: from their index, or else loaded and, if there are many, written to one.

        Parameters
        ----------
        fingerprint
            Of the references.
        load
            Parses them; its errors are passed on. Called again, later, if the index turns out damaged.
        always
            Whether to write an index of few chunks, too.
        """
        path = self._path(fingerprint)
        indexed = open_index(path, fingerprint, load)
        if indexed is not None:
            self._touch(path)
            return indexed
        references = load()
        worth = always or _chunks(references) >= WORTH_FROM
        if references.fingerprint != fingerprint or not worth or not is_cacheable(references):
            return references
        # Another process may have written it by now; a second copy would take as much memory again
        indexed = open_index(path, fingerprint, load)
        if indexed is None and self._written(references, path):
            indexed = open_index(path, fingerprint, load)
        return references if indexed is None else indexed

    def has(self, fingerprint: str) -> bool:
        """Return whether there is an index, sound or not."""
        return self._path(fingerprint).exists()

    def peek(self, fingerprint: str) -> References | None:
        """Return references whose index another process wrote; None if there is none."""

        def gone() -> References:
            raise RefsUnreachable(
                "The index of references that were given as a dict is damaged, and nothing else in this process has "
                "them: open them again where they are.",
                fingerprint=fingerprint,
            )

        self._touch(self._path(fingerprint))
        return open_index(self._path(fingerprint), fingerprint, gone)

    def _touch(self, path: Path) -> None:
        """Note that a file is in use; a folder that others own does not let us, and is theirs to clear."""
        with contextlib.suppress(OSError):
            if self._now() - path.stat().st_mtime > _TOUCHED_S:
                os.utime(path, (self._now(), self._now()))

    def _path(self, fingerprint: str) -> Path:
        return self._folder / f"{fingerprint}-{release()}{_INDEX}"

    def remembered_fingerprint(self, path: Path, found: os.stat_result) -> str | None:
        """Return the fingerprint of a file that is still as it was when it was remembered; None if it isn't known.

        Parameters
        ----------
        path
            Of the file.
        found
            Its `stat`, now.
        """
        content = b""
        handle = open_private(self._memory_of(path))
        if handle is not None:
            with contextlib.suppress(OSError), os.fdopen(handle, "rb") as file:
                content = file.read(_FINGERPRINT_NBYTES)
        magic, checksum, entry = content[:8], content[8:12], content[12:]
        if magic != _FINGERPRINT_MAGIC or checksum != struct.pack("<I", zlib.crc32(entry)):
            return None
        remembered: dict[str, Any] = orjson.loads(entry)
        fingerprint: str = remembered["fingerprint"]
        return fingerprint if remembered["file"] == _identity(found) else None

    def remember(self, path: Path, found: os.stat_result, fingerprint: str) -> None:
        """Remember the fingerprint of a file, unless it was changed in the last two seconds, or since its `stat`.

        Parameters
        ----------
        path
            Of the file.
        found
            Its `stat`, from before its content was read.
        fingerprint
            Of the content.
        """
        if self._now() - max(found.st_mtime, found.st_ctime) < _RACY_S:
            return
        entry = orjson.dumps({"file": _identity(found), "fingerprint": fingerprint})
        try:
            if _identity(path.stat()) == _identity(found):
                checksum = struct.pack("<I", zlib.crc32(entry))
                write_private(self._memory_of(path), [_FINGERPRINT_MAGIC, checksum, entry])
        except OSError as error:
            warn_once(f"the index cache can't remember fingerprints in {self._folder}: {error.strerror}")

    def usage(self) -> CacheUsage:
        """Return what the cache takes up."""
        sizes = [found.st_size for _, found in self._own_files()]
        return CacheUsage(self._folder, len(sizes), sum(sizes))

    def clear(self) -> CacheUsage:
        """Remove the cache's own files, and return what they took up. Processes that have them open go on."""
        sizes = [found.st_size for path, found in self._own_files() if removed(path)]
        return CacheUsage(self._folder, len(sizes), sum(sizes))

    def _written(self, references: References, path: Path) -> bool:
        try:
            self._remove_left_behind()
            write_private(path, lay_out(references))
        except (OSError, orjson.JSONEncodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            warn_once(f"no index can be written in {self._folder} ({reason}): references are parsed at each opening")
            return False
        return True

    def _remove_left_behind(self) -> None:
        for path, found in list(self._own_files()):
            age_s = self._now() - found.st_mtime
            if age_s > (_LEFT_BEHIND_S if path.suffix == TEMPORARY else _UNUSED_S):
                removed(path)

    def _own_files(self) -> Iterator[tuple[Path, os.stat_result]]:
        try:
            paths = sorted(self._folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            _log.warning("the index cache %s can't be listed: %s", self._folder, error.strerror)
            return
        for path in paths:
            if path.suffix in {_INDEX, _FINGERPRINT, _CONTENT, TEMPORARY}:
                with contextlib.suppress(OSError):  # another process removed it
                    found = path.lstat()
                    if stat.S_ISREG(found.st_mode) and _has_magic(path, found):
                        yield path, found

    def _memory_of(self, path: Path) -> Path:
        return self._folder / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]}{_FINGERPRINT}"


def _chunks(references: References) -> int:
    manifests = references.manifests.values()
    return sum(len(manifest.columns) for manifest in manifests if isinstance(manifest, ColumnManifest))


def _identity(found: os.stat_result) -> list[int]:
    # st_ctime: unlike st_mtime it can't be set back by those who replace a file's content. Not st_dev: it is not the
    # same on all nodes that share a folder
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _discard(path: Path, found: os.stat_result, damage: str) -> None:
    """Remove a damaged index, if it is this user's, and not another file by now."""
    _log.warning("the index %s is not used, and made anew: %s", path, damage)
    with contextlib.suppress(OSError):
        if found.st_uid == os.geteuid() and os.path.samestat(found, path.lstat()):
            path.unlink()


def _has_magic(path: Path, found: os.stat_result) -> bool:
    with path.open("rb") as file:
        start = file.read(len(MAGIC))
    # a writer may have been killed before it wrote anything
    return start in {MAGIC, _FINGERPRINT_MAGIC, CONTENT_MAGIC} or (path.suffix == TEMPORARY and found.st_size == 0)
