"""Calls that are made one by one, done together: those of one turn of an event loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["Batcher"]

A = TypeVar("A")
T = TypeVar("T")


class Batcher(Generic[A, T]):
    """Gathers the calls of a turn of each event loop. Thread-safe; does not pickle.

    Callers that got their answers together come back one after the other, as each has work of its own in between: calls
    after a batch of several wait a moment for as many as that were.

    Parameters
    ----------
    do
        Called with the arguments of some calls; returns what each comes to, or the error that it is to get. May be
        cancelled: when all of its callers were.
    moment_s
        Returns how long that moment is, in seconds, for a call that comes first.
    most
        Calls that are done together, at most.
    """

    def __init__(
        self,
        do: Callable[[Sequence[A]], Awaitable[Sequence[T | Exception]]],
        *,
        moment_s: Callable[[A], float],
        most: int = 1024,
    ) -> None:
        self._do = do
        self._moment_s = moment_s
        self._most = most
        self._lock = threading.Lock()
        self._waiting: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting[A, T]] = (
            weakref.WeakKeyDictionary()
        )

    async def call(self, argument: A) -> T:
        """Return what the call comes to, or raise its error."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            waiting = self._waiting.setdefault(loop, _Waiting())
        waiting.calls.append((argument, future))  # by this loop only
        if waiting.timer is None and len(waiting.calls) == 1:
            if waiting.before > 1:
                waiting.timer = loop.call_later(self._moment_s(argument), self._send, waiting)
            else:
                # Callers that were woken together may take one step more or less to come here
                loop.call_soon(loop.call_soon, self._send, waiting)
        elif waiting.timer is not None and len(waiting.calls) + waiting.under_way >= waiting.before:
            waiting.timer.cancel()
            self._send(waiting)
        return await future

    def _send(self, waiting: _Waiting[A, T]) -> None:
        calls = [call for call in waiting.calls if not call[1].done()]
        waiting.calls, waiting.timer = [], None
        waiting.under_way += len(calls)
        waiting.before = waiting.under_way
        for first in range(0, len(calls), self._most):
            _Batch(self._do, calls[first : first + self._most], waiting)


class _Waiting(Generic[A, T]):
    """The calls of one event loop that are to be done next."""

    def __init__(self) -> None:
        self.calls: list[tuple[A, asyncio.Future[T]]] = []
        self.timer: asyncio.TimerHandle | None = None
        self.under_way = 0  # calls whose batches were sent
        self.before = 0  # of these, when the last batch had been sent


class _Batch(Generic[A, T]):
    """Calls that are done together; given up when nobody waits for any of them."""

    def __init__(
        self,
        do: Callable[[Sequence[A]], Awaitable[Sequence[T | Exception]]],
        calls: list[tuple[A, asyncio.Future[T]]],
        waiting: _Waiting[A, T],
    ) -> None:
        self._waiting = waiting
        self._calls = calls
        self._left = len(calls)
        self._task = asyncio.ensure_future(self._run(do))
        for _, future in calls:
            future.add_done_callback(self._one_less)

    async def _run(self, do: Callable[[Sequence[A]], Awaitable[Sequence[T | Exception]]]) -> None:
        try:
            outcomes = await do([argument for argument, _ in self._calls])
        except Exception as error:  # noqa: BLE001 - it is theirs
            outcomes = [error] * len(self._calls)
        for (_, future), outcome in zip(self._calls, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _one_less(self, _: asyncio.Future[T]) -> None:
        self._left -= 1
        self._waiting.under_way -= 1
        if self._left == 0:
            self._task.cancel()  # does nothing to one that has ended
