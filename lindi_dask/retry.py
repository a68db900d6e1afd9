"""The one retry policy: what is tried again, how often, and how long between.

Both planes use it: the exchange of a DANDI URL for a presigned one, and the reads of ranges. Each tries its own
kind of `UnavailableError` again; everything else is final where it is raised. (A read does not repeat an exchange
that was given up: that would multiply the two.) Both pay out of one budget a process, so that an archive that keeps
failing is not asked ever more often.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception_type

from lindi_dask.errors import ArchiveUnavailable, StorageUnavailable, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EXCHANGE", "READ", "RetryBudget", "RetryPolicy"]

_CAPACITY: Final = 10_000
_RETRY, _UNANSWERED_RETRY, _SUCCESS = 5, 10, 1  # botocore's


class RetryBudget:
    """What the retries of a process may cost: a token bucket. Thread-safe; does not pickle.

    A retry takes 5 tokens, one of a request without an answer (no connection, a timeout) 10; a success gives 1 back:
    it runs dry where more than every sixth request fails for long. The figures are those of botocore's standard mode,
    but for the capacity: that has to last for an outage of 20 s, in which each of 64 requests at a time is repeated
    some 8 times.

    Parameters
    ----------
    capacity
        Tokens that there are at first, and at most.
    """

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._capacity = self._left = capacity
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """Tokens."""
        return self._left

    def take(self, error: UnavailableError) -> bool:
        """Pay for a retry after an error; return whether there was enough left."""
        cost = _UNANSWERED_RETRY if error.unanswered else _RETRY
        with self._lock:
            if self._left < cost:
                return False
            self._left -= cost
            return True

    def succeeded(self) -> None:
        """Take in that an operation came to its end."""
        with self._lock:
            self._left = min(self._left + _SUCCESS, self._capacity)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Bounds of the retries of one operation, with full jitter between attempts.

    "Full jitter" waits a random time between 0 and the bound that doubles with each attempt
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    attempts: int
    """of one operation, the first included"""
    total_s: float
    """seconds after which no further attempt starts"""
    first_s: float
    """seconds, upper bound of the first wait"""
    cap_s: float
    """seconds, upper bound of any wait but one that the other side asked for"""
    retry_on: type[UnavailableError]
    """the errors that are worth another attempt; all others are final"""

    def bound_s(self, attempt: int) -> float:
        """Return the upper bound of the wait after attempt number `attempt` (from 1), in seconds."""
        return min(self.cap_s, self.first_s * 2.0 ** min(attempt - 1, 60))

    def sync(
        self,
        budget: RetryBudget,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Retrying:
        """Return tenacity's loop for blocking code; its caller tells the budget of a success."""
        return Retrying(sleep=sleep, **self._arguments(budget, clock))

    def asynchronous(
        self,
        budget: RetryBudget,
        *,
        clock: Callable[[], float] = time.monotonic,
        **sleep: Any,  # noqa: ANN401
    ) -> AsyncRetrying:
        """Return tenacity's loop for coroutines, likewise; `sleep=` overrides asyncio's."""
        return AsyncRetrying(**sleep, **self._arguments(budget, clock))

    def _arguments(self, budget: RetryBudget, clock: Callable[[], float]) -> dict[str, Any]:
        started, is_spent = clock(), False

        def wait(state: RetryCallState) -> float:
            jittered = random.uniform(0, self.bound_s(state.attempt_number))  # noqa: S311 - spreads load, hides nothing
            return max(jittered, _error(state).retry_after_s or 0.0)

        def stop(state: RetryCallState) -> bool:
            nonlocal is_spent
            if state.attempt_number >= self.attempts or clock() - started + state.upcoming_sleep > self.total_s:
                return True
            is_spent = not budget.take(_error(state))
            return is_spent

        def give_up(state: RetryCallState) -> NoReturn:
            error = _error(state)
            why = ": too many requests of this process failed lately (its retry budget is spent)" if is_spent else ""
            raise type(error)(
                f"{error} Gave up after {state.attempt_number} attempts in {clock() - started:.0f} s{why}.",
                **{**vars(error), "attempts": state.attempt_number},
            )

        return {
            "retry": retry_if_exception_type(self.retry_on),
            "wait": wait,
            "stop": stop,
            "retry_error_callback": give_up,
        }


def _error(state: RetryCallState) -> UnavailableError:
    error = state.outcome.exception() if state.outcome is not None else None
    if not isinstance(error, UnavailableError):
        raise TypeError("only an UnavailableError is tried again")
    return error


EXCHANGE = RetryPolicy(attempts=16, total_s=60.0, first_s=0.5, cap_s=20.0, retry_on=ArchiveUnavailable)
"""Of an exchange at the archive's API (botocore's standard mode, stretched). With 10 attempts, one in 100 would give up
within an outage of 20 s."""

READ = RetryPolicy(attempts=20, total_s=120.0, first_s=0.1, cap_s=15.0, retry_on=StorageUnavailable)
"""Of one range read. With 15 attempts, one in 5,000 would give up within an outage of 20 s."""
