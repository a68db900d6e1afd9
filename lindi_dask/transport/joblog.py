"""Says what was read when a job is over."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from lindi_dask.transport.counters import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lindi_dask.transport.counters import Counters

__all__ = ["JobLog"]

_log: Final = logging.getLogger("lindi_dask")

_QUIET_S: Final = 10.0


class JobLog:
    """Logs at INFO what a process has read, whenever it then reads nothing for 10 seconds.

    Parameters
    ----------
    counters
        Of the process.
    when_quiet
        Called then too.
    quiet_s
        Seconds without a read that end a job.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        counters: Counters,
        *,
        when_quiet: Callable[[], None] = lambda: None,
        quiet_s: float = _QUIET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._when_quiet = when_quiet
        self._counters = counters
        self._quiet_s = quiet_s
        self._clock = clock
        self._lock = threading.Lock()
        self._said = Counts()
        self._reads = 0
        self._began = self._ended = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold while a read goes on. On one event loop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif self._reads == 0:
            self._began = self._clock()
        self._reads += 1
        try:
            yield
        finally:
            self._reads -= 1
            self._ended = self._clock()
            if self._reads == 0:
                self._timer = asyncio.get_running_loop().call_later(self._quiet_s, self._is_over)

    def _is_over(self) -> None:
        self._timer = None
        self.say()
        self._when_quiet()

    def say(self) -> None:
        """Log what was read since it was last said, if anything was. Thread-safe."""
        with self._lock:
            counts = self._counters.counts()
            done, self._said = counts - self._said, counts
        if done.chunks:
            _log.info("read in %.1f s: %s", max(self._ended - self._began, 0.0), done)
