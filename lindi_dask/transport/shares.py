"""A bounded amount (of requests, of memory) shared out in turn. For one event loop."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Shares", "Turn"]

_QUANTUM = 64 * 2**20


class Turn:
    """A caller's place in all queues: the earlier one comes first, but each 64 MiB that it had put it back.

    So one block after the other is finished, and a caller that reads without end does not starve the others.
    """

    __slots__ = ("_had", "_number")
    _numbers = itertools.count()

    def __init__(self) -> None:
        self._number = next(self._numbers)
        self._had = 0

    def key(self, nbytes: int = 0) -> tuple[int, int]:
        """Return where the caller stands, the lowest first; `nbytes` are on its account from now on."""
        rank = self._had // _QUANTUM
        self._had += nbytes
        return rank, self._number


class Shares:
    """An amount of which no more is given out than there is.

    Parameters
    ----------
    most
        Returns how much there is; looked at whenever something is taken or given back.
    """

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._taken = 0
        self._waiting: list[tuple[tuple[int, int], int, int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()

    @property
    def taken(self) -> int:
        """How much is given out."""
        return self._taken

    @property
    def is_awaited(self) -> bool:
        """Whether someone waits."""
        return any(not future.done() for *_, future in self._waiting)

    async def take(self, amount: int, key: tuple[int, int]) -> None:
        """Wait for one's turn and take an amount; one that is larger than all there is waits until nothing is taken."""
        if not self.is_awaited and self._fits(amount):
            self._taken += amount
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (key, next(self._arrivals), amount, future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give(amount)  # granted and cancelled in one turn of the loop
            else:
                future.cancel()
                self._grant()  # it may have stood before one that fits
            raise

    def try_take(self, amount: int) -> bool:
        """Take an amount if it is there and nobody waits."""
        if self.is_awaited or not self._fits(amount):
            return False
        self._taken += amount
        return True

    def give(self, amount: int) -> None:
        """Give back an amount."""
        self._taken -= amount
        self._grant()

    def _fits(self, amount: int) -> bool:
        return self._taken == 0 or self._taken + amount <= self._most()

    def _grant(self) -> None:
        while self._waiting:
            _, _, amount, future = self._waiting[0]
            if not future.done():
                if not self._fits(amount):
                    return
                self._taken += amount
                future.set_result(None)
            heapq.heappop(self._waiting)
