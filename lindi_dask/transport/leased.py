"""Requests to storage hosts on leases: limits, renewals and retries around obstore."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeVar

from obstore.store import HTTPStore

from lindi_dask.archive import LeaseCache, settle
from lindi_dask.errors import PermissionDenied, StorageUnavailable
from lindi_dask.retry import READ, RetryPolicy
from lindi_dask.transport.outcomes import OBSTORE_ERRORS, Refusal, read_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from obstore.store import ClientConfig

    from lindi_dask.types import Asset, Lease

__all__ = ["LeasedStores"]

_STORES = 64  # connection pools kept, one a lease
_RENEWALS_AT_ONCE = 3  # expired leases in a row before the retry policy's waits come in
_CONNECT_TIMEOUT, _SILENCE_TIMEOUT = "5s", "30s"

T = TypeVar("T")


class LeasedStores:
    """obstore's stores, one a lease, and requests through them. Used on one event loop; does not pickle.

    Parameters
    ----------
    leases
        Of this process.
    concurrency
        Requests at a time, at most.
    retry
        Bounds of the retries of one request.
    timeout_s
        Seconds that one request may take, its body included.
    """

    def __init__(
        self, leases: LeaseCache, *, concurrency: int, retry: RetryPolicy = READ, timeout_s: int = 300
    ) -> None:
        self._leases = leases
        self._retry = retry
        self._timeout = f"{timeout_s}s"
        self._slots = asyncio.Semaphore(concurrency)
        self._stores: OrderedDict[str, HTTPStore] = OrderedDict()

    async def run(
        self, asset: Asset, request: Callable[[HTTPStore], Awaitable[T]], *, start: int = 0, stop: int | None = None
    ) -> T:
        """Do a request on a living lease, as often as it takes.

        Parameters
        ----------
        asset
            What to read.
        request
            Called with a store whose path `""` is the asset, once an attempt; may raise obstore's errors, and
            `StorageUnavailable` for another attempt.
        start, stop
            Bytes that it reads (None: the last), for messages.

        Raises
        ------
        LindiError
            That is final, or what `request` raised of that kind.
        """

        async def send(lease: Lease) -> T | Refusal:
            failure = None
            async with self._slots:
                try:
                    return await request(self._store(lease))
                except OBSTORE_ERRORS as error:
                    # obstore's errors hold the presigned URL: ours is raised outside this block
                    failure = read_failure(error, asset, start, stop)
            if isinstance(failure, Refusal):
                return failure
            raise failure

        async for attempt in self._retry.asynchronous():
            with attempt:
                return await self._renewing(asset, send)
        raise AssertionError("the retry policy ended without an outcome")

    async def _renewing(self, asset: Asset, send: Callable[[Lease], Awaitable[T | Refusal]]) -> T:
        """One attempt, with leases renewed as often as that alone may help."""
        lease = settle(await asyncio.wrap_future(self._leases.request(asset)))
        denied = False
        for _ in range(_RENEWALS_AT_ONCE + 1):
            sent_at = time.monotonic()
            outcome = await send(lease)
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

    def _store(self, lease: Lease) -> HTTPStore:
        store = self._stores.get(lease.url)
        if store is None:
            # Plain http only to loopback or where the user allowed it: see UrlPolicy and read_answer
            options: ClientConfig = {
                "allow_http": lease.url.startswith("http://"),
                "connect_timeout": _CONNECT_TIMEOUT,
                "read_timeout": _SILENCE_TIMEOUT,
                "timeout": self._timeout,
                "user_agent": "lindi-dask",
            }
            store = HTTPStore.from_url(lease.url, client_options=options, retry_config={"max_retries": 0})
            self._stores[lease.url] = store
            if len(self._stores) > _STORES:
                self._stores.popitem(last=False)
        self._stores.move_to_end(lease.url)
        return store
