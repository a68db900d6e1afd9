"""Shares: never more than there is, in turn, and nothing lost when callers give up."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.transport.shares import Shares, Turn


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_earliest_caller_comes_first_whenever_it_asked() -> None:
    shares, came = Shares(lambda: 1), []
    turns = [Turn() for _ in range(3)]

    async def use(i: int) -> None:
        await shares.take(1, turns[i].key())
        came.append(i)
        await asyncio.sleep(0)
        shares.give(1)

    await shares.take(1, Turn().key())
    tasks = [asyncio.ensure_future(use(i)) for i in (2, 0, 1)]
    await settle()
    assert came == []
    shares.give(1)
    await asyncio.gather(*tasks)
    assert came == [0, 1, 2]
    assert shares.taken == 0


def test_a_caller_that_reads_without_end_is_put_back() -> None:
    long, short = Turn(), Turn()
    assert long.key() < short.key()
    for _ in range(9):
        long.key(8 * 2**20)
    assert short.key() < long.key()


async def test_what_is_larger_than_all_there_is_waits_until_it_is_alone() -> None:
    shares = Shares(lambda: 10)
    await shares.take(4, (0, 0))
    large = asyncio.ensure_future(shares.take(50, (0, 1)))
    small = asyncio.ensure_future(shares.take(1, (0, 2)))
    await settle()
    assert not large.done()
    assert not small.done()  # else small ones could keep it out for ever
    assert not shares.try_take(1)
    shares.give(4)
    await settle()
    assert large.done()
    assert not small.done()
    shares.give(50)
    await small
    assert shares.taken == 1


@pytest.mark.parametrize("granted", [False, True])
async def test_a_caller_that_gives_up_holds_nothing(granted: bool) -> None:
    shares = Shares(lambda: 1)
    await shares.take(1, (0, 0))
    gone = asyncio.ensure_future(shares.take(1, (0, 1)))
    next_one = asyncio.ensure_future(shares.take(1, (0, 2)))
    await settle()
    if granted:
        shares.give(1)  # granted and cancelled in one turn of the loop
        gone.cancel()
    else:
        gone.cancel()
        shares.give(1)
    await asyncio.wait_for(next_one, 5)
    assert gone.cancelled()
    assert shares.taken == 1


@given(
    steps=st.lists(st.tuples(st.sampled_from(["take", "give", "cancel"]), st.integers(1, 9)), max_size=40),
    most=st.integers(1, 12),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_no_more_is_given_out_than_there_is_and_none_is_lost(steps: list[tuple[str, int]], most: int) -> None:
    async def run() -> None:
        shares = Shares(lambda: most)
        tasks: list[tuple[int, asyncio.Task[None]]] = []
        for number, (step, amount) in enumerate(steps):
            if step == "take":
                tasks.append((amount, asyncio.ensure_future(shares.take(amount, (0, number)))))
            elif step == "cancel" and tasks:
                waiting = [task for _, task in tasks if not task.done()]
                if waiting:
                    waiting[amount % len(waiting)].cancel()
            else:
                held = next(((n, task) for n, task in tasks if task.done() and not task.cancelled()), None)
                if held is not None:
                    tasks.remove(held)
                    shares.give(held[0])
            await settle()
            held_now = [n for n, task in tasks if task.done() and not task.cancelled()]
            assert shares.taken == sum(held_now)
            assert shares.taken <= most or len(held_now) == 1
            tasks = [(n, task) for n, task in tasks if not task.cancelled()]
        while tasks:
            amount, task = tasks.pop(0)
            await asyncio.wait_for(task, 5)
            shares.give(amount)
        assert shares.taken == 0

    asyncio.run(run())
