"""What is told while a job runs: to its ledger, and to whoever draws it."""

from __future__ import annotations

import math
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final

from lindi_dask.conversion.ledger import Stored
from lindi_dask.transport import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from lindi_dask.conversion.executors import Executor
    from lindi_dask.conversion.plan import Plan, Shard
    from lindi_dask.conversion.task import Made
    from lindi_dask.jobs.ledger import Ledger

__all__ = ["Progress", "Recorder"]

_SAMPLE_S: Final = (1.0, 10.0)  # seconds between two looks at what all processes have read: a tenth of the time so far


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    done: int
    """objects"""
    total: int
    """objects"""
    nbytes: int
    """of the elements in the objects that are done, not compressed"""
    total_nbytes: int
    made_nbytes: int
    """of `nbytes`, those of this run"""
    failures: int
    """attempts that failed in this run"""
    set_aside: int
    """objects that could not be made in this run"""
    seconds: float
    """that this run takes up to now"""
    counts: Counts
    """what was read in this run, some seconds ago"""
    is_ended: bool = False

    @property
    def rate(self) -> float:
        """Bytes a second, not compressed."""
        return self.made_nbytes / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """About how long it will take; None if nothing is known yet."""
        return (self.total_nbytes - self.nbytes) / self.rate if self.made_nbytes else None


class Recorder:
    """Writes down what a run does, and tells it; the run is a `with` block.

    Parameters
    ----------
    plan
        What is made.
    kept
        What is done already.
    ledger
        Is written to.
    executor
        Is asked what was read.
    progress
        Is told.
    """

    def __init__(
        self,
        plan: Plan,
        kept: Mapping[Shard, Stored],
        ledger: Ledger,
        executor: Executor,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.stored: dict[Shard, Stored] = dict(kept)
        self.set_aside: dict[str, str] = {}
        self.failures = 0
        self.recorded = len(kept)  # objects that the ledger has on the disk
        self._plan, self._ledger, self._executor, self._tell = plan, ledger, executor, progress
        self._before = Counts()
        self._counts = Counts()
        self._made_nbytes = 0
        self._nbytes = sum(self._raw_nbytes(shard) for shard in kept)
        self._started = self._sampled = time.monotonic()

    @property
    def total(self) -> int:
        """How many objects there are."""
        return self._plan.tasks

    def __enter__(self) -> Self:
        self._before = self._executor.counts()
        who = {"host": platform.node(), "pid": os.getpid(), "threads": self._executor.threads}
        self._ledger.add("started", plan=self._plan.fingerprint, kept=len(self.stored), **who)
        self._flush()
        self._report(is_ended=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sample()
        outcome = {"done": len(self.stored), "set_aside": len(self.set_aside), "failures": self.failures}
        self._ledger.add("ended", **outcome, error=None if kind is None else kind.__name__)
        with suppress(OSError):  # what has no room any more is known by now
            self._flush()
        self._report(is_ended=True)

    def done(self, shard: Shard, result: Made) -> None:
        """Take an object that was made."""
        self.stored[shard] = Stored(result.nbytes, result.digest)
        raw = self._raw_nbytes(shard)
        self._nbytes += raw
        self._made_nbytes += raw
        self._ledger.add("done", array=shard[0], place=shard[1], raw_nbytes=raw, **asdict(result))

    def failed(self, shard: Shard, error: BaseException, *, is_last: bool) -> None:
        """Take an attempt that failed."""
        self.failures += 1
        reason = str(error) or type(error).__name__
        self._ledger.add(
            "set_aside" if is_last else "failed",
            array=shard[0],
            place=shard[1],
            error=type(error).__name__,
            reason=reason,
        )
        if is_last:
            self.set_aside[self._plan.arrays[shard[0]].place_key(shard[1])] = reason

    def tick(self) -> None:
        """Flush the ledger, and tell how far the run is."""
        now = time.monotonic()
        if now - self._sampled >= min(max((now - self._started) / 10, _SAMPLE_S[0]), _SAMPLE_S[1]):
            self._sampled = now
            self._sample()
        self._flush()
        self._report(is_ended=False)

    def _flush(self) -> None:
        self._ledger.flush()
        self.recorded = len(self.stored)

    def _sample(self) -> None:
        if not self._executor.is_alive():
            return
        self._counts = self._executor.counts() - self._before
        self._ledger.add("sample", counts=asdict(self._counts), memory=self._executor.memory())

    def _report(self, *, is_ended: bool) -> None:
        if self._tell is not None:
            self._tell(
                Progress(
                    done=len(self.stored),
                    total=self.total,
                    nbytes=self._nbytes,
                    total_nbytes=self._plan.nbytes,
                    made_nbytes=self._made_nbytes,
                    failures=self.failures,
                    set_aside=len(self.set_aside),
                    seconds=time.monotonic() - self._started,
                    counts=replace(self._counts),
                    is_ended=is_ended,
                )
            )

    def _raw_nbytes(self, shard: Shard) -> int:
        array = self._plan.arrays[shard[0]]
        extents: list[int] = [part.stop - part.start for part in array.region(shard[1])]
        return array.element_nbytes * math.prod(extents)
