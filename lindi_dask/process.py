"""What a process has once: the loop that reads run on, its leases, its readers. Made when first used."""

from __future__ import annotations

import threading
from typing import Final

from lindi_dask.archive import LeaseCache, Resolver
from lindi_dask.transport import IoLoop, RangeReader

__all__ = ["io_loop", "leases", "reader"]

_lock: Final = threading.Lock()
_io_loop: Final = IoLoop()
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


def reader(concurrency: int) -> RangeReader:
    """Return this process's reader with that many requests at a time; all readers share one cache of leases."""
    shared = leases()
    with _lock:
        if concurrency not in _readers:
            _readers[concurrency] = RangeReader(shared, concurrency=concurrency)
        return _readers[concurrency]
