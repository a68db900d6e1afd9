"""Who runs tasks: threads of this process, or the workers of a dask cluster."""

from __future__ import annotations

import functools
import operator
import os
import queue
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

import psutil

from lindi_dask import process
from lindi_dask.errors import ConfigurationError
from lindi_dask.lazy import give_up
from lindi_dask.reporting import stats_by_process
from lindi_dask.transport import Counts

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from distributed import Client

    Outcome = tuple[Any, Any, BaseException | None]  # the item, what the function returned, what it raised

__all__ = ["Cluster", "Executor", "Threads", "executor_of"]

_SHARE: Final = 0.6  # of a process's memory that tasks may take


class Executor(Protocol):
    """Runs functions somewhere else."""

    @property
    def threads(self) -> int:
        """How many tasks run at a time, as things are now."""
        ...

    @property
    def task_memory(self) -> float:
        """Bytes that one task may take."""
        ...

    def submit(self, item: Any, function: Callable[..., Any], *arguments: Any) -> None:  # noqa: ANN401 - whatever it takes
        """Have a function called; what comes of it is told by `outcome`, with the item."""
        ...

    def outcome(self, timeout_s: float) -> Outcome | None:
        """Wait for a task to end; None if none did in that time."""
        ...

    def is_alive(self) -> bool:
        """Whether tasks can be expected to end at all."""
        ...

    def counts(self) -> Counts:
        """Return what was read by all processes, in numbers that grow."""
        ...

    def memory(self) -> dict[str, int]:
        """Return the bytes of memory that each process takes now."""
        ...

    def close(self) -> None:
        """Give up what has not begun, and what is being read."""
        ...


def executor_of(client: Client | None, threads: int | None) -> Executor:
    """Return the workers of a cluster, or without one threads of this process: one more than cores, as one often waits.

    Raises
    ------
    ConfigurationError
        If both are given, or there are no threads.
    """
    if client is not None:
        if threads is not None:
            raise ConfigurationError("threads are of this process: with a client, its workers have theirs.")
        return Cluster(client)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Threads(cores + 1 if threads is None else threads)


def _memory_limit() -> int:
    """Return the memory that this machine, or the container, gives a process."""
    from distributed.system import MEMORY_LIMIT  # noqa: PLC0415 - takes a third of a second, which not all have to wait

    return int(MEMORY_LIMIT)


class Threads:
    """Threads of this process.

    Parameters
    ----------
    threads
        How many.
    """

    def __init__(self, threads: int) -> None:
        if type(threads) is not int or threads < 1:
            raise ConfigurationError(f"threads must be a whole number from 1 on, not {threads!r}.")
        self.threads = threads
        self.task_memory = _SHARE * _memory_limit() / threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lindi-convert")
        self._ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def submit(self, item: Any, function: Callable[..., Any], *arguments: Any) -> None:  # noqa: ANN401 - see Executor
        """Call a function in a thread."""

        def ended(future: Future[Any]) -> None:
            if not future.cancelled():
                error = future.exception()
                self._ended.put((item, None if error is not None else future.result(), error))

        self._pool.submit(function, *arguments).add_done_callback(ended)

    def outcome(self, timeout_s: float) -> Outcome | None:
        """Wait for a task."""
        try:
            return self._ended.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def is_alive(self) -> bool:
        """Return True: threads end."""
        return True

    def counts(self) -> Counts:
        """Return what this process has read."""
        return process.counters().counts()

    def memory(self) -> dict[str, int]:
        """Return the memory of this process."""
        return {"client": int(psutil.Process().memory_info().rss)}

    def close(self) -> None:
        """Give up what is being read; what is being written is written to its end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        give_up()
        self._pool.shutdown(wait=True)


class Cluster:
    """The workers of a dask cluster.

    Parameters
    ----------
    client
        Of the cluster.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ended: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._running: dict[int, Any] = {}
        self._counts: dict[tuple[str, int], Counts] = {}

    @property
    def threads(self) -> int:
        """How many threads the workers have, as things are now; none, where the scheduler does not answer."""
        try:
            return sum(worker["nthreads"] for worker in self._workers().values())
        except OSError:
            return 0

    @property
    def task_memory(self) -> float:
        """Bytes that a task may take on the worker that has the least for each of its threads."""
        limit = _memory_limit()
        shares = [(worker["memory_limit"] or limit) / worker["nthreads"] for worker in self._workers().values()]
        return _SHARE * min(shares, default=float(limit))

    def _workers(self) -> dict[str, Any]:
        workers: dict[str, Any] = self._client.scheduler_info()["workers"]
        return workers

    def submit(self, item: Any, function: Callable[..., Any], *arguments: Any) -> None:  # noqa: ANN401 - see Executor
        """Send a function to a worker."""
        future = self._client.submit(function, *arguments, pure=False, retries=0)
        self._running[id(future)] = future
        future.add_done_callback(lambda ended: self._ended.put((item, ended)))

    def outcome(self, timeout_s: float) -> Outcome | None:
        """Wait for a task."""
        try:
            item, future = self._ended.get(timeout=timeout_s)
        except queue.Empty:
            return None
        self._running.pop(id(future), None)
        error: BaseException | None = None
        try:
            return item, future.result(), None
        except (Exception, CancelledError) as raised:  # noqa: BLE001 - it is told, whatever it is
            error = raised
        return item, None, error

    def is_alive(self) -> bool:
        """Whether there is a scheduler that answers."""
        return bool(self._client.status == "running")

    def counts(self) -> Counts:
        """Return what the workers have read; those that are gone, up to when this was last asked."""
        with suppress(OSError):  # while one of them is dying
            self._counts |= stats_by_process(self._client)
        return functools.reduce(operator.add, self._counts.values(), Counts())

    def memory(self) -> dict[str, int]:
        """Return the memory of the workers, as the scheduler last heard of it."""
        try:
            return {name: int(worker["metrics"]["memory"]) for name, worker in self._workers().items()}
        except OSError:
            return {}

    def close(self) -> None:
        """Give up what is under way."""
        futures = list(self._running.values())
        self._running.clear()
        if futures and self.is_alive():
            self._client.cancel(futures, force=True)
