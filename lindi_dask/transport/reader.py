"""Reads ranges of sources: of assets on leases, or out of the disk cache; of local files by pread."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lindi_dask.errors import LindiError
from lindi_dask.refs.manifest import WHOLE
from lindi_dask.retry import READ, RetryPolicy
from lindi_dask.transport.disk_cache import NONE, nbytes_of, plan_hits, read_hits
from lindi_dask.transport.leased import LeasedStores
from lindi_dask.transport.local import LocalFiles
from lindi_dask.transport.plan import PlannedRange, plan_ranges, split
from lindi_dask.transport.request import get_range
from lindi_dask.transport.shares import Turn
from lindi_dask.transport.traffic import Traffic
from lindi_dask.types import LocalFile

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from numpy.typing import NDArray

    from lindi_dask.archive import LeaseCache
    from lindi_dask.refs import Locations
    from lindi_dask.transport.adaptive import Sizes
    from lindi_dask.transport.disk_cache import Hit, RangeCache
    from lindi_dask.types import Asset, Target

    T = TypeVar("T")
    Deliver = Callable[[NDArray[np.intp], list[memoryview]], None]
    Failed = Callable[[NDArray[np.intp], LindiError], None]

__all__ = ["RangeReader"]

_BATCH = 2**20  # bytes that one thread decodes at a time


class RangeReader:
    """Reads byte ranges of assets and local files, all on one event loop. Does not pickle.

    Parameters
    ----------
    leases
        Of this process.
    concurrency
        Requests at a time, at most.
    traffic
        Shared by all that read in this process; None: an own one.
    retry
        Bounds of the retries of one range.
    cache
        Where ranges are kept for the next time; None: nowhere.
    """

    def __init__(
        self,
        leases: LeaseCache,
        *,
        concurrency: int,
        traffic: Traffic | None = None,
        retry: RetryPolicy = READ,
        cache: RangeCache | None = None,
    ) -> None:
        self._traffic = Traffic() if traffic is None else traffic
        self._stores = LeasedStores(leases, concurrency=concurrency, traffic=self._traffic, retry=retry)
        self._files = LocalFiles()
        self._cache = cache
        self._unconfirmed: set[Target] = set()  # whose hosts did not say which state of the file they sent

    async def fetch(
        self, targets: Mapping[int, Target], locations: Locations, deliver: Deliver, *, failed: Failed | None = None
    ) -> None:
        """Read all locations, and hand their bytes over as they arrive.

        Parameters
        ----------
        targets
            By source.
        locations
            All with a source that has a target. A length of `WHOLE` is up to the end of the source.
        deliver
            Called with (indices into the locations, their bytes in the same order), in threads, several at a
            time; each location exactly once. The bytes are read-only and live as long as they are held.
        failed
            Called with (indices into the locations, why they can't be read), on this loop; the others are then read
            on. None: the first error ends all.

        Raises
        ------
        LindiError
            Of the first range that failed for good, or whatever `deliver` raised; the other ranges are then given up.
        """
        sizes = self._traffic.link.sizes()
        reading = _Reading(targets, locations, deliver, failed, Turn(), sizes)
        counters, started = self._traffic.counters, self._traffic.clock()
        sized = locations.lengths[locations.lengths != WHOLE]
        counters.add(chunks=len(locations), bytes_wanted=int(sized.sum(dtype=np.int64)))
        with self._traffic.jobs.reading():
            try:
                if self._cache is None:
                    await _all(self._fetch_ranges(reading, self._planned(reading)))
                else:
                    await self._fetch_beside(self._cache, reading)
            finally:
                counters.add(wait_s=self._traffic.clock() - started)

    async def _fetch_beside(self, cache: RangeCache, reading: _Reading) -> None:
        """Fetch what the cache has not, and read out of it what it has."""
        found = await self._in_thread(partial(cache.find, reading.targets, reading.locations))
        batches = plan_hits(found, reading.locations)
        missing = self._planned(reading, np.flatnonzero(found.at == NONE) if batches else None)
        hits = [self._or_failed(partial(self._read_hits, cache, batch), _members(batch), reading) for batch in batches]
        await _all([*self._fetch_ranges(reading, missing), *hits])

    def _planned(self, reading: _Reading, at: NDArray[np.intp] | None = None) -> list[PlannedRange]:
        """Plan how to fetch all locations, or those at some places."""
        sizes, locations = reading.sizes, reading.locations if at is None else reading.locations[at]
        ranges = plan_ranges(locations, max_gap=sizes.max_gap, size=sizes.size)
        return ranges if at is None else [replace(one, members=at[one.members]) for one in ranges]

    def _fetch_ranges(self, reading: _Reading, ranges: list[PlannedRange]) -> list[Coroutine[Any, Any, None]]:
        self._traffic.counters.add(ranges=len(ranges))
        return [self._or_failed(partial(self._fetch_and_deliver, one), one.members, reading) for one in ranges]

    async def _or_failed(
        self, work: Callable[[_Reading], Coroutine[Any, Any, None]], members: NDArray[np.intp], reading: _Reading
    ) -> None:
        """Do some of a reading's work; an error of it is all of the reading's, unless there is somebody to be told."""
        failure = None
        try:
            await work(reading)
        except LindiError as error:
            if reading.failed is None:
                raise
            failure = error.fresh()
        if failure is not None and reading.failed is not None:
            reading.failed(members, failure)

    async def _fetch_and_deliver(self, planned: PlannedRange, reading: _Reading) -> None:
        target, turn, memory = reading.targets[planned.source], reading.turn, self._traffic.memory
        stop = target.size if planned.stop is None else planned.stop
        nbytes = reading.sizes.size if stop is None else max(stop - planned.start, 0)
        await memory.take(nbytes, turn.key(nbytes))
        try:
            data = await self._read(target, planned, reading)
            views = planned.cut(reading.locations, data)
            self._traffic.counters.add(bytes_fetched=len(data))
            await self._decode(planned.members, views, reading)
            if self._cache is not None and planned.stop is not None:
                await self._keep(self._cache, target, planned.start, data)
        finally:
            memory.give(nbytes)

    async def _keep(self, cache: RangeCache, target: Target, start: int, data: memoryview) -> None:
        """Put a range into the cache: after its chunks were decoded, so that it has none that can't be."""
        if not isinstance(target.asset, LocalFile) and target not in self._unconfirmed:
            await self._in_thread(partial(cache.put, target, start, data))

    async def _read_hits(self, cache: RangeCache, batch: list[Hit], reading: _Reading) -> None:
        lost = await self._deliver_hits(cache, batch, reading)
        await _all(self._fetch_ranges(reading, lost))

    async def _deliver_hits(self, cache: RangeCache, batch: list[Hit], reading: _Reading) -> list[PlannedRange]:
        """Read hits and hand them over; return what has to be fetched after all."""
        memory, turn, nbytes = self._traffic.memory, reading.turn, nbytes_of(batch)
        await memory.take(nbytes, turn.key(nbytes))
        try:
            read = await self._in_thread(partial(read_hits, cache.read, batch))
            sound = [(hit, data) for hit, data in zip(batch, read, strict=True) if data is not None]
            views = [view for hit, data in sound for view in hit.planned.cut(reading.locations, data)]
            if sound:
                try:
                    await self._decode(_members([hit for hit, _ in sound]), views, reading)
                except Exception:
                    # The next attempt is to ask the source itself
                    await self._in_thread(partial(cache.drop, [hit.held for hit, _ in sound]))
                    raise
            self._traffic.counters.add(cache_hits=len(views), bytes_cached=sum(map(len, views)))
            return [hit.planned for hit, data in zip(batch, read, strict=True) if data is None]
        finally:
            memory.give(nbytes)

    async def _decode(self, members: NDArray[np.intp], views: list[memoryview], reading: _Reading) -> None:
        jobs = [partial(self._deliver, reading.deliver, *batch) for batch in _batches(members, views)]
        await self._traffic.decoders.run(jobs, reading.turn.key())

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._traffic.files, work)

    def _deliver(self, deliver: Deliver, members: NDArray[np.intp], views: list[memoryview]) -> None:
        started = self._traffic.clock()
        try:
            deliver(members, views)
        finally:
            self._traffic.counters.add(decode_s=self._traffic.clock() - started)

    async def _read(self, target: Target, planned: PlannedRange, reading: _Reading) -> memoryview:
        start, stop = planned.start, planned.stop
        if start == stop:
            return memoryview(b"")
        asset = target.asset
        if isinstance(asset, LocalFile):
            local = partial(self._files.read, asset, start, stop, size=target.size)
            return await self._in_thread(local)
        if stop is None or len(planned.members) > 1 or stop - start <= reading.sizes.size:
            return await self._read_part(asset, target, start, stop, reading.turn)
        whole = np.empty(stop - start, np.uint8)

        async def part(first: int, last: int) -> None:
            data = await self._read_part(asset, target, first, last, reading.turn)
            whole[first - start : last - start] = np.frombuffer(data, np.uint8)

        await _all(part(first, last) for first, last in split(start, stop, reading.sizes.size))
        return whole.data.toreadonly()

    async def _read_part(self, asset: Asset, target: Target, start: int, stop: int | None, turn: Turn) -> memoryview:
        request = partial(get_range, target=target, start=start, stop=stop, unconfirmed=self._unconfirmed)
        return await self._stores.run(asset, request, start=start, stop=stop, turn=turn)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One call of `fetch`."""

    targets: Mapping[int, Target]
    locations: Locations
    deliver: Deliver
    failed: Failed | None
    turn: Turn
    sizes: Sizes


def _members(batch: list[Hit]) -> NDArray[np.intp]:
    return np.concatenate([hit.planned.members for hit in batch])


def _batches(members: NDArray[np.intp], views: list[memoryview]) -> list[tuple[NDArray[np.intp], list[memoryview]]]:
    """Share out a range's chunks so that all threads have work, also those of the last range."""
    ends = np.cumsum([len(view) for view in views])
    edges = [0, *(np.flatnonzero(np.diff(ends // _BATCH)) + 1).tolist(), len(views)]
    return [(members[first:last], views[first:last]) for first, last in pairwise(edges)]


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all; at the first failure (or when cancelled itself) cancel the rest, wait for their end, and raise it."""
    tasks = [asyncio.ensure_future(one) for one in work]
    if not tasks:
        return
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
