"""What a process has once: the loop that reads run on, its leases, its readers. Made when first used."""

from __future__ import annotations

import threading
from typing import Final

from lindi_dask.archive import LeaseCache, Resolver
from lindi_dask.transport import Counters, IoLoop, RangeReader, Traffic

__all__ = ["counters", "io_loop", "leases", "moment_s", "reader"]

_lock: Final = threading.Lock()
_io_loop: Final = IoLoop()
_traffic: Final = Traffic()
_readers: Final[dict[int, RangeReader]] = {}
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


def reader(concurrency: int) -> RangeReader:
    """Return this process's reader with at most that many requests at a time.

    All readers share one cache of leases, and what limits the requests and the memory of the process.
    """
    shared = leases()
    with _lock:
        if concurrency not in _readers:
            _readers[concurrency] = RangeReader(shared, concurrency=concurrency, traffic=_traffic)
        return _readers[concurrency]
