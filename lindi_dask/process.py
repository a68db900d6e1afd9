"""What a process has once: the loop that reads run on, its leases, its readers, its retry budget. Made when first used.

A process of a cluster's worker has a link to that cluster besides, where `distribute` was called.
"""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING, Final, Protocol

from lindi_dask.archive import LeaseCache, PlainUrls, Resolver
from lindi_dask.decode import SharedChunks
from lindi_dask.retry import RetryBudget
from lindi_dask.transport import Counters, IoLoop, RangeCache, RangeReader, Traffic

if TYPE_CHECKING:
    from lindi_dask.archive import LeaseSource
    from lindi_dask.refs import References
    from lindi_dask.transport import Sizes
    from lindi_dask.types import Asset, DiskCache, Lease

__all__ = [
    "BROKER",
    "ClusterLink",
    "CountedSource",
    "archives",
    "block_loop",
    "cluster_link",
    "counters",
    "io_loop",
    "join_cluster",
    "leases",
    "leave_cluster",
    "moment_s",
    "reader",
    "request_sizes",
    "shared_chunks",
]

BROKER: Final = "lindi-dask-broker"
"""the scheduler's plugin that a `ClusterLink` leads to"""

_SHARED: Final = 128 * 2**20  # bytes of unpacked chunks that blocks cut


class ClusterLink(Protocol):
    """What a process of a cluster's workers gets from the cluster. Its methods block."""

    def exchange(self, asset: Asset, refused: Lease | None, own: LeaseSource) -> Lease:
        """Return a lease from the cluster's broker; from `own` if there is no broker any more."""
        ...

    def references(self, fingerprint: str) -> References:
        """Return references that another process of the cluster has, or raise `RefsUnreachable` with the reason."""
        ...


_lock: Final = threading.Lock()
_links: Final[list[ClusterLink]] = []
_io_loop: Final = IoLoop()
_block_loop: Final = IoLoop("lindi-blocks")
_shared_chunks: Final = SharedChunks(_SHARED)
_budget: Final = RetryBudget()
_traffic: Final = Traffic(when_quiet=_shared_chunks.clear, budget=_budget)
_readers: Final[dict[tuple[int, DiskCache | None], RangeReader]] = {}
_range_caches: Final[dict[DiskCache, RangeCache]] = {}
_leases: LeaseCache | None = None
_resolver: Resolver | None = None
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
    resolver = archives()
    with _lock:
        if _leases is None:
            _leases = LeaseCache(_Source(resolver), plain=PlainUrls(budget=_budget))
        return _leases


def archives() -> Resolver:
    """Return what asks archives for this process, with the key that is found here, whatever broker a cluster has."""
    global _resolver  # noqa: PLW0603 - likewise
    with _lock:
        _resolver = _resolver or Resolver(budget=_budget)
        return _resolver


def join_cluster(link: ClusterLink) -> None:
    """Get leases, and references that can't be found here, by `link` from now on."""
    with _lock:
        _links.append(link)


def leave_cluster(link: ClusterLink) -> None:
    """Undo `join_cluster`: the workers of one process each have a link, and the last that is left serves all."""
    with _lock:
        if link in _links:
            _links.remove(link)


def cluster_link() -> ClusterLink | None:
    """Return the link to the cluster that this process is a worker of, if it has one."""
    with _lock:
        return _links[-1] if _links else None


def shared_chunks() -> SharedChunks:
    """Return the chunks that several blocks have a part of; forgotten when nothing was read for a while."""
    return _shared_chunks


def counters() -> Counters:
    """Return what this process has read, in numbers that grow."""
    return _traffic.counters


def moment_s() -> float:
    """Return for how long a read may wait for others to go with it, in seconds: a request's latency."""
    return _traffic.link.latency_s


def request_sizes() -> Sizes:
    """Return how requests would be cut now."""
    return _traffic.link.sizes()


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


class _Source:
    """Whatever grants leases to this process, looked up at each exchange: the cluster's broker, or the archive itself.

    Exchanges at the archive are counted. Thread-safe.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._own = CountedSource(resolver, _traffic.counters)

    def exchange(self, asset: Asset, refused: Lease | None = None) -> Lease:
        link = cluster_link()
        return self._own.exchange(asset) if link is None else link.exchange(asset, refused, self._own)


class CountedSource:
    """A source of leases, its exchanges counted. Thread-safe."""

    def __init__(self, source: LeaseSource, counters: Counters) -> None:
        self._source = source
        self._counters = counters
        self._had: set[Asset] = set()

    def exchange(self, asset: Asset, refused: Lease | None = None) -> Lease:
        """Return a new lease, and count it."""
        lease = self._source.exchange(asset, refused)
        self._counters.add(exchanges=1, renewals=int(asset in self._had))
        self._had.add(asset)
        return lease
