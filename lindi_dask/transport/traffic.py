"""What all reads of a process share: limits, what was learnt of the path, connections, threads."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from obstore.store import HTTPStore

from lindi_dask.network import data_options
from lindi_dask.retry import RetryBudget
from lindi_dask.transport.adaptive import Link, Window
from lindi_dask.transport.counters import Counters
from lindi_dask.transport.hedging import Hedging
from lindi_dask.transport.joblog import JobLog
from lindi_dask.transport.shares import Shares
from lindi_dask.transport.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore.store import ClientConfig

    from lindi_dask.types import Asset, Lease

__all__ = ["Traffic"]

_MEMORY = 128 * 2**20  # bytes that have been asked for and are not decoded yet
_STORES = 16  # connection pools kept, one an asset
_IDLE_CONNECTIONS = 32  # of a pool
_IDLE_TIMEOUT, _CONNECT_TIMEOUT, _SILENCE_TIMEOUT = "15s", "5s", "30s"
_FILE_THREADS = 8  # local files may lie on a network's file system, and wait for it


class Traffic:
    """Used on one event loop, but for its counters. Does not pickle.

    Parameters
    ----------
    memory
        Bytes that may be asked for and not decoded at a time; a larger range is read alone.
    hedging
        When to send a second request.
    budget
        Of all retries of this process; None: an own one.
    clock
        Seconds, monotonic.
    when_quiet
        Called when nothing was read for 10 seconds.
    """

    def __init__(
        self,
        *,
        memory: int = _MEMORY,
        hedging: Hedging | None = None,
        budget: RetryBudget | None = None,
        clock: Callable[[], float] = time.monotonic,
        when_quiet: Callable[[], None] = lambda: None,
    ) -> None:
        self.clock = clock
        self.counters = Counters()
        self.jobs = JobLog(self.counters, when_quiet=when_quiet, clock=clock)
        self.link = Link()
        self.window = Window(1)
        self.hedging = hedging or Hedging()
        self.budget = RetryBudget() if budget is None else budget
        self.slots = Shares(lambda: self.window.size)
        self.memory = Shares(lambda: memory)
        self.files = ThreadPoolExecutor(max_workers=_FILE_THREADS, thread_name_prefix="lindi-file")
        self.decoders = Workers(_cores(), "lindi-decode")
        self._stores: OrderedDict[tuple[Asset, str], tuple[str, HTTPStore]] = OrderedDict()

    def allow(self, concurrency: int) -> None:
        """Let the window grow to this many requests."""
        if concurrency > self.window.most:
            self.window = Window(concurrency)

    def store(self, asset: Asset, lease: Lease, timeout: str) -> HTTPStore:
        """Return the connections to an asset: for each asset those of its last lease only."""
        key = asset, timeout
        url, store = self._stores.get(key, (None, None))
        if store is None or url != lease.url:
            # Plain http only to loopback or where the user allowed it: see UrlPolicy and read_answer
            options: ClientConfig = {
                "allow_http": lease.url.startswith("http://"),
                "connect_timeout": _CONNECT_TIMEOUT,
                "read_timeout": _SILENCE_TIMEOUT,
                "timeout": timeout,
                "pool_idle_timeout": _IDLE_TIMEOUT,
                "pool_max_idle_per_host": str(_IDLE_CONNECTIONS),
                "user_agent": "lindi-dask",
                **data_options(lease.url),
            }
            store = HTTPStore.from_url(lease.url, client_options=options, retry_config={"max_retries": 0})
            self._stores[key] = lease.url, store
            if len(self._stores) > _STORES:
                self._stores.popitem(last=False)
        self._stores.move_to_end(key)
        return store


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
