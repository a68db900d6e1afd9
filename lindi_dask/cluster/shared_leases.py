"""The leases that a whole cluster shares, as the broker sees them."""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lindi_dask.archive import LeaseCache
from lindi_dask.cluster.messages import Message, error_message, lease_message
from lindi_dask.types import Asset, Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from lindi_dask.archive import LeaseSource
    from lindi_dask.errors import LindiError

__all__ = ["Ask", "SharedLeases"]

_REMEMBERED = 1000  # waits, for the panel
_KEPT = 4096  # assets, and those whose leases live


@dataclass(frozen=True, slots=True)
class Ask:
    """A worker's wish, checked."""

    asset: Asset
    have: int | None
    """number of the lease that the worker has"""
    refused: bool
    """whether the storage host did not take it"""


@dataclass(slots=True)
class _Shared:
    """An asset that was asked for."""

    lease: Lease | None = None
    number: int = 0
    """of that lease; never given twice, by another broker either"""
    exchanges: int = 0
    waiting: int = 0
    """asks that wait for an exchange"""
    failure: str | None = None
    """why there was no lease the last time, as long as there is none"""


class SharedLeases:
    """One exchange an asset and lifetime, for all that ask. Its methods belong to one event loop.

    A `LeaseCache` decides when an exchange is due; its threads do them.

    Parameters
    ----------
    source
        Does the exchanges.
    clock
        Monotonic seconds.
    """

    def __init__(self, source: LeaseSource, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cache = LeaseCache(source, clock=clock)
        self._numbers = itertools.count(secrets.randbits(48))
        self._shared: dict[Asset, _Shared] = {}
        self._waits: deque[float] = deque(maxlen=_REMEMBERED)
        self._asked = 0

    async def answer(self, asks: Sequence[Ask], wait_s: float) -> list[Message]:
        """Return a message for each ask, in their order: `lease`, `error`, or `pending`.

        As soon as one of them can be answered they all are: what is pending is to be asked for again. So nobody waits
        for another asset's exchange.

        Parameters
        ----------
        asks
            What one worker wants at a moment.
        wait_s
            Seconds after which all may be pending.
        """
        asked_at = self._clock()
        shared = [self._of(ask.asset) for ask in asks]
        futures = [self._future(ask, one) for ask, one in zip(asks, shared, strict=True)]
        if futures and not any(future.done() for future in futures):
            for one in shared:
                one.waiting += 1
            try:
                waiting = [asyncio.wrap_future(future) for future in futures]
                await asyncio.wait(waiting, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in shared:
                    one.waiting -= 1
        answers = [
            self._message(ask, one, future.result()) if future.done() else {"pending": True}
            for ask, one, future in zip(asks, shared, futures, strict=True)
        ]
        self._asked += len(asks)
        self._waits.append(self._clock() - asked_at)
        return answers

    def status(self) -> dict[str, Any]:
        """Return what there is to see: `assets` (a dict each, seconds) and `waits` (of the last 1,000 batches, ms)."""
        now = self._clock()
        waits = sorted(self._waits)
        return {
            "assets": [
                {
                    "asset": str(asset),
                    "age_s": None if one.lease is None else now - one.lease.obtained_at,
                    "expires_in_s": None if one.lease is None else one.lease.expires_at - now,
                    "exchanges": one.exchanges,
                    "waiting": one.waiting,
                    "error": one.failure,
                }
                for asset, one in self._shared.items()
            ],
            "waits": {
                "asked": self._asked,
                "median_ms": _quantile_ms(waits, 0.5),
                "p99_ms": _quantile_ms(waits, 0.99),
                "longest_ms": _quantile_ms(waits, 1.0),
            },
        }

    def _of(self, asset: Asset) -> _Shared:
        if asset not in self._shared and len(self._shared) >= _KEPT:
            now = self._clock()
            self._shared = {
                asset: one
                for asset, one in self._shared.items()
                if one.waiting or (one.lease is not None and one.lease.expires_at > now)
            }
        return self._shared.setdefault(asset, _Shared())

    def _future(self, ask: Ask, shared: _Shared) -> Future[Lease | LindiError]:
        held = ask.have is not None and ask.have == shared.number
        if held and ask.refused and shared.lease is not None:
            return self._cache.renew(ask.asset, shared.lease)
        future = self._cache.request(ask.asset)
        if held and future.done() and future.result() is shared.lease:
            return self._cache.upcoming(ask.asset) or future  # it wants the next one, which is on its way
        return future

    def _message(self, ask: Ask, shared: _Shared, outcome: Lease | LindiError) -> Message:
        now = self._clock()
        if not isinstance(outcome, Lease):
            if ask.refused or shared.lease is None or shared.lease.expires_at <= now:
                shared.lease, shared.failure = None, str(outcome)
                return {"error": error_message(outcome)}
            outcome = shared.lease  # a renewal ahead of need that failed takes nothing away
        elif outcome is not shared.lease:
            shared.lease, shared.number, shared.failure = outcome, next(self._numbers), None
            shared.exchanges += 1
        return {"lease": lease_message(outcome, shared.number, now)}


def _quantile_ms(ordered: list[float], share: float) -> float | None:
    return 1000 * ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
