"""Reads ranges of sources: of assets on leases, of local files by pread."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError

from lindi_dask.errors import StorageUnavailable
from lindi_dask.retry import READ, RetryPolicy
from lindi_dask.transport.etags import if_match
from lindi_dask.transport.leased import LeasedStores
from lindi_dask.transport.local import LocalFiles
from lindi_dask.transport.outcomes import contradiction, status_of
from lindi_dask.transport.plan import PlannedRange, plan_ranges
from lindi_dask.types import LocalFile

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from obstore import GetOptions
    from obstore.store import HTTPStore

    from lindi_dask.archive import LeaseCache
    from lindi_dask.refs import Locations
    from lindi_dask.types import Target

    Deliver = Callable[[NDArray[np.intp], list[memoryview]], None]

__all__ = ["RangeReader"]

_MAX_GAP = 128 * 1024  # bytes: about what a request's latency costs on a link of a laboratory
_MAX_SIZE = 8 * 1024 * 1024  # bytes of a coalesced request
_FILE_THREADS = 8  # local files may lie on a network's file system, and wait for it


class RangeReader:
    """Reads byte ranges of assets and local files, all on one event loop. Does not pickle.

    Parameters
    ----------
    leases
        Of this process.
    concurrency
        Requests at a time, at most.
    retry
        Bounds of the retries of one range.
    """

    def __init__(self, leases: LeaseCache, *, concurrency: int, retry: RetryPolicy = READ) -> None:
        self._stores = LeasedStores(leases, concurrency=concurrency, retry=retry)
        self._files = LocalFiles()
        self._file_threads = ThreadPoolExecutor(max_workers=_FILE_THREADS, thread_name_prefix="lindi-file")
        self._decoders = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="lindi-decode")

    async def fetch(self, targets: Mapping[int, Target], locations: Locations, deliver: Deliver) -> None:
        """Read all locations, and hand their bytes over as they arrive.

        Parameters
        ----------
        targets
            By source.
        locations
            All with a source that has a target. A length of `WHOLE` is up to the end of the source.
        deliver
            Called with (indices into the locations, their bytes in the same order), in threads, several at a
            time; each location exactly
            once. The bytes are read-only and live as long as they are held.

        Raises
        ------
        LindiError
            Of the first range that failed for good, or whatever `deliver` raised; the other ranges are then given up.
        """
        ranges = plan_ranges(locations, max_gap=_MAX_GAP, max_size=_MAX_SIZE)
        await _all(self._fetch_range(targets[planned.source], planned, locations, deliver) for planned in ranges)

    async def _fetch_range(self, target: Target, planned: PlannedRange, locations: Locations, deliver: Deliver) -> None:
        data = await self._read(target, planned.start, planned.stop)
        views = planned.cut(locations, data)
        await asyncio.get_running_loop().run_in_executor(self._decoders, deliver, planned.members, views)

    async def _read(self, target: Target, start: int, stop: int | None) -> memoryview:
        if start == stop:
            return memoryview(b"")
        asset = target.asset
        if isinstance(asset, LocalFile):
            reading = partial(self._files.read, asset, start, stop, size=target.size)
            return await asyncio.get_running_loop().run_in_executor(self._file_threads, reading)
        request = partial(_request, target=target, start=start, stop=stop)
        return await self._stores.run(asset, request, start=start, stop=stop)


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
