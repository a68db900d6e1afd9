"""HDF5 files, wherever they lie: opened for their index, and as references that are made when they are first used."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from lindi_dask import process
from lindi_dask.errors import ConfigurationError, RefsChanged
from lindi_dask.refs import Locations, Source
from lindi_dask.transport import peek, strong
from lindi_dask.types import ByteRange, LocalFile, Target

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lindi_dask.archive import UrlPolicy
    from lindi_dask.hdf5.remote_file import RemoteFile
    from lindi_dask.refs import References
    from lindi_dask.transport import Start
    from lindi_dask.types import Asset, Base

__all__ = [
    "Hdf5Files",
    "check_h5py",
    "index_of",
    "is_hdf5",
    "local_fingerprint",
    "remote_fingerprint",
    "remote_index_of",
]

_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_PLACES: Final = (0, 512, 1024)  # where the signature is looked for: there may be a user block in front of it
_MADE: Final = 1  # raise it when other references are made of the same file
_WITHOUT: Final = "To open an HDF5 file without a reference file"
_CONCURRENCY: Final = 32  # requests at a time for a file's metadata


def is_hdf5(start: bytes) -> bool:
    """Return whether the first bytes of a file are those of an HDF5 file."""
    return any(start[at : at + len(_SIGNATURE)] == _SIGNATURE for at in _PLACES)


def local_fingerprint(path: Path, status: os.stat_result) -> str:
    """Return what stands for a local file as it is now: its content may be too large to be looked at."""
    return _digest("local", str(path.resolve()), status.st_size, status.st_mtime_ns)


def remote_fingerprint(asset: Asset, found: Start) -> str:
    """Return what stands for a remote file as it is now."""
    # Where a host gives no ETag, the start has to do: HDF5 keeps the file's end and some of its metadata there
    start = hashlib.sha256(found.content).hexdigest()
    return _digest(str(asset.instance), asset.id, found.size, found.etag, start)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(("hdf5", _MADE, *parts)).encode()).hexdigest()[:32]


def index_of(path: Path, fingerprint: str) -> References:
    """Return references to a local file, which mean it by its name, as one beside them.

    Raises
    ------
    RefsChanged
        If it is not the file any more that has this fingerprint.
    LindiError
        As of `index`.
    """
    check_h5py(_WITHOUT)
    from lindi_dask.hdf5 import index_hdf5  # noqa: PLC0415 - h5py is an extra

    made = replace(index_hdf5(path, f"./{path.name}"), fingerprint=fingerprint)
    now = ""
    with suppress(OSError):  # it is gone
        now = local_fingerprint(path, path.stat())
    if now != fingerprint:
        raise _changed(str(path), fingerprint, now)
    return made


def remote_index_of(url: str, policy: UrlPolicy, found: Start, fingerprint: str) -> References:
    """Return references to a remote file that was just looked at. Errors are those of `index_of`."""
    check_h5py(_WITHOUT)
    from lindi_dask.hdf5.local import index_remote  # noqa: PLC0415 - likewise

    with Hdf5Files(policy, None, _CONCURRENCY).open(url) as file:
        is_same = file.size == found.size and file.kept(0, len(found.content)) == found.content
        if not is_same or file.etag not in (None, strong(found.etag)):
            raise _changed(file.name, fingerprint, "")
        return replace(index_remote(file, Source(url, size=file.size, etag=file.etag)), fingerprint=fingerprint)


def _changed(name: str, expected: str, found: str) -> RefsChanged:
    return RefsChanged(f"{name} was changed while it was opened. Open it again.", expected=expected, found=found)


def check_h5py(purpose: str) -> None:
    """Raise `ConfigurationError`, which says what it is needed for, if there is no h5py."""
    missing = None
    try:
        import h5py  # noqa: F401, PLC0415 - an extra
    except ModuleNotFoundError as error:
        missing = error.name
    if missing is not None:
        raise ConfigurationError(f'{purpose} needs {missing}: pip install "lindi-dask[index]"')


class Hdf5Files:
    """Opens HDF5 files that a policy allows, on this process's leases and reader.

    Parameters
    ----------
    policy
        What may be read.
    base
        Where relative URLs start from.
    concurrency
        Requests at a time.
    """

    def __init__(self, policy: UrlPolicy, base: Base, concurrency: int) -> None:
        self._policy = policy
        self._base = base
        self._concurrency = concurrency
        self._before = process.counters().counts()
        self._peeks = 0

    @property
    def requests(self) -> int:
        """Requests up to now (those of other reads of this process meanwhile, too)."""
        return self._peeks + (process.counters().counts() - self._before).requests

    def open(self, url: str) -> RemoteFile:
        """Return a file, of which the first bytes are read; errors are those of `expand`."""
        from lindi_dask.hdf5.remote_file import START, RemoteFile  # noqa: PLC0415 - its package needs h5py

        asset = self._policy.target(Source(url), self._base).asset
        if isinstance(asset, LocalFile):
            start, etag = b"", None
            self._read(Target(asset), [ByteRange(0, 1)])  # looks whether it may be read
            size = Path(asset.path).stat().st_size
        else:
            found = process.io_loop().submit(peek(asset, process.leases(), START)).result()
            self._peeks += 1
            # Elsewhere than in archives, one file may have several tags: its hosts' own
            etag = strong(found.etag) if asset.instance is not None else None
            start, size = found.content, found.size
        target = Target(asset, etag=etag, size=size)
        return RemoteFile(str(asset), size, partial(self._read, target), start=start, etag=etag)

    def _read(self, target: Target, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Read ranges at the same time; one request for those that lie near each other. Blocks."""
        parts = [b""] * len(ranges)

        def deliver(indices: NDArray[np.intp], views: list[memoryview]) -> None:
            for i, view in zip(indices.tolist(), views, strict=True):
                parts[i] = bytes(view)

        wanted = Locations(
            np.zeros(len(ranges), np.uint32),
            np.array([one.offset for one in ranges], np.uint64),
            np.array([one.length for one in ranges], np.uint32),
        )
        reading = process.io_loop().submit(process.reader(self._concurrency).fetch({0: target}, wanted, deliver))
        try:
            reading.result()
        finally:
            reading.cancel()  # of a wait that was interrupted
        return parts
