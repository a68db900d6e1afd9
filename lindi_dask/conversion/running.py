"""Many tasks, a few at a time: what ends well is told, what fails is tried again, and then set aside."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from lindi_dask.errors import (
    AccessError,
    ConfigurationError,
    ForkedProcessError,
    JobError,
    RefsChanged,
    RefsError,
    RefsUnreachable,
    TargetError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lindi_dask.conversion.executors import Executor
    from lindi_dask.conversion.plan import Shard

    Call = tuple[Callable[..., Any], tuple[Any, ...]]

__all__ = ["ATTEMPTS", "Listener", "NoWorkersError", "Run"]

ATTEMPTS: Final = 3
"""how often an object is tried to be made"""

_AHEAD: Final = 2.5  # tasks for each thread that are under way at a time
_TICK_S: Final = 1.0
_PATIENCE_S: Final = 60.0  # without a scheduler, or without workers


class NoWorkersError(JobError):
    """There is nobody to do the work."""


class Listener(Protocol):
    """Who is told how a run goes; all by the thread that runs it."""

    def done(self, shard: Shard, result: Any) -> None:  # noqa: ANN401 - whatever the tasks return
        """Take what a task returned."""
        ...

    def failed(self, shard: Shard, error: BaseException, *, is_last: bool) -> None:
        """Take that a task failed; whether it is set aside."""
        ...

    def tick(self) -> None:
        """Do what is due: called when all that has ended was told, and at least once a second."""
        ...


@dataclass
class Run:
    """Has tasks run, each by a call of one function.

    Parameters
    ----------
    executor
        Who runs them.
    call
        Returns the function and its arguments for a task.
    listener
        Is told.
    clock
        Seconds, monotonic.
    """

    executor: Executor
    call: Callable[[Shard], Call]
    listener: Listener
    clock: Callable[[], float] = time.monotonic
    _again: deque[Shard] = field(default_factory=deque)
    _attempts: dict[Shard, int] = field(default_factory=dict)
    _running: int = 0
    _stop: BaseException | None = None

    def run(self, shards: Iterator[Shard]) -> None:
        """Run the tasks of some objects.

        Raises
        ------
        LindiError
            The first error after which no other task would fare better. What was under way has ended before.
        NoWorkersError
            If there is no scheduler, or no worker, for a minute.
        """
        threads, looked, lively = self.executor.threads, self.clock(), self.clock()
        is_exhausted = False
        while self._running or not (is_exhausted or self._stop):
            while self._stop is None and self._running < round(_AHEAD * threads):
                shard = self._again.popleft() if self._again else next(shards, None)
                if shard is None:
                    break
                function, arguments = self.call(shard)
                self.executor.submit(shard, function, *arguments)
                self._running += 1
            is_exhausted = threads > 0 and not self._running
            outcome = None if is_exhausted else self.executor.outcome(_TICK_S)
            while outcome is not None:
                self._running -= 1
                self._take(*outcome)
                outcome = self.executor.outcome(0) if self._running else None
            self.listener.tick()
            now = self.clock()
            if now - looked >= _TICK_S:
                looked = now
                threads = self.executor.threads if self.executor.is_alive() else 0
                lively = now if threads else lively
                if now - lively > _PATIENCE_S:
                    raise NoWorkersError("No worker of the cluster was heard of for a minute.")
        if self._stop is not None:
            raise self._stop

    def _take(self, shard: Shard, result: Any, error: BaseException | None) -> None:  # noqa: ANN401 - see Listener
        if error is None:
            self._attempts.pop(shard, None)
            self.listener.done(shard, result)
            return
        if isinstance(error, CancelledError) and (self._stop is not None or not self.executor.is_alive()):
            self._again.append(shard)  # nobody tried
            return
        attempts = self._attempts[shard] = self._attempts.get(shard, 0) + 1
        ends_all = _ends_all(error)
        is_last = not ends_all and (attempts >= ATTEMPTS or isinstance(error, RefsError))
        self.listener.failed(shard, error, is_last=is_last)
        if ends_all:
            self._stop = self._stop or error
        elif not is_last:
            self._again.append(shard)


def _ends_all(error: BaseException) -> bool:
    """Return whether other tasks would fail for the same reason."""
    if isinstance(error, TargetError):
        return error.is_final
    final = (AccessError, ConfigurationError, ForkedProcessError, RefsChanged, RefsUnreachable)
    return isinstance(error, final) or not isinstance(error, Exception)
