"""What a job's ledger tells of its runs, put in order for a report. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from lindi_dask.transport import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lindi_dask.conversion.plan import Shard

__all__ = ["Failure", "History", "Making", "RunHistory", "history_of", "spread"]


@dataclass(frozen=True, slots=True)
class Making:
    """An object that was made."""

    shard: Shard
    ended_s: float
    """seconds of work from the job's start on: time between runs is none"""
    nbytes: int | None
    """that are stored; None: all fill value, no object"""
    raw_nbytes: int
    digest: str
    seconds: dict[str, float]
    """of each step"""
    process: str
    memory: int
    """bytes that its process took"""
    counts: Counts
    """what its process read meanwhile"""

    @property
    def total_s(self) -> float:
        """Seconds of all steps."""
        return sum(self.seconds.values())


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed."""

    shard: Shard
    at_s: float
    """seconds of work from the job's start on"""
    error: str
    """name of its type"""
    reason: str
    is_last: bool
    """whether the object was set aside"""


@dataclass(slots=True)
class RunHistory:
    """One call of `convert`."""

    started: float
    """seconds since 1970"""
    begin_s: float
    """seconds of work from the job's start on"""
    host: str
    pid: int
    threads: int
    kept: int
    """objects that were there"""
    seconds: float = 0.0
    """up to what it wrote last"""
    has_ended: bool = False
    """whether it said so: a process that is killed does not"""
    error: str | None = None
    """name of the type of what ended it, if not that all was done"""
    samples: list[tuple[float, Counts]] = field(default_factory=list)
    """when (seconds of work from the job's start on) and what the run had read by then"""


@dataclass(frozen=True, slots=True)
class History:
    """All that is known of how a job went."""

    runs: list[RunHistory]
    makings: list[Making]
    """in order of time; of each object the last one"""
    failures: list[Failure]

    @property
    def seconds(self) -> float:
        """Seconds of work, of all runs."""
        return sum(run.seconds for run in self.runs)

    @property
    def counts(self) -> Counts:
        """What was read in all runs, as far as it was looked at."""
        total = Counts()
        for run in self.runs:
            if run.samples:
                total += run.samples[-1][1]
        return total

    @property
    def set_aside(self) -> list[Failure]:
        """Objects that could not be made, and have not been since."""
        made = {making.shard: making.ended_s for making in self.makings}
        last = {one.shard: one for one in self.failures if one.is_last}
        return [one for shard, one in last.items() if made.get(shard, -1.0) < one.at_s]


def history_of(events: Iterable[dict[str, Any]]) -> History:
    """Return what the events of a ledger tell."""
    runs: list[RunHistory] = []
    makings: dict[Shard, Making] = {}
    failures: list[Failure] = []
    for event in events:
        kind = event["event"]
        if kind == "started":
            begin_s = runs[-1].begin_s + runs[-1].seconds if runs else 0.0
            runs.append(RunHistory(event["t"], begin_s, event["host"], event["pid"], event["threads"], event["kept"]))
        if not runs:
            continue
        run = runs[-1]
        run.seconds = max(event["t"] - run.started, run.seconds)
        now = run.begin_s + run.seconds
        if kind == "done":
            shard = (event["array"], event["place"])
            makings.pop(shard, None)
            makings[shard] = Making(
                shard=shard,
                ended_s=now,
                counts=_counts(event["counts"]),
                **{name: event[name] for name in ("nbytes", "raw_nbytes", "digest", "seconds", "process", "memory")},
            )
        elif kind in {"failed", "set_aside"}:
            shard = (event["array"], event["place"])
            failures.append(Failure(shard, now, event["error"], event["reason"], kind == "set_aside"))
        elif kind == "sample":
            run.samples.append((now, _counts(event["counts"])))
        elif kind == "ended":
            run.has_ended, run.error = True, event["error"]
    return History(runs, list(makings.values()), failures)


def _counts(found: dict[str, Any]) -> Counts:
    return Counts(**{one.name: found[one.name] for one in fields(Counts) if one.name in found})


def spread(amounts: Iterable[tuple[float, float, float]], seconds: float, bins: int) -> list[float]:
    """Return the mean rate in each of some bins of time, of amounts that came evenly from a start to a stop.

    Parameters
    ----------
    amounts
        Start (seconds; before 0 counts as 0), stop, and how much.
    seconds
        Where the last bin ends.
    bins
        How many.
    """
    width = seconds / bins
    sums = [0.0] * bins
    for start, stop, amount in amounts:
        first, last = max(start, 0.0), min(max(stop, 0.0), seconds)
        begin, end = (min(int(at / width), bins - 1) for at in (first, last))
        for number in range(begin, end + 1):
            inside = min(last, (number + 1) * width) - max(first, number * width)
            sums[number] += amount * (inside / (last - first) if last > first else 1.0)
    return [total / width for total in sums]
