"""Requests to storage hosts on leases: limits, renewals and retries around obstore."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from lindi_dask.archive import LeaseCache, settle
from lindi_dask.errors import PermissionDenied, StorageUnavailable
from lindi_dask.retry import READ, RetryPolicy
from lindi_dask.transport.hedging import first_of
from lindi_dask.transport.outcomes import OBSTORE_ERRORS, Refusal, read_failure, status_of
from lindi_dask.transport.shares import Shares, Turn
from lindi_dask.transport.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from obstore.store import HTTPStore

    from lindi_dask.types import Asset, Lease

__all__ = ["LeasedStores"]

_RENEWALS_AT_ONCE = 3  # expired leases in a row before the retry policy's waits come in
_PATIENCE = {429, 503}  # S3 says 503 SlowDown

T = TypeVar("T")


class LeasedStores:
    """Requests on leases, through obstore's stores. Used on one event loop; does not pickle.

    Parameters
    ----------
    leases
        Of this process.
    concurrency
        Requests at a time, at most. How many there really are follows what the path gives.
    traffic
        Shared by all that read in this process; None: an own one.
    retry
        Bounds of the retries of one request.
    timeout_s
        Seconds that one request may take, its body included.
    """

    def __init__(
        self,
        leases: LeaseCache,
        *,
        concurrency: int,
        traffic: Traffic | None = None,
        retry: RetryPolicy = READ,
        timeout_s: int = 300,
    ) -> None:
        self._leases = leases
        self._retry = retry
        self._timeout = f"{timeout_s}s"
        self._traffic = Traffic() if traffic is None else traffic
        self._traffic.allow(concurrency)
        self._own_slots = Shares(lambda: concurrency)

    async def run(
        self,
        asset: Asset,
        request: Callable[[HTTPStore], Awaitable[T]],
        *,
        start: int = 0,
        stop: int | None = None,
        turn: Turn | None = None,
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
            Bytes that it reads (None: the last).
        turn
            Of the caller, among all that wait.

        Raises
        ------
        LindiError
            That is final, or what `request` raised of that kind.
        """
        turn = Turn() if turn is None else turn
        nbytes = None if stop is None else stop - start

        async def send(lease: Lease) -> T | Refusal:
            failure = None
            async with self._slot(self._traffic.slots, turn):
                try:
                    return await self._timed(partial(request, self._traffic.store(asset, lease, self._timeout)), nbytes)
                except OBSTORE_ERRORS as error:
                    # obstore's errors hold the presigned URL: ours is raised outside this block
                    failure = read_failure(error, asset, start, stop)
                    if status_of(error) in _PATIENCE:
                        self._traffic.window.pushed_back()
            if isinstance(failure, Refusal):
                return failure
            raise failure

        settle(await asyncio.wrap_future(self._leases.request(asset)))  # what waits for a lease takes no place
        # One's own place is kept from attempt to attempt: in an outage no more requests than that are repeated
        async with self._slot(self._own_slots, turn):
            async for attempt in self._retry.asynchronous(self._traffic.budget):
                with attempt:
                    self._traffic.counters.add(retries=int(attempt.retry_state.attempt_number > 1))
                    outcome = await self._renewing(asset, send)
                    self._traffic.budget.succeeded()
                    return outcome
        raise AssertionError("the retry policy ended without an outcome")

    @staticmethod
    @asynccontextmanager
    async def _slot(slots: Shares, turn: Turn) -> AsyncIterator[None]:
        """Hold a place: among this reader's requests, or among the process's."""
        await slots.take(1, turn.key())
        try:
            yield
        finally:
            slots.give(1)

    async def _timed(self, request: Callable[[], Awaitable[T]], nbytes: int | None) -> T:
        """Do a request, a second one beside it if it is a straggler, and learn from what it took."""
        traffic = self._traffic
        started = traffic.clock()
        traffic.counters.add(requests=1)
        if nbytes is None:
            return await request()
        expected_s = traffic.link.expected_s(nbytes)
        answer = await first_of(request, traffic.hedging.patience_s(expected_s), self._may_hedge)
        ended = traffic.clock()
        traffic.link.observe(nbytes, ended - started)
        traffic.hedging.observe(ended - started, expected_s)
        traffic.window.answered(nbytes, ended, full=traffic.slots.is_awaited)
        return answer

    def _may_hedge(self) -> Callable[[], None] | None:
        """Take a place for one more request, if there is one; return how it is given back."""
        traffic = self._traffic
        if not traffic.slots.try_take(1):
            return None
        if not traffic.hedging.take():
            traffic.slots.give(1)
            return None
        traffic.counters.add(requests=1, hedges=1)
        return partial(traffic.slots.give, 1)

    async def _renewing(self, asset: Asset, send: Callable[[Lease], Awaitable[T | Refusal]]) -> T:
        """One attempt, with leases renewed as often as that alone may help."""
        lease = settle(await asyncio.wrap_future(self._leases.request(asset)))
        denied = False
        for refusals in range(_RENEWALS_AT_ONCE + 1):
            self._traffic.counters.add(refusals=int(refusals > 0))
            sent_at = time.monotonic()
            outcome = await send(lease)
            if not isinstance(outcome, Refusal):
                return outcome
            alive = not outcome.expired and sent_at < lease.expires_at
            if (alive and denied) or lease.url == asset.id:
                again = "" if lease.url == asset.id else ", with a fresh URL too"
                raise PermissionDenied(
                    f"{asset}: the storage host denies this file ({outcome.code}){again}.",
                    asset=str(asset),
                )
            denied = denied or alive
            lease = settle(await asyncio.wrap_future(self._leases.renew(asset, lease)))
        raise StorageUnavailable(f"{asset}: presigned URLs expire before they can be used. Is this machine very slow?")
