"""Hedging: only stragglers, at most a fiftieth of the requests, and whichever answer comes first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lindi_dask.transport.hedging import Hedging, first_of

if TYPE_CHECKING:
    from collections.abc import Callable


def test_nothing_is_hedged_before_enough_is_known() -> None:
    hedging = Hedging()
    for _ in range(39):
        assert hedging.patience_s(1) is None
        hedging.observe(1, 1)


def test_a_straggler_takes_longer_than_95_of_100() -> None:
    hedging = Hedging()
    for i in range(200):
        hedging.observe(1 + (i % 100) / 100, 1)
    assert hedging.patience_s(1) == pytest.approx(1.95, abs=0.06)
    assert hedging.patience_s(10) == pytest.approx(19.5, abs=0.6)
    assert hedging.patience_s(0.001) == 0.05


@pytest.mark.parametrize("requests", [49, 50, 100, 1000])
def test_at_most_2_of_100_requests_are_hedged(requests: int) -> None:
    hedging, hedged = Hedging(), 0
    for _ in range(requests):
        hedging.observe(1, 1)
        hedged += hedging.take()
    assert hedged == requests // 50


def test_what_was_saved_up_is_no_storm() -> None:
    hedging = Hedging()
    for _ in range(100_000):
        hedging.observe(1, 1)
    assert sum(hedging.take() for _ in range(1000)) == 4
    assert hedging.patience_s(1) is None


class Requests:
    """Requests whose outcomes are given one by one."""

    def __init__(self) -> None:
        self.answers: list[asyncio.Future[str]] = []
        self.cancelled = 0
        self.released = 0

    async def __call__(self) -> str:
        self.answers.append(asyncio.get_running_loop().create_future())
        try:
            return await self.answers[-1]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def may(self) -> Callable[[], None]:
        return self.release

    def release(self) -> None:
        self.released += 1

    async def until(self, count: int) -> None:
        while len(self.answers) < count:  # noqa: ASYNC110 - it takes a few turns of the loop
            await asyncio.sleep(0)


async def test_a_request_in_time_is_one() -> None:
    requests = Requests()
    task = asyncio.ensure_future(first_of(requests, 60, requests.may))
    await requests.until(1)
    requests.answers[0].set_result("first")
    assert await task == "first"
    assert (len(requests.answers), requests.cancelled, requests.released) == (1, 0, 0)


@pytest.mark.parametrize("winner", [0, 1])
async def test_of_two_the_first_answer_counts_and_the_other_is_cancelled(winner: int) -> None:
    requests = Requests()
    task = asyncio.ensure_future(first_of(requests, 0, requests.may))
    await requests.until(2)
    requests.answers[winner].set_result("won")
    assert await task == "won"
    assert (requests.cancelled, requests.released) == (1, 1)


@pytest.mark.parametrize("failing", [0, 1])
async def test_of_two_one_may_fail(failing: int) -> None:
    requests = Requests()
    task = asyncio.ensure_future(first_of(requests, 0, requests.may))
    await requests.until(2)
    requests.answers[failing].set_exception(ConnectionError())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    requests.answers[1 - failing].set_result("won")
    assert await task == "won"
    assert (requests.cancelled, requests.released) == (0, 1)


async def test_two_that_fail_are_an_error() -> None:
    requests = Requests()
    task = asyncio.ensure_future(first_of(requests, 0, requests.may))
    await requests.until(2)
    for answer in requests.answers:
        answer.set_exception(ConnectionError())
    with pytest.raises(ConnectionError):
        await task
    assert requests.released == 1


async def test_both_end_with_their_caller() -> None:
    requests = Requests()
    task = asyncio.ensure_future(first_of(requests, 0, requests.may))
    await requests.until(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (requests.cancelled, requests.released) == (2, 1)


async def test_none_is_sent_where_none_may_be() -> None:
    requests = Requests()
    for patience_s in (0.0, None):
        task = asyncio.ensure_future(first_of(requests, patience_s, lambda: None))
        await requests.until(1)
        await asyncio.sleep(0.01)
        requests.answers.pop().set_result("only")
        assert await task == "only"
        assert requests.answers == []
