"""Reference files behind URLs, read for loading: blocking, through this process's leases and reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lindi_dask import process
from lindi_dask.errors import AssetNotFound, UrlRefused
from lindi_dask.refs import Locations, Source
from lindi_dask.transport import download, peek
from lindi_dask.types import ByteRange, LocalFile, Target

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any, TypeVar

    from numpy.typing import NDArray

    from lindi_dask.archive import UrlPolicy
    from lindi_dask.content_cache import ContentCache
    from lindi_dask.transport import Downloaded, Start
    from lindi_dask.types import Asset, RemoteFolder

    T = TypeVar("T")

__all__ = ["RemoteBytes", "RemoteFiles"]

_LIMIT = 2**30  # bytes of a file
_CONCURRENCY = 8  # requests at a time for headers of a tar's members


class RemoteFiles:
    """Reads files whose URLs a policy allows.

    Parameters
    ----------
    policy
        What may be read.
    cache
        Keeps what was downloaded, so that it need not be sent again while it is the same; or None.
    """

    def __init__(self, policy: UrlPolicy, cache: ContentCache | None) -> None:
        self._policy = policy
        self._cache = cache

    def asset(self, url: str) -> Asset:
        """Return what a URL stands for; raises `UrlRefused` for one that may not be read."""
        return self._policy.asset(url)

    def known_content(self, asset: Asset) -> bytes | None:
        """Return all of a file that was downloaded before, brought up to date; None for any other."""
        held = None if self._cache is None else self._cache.get(asset)
        return None if held is None else self._current(asset, held)

    def content(self, asset: Asset) -> bytes:
        """Return all of a file."""
        return self._current(asset, None if self._cache is None else self._cache.get(asset))

    def _current(self, asset: Asset, held: Downloaded | None) -> bytes:
        etag = None if held is None else held.etag
        found = _run(download(asset, process.leases(), known_etag=etag, limit=_LIMIT))
        if found is None:
            assert held is not None  # noqa: S101 - only a known file is not sent again
            return held.content
        if self._cache is not None:
            self._cache.put(asset, found)
        return found.content

    @property
    def policy(self) -> UrlPolicy:
        """What may be read."""
        return self._policy

    def start(self, asset: Asset, nbytes: int) -> Start:
        """Return the first bytes of a file (at most `nbytes`), its size and its ETag."""
        return _run(peek(asset, process.leases(), nbytes))

    def read_at(self, asset: Asset, size: int) -> RemoteBytes:
        """Return a file of known size as a `ReadAt`."""
        return RemoteBytes(asset, size)

    def beside(self, folder: RemoteFolder, name: str) -> bytes | None:
        """Return the content of a file below a folder; None if there is none."""
        asset = self._policy.target(Source(name), folder).asset
        if isinstance(asset, LocalFile):
            raise UrlRefused(f"{name} is a local path where one below a URL was due.", reason="it is a local path")
        try:
            return self.content(asset)
        except AssetNotFound:
            return None


class RemoteBytes:
    """A remote file as a `ReadAt`.

    Parameters
    ----------
    asset
        The file.
    size
        Bytes that it has.
    """

    def __init__(self, asset: Asset, size: int) -> None:
        self._target = Target(asset, size=size)
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`."""
        return self.read_many([ByteRange(offset, length)])[0]

    def read_many(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the bytes of some ranges, read at once; those that lie near each other by one request."""
        parts: dict[int, bytes] = {}

        def keep(at: NDArray[np.intp], views: list[memoryview]) -> None:
            parts.update(zip(at.tolist(), map(bytes, views), strict=True))

        wanted = Locations(
            np.zeros(len(ranges), np.uint32),
            np.array([one.offset for one in ranges], np.uint64),
            np.array([one.length for one in ranges], np.uint32),
        )
        _run(process.reader(_CONCURRENCY).fetch({0: self._target}, wanted, keep))
        return [parts[i] for i in range(len(ranges))]


def _run(work: Coroutine[Any, Any, T]) -> T:
    return process.io_loop().submit(work).result()
