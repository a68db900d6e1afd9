"""A second request beside one that takes far longer than others do."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Hedging", "first_of"]

T = TypeVar("T")


class Hedging:
    """When a request is a straggler, and whether one more may be sent beside it. Pure.

    "The tail at scale" (https://doi.org/10.1145/2408776.2408794): a second request after the 95th percentile of what
    requests take costs a few more of them and cuts the slowest short.

    Parameters
    ----------
    share
        Of the requests that may be hedged, at most.
    """

    _SAMPLES = 200  # requests looked back on
    _FEWEST = 40  # requests before anything is known of them
    _PERCENTILE = 0.95
    _MOST_AT_ONCE = 4.0  # hedges: what was saved up while all went well is no use against a storm
    _FLOOR_S = 0.05  # a request that takes less is no straggler, whatever others take

    def __init__(self, share: float = 0.02) -> None:
        self._share = share
        self._ratios: deque[float] = deque(maxlen=self._SAMPLES)
        self._since_sorted = 0
        self._slow: float | None = None
        self._allowed = 0.0  # hedges

    def observe(self, seconds: float, expected_s: float) -> None:
        """Take in what a request took, and what one of its length should take."""
        self._allowed = min(self._allowed + self._share, self._MOST_AT_ONCE)
        self._since_sorted += 1
        self._ratios.append(seconds / expected_s)
        if len(self._ratios) >= self._FEWEST and (self._slow is None or self._since_sorted >= 16):
            self._slow = sorted(self._ratios)[int(len(self._ratios) * self._PERCENTILE)]
            self._since_sorted = 0

    def patience_s(self, expected_s: float) -> float | None:
        """Return after how many seconds a request is a straggler; None: none is hedged now."""
        if self._slow is None or not self._may:
            return None
        return max(self._slow * expected_s, self._FLOOR_S)

    def take(self) -> bool:
        """Return whether a straggler may be hedged, and count it."""
        if self._may:
            self._allowed -= 1
            return True
        return False

    @property
    def _may(self) -> bool:
        return self._allowed >= 1 - 1e-9


async def first_of(
    request: Callable[[], Awaitable[T]], patience_s: float | None, may_hedge: Callable[[], Callable[[], None] | None]
) -> T:
    """Do a request; after `patience_s` a second one beside it, and return what comes first.

    Parameters
    ----------
    request
        Called once or twice. If one of two fails, the other's outcome counts; the other one is cancelled at the end.
    patience_s
        Seconds; None: no second one.
    may_hedge
        Called when they are over: returns what is to be called at the end of the second request, or None for no second.
    """
    if patience_s is None:
        return await request()
    tasks = [asyncio.ensure_future(request())]
    release: Callable[[], None] | None = None
    try:
        done, _ = await asyncio.wait(tasks, timeout=patience_s)
        if not done and (release := may_hedge()) is not None:
            tasks.append(asyncio.ensure_future(request()))
        waiting = set(tasks)
        while True:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            best = next((task for task in done if task.exception() is None), None)
            if best is not None or not waiting:
                return (best or done.pop()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if release is not None:
            release()
