"""What a process has once: the loop that reads run on, its leases, its readers. Made when first used."""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING, Final

from lindi_dask.archive import LeaseCache, Resolver
from lindi_dask.decode import SharedChunks
from lindi_dask.transport import Counters, IoLoop, RangeCache, RangeReader, Traffic

if TYPE_CHECKING:
    from lindi_dask.types import Asset, DiskCache, Lease

__all__ = ["block_loop", "counters", "io_loop", "leases", "moment_s", "reader", "shared_chunks"]

_SHARED: Final = 128 * 2**20  # bytes of unpacked chunks that blocks cut

_lock: Final = threading.Lock()
_io_loop: Final = IoLoop()
_block_loop: Final = IoLoop("lindi-blocks")
_shared_chunks: Final = SharedChunks(_SHARED)
_traffic: Final = Traffic(when_quiet=_shared_chunks.clear)
_readers: Final[dict[tuple[int, DiskCache | None], RangeReader]] = {}
_range_caches: Final[dict[DiskCache, RangeCache]] = {}
_leases: LeaseCache | None = None
atexit.register(_traffic.jobs.say)


def io_loop() -> IoLoop:
    """Return the loop that all reads of this process run on."""
    return _io_loop


def block_loop() -> IoLoop:
    """Return the loop on which blocks are taken apart into chunks: beside the reads, which that would hold up."""
    return _block_loop


def leases() -> LeaseCache:
    """Return this process's leases."""
    global _leases  # noqa: PLW0603 - once a process is what this module is for
    with _lock:
        if _leases is None:
            _leases = LeaseCache(_Counted(Resolver()))
        return _leases


def shared_chunks() -> SharedChunks:
    """Return the chunks that several blocks have a part of; forgotten when nothing was read for a while."""
    return _shared_chunks


def counters() -> Counters:
    """Return what this process has read, in numbers that grow."""
    return _traffic.counters


def moment_s() -> float:
    """Return for how long a read may wait for others to go with it, in seconds: a request's latency."""
    return _traffic.link.latency_s


def reader(concurrency: int, cache: DiskCache | None = None) -> RangeReader:
    """Return this process's reader with at most that many requests at a time, and that disk cache, if any.

    All readers share one cache of leases, and what limits the requests and the memory of the process.
    """
    shared = leases()
    with _lock:
        if (concurrency, cache) not in _readers:
            kept = None
            if cache is not None:
                kept = _range_caches[cache] = _range_caches.get(cache) or RangeCache(cache)
            _readers[concurrency, cache] = RangeReader(shared, concurrency=concurrency, traffic=_traffic, cache=kept)
        return _readers[concurrency, cache]


class _Counted:
    """The resolver, its exchanges counted. Thread-safe."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._had: set[Asset] = set()

    def exchange(self, asset: Asset) -> Lease:
        lease = self._resolver.exchange(asset)
        _traffic.counters.add(exchanges=1, renewals=int(asset in self._had))
        self._had.add(asset)
        return lease
