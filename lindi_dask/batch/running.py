"""A run over many assets: a few are under way, each result is written as it comes, failures wait for the end."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lindi_dask.batch.executors import Begun, WorkerDied
from lindi_dask.batch.plan import BEGUN, DONE, FAILED, MOVED, identity_of
from lindi_dask.errors import LindiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lindi_dask.batch.executors import Executor, Outcome
    from lindi_dask.batch.folder import JobFolder
    from lindi_dask.batch.plan import Dues
    from lindi_dask.jobs.ledger import Ledger
    from lindi_dask.types import AssetInfo

__all__ = ["Progress", "Run"]

_log = logging.getLogger(__name__)

_QUIET_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is."""

    done: int
    """assets that have references now, those of earlier runs included"""
    total: int
    failed: int
    """assets that failed, and were not done since"""
    workers: int
    """processes, or threads"""
    path: str | None
    """of the asset that this is about; None: a minute has passed without one"""
    reason: str | None
    """why it failed; None: it did not"""
    seconds: float
    """that it took"""


class Run:
    """One run.

    Parameters
    ----------
    executor
        Indexes assets.
    folder
        Takes the results.
    ledger
        Is told what happens.
    settings
        That references depend on.
    progress
        Is told where the run is.
    total
        Assets in all.
    """

    def __init__(
        self,
        executor: Executor,
        folder: JobFolder,
        ledger: Ledger,
        settings: Mapping[str, Any],
        progress: Callable[[Progress], None],
        *,
        total: int,
    ) -> None:
        self._executor = executor
        self._folder = folder
        self._ledger = ledger
        self._settings = settings
        self._progress = progress
        self._total = total
        self._done = total
        self._failed: dict[str, BaseException] = {}

    def run(self, dues: Dues, attempts: int, listed: Callable[[], list[AssetInfo]]) -> None:
        """Do what is due; what fails again, when all else is done.

        Parameters
        ----------
        dues
            What is to be done.
        attempts
            How often each may be tried.
        listed
            Lists all assets anew.
        """
        waiting = dues.index
        self._ledger.record("started", due=len(waiting), total=self._total)
        try:
            waiting += [info for info in dues.move if not self._moved(info)]
            self._done -= len(waiting)
            for attempt in range(1, attempts + 1):
                self._pass(waiting, attempt)
                again = {
                    path
                    for path, error in self._failed.items()
                    if not isinstance(error, WorkerDied) or error.times < attempts
                }
                if not again or attempt == attempts:
                    break
                waiting = self._anew([info for info in waiting if info.path in again], listed)
        except BaseException as error:
            self._ledger.record("ended", by=type(error).__name__)
            raise
        else:
            self._ledger.record("ended", by=None)
        finally:
            self._executor.close()

    def _moved(self, info: AssetInfo) -> bool:
        """Give references the URL of an asset that has another id now; tell whether that was done."""
        try:
            self._folder.move(info)
        except LindiError as error:
            _log.warning("%s is indexed anew: %s", info.path, error)
            return False
        self._ledger.record(MOVED, path=info.path, asset=info.asset.id, **identity_of(info, self._settings))
        return True

    def _anew(self, infos: list[AssetInfo], listed: Callable[[], list[AssetInfo]]) -> list[AssetInfo]:
        """Return what assets are now: one that was replaced has another id."""
        try:
            now = {info.path: info for info in listed()}
        except LindiError as error:
            _log.warning("The assets could not be listed anew: %s", error)
            return infos
        return [now.get(info.path, info) for info in infos]

    def _pass(self, infos: list[AssetInfo], attempt: int) -> None:
        """Have each asset indexed once."""
        waiting = deque(infos)
        under_way = 0
        heard_at = time.monotonic()
        while waiting or under_way:
            for _ in range(min(len(waiting), self._executor.window() - under_way)):
                self._executor.submit(waiting.popleft())
                under_way += 1
            event = self._executor.event(1.0)
            if isinstance(event, Begun):
                self._ledger.record(BEGUN, path=event.info.path, asset=event.info.asset.id, worker=event.worker)
            elif event is not None:
                under_way -= 1
                self._take(event, attempt)
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > _QUIET_S:
                self._tell(None, None, _QUIET_S)
                heard_at = time.monotonic()

    def _take(self, outcome: Outcome, attempt: int) -> None:
        """Write what came of an asset: first the results, then that they are there."""
        info, error = outcome.info, outcome.error
        identity = identity_of(info, self._settings)
        seconds = 0.0
        if outcome.indexed is not None:
            seconds = outcome.indexed.seconds
            try:
                self._folder.save(info, outcome.indexed)
            except LindiError as raised:
                error = raised
        if error is None:
            self._failed.pop(info.path, None)
            self._done += 1
            self._ledger.record(
                DONE, path=info.path, asset=info.asset.id, **identity, attempt=attempt, seconds=round(seconds, 3)
            )
            self._tell(info.path, None, seconds)
            return
        if not isinstance(error, LindiError):  # what others' errors say may hold anything, a URL for one
            _log.error("%s: %s", info.path, type(error).__name__)
        reason = str(error) if isinstance(error, LindiError) else "Unexpected: the worker's log says what happened."
        self._failed[info.path] = error
        kind = type(error).__name__
        self._ledger.record(
            FAILED, path=info.path, asset=info.asset.id, **identity, attempt=attempt, kind=kind, reason=reason
        )
        self._tell(info.path, f"{kind}: {reason}", seconds)

    def _tell(self, path: str | None, reason: str | None, seconds: float) -> None:
        workers = self._executor.workers()
        self._progress(Progress(self._done, self._total, len(self._failed), workers, path, reason, seconds))
