from __future__ import annotations

import asyncio
import logging
import math
import threading

import pytest

from lindi_dask.transport import Counters, Counts
from lindi_dask.transport.joblog import JobLog


def test_threads_may_count_at_once() -> None:
    counters = Counters()

    def count() -> None:
        for _ in range(2000):
            counters.add(requests=1, decode_s=0.5)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.counts() == Counts(requests=8000, decode_s=4000.0)


def test_what_was_counted_between_two_moments_is_their_difference() -> None:
    counters = Counters()
    counters.add(requests=3, bytes_wanted=5)
    before = counters.counts()
    counters.add(requests=4, hedges=1)
    assert counters.counts() - before == Counts(requests=4, hedges=1)
    with pytest.raises(KeyError):
        counters.add(request=1)


def test_counts_of_processes_add_up_and_have_ratios() -> None:
    one = Counts(requests=2, chunks=10, bytes_wanted=100, bytes_fetched=110, wait_s=1.5)
    both = one + Counts(requests=3, chunks=15, bytes_wanted=100, bytes_fetched=100, wait_s=0.5)
    assert both == Counts(requests=5, chunks=25, bytes_wanted=200, bytes_fetched=210, wait_s=2.0)
    assert both.chunks_per_request == 5
    assert both.overhead == 1.05
    half = Counts(requests=2, chunks=10, cache_hits=6, bytes_wanted=100, bytes_cached=60, bytes_fetched=50)
    assert (half.chunks_per_request, half.overhead) == (2, 1.25)
    assert math.isnan(Counts().chunks_per_request)
    assert math.isnan(Counts().overhead)


def test_counts_are_a_line_for_people() -> None:
    counts = Counts(
        requests=1234, bytes_wanted=5_600_000_000, bytes_fetched=5_700_000_000, chunks=98_765, retries=3, refusals=1,
        hedges=2, cache_hits=5, chunks_shared=4, exchanges=9, renewals=8, wait_s=61.2, decode_s=30.1,
    )  # fmt: skip
    assert str(counts) == (
        "98,765 chunks (5.6 GB) by 1,234 requests (5.7 GB); 5 from the disk cache, 4 shared by blocks; "
        "9 exchanges, 8 of them renewals; 1 refusals, 3 retries, 2 hedges; 61.2 s in reads, 30.1 s of decoding"
    )
    assert "1 chunks (999 B) by 1 requests (1.0 kB)" in str(
        Counts(requests=1, bytes_wanted=999, bytes_fetched=1000, chunks=1)
    )


async def test_what_a_job_read_is_logged_once_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    jobs = JobLog(counters, quiet_s=0.05)
    with caplog.at_level(logging.INFO, "lindi_dask"):
        with jobs.reading():
            with jobs.reading():
                counters.add(chunks=3)
            await asyncio.sleep(0.1)
            assert not caplog.messages  # one read still goes on
        with jobs.reading():  # at once: the same job
            counters.add(chunks=4)
        assert not caplog.messages
        await asyncio.sleep(0.15)
        with jobs.reading():
            counters.add(chunks=5)
        await asyncio.sleep(0.15)
        with jobs.reading():
            pass
        await asyncio.sleep(0.15)  # nothing was read: nothing to say
        with jobs.reading():
            counters.add(chunks=6)
        jobs.say()  # the process ends before it was quiet for long
        jobs.say()
    assert [message.partition(" chunks")[0].rpartition(" ")[2] for message in caplog.messages] == ["7", "5", "6"]
    assert all(message.startswith("read in 0.") for message in caplog.messages)
