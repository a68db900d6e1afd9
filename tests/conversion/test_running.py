"""Many tasks, a few at a time: simulated, for what no test has the time to convert."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import pytest

from lindi_dask.conversion.plan import ArrayPlan, Plan
from lindi_dask.conversion.running import ATTEMPTS, NoWorkersError, Run
from lindi_dask.errors import CorruptChunk, InvalidReferences, PermissionDenied, TargetError
from lindi_dask.transport import Counts

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.conversion.plan import Shard


class Simulated:
    """Ends tasks in any order; of each it says what a table does."""

    task_memory = float("inf")

    def __init__(self, threads: int = 4, errors: Callable[[Shard], BaseException | None] = lambda _: None) -> None:
        self.threads = threads
        self.most = self.submitted = 0
        self.alive = True
        self._errors = errors
        self._draw = random.Random(2)
        self._running: deque[Shard] = deque()

    def submit(self, item: Shard, function: Callable[..., Any], *arguments: Any) -> None:
        self._running.append(item)
        self.submitted += 1
        self.most = max(self.most, len(self._running))

    def outcome(self, timeout_s: float) -> tuple[Any, Any, BaseException | None] | None:
        if not self._running:
            return None
        self._running.rotate(self._draw.randrange(len(self._running)))
        shard = self._running.popleft()
        error = self._errors(shard)
        return shard, None if error else "made", error

    def is_alive(self) -> bool:
        return self.alive

    def counts(self) -> Counts:
        return Counts()

    def memory(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


class Told:
    def __init__(self) -> None:
        self.made = 0
        self.failed_of: Counter[Shard] = Counter()
        self.aside: list[Shard] = []

    def done(self, shard: Shard, result: Any) -> None:
        self.made += 1

    def failed(self, shard: Shard, error: BaseException, *, is_last: bool) -> None:
        self.failed_of[shard] += 1
        if is_last:
            self.aside.append(shard)

    def tick(self) -> None:
        pass


def call(shard: Shard) -> Any:
    return print, (shard,)


def test_a_hundred_thousand_shards_take_no_more_memory_than_a_hundred() -> None:
    document = {
        "shape": [100_000 * 1000, 64],
        "chunk_grid": {"configuration": {"chunk_shape": [1000, 64]}},
        "codecs": [{"name": "bytes"}],
    }
    array = ArrayPlan("data", document, "native", 2, (1000, 64), None)
    plan = Plan("refs", {}, {"": {}}, (array,), {})
    assert plan.tasks == 100_000
    executor, told = Simulated(), Told()
    tracemalloc.start()
    Run(executor, call, told).run(plan.shards())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert told.made == 100_000
    assert executor.most == 10  # 2.5 for each of four threads
    assert peak < 200_000  # bytes


def test_three_attempts_then_set_aside_and_the_rest_goes_on() -> None:
    failures = {(0, 3): 2, (0, 7): 99, (0, 9): 1}
    left = dict(failures)

    def errors(shard: Shard) -> BaseException | None:
        if left.get(shard, 0) > 0:
            left[shard] -= 1
            return CorruptChunk("damaged", key="k", reason="r")
        return None

    told = Told()
    Run(Simulated(errors=errors), call, told).run((0, place) for place in range(20))
    assert told.made == 19
    assert told.failed_of == {(0, 3): 2, (0, 7): ATTEMPTS, (0, 9): 1}
    assert told.aside == [(0, 7)]


def test_what_will_never_be_better_is_tried_once() -> None:
    error = InvalidReferences("broken", key=None, reason="r")
    told = Told()
    Run(Simulated(errors=lambda shard: error if shard[1] == 5 else None), call, told).run((0, n) for n in range(9))
    assert (told.made, told.failed_of[0, 5], told.aside) == (8, 1, [(0, 5)])


@pytest.mark.parametrize(
    "error", [PermissionDenied("no", asset="a"), TargetError("full", is_final=True), KeyboardInterrupt()]
)
def test_what_fails_for_all_ends_the_run_after_what_is_under_way(error: BaseException) -> None:
    executor, told = Simulated(errors=lambda shard: error if shard[1] == 20 else None), Told()
    with pytest.raises(type(error)):
        Run(executor, call, told).run((0, place) for place in range(1000))
    assert not told.aside
    assert executor.submitted <= 20 + 2 * 10
    assert told.made == executor.submitted - 1


def test_without_workers_it_waits_a_minute() -> None:
    executor, told = Simulated(), Told()
    executor.alive = False
    times = iter(range(0, 1000, 10))
    with pytest.raises(NoWorkersError):
        Run(executor, call, told, clock=lambda: float(next(times))).run((0, place) for place in range(10**6))
    assert told.made <= 7 * 10
