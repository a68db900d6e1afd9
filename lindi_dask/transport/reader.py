"""Reads ranges of sources: of assets on leases, of local files by pread."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import obstore
from obstore.exceptions import BaseError

from lindi_dask.errors import LindiError, StorageUnavailable
from lindi_dask.refs.manifest import WHOLE
from lindi_dask.retry import READ, RetryPolicy
from lindi_dask.transport.etags import if_match
from lindi_dask.transport.leased import LeasedStores
from lindi_dask.transport.local import LocalFiles
from lindi_dask.transport.outcomes import contradiction, status_of
from lindi_dask.transport.plan import PlannedRange, plan_ranges, split
from lindi_dask.transport.shares import Turn
from lindi_dask.transport.traffic import Traffic
from lindi_dask.types import LocalFile

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from numpy.typing import NDArray
    from obstore import GetOptions
    from obstore.store import HTTPStore

    from lindi_dask.archive import LeaseCache
    from lindi_dask.refs import Locations
    from lindi_dask.types import Asset, Target

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
    """

    def __init__(
        self, leases: LeaseCache, *, concurrency: int, traffic: Traffic | None = None, retry: RetryPolicy = READ
    ) -> None:
        self._traffic = Traffic() if traffic is None else traffic
        self._stores = LeasedStores(leases, concurrency=concurrency, traffic=self._traffic, retry=retry)
        self._files = LocalFiles()

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
        ranges = plan_ranges(locations, max_gap=sizes.max_gap, size=sizes.size)
        reading = _Reading(targets, locations, deliver, failed, Turn(), sizes.size)
        counters, started = self._traffic.counters, self._traffic.clock()
        sized = locations.lengths[locations.lengths != WHOLE]
        counters.add(chunks=len(locations), ranges=len(ranges), bytes_wanted=int(sized.sum(dtype=np.int64)))
        with self._traffic.jobs.reading():
            try:
                await _all(self._fetch_range(planned, reading) for planned in ranges)
            finally:
                counters.add(wait_s=self._traffic.clock() - started)

    async def _fetch_range(self, planned: PlannedRange, reading: _Reading) -> None:
        failure = None
        try:
            await self._fetch_and_deliver(planned, reading)
        except LindiError as error:
            if reading.failed is None:
                raise
            failure = error.fresh()
        if failure is not None and reading.failed is not None:
            reading.failed(planned.members, failure)

    async def _fetch_and_deliver(self, planned: PlannedRange, reading: _Reading) -> None:
        target, turn, memory = reading.targets[planned.source], reading.turn, self._traffic.memory
        stop = target.size if planned.stop is None else planned.stop
        nbytes = reading.size if stop is None else max(stop - planned.start, 0)
        await memory.take(nbytes, turn.key(nbytes))
        try:
            data = await self._read(target, planned, reading)
            views = planned.cut(reading.locations, data)
            self._traffic.counters.add(bytes_fetched=len(data))
            jobs = [partial(self._deliver, reading.deliver, *batch) for batch in _batches(planned.members, views)]
            await self._traffic.decoders.run(jobs, turn.key())
        finally:
            memory.give(nbytes)

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
            return await asyncio.get_running_loop().run_in_executor(self._traffic.files, local)
        if stop is None or len(planned.members) > 1 or stop - start <= reading.size:
            return await self._read_part(asset, target, start, stop, reading.turn)
        whole = np.empty(stop - start, np.uint8)

        async def part(first: int, last: int) -> None:
            data = await self._read_part(asset, target, first, last, reading.turn)
            whole[first - start : last - start] = np.frombuffer(data, np.uint8)

        await _all(part(first, last) for first, last in split(start, stop, reading.size))
        return whole.data.toreadonly()

    async def _read_part(self, asset: Asset, target: Target, start: int, stop: int | None, turn: Turn) -> memoryview:
        request = partial(_request, target=target, start=start, stop=stop)
        return await self._stores.run(asset, request, start=start, stop=stop, turn=turn)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One call of `fetch`."""

    targets: Mapping[int, Target]
    locations: Locations
    deliver: Deliver
    failed: Failed | None
    turn: Turn
    size: int
    """bytes of a request"""


def _batches(members: NDArray[np.intp], views: list[memoryview]) -> list[tuple[NDArray[np.intp], list[memoryview]]]:
    """Share out a range's chunks so that all threads have work, also those of the last range."""
    ends = np.cumsum([len(view) for view in views])
    edges = [0, *(np.flatnonzero(np.diff(ends // _BATCH)) + 1).tolist(), len(views)]
    return [(members[first:last], views[first:last]) for first, last in pairwise(edges)]


async def _request(store: HTTPStore, *, target: Target, start: int, stop: int | None) -> memoryview:
    """One request. Raises what obstore does, `SourceMismatch`, and `StorageUnavailable` for another attempt."""
    if stop is not None and target.etag is None and target.size is None:
        # Nothing is claimed but that the bytes are there: this call is the faster one, and says nothing else
        data = memoryview(await obstore.get_range_async(store, "", start=start, end=stop))
        if len(data) == stop - start:
            return data
        # Where the range reaches behind the end of the file, S3 sends what there is; any other number is a fault
    options: GetOptions = {"range": {"offset": start} if stop is None else (start, stop)}
    tag = if_match(target.etag)
    if tag is not None:
        options["if_match"] = tag
    try:
        answer = await obstore.get_async(store, "", options=options)
        size, etag = answer.meta["size"], answer.meta["e_tag"]
    except BaseError as error:
        if start > 0 or stop is not None or status_of(error) != 416:
            raise
        answer, size, etag = None, 0, None  # of a file without a byte there is no range
    wrong = contradiction(target, size, etag, start, stop)
    if wrong is not None:
        raise wrong
    data = memoryview(b"" if answer is None else await answer.bytes_async())
    wanted = (size if stop is None else stop) - start
    if len(data) != wanted:
        raise StorageUnavailable(
            f"{target.asset}: the storage host sent {len(data)} bytes where {wanted} were asked for."
        )
    return data


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
