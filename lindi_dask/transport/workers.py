"""Threads that decode what has arrived, the work of the earliest caller first."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Workers"]


class Workers:
    """A pool of daemon threads, started when first used. Thread-safe.

    Parameters
    ----------
    count
        Threads.
    name
        That their names begin with.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._ready = threading.Condition()
        self._queue: list[tuple[tuple[int, int], int, Callable[[], None]]] = []
        self._arrivals = itertools.count()
        self._started = 0

    def run(self, jobs: Sequence[Callable[[], None]], key: tuple[int, int]) -> asyncio.Future[None]:
        """Run jobs in threads, and return a future of this loop that is done when all are, or with the first error.

        Parameters
        ----------
        jobs
            At least one. When the future is cancelled or has failed, those that have not begun never will.
        key
            Where they stand: the lowest first.
        """
        together = _Together(asyncio.get_running_loop(), len(jobs))
        with self._ready:
            for job in jobs:
                heapq.heappush(self._queue, (key, next(self._arrivals), together.part(job)))
            for _ in range(min(len(jobs), self._count - self._started)):
                self._started += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True).start()
            self._ready.notify(len(jobs))
        return together.future

    def _work(self) -> None:
        while True:
            with self._ready:
                while not self._queue:
                    self._ready.wait()
                job = heapq.heappop(self._queue)[2]
            job()
            del job  # it holds the bytes


class _Together:
    """Jobs with one outcome."""

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._left = count
        self._failed = False
        self._lock = threading.Lock()

    def part(self, job: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            error: BaseException | None = None
            if not (self._failed or self.future.done()):
                try:
                    job()
                except BaseException as raised:  # noqa: BLE001 - goes to the caller
                    error, self._failed = raised, True
            with self._lock:
                self._left -= 1
                is_last = self._left == 0
            if is_last or error is not None:
                self._loop.call_soon_threadsafe(self._settle, error)

        return run

    def _settle(self, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(error)
