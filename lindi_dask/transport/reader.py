"""Reads ranges of assets: leases, limits and retries around obstore's requests."""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import obstore
from obstore.store import HTTPStore

from lindi_dask.archive import LeaseCache, settle
from lindi_dask.errors import PermissionDenied, SourceMismatch, StorageUnavailable
from lindi_dask.retry import READ, RetryPolicy
from lindi_dask.transport.outcomes import OBSTORE_ERRORS, Refusal, read_failure
from lindi_dask.transport.plan import PlannedRange, plan_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from obstore.store import ClientConfig

    from lindi_dask.refs import Locations
    from lindi_dask.types import Asset, Lease

    Deliver = Callable[[NDArray[np.intp], list[memoryview]], None]

__all__ = ["RangeReader"]

_MAX_GAP = 128 * 1024  # bytes: about what a request's latency costs on a link of a laboratory
_MAX_SIZE = 8 * 1024 * 1024  # bytes of a coalesced request
_STORES = 64  # connection pools kept, one a lease
_RENEWALS_AT_ONCE = 3  # expired leases in a row before the retry policy's waits come in
_CONNECT_TIMEOUT, _SILENCE_TIMEOUT, _REQUEST_TIMEOUT = "5s", "30s", "300s"


class RangeReader:
    """Reads byte ranges of assets, all on one event loop. Does not pickle.

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
        self._leases = leases
        self._retry = retry
        self._slots = asyncio.Semaphore(concurrency)
        self._stores: OrderedDict[str, HTTPStore] = OrderedDict()
        self._decoders = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="lindi-decode")

    async def fetch(self, assets: Mapping[int, Asset], locations: Locations, deliver: Deliver) -> None:
        """Read all locations, and hand their bytes over as they arrive.

        Parameters
        ----------
        assets
            By source.
        locations
            All with a source that is an asset.
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
        await _all(self._fetch_range(assets[planned.source], planned, locations, deliver) for planned in ranges)

    async def _fetch_range(self, asset: Asset, planned: PlannedRange, locations: Locations, deliver: Deliver) -> None:
        data = await self._read(asset, planned.start, planned.stop)
        starts = locations.offsets[planned.members].astype("int64") - planned.start
        stops = starts + locations.lengths[planned.members]
        views = [data[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
        await asyncio.get_running_loop().run_in_executor(self._decoders, deliver, planned.members, views)

    async def _read(self, asset: Asset, start: int, stop: int) -> memoryview:
        if start == stop:
            return memoryview(b"")
        async for attempt in self._retry.asynchronous():
            with attempt:
                return await self._read_once(asset, start, stop)
        raise AssertionError("the retry policy ended without an outcome")

    async def _read_once(self, asset: Asset, start: int, stop: int) -> memoryview:
        """One attempt, with leases renewed as often as that alone may help."""
        lease = settle(await asyncio.wrap_future(self._leases.request(asset)))
        denied = False
        for _ in range(_RENEWALS_AT_ONCE + 1):
            sent_at = time.monotonic()
            outcome = await self._request(asset, lease, start, stop)
            if not isinstance(outcome, Refusal):
                return outcome
            alive = not outcome.expired and sent_at < lease.expires_at
            if asset.instance is None or (alive and denied):
                raise PermissionDenied(
                    f"{asset}: the storage host denies this file ({outcome.code}), with a fresh URL too.",
                    asset=str(asset),
                )
            denied = denied or alive
            lease = settle(await asyncio.wrap_future(self._leases.renew(asset, lease)))
        raise StorageUnavailable(f"{asset}: presigned URLs expire before they can be used. Is this machine very slow?")

    async def _request(self, asset: Asset, lease: Lease, start: int, stop: int) -> memoryview | Refusal:
        failure = None
        async with self._slots:
            try:
                data = memoryview(await obstore.get_range_async(self._store(lease), "", start=start, end=stop))
            except OBSTORE_ERRORS as error:
                # obstore's errors hold the presigned URL: ours is raised outside this block
                failure = read_failure(error, asset, start, stop)
        if isinstance(failure, Refusal):
            return failure
        if failure is not None:
            raise failure
        if len(data) == stop - start:
            return data
        # Where the range reaches behind the end of the file, S3 sends what there is; any other number is a fault
        size = await self._size(lease, start)
        if size is not None and size < stop:
            raise SourceMismatch(
                f"{asset}: the file ends at byte {size}, but the references place data up to byte {stop}. They belong "
                "to another version of the file: make them anew."
            )
        raise StorageUnavailable(
            f"{asset}: the storage host sent {len(data)} bytes where {stop - start} were asked for."
        )

    async def _size(self, lease: Lease, start: int) -> int | None:
        """Return how long the file is, or None if the host does not say so now."""
        try:
            async with self._slots:
                found = await obstore.get_async(self._store(lease), "", options={"range": (start, start + 1)})
            return int(found.meta["size"])
        except OBSTORE_ERRORS:
            return None

    def _store(self, lease: Lease) -> HTTPStore:
        store = self._stores.get(lease.url)
        if store is None:
            # Plain http only to loopback or where the user allowed it: see UrlPolicy and read_answer
            options: ClientConfig = {
                "allow_http": lease.url.startswith("http://"),
                "connect_timeout": _CONNECT_TIMEOUT,
                "read_timeout": _SILENCE_TIMEOUT,
                "timeout": _REQUEST_TIMEOUT,
                "user_agent": "lindi-dask",
            }
            store = HTTPStore.from_url(lease.url, client_options=options, retry_config={"max_retries": 0})
            self._stores[lease.url] = store
            if len(self._stores) > _STORES:
                self._stores.popitem(last=False)
        self._stores.move_to_end(lease.url)
        return store


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
