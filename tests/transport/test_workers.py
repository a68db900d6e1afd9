"""Threads that work for the earliest caller first."""

from __future__ import annotations

import asyncio
import threading

import pytest

from lindi_dask.transport.workers import Workers


async def test_all_jobs_are_done_when_the_future_is() -> None:
    workers, done = Workers(3, "test"), set()
    await workers.run([lambda i=i: done.add(i) for i in range(50)], (0, 0))  # type: ignore[misc]
    assert done == set(range(50))


async def test_the_lowest_key_comes_first() -> None:
    workers, order = Workers(1, "test"), []
    started, gate = threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        gate.wait(20)

    first = workers.run([block], (0, 0))
    await asyncio.to_thread(started.wait, 20)
    later = [workers.run([lambda i=i: order.append(i)], (0, i)) for i in (3, 1, 2)]  # type: ignore[misc]
    gate.set()
    await asyncio.gather(first, *later)
    assert order == [1, 2, 3]


async def test_the_first_error_is_told_and_what_has_not_begun_never_does() -> None:
    workers, done = Workers(1, "test"), []

    def fail() -> None:
        raise ValueError("told")

    future = workers.run([fail, *([lambda: done.append(1)] * 1000)], (0, 0))
    with pytest.raises(ValueError, match="told"):
        await future
    await workers.run([lambda: None], (1, 0))
    assert len(done) < 1000


async def test_a_caller_that_gives_up_has_no_more_work_done() -> None:
    workers, done = Workers(1, "test"), []
    started, gate = threading.Event(), threading.Event()

    def block() -> None:
        started.set()
        gate.wait(20)

    future = workers.run([block, lambda: done.append(1)], (0, 0))
    await asyncio.to_thread(started.wait, 20)
    future.cancel()
    gate.set()
    await workers.run([lambda: None], (1, 0))
    assert done == []
