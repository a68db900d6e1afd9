"""Who indexes assets: threads of this process, or the workers of a dask cluster."""

from __future__ import annotations

import queue
import threading
import uuid
from collections import Counter
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from lindi_dask.batch.asset_task import find_share, index_one
from lindi_dask.batch.plan import shares_of
from lindi_dask.errors import LindiError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from distributed import Client

    from lindi_dask.batch.asset_task import Indexed, Reading
    from lindi_dask.indexing import Share
    from lindi_dask.types import AssetInfo

__all__ = ["Begun", "Cluster", "Executor", "Outcome", "Threads", "WorkerDied"]

_SPARE: Final = 8  # assets that wait at a cluster besides those that run: also what workers are started for


class WorkerDied(LindiError):
    """Workers that had an asset died, as often as the cluster puts up with.

    Attributes
    ----------
    times : int
        How often the asset had been begun: 0 if it was only waiting there for its turn.
    """

    times: int


@dataclass(frozen=True, slots=True)
class Begun:
    """An asset that somebody has begun to index."""

    info: AssetInfo
    worker: str
    """address, or name of the thread"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an asset."""

    info: AssetInfo
    indexed: Indexed | None
    error: BaseException | None


class Executor(Protocol):
    """Indexes assets somewhere else."""

    def window(self) -> int:
        """Return how many assets may be under way, as things are now."""
        ...

    def submit(self, info: AssetInfo) -> None:
        """Have an asset indexed; what comes of it is told by `event`."""
        ...

    def event(self, timeout_s: float) -> Begun | Outcome | None:
        """Wait for an asset to begin or to end; None if none did in that time."""
        ...

    def workers(self) -> int:
        """Return how many there are, as things are now."""
        ...

    def close(self) -> None:
        """Give up what has not ended."""
        ...


class Threads:
    """Threads of this process.

    Parameters
    ----------
    reading
        How assets are read.
    threads
        How many.
    """

    def __init__(self, reading: Reading, threads: int) -> None:
        self._reading = reading
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lindi-index")
        self._events: queue.SimpleQueue[Begun | Outcome] = queue.SimpleQueue()

    def window(self) -> int:
        """Return how many threads there are."""
        return self._threads

    def submit(self, info: AssetInfo) -> None:
        """Index an asset in a thread, as a whole: threads have one line to the archive."""

        def run() -> Indexed:
            self._events.put(Begun(info, threading.current_thread().name))
            return index_one(info, self._reading)

        def ended(future: Future[Indexed]) -> None:
            if not future.cancelled():
                error = future.exception()
                self._events.put(Outcome(info, None if error is not None else future.result(), error))

        self._pool.submit(run).add_done_callback(ended)

    def event(self, timeout_s: float) -> Begun | Outcome | None:
        """Wait for an asset."""
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def workers(self) -> int:
        """Return how many threads there are."""
        return self._threads

    def close(self) -> None:
        """Begin no more; what is being read ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Cluster:
    """The workers of a dask cluster.

    Parameters
    ----------
    client
        Of the cluster.
    reading
        How assets are read.
    split
        Bytes of an asset from which on its datasets are dealt to several tasks.
    """

    def __init__(self, client: Client, reading: Reading, split: int) -> None:
        self._client = client
        self._reading = reading
        self._split = split
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._running: dict[str, tuple[AssetInfo, list[Any]]] = {}
        self._begun: Counter[str] = Counter()
        self._topic = f"lindi-begun-{uuid.uuid4().hex}"
        client.subscribe_topic(self._topic, self._hear)

    def _hear(self, event: tuple[float, dict[str, str]]) -> None:
        """Take what a worker says: called on the client's event loop."""
        self._events.put((event[1]["key"], event[1]["worker"]))

    def window(self) -> int:
        """Return how many assets may be under way: enough for an adaptive cluster to start more workers."""
        return 2 * sum(int(worker["nthreads"]) for worker in self._workers().values()) + _SPARE

    def workers(self) -> int:
        """Return how many processes there are."""
        return len(self._workers())

    def _workers(self) -> dict[str, Any]:
        self._check()
        try:
            workers: dict[str, Any] = self._client.scheduler_info(n_workers=-1).get("workers", {})
        except (OSError, RuntimeError, CancelledError):  # it may be lost at any point of the asking
            pass
        else:
            return workers
        raise self._gone()

    def submit(self, info: AssetInfo) -> None:
        """Send an asset to a worker; the datasets of a very large one to several."""
        name = f"{info.asset.id}-{uuid.uuid4().hex[:8]}"  # never the same task again: what failed is to be done anew
        shares = shares_of(info.size, self._split)
        parts = [
            self._client.submit(find_share, info, self._reading, i, shares, key=f"share-of-asset-{name}-{i}")
            for i in range(shares)
        ]
        key = f"index-asset-{name}"
        future = self._client.submit(_index, self._topic, key, info, self._reading, parts, key=key)
        self._running[key] = info, [future, *parts]
        future.add_done_callback(lambda ended: self._events.put((key, ended)))

    def event(self, timeout_s: float) -> Begun | Outcome | None:
        """Wait for an asset.

        Raises
        ------
        UnavailableError
            If the scheduler is gone.
        """
        try:
            key, found = self._events.get(timeout=timeout_s)
        except queue.Empty:
            self._check()
            return None
        if key not in self._running:  # what is said of a task may come when that has ended
            return None
        info = self._running[key][0]
        if isinstance(found, str):
            self._begun[info.asset.id] += 1
            return Begun(info, found)
        error: BaseException | None = None
        indexed = None
        try:
            indexed = found.result()
        except (Exception, CancelledError) as raised:  # noqa: BLE001 - it is told, whatever it is
            error = raised
        del self._running[key]
        if error is not None:
            self._check()
            error = _told(error, self._begun[info.asset.id])
        return Outcome(info, indexed, error)

    def _check(self) -> None:
        if self._client.status != "running":
            raise self._gone()

    @staticmethod
    def _gone() -> UnavailableError:
        return UnavailableError(
            "The cluster's scheduler does not answer any more. Start again when it does: what is done is kept."
        )

    def close(self) -> None:
        """Give up what is under way."""
        futures = [future for _, several in self._running.values() for future in several]
        self._running.clear()
        if self._client.status == "running":
            self._client.unsubscribe_topic(self._topic)
            self._client.cancel(futures, force=True, reason="the job has ended")


def _index(topic: str, key: str, info: AssetInfo, reading: Reading, shares: Sequence[Share]) -> Indexed:
    """On a worker: say that it begins, and index an asset."""
    from distributed import get_worker  # noqa: PLC0415 - distributed takes its time to import

    worker = get_worker()
    worker.log_event(topic, {"key": key, "worker": worker.address})
    return index_one(info, reading, shares)


def _told(error: BaseException, times: int) -> BaseException:
    """Return an error of distributed's in words."""
    from distributed.scheduler import KilledWorker  # noqa: PLC0415 - distributed takes its time to import

    if isinstance(error, KilledWorker):
        return WorkerDied(
            f"Workers that had it died, {error.allowed_failures + 1} times; it had been begun {times} times. Does it "
            "need more memory than a worker has? The workers' logs say why they died.",
            times=times,
        )
    return error
