from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.errors import (
    ArchiveUnavailable,
    LindiError,
    PermissionDenied,
    StorageUnavailable,
    UnavailableError,
)
from lindi_dask.retry import EXCHANGE, READ, RetryBudget, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY = RetryPolicy(attempts=5, total_s=100.0, first_s=1.0, cap_s=4.0, retry_on=StorageUnavailable)


KNOWN: dict[str, str] = {}


class Time:
    """A clock that stands still but for what is slept and what attempts take."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


class Work:
    """Fails as it is told to, attempt by attempt, then succeeds; each attempt takes a while."""

    def __init__(self, time: Time, failures: list[BaseException], *, takes_s: float = 0.0) -> None:
        self.time = time
        self.failures = failures
        self.takes_s = takes_s
        self.attempts = 0

    def __call__(self) -> str:
        self.attempts += 1
        self.time.now += self.takes_s
        if self.attempts <= len(self.failures):
            raise self.failures[self.attempts - 1]
        return "done"


def sync(policy: RetryPolicy, time: Time, work: Work, budget: RetryBudget | None = None) -> str:
    for attempt in policy.sync(budget or RetryBudget(), clock=time.clock, sleep=time.sleep):
        with attempt:
            return work()
    raise AssertionError("no outcome")


def asynchronous(policy: RetryPolicy, time: Time, work: Work, budget: RetryBudget | None = None) -> str:
    async def run() -> str:
        async for attempt in policy.asynchronous(budget or RetryBudget(), clock=time.clock, sleep=time.asleep):
            with attempt:
                return work()
        raise AssertionError("no outcome")

    return asyncio.run(run())


@pytest.fixture(params=[sync, asynchronous], ids=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[[RetryPolicy, Time, Work], str]:
    chosen: Callable[[RetryPolicy, Time, Work], str] = request.param
    return chosen


def busy(retry_after_s: float | None = None) -> StorageUnavailable:
    return StorageUnavailable("The host is busy.", retry_after_s=retry_after_s)


@pytest.mark.parametrize("failures", range(5))
def test_it_tries_until_it_works(run: Callable[[RetryPolicy, Time, Work], str], failures: int) -> None:
    time = Time()
    work = Work(time, [busy() for _ in range(failures)])
    assert run(POLICY, time, work) == "done"
    assert (work.attempts, len(time.slept)) == (failures + 1, failures)


def test_it_gives_up_after_as_many_attempts_as_it_may_and_says_so(
    run: Callable[[RetryPolicy, Time, Work], str],
) -> None:
    time = Time()
    work = Work(time, [busy(0.25) for _ in range(9)])
    with pytest.raises(StorageUnavailable) as caught:
        run(POLICY, time, work)
    assert (work.attempts, len(time.slept)) == (5, 4)
    waited = f"{sum(time.slept):.0f}"
    assert str(caught.value) == f"The host is busy. Gave up after 5 attempts in {waited} s."
    assert (caught.value.attempts, caught.value.retry_after_s) == (5, 0.25)


def test_no_attempt_starts_after_the_time_is_over(run: Callable[[RetryPolicy, Time, Work], str]) -> None:
    time = Time()
    policy = RetryPolicy(attempts=1000, total_s=100.0, first_s=1.0, cap_s=4.0, retry_on=StorageUnavailable)
    work = Work(time, [busy() for _ in range(1000)], takes_s=10.0)
    with pytest.raises(StorageUnavailable, match="Gave up"):
        run(policy, time, work)
    assert time.now - 1000.0 <= 100.0 + 10.0
    assert 100.0 / (10.0 + 4.0) <= work.attempts <= 11


def test_an_attempt_that_took_all_the_time_is_the_last(run: Callable[[RetryPolicy, Time, Work], str]) -> None:
    time = Time()
    work = Work(time, [busy() for _ in range(9)], takes_s=101.0)
    with pytest.raises(StorageUnavailable, match="Gave up after 1 attempts in 101 s"):
        run(POLICY, time, work)
    assert not time.slept


def test_it_waits_as_long_as_the_other_side_asks(run: Callable[[RetryPolicy, Time, Work], str]) -> None:
    time = Time()
    assert run(POLICY, time, Work(time, [busy(30.0), busy(20.0), busy(0.0)])) == "done"
    assert time.slept[:2] == [30.0, 20.0]
    assert time.slept[2] <= POLICY.bound_s(3)


def test_it_does_not_wait_beyond_its_time_only_to_fail(run: Callable[[RetryPolicy, Time, Work], str]) -> None:
    time = Time()
    work = Work(time, [busy(3600.0)])
    with pytest.raises(StorageUnavailable, match="Gave up after 1 attempts in 0 s"):
        run(POLICY, time, work)
    assert not time.slept


@pytest.mark.parametrize(
    "error",
    [
        ArchiveUnavailable("another plane's"),
        UnavailableError("its base"),
        PermissionDenied("final", asset="a"),
        LindiError("final"),
        OSError("reset"),
        ValueError("a bug"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_other_error_is_final_and_untouched(
    run: Callable[[RetryPolicy, Time, Work], str], error: BaseException
) -> None:
    time = Time()
    work = Work(time, [busy(), error])
    with pytest.raises(type(error)) as caught:
        run(POLICY, time, work)
    assert caught.value is error
    assert work.attempts == 2


def test_a_subclass_stays_itself_with_its_attributes(run: Callable[[RetryPolicy, Time, Work], str]) -> None:
    class Stalled(StorageUnavailable):
        host: str

    time = Time()
    with pytest.raises(Stalled) as caught:
        run(POLICY, time, Work(time, [Stalled("It stalls.", host="h") for _ in range(9)]))
    assert vars(caught.value) == {"host": "h", "attempts": 5}


def test_what_is_raised_in_the_end_has_no_other_error_behind_it(run: Callable[[RetryPolicy, Time, Work], str]) -> None:
    class Leaky(Work):
        def __call__(self) -> str:
            try:
                KNOWN["https://bucket.example/?X-Amz-Signature=planted"]
            except KeyError:
                error = busy()
            self.attempts += 1
            raise error

    time = Time()
    with pytest.raises(StorageUnavailable) as caught:
        run(POLICY, time, Leaky(time, []))
    error: BaseException | None = caught.value
    while error is not None:
        assert "planted" not in f"{error!r} {vars(error)}"
        error = error.__cause__ or error.__context__


def test_a_policy_may_be_used_by_many_at_once(run: Callable[[RetryPolicy, Time, Work], str]) -> None:
    first, second = Time(), Time()
    second.now = 5000.0
    run(POLICY, first, Work(first, [busy()]))
    run(POLICY, second, Work(second, [busy()]))
    assert len(first.slept) == len(second.slept) == 1


@given(st.integers(1, 10_000))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_bound_of_a_wait_doubles_up_to_its_cap(attempt: int) -> None:
    for policy in (POLICY, EXCHANGE, READ):
        bound = policy.bound_s(attempt)
        assert bound == policy.cap_s or (attempt == 1 or bound == 2 * policy.bound_s(attempt - 1))
        assert policy.first_s <= bound <= policy.cap_s


def test_waits_are_spread_over_the_whole_of_their_bound() -> None:
    time = Time()
    for _ in range(200):
        sync(POLICY, time, Work(time, [busy()]))
    assert min(time.slept) < 0.1
    assert 0.9 < max(time.slept) <= 1.0


def test_the_two_policies_are_those_of_the_design() -> None:
    assert (EXCHANGE.attempts, EXCHANGE.total_s, EXCHANGE.cap_s) == (16, 60.0, 20.0)
    assert (READ.attempts, READ.total_s, READ.cap_s) == (20, 120.0, 15.0)
    assert (EXCHANGE.retry_on, READ.retry_on) == (ArchiveUnavailable, StorageUnavailable)


# The budget


def unanswered() -> StorageUnavailable:
    return StorageUnavailable("The host can't be reached.", unanswered=True)


def test_retries_cost_five_or_ten_tokens_and_a_success_gives_one_back() -> None:
    budget = RetryBudget(22)
    assert budget.take(busy())
    assert budget.take(unanswered())
    assert budget.take(busy())
    assert (budget.left, budget.take(busy())) == (2, False)
    for _ in range(3):
        budget.succeeded()
    assert budget.take(busy())
    for _ in range(100):
        budget.succeeded()
    assert budget.left == 22


@pytest.mark.parametrize("run", [sync, asynchronous])
def test_an_operation_ends_at_once_when_the_budget_is_spent_and_says_so(run: Callable[..., str]) -> None:
    time, budget = Time(), RetryBudget(10)
    with pytest.raises(StorageUnavailable, match=r"Gave up after 3 attempts in \d+ s: too many requests .* budget"):
        run(POLICY, time, Work(time, [busy() for _ in range(9)]), budget)
    assert (len(time.slept), budget.left) == (2, 0)


def test_many_threads_spend_no_more_than_there_is() -> None:
    budget = RetryBudget(5 * 1000)
    with ThreadPoolExecutor(8) as threads:
        paid = list(threads.map(lambda _: budget.take(busy()), range(3000)))
    assert (sum(paid), budget.left) == (1000, 0)


def in_an_outage(outage_s: float, budget: RetryBudget) -> tuple[int, float]:
    """One read that starts with the outage, on a clock of its own; its attempts, and when it was over."""
    time, attempts = Time(), 0
    try:
        for attempt in READ.sync(budget, clock=time.clock, sleep=time.sleep):
            with attempt:
                attempts += 1
                if time.now < 1000.0 + outage_s:
                    raise unanswered()
    except StorageUnavailable:
        return attempts, time.now - 1000.0
    budget.succeeded()
    return attempts, -1.0


def test_the_budget_of_a_process_lasts_for_64_requests_at_a_time_in_an_outage_of_20_s() -> None:
    spent = []
    for _ in range(20):
        budget = RetryBudget()
        outcomes = [in_an_outage(20.0, budget) for _ in range(64)]
        assert all(gave_up < 0 for _, gave_up in outcomes)
        spent.append(10 * sum(attempts - 1 for attempts, _ in outcomes))
    print(f"tokens spent: {min(spent)} to {max(spent)}")
    assert min(spent) > 500  # botocore's capacity would have failed them
    assert max(spent) <= 0.8 * RetryBudget().left


def test_an_outage_of_5_minutes_ends_every_request_within_the_policy_and_later_ones_at_once() -> None:
    budget = RetryBudget()
    first = [in_an_outage(300.0, budget) for _ in range(64)]
    assert all(0 <= gave_up <= READ.total_s for _, gave_up in first)
    for _ in range(64):
        in_an_outage(300.0, budget)
    assert in_an_outage(300.0, budget) == (1, 0.0)


@pytest.mark.parametrize("policy", [EXCHANGE, READ])
def test_waits_that_all_turn_out_short_still_outlast_20_s(policy: RetryPolicy) -> None:
    waits = [[random.uniform(0, policy.bound_s(n)) for n in range(1, policy.attempts)] for _ in range(20_000)]
    assert min(map(sum, waits)) > 20.0
