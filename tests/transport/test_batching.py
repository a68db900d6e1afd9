"""Calls of one turn of a loop are done together, and each has an outcome of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from lindi_dask.transport import Batcher

if TYPE_CHECKING:
    from collections.abc import Sequence


class Doing:
    """Answers each call with ten times its number; odd thirteens fail."""

    def __init__(self, *, moment_s: float = 0.0, most: int = 1024) -> None:
        self.batches: list[list[int]] = []
        self.blocked: asyncio.Event | None = None
        self.begun = asyncio.Event()
        self.cancelled = 0
        self.batcher: Batcher[int, int] = Batcher(self.do, moment_s=lambda _: moment_s, most=most)

    async def do(self, arguments: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(arguments))
        self.begun.set()
        if self.blocked is not None:
            try:
                await self.blocked.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if 99 in arguments:
            raise OSError("all of them")
        return [ValueError(n) if n == 13 else 10 * n for n in arguments]


async def test_calls_of_one_turn_are_one_batch() -> None:
    doing = Doing()
    assert await asyncio.gather(*map(doing.batcher.call, range(9))) == [10 * n for n in range(9)]
    assert doing.batches == [list(range(9))]


async def test_a_call_that_comes_alone_waits_for_nobody() -> None:
    doing = Doing(moment_s=1000)
    assert [await doing.batcher.call(n) for n in range(3)] == [0, 10, 20]
    assert doing.batches == [[0], [1], [2]]


async def test_callers_that_were_answered_together_are_waited_for() -> None:
    doing = Doing(moment_s=1000)

    async def caller(n: int) -> None:
        for step in range(5):
            await doing.batcher.call(n + 100 * step)
            for _ in range(3 * n):
                await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(*map(caller, range(4))), 20)
    assert [len(batch) for batch in doing.batches] == [4] * 5


async def test_who_does_not_come_back_is_waited_for_no_longer_than_a_moment() -> None:
    doing = Doing(moment_s=0.001)
    await asyncio.gather(*map(doing.batcher.call, range(4)))
    assert await asyncio.wait_for(doing.batcher.call(7), 20) == 70


async def test_a_batch_is_bounded() -> None:
    doing = Doing(most=4)
    await asyncio.gather(*map(doing.batcher.call, range(10)))
    assert [len(batch) for batch in doing.batches] == [4, 4, 2]


async def test_each_call_has_its_own_error() -> None:
    outcomes = await asyncio.gather(*map(Doing().batcher.call, (1, 13, 2)), return_exceptions=True)
    assert [outcomes[0], outcomes[2]] == [10, 20]
    assert isinstance(outcomes[1], ValueError)
    outcomes = await asyncio.gather(*map(Doing().batcher.call, (1, 99)), return_exceptions=True)
    assert all(isinstance(one, OSError) for one in outcomes)


async def test_a_call_that_is_given_up_takes_no_other_with_it() -> None:
    doing = Doing()
    doing.blocked = asyncio.Event()
    tasks = [asyncio.ensure_future(doing.batcher.call(n)) for n in range(3)]
    await doing.begun.wait()
    tasks[1].cancel()
    await asyncio.sleep(0)
    doing.blocked.set()
    assert [await tasks[0], await tasks[2]] == [0, 20]
    assert tasks[1].cancelled()


async def test_a_batch_that_nobody_waits_for_is_given_up() -> None:
    doing = Doing()
    doing.blocked = asyncio.Event()
    tasks = [asyncio.ensure_future(doing.batcher.call(n)) for n in range(3)]
    await doing.begun.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(3):
        await asyncio.sleep(0)
    assert doing.cancelled == 1


async def test_a_call_that_is_given_up_before_its_batch_is_not_done() -> None:
    doing = Doing()
    tasks = [asyncio.ensure_future(doing.batcher.call(n)) for n in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == [10, 20]
    assert doing.batches == [[1, 2]]


def test_each_loop_has_its_own_batches() -> None:
    doing, found = Doing(), []

    async def calls() -> list[int]:
        return await asyncio.gather(*map(doing.batcher.call, range(20, 70)))

    threads = [threading.Thread(target=lambda: found.append(asyncio.run(calls()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[10 * n for n in range(20, 70)]] * 4
    assert sorted(map(len, doing.batches)) == [50] * 4
