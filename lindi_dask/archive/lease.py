"""The leases of this process: one exchange at a time for an asset, renewed ahead of expiry.

Knows nothing of HTTP: a `LeaseSource` does the exchanges. Plain URLs have leases too: on where their redirects end.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lindi_dask.archive.plain import PlainUrls
from lindi_dask.errors import LindiError
from lindi_dask.types import Asset, Lease

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LeaseCache", "LeaseSource"]

_log = logging.getLogger(__name__)

_THREADS = 32
_KEPT = 4096


class LeaseSource(Protocol):
    """Grants leases: the API's resolver, or whatever stands between it and this process."""

    def exchange(self, asset: Asset, refused: Lease | None = None) -> Lease:
        """Return a new lease, or raise a `LindiError`. May block.

        Parameters
        ----------
        asset
            Of an instance.
        refused
            The lease that the storage host did not take: what is returned must be another.
        """
        ...


@dataclass(slots=True)
class _Entry:
    lease: Lease | None = None
    advise_at: float = 0.0
    pending: Future[Lease | LindiError] | None = None
    failure: LindiError | None = None
    failure_until: float = 0.0
    exchanged_at: float = -math.inf

    def is_unused(self, now: float) -> bool:
        lives = self.lease is not None and self.lease.expires_at > now
        return not lives and self.pending is None and self.failure_until <= now


class LeaseCache:
    """Leases by asset, shared by all threads and event loops of a process. Thread-safe; does not pickle.

    A lease is renewed in the background from a quarter of its lifetime (at most 15 minutes) before it expires,
    and callers wait
    for a new one from an eighth (at most 10 minutes) before. Only assets that are in use are renewed. A failed
    exchange is told to all that wait for it, and to those that ask within the next 1-2 seconds; it never
    replaces a lease.
    The figures are those of botocore's RefreshableCredentials, scaled to the lifetime.

    Parameters
    ----------
    source
        Does the exchanges, in threads of this cache, at most 32 at a time.
    plain
        The same for plain URLs; None: `PlainUrls`.
    clock
        Monotonic seconds.
    """

    def __init__(
        self, source: LeaseSource, *, plain: LeaseSource | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._plain = PlainUrls() if plain is None else plain
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[Asset, _Entry] = {}
        self._due: deque[tuple[Asset, _Entry, Future[Lease | LindiError], Lease | None]] = deque()
        self._threads = 0

    def request(self, asset: Asset) -> Future[Lease | LindiError]:
        """Return a lease to read `asset` with, as a future: done at once when there is one in store.

        The future's value is a lease or the error of the exchange, for `settle` to raise: never an exception that
        many waiters would share. It can't be cancelled.
        """
        now = self._clock()
        with self._lock:
            entry = self._entries.setdefault(asset, _Entry())
            lease = entry.lease
            if lease is not None:
                spaced = now - entry.exchanged_at >= min(30.0, lease.lifetime_s / 8)
                if now < lease.expires_at - min(600.0, lease.lifetime_s / 8) or (now < lease.expires_at and not spaced):
                    if now >= entry.advise_at and spaced and entry.pending is None and now >= entry.failure_until:
                        self._start(asset, entry, now)
                    return _done(lease)
            if entry.pending is not None:
                return entry.pending
            if entry.failure is not None and now < entry.failure_until:
                return _done(entry.failure)
            return self._start(asset, entry, now)

    def get(self, asset: Asset) -> Lease:
        """Return a lease to read `asset` with; wait for the exchange if one is due.

        Raises
        ------
        LindiError
            Of the exchange.
        """
        return settle(self.request(asset).result())

    def renew(self, asset: Asset, refused: Lease) -> Future[Lease | LindiError]:
        """Return a lease other than `refused`, which the storage host did not take: `request`'s kind of future.

        The first caller starts an exchange, the others wait for it; those that come later get what it brought.
        """
        now = self._clock()
        with self._lock:
            entry = self._entries.setdefault(asset, _Entry())
            if entry.lease is refused:
                entry.lease = None
            if entry.lease is not None:
                return _done(entry.lease)
            return entry.pending or self._start(asset, entry, now, refused)

    def upcoming(self, asset: Asset) -> Future[Lease | LindiError] | None:
        """Return the exchange of `asset` that is under way, as `request`'s kind of future; None if none is."""
        with self._lock:
            entry = self._entries.get(asset)
            return None if entry is None else entry.pending

    def _start(
        self, asset: Asset, entry: _Entry, now: float, refused: Lease | None = None
    ) -> Future[Lease | LindiError]:
        future: Future[Lease | LindiError] = Future()
        future.set_running_or_notify_cancel()  # one waiter that gives up must not cancel the others' exchange
        entry.pending, entry.exchanged_at = future, now
        self._due.append((asset, entry, future, refused))
        if self._threads < _THREADS:
            self._threads += 1
            # A daemon: an exchange that retries through an outage must not hold up the end of the process
            threading.Thread(target=self._work, name="lindi-exchange", daemon=True).start()
        if len(self._entries) > _KEPT:
            self._forget(now)
        return future

    def _forget(self, now: float) -> None:
        """Let go of assets that nobody uses any more."""
        unused = [asset for asset, entry in self._entries.items() if entry.is_unused(now)]
        for asset in unused:
            del self._entries[asset]

    def _work(self) -> None:
        """Do exchanges for as long as any are due."""
        while True:
            with self._lock:
                if not self._due:
                    self._threads -= 1
                    return
                due = self._due.popleft()
            self._exchange(*due)

    def _exchange(self, asset: Asset, entry: _Entry, future: Future[Lease | LindiError], refused: Lease | None) -> None:
        outcome: Lease | LindiError
        try:
            source = self._plain if asset.instance is None else self._source
            outcome = source.exchange(asset, refused)
        except LindiError as error:
            outcome = error.fresh()
        except BaseException as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            # Only its kind: an exception of a library may hold the request, and with it the key
            outcome = LindiError(f"{asset}: the exchange failed unexpectedly ({type(error).__name__}).")
        now = self._clock()
        with self._lock:
            entry.pending = None
            if isinstance(outcome, Lease):
                advance = min(900.0, outcome.lifetime_s / 4) * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
                entry.lease, entry.advise_at = outcome, outcome.expires_at - advance
                entry.failure = None
                _log.debug("%s: new lease for %.1f s", asset, outcome.lifetime_s)
            else:
                entry.failure = outcome
                entry.failure_until = now + random.uniform(1.0, 2.0)  # noqa: S311 - spreads load
                _log.warning("%s", outcome)
        future.set_result(outcome)


def settle(outcome: Lease | LindiError) -> Lease:
    """Return the lease, or raise a copy of the error."""
    if isinstance(outcome, LindiError):
        raise outcome.fresh()
    return outcome


def _done(outcome: Lease | LindiError) -> Future[Lease | LindiError]:
    future: Future[Lease | LindiError] = Future()
    future.set_result(outcome)
    return future
