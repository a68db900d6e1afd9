"""What a process has once: the loop that reads run on, its leases, its readers. Made when first used."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from lindi_dask.archive import LeaseCache, Resolver
from lindi_dask.transport import Counters, IoLoop, RangeCache, RangeReader, Traffic

if TYPE_CHECKING:
    from lindi_dask.types import DiskCache

__all__ = ["counters", "io_loop", "leases", "moment_s", "reader"]

_lock: Final = threading.Lock()
_io_loop: Final = IoLoop()
_traffic: Final = Traffic()
_readers: Final[dict[tuple[int, DiskCache | None], RangeReader]] = {}
_range_caches: Final[dict[DiskCache, RangeCache]] = {}
_leases: LeaseCache | None = None


def io_loop() -> IoLoop:
    """Return the loop that all reads of this process run on."""
    return _io_loop


def leases() -> LeaseCache:
    """Return this process's leases."""
    global _leases  # noqa: PLW0603 - once a process is what this module is for
    with _lock:
        if _leases is None:
            _leases = LeaseCache(Resolver())
        return _leases


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
