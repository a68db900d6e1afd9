"""What was read, in numbers: by this process, or by all workers of a cluster."""

from __future__ import annotations

import functools
import operator
import os
import platform
from contextlib import suppress
from typing import TYPE_CHECKING

from lindi_dask import process
from lindi_dask.transport import Counts

if TYPE_CHECKING:
    from distributed import Client, Scheduler

__all__ = ["stats", "stats_by_process"]


def stats(client: Client | None = None) -> Counts:
    """Return what has been read so far; subtract two of them for what lies between.

    Parameters
    ----------
    client
        Of a dask cluster: the sum over the processes of its workers, each counted since it began. What workers that are
        gone have read is not in it; the exchanges of its lease broker are, if `distribute` was called. None: this
        process, which is where the threaded scheduler reads.

    Returns
    -------
    Counts
        Requests, chunks, bytes wanted and fetched, exchanges, renewals, retries, hedges, and seconds; `str()` of it is
        a line for a log, `chunks_per_request` and `overhead` are its ratios. The same line is logged at INFO, by
        `lindi_dask`, when a process has read nothing for 10 seconds, and at its end.
    """
    if client is None:
        return process.counters().counts()
    return functools.reduce(operator.add, stats_by_process(client).values(), Counts())


def stats_by_process(client: Client) -> dict[tuple[str, int], Counts]:
    """Return what each process of a cluster has read so far, by host and pid; of the lease broker, by its name."""
    # Workers may be threads of one process
    by_process: dict[tuple[str, int], Counts] = dict(client.run(_own).values())
    with suppress(ImportError):  # a scheduler without this package has no broker
        by_process[process.BROKER, 0] = client.run_on_scheduler(_of_broker)
    return by_process


def _of_broker(dask_scheduler: Scheduler) -> Counts:
    """On the scheduler: what its lease broker has exchanged, since it is none of the workers."""
    broker = dask_scheduler.plugins.get(process.BROKER)
    counts: Counts = Counts() if broker is None else broker.counts
    return counts


def _own() -> tuple[tuple[str, int], Counts]:
    return (platform.node(), os.getpid()), process.counters().counts()
