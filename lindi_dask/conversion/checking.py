"""Whether an output holds what was written: each document, each object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lindi_dask.conversion.encoding import stored_digest
from lindi_dask.conversion.running import Run
from lindi_dask.conversion.targets import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lindi_dask.conversion.executors import Executor
    from lindi_dask.conversion.ledger import Stored
    from lindi_dask.conversion.plan import ArrayPlan, Plan, Shard
    from lindi_dask.conversion.running import Call
    from lindi_dask.conversion.targets import Readable

__all__ = ["check_objects", "problems_of", "stale_documents"]


def stale_documents(plan: Plan, target: Readable) -> list[tuple[str, bytes]]:
    """Return the documents that an output does not have as they should be, with their keys; the root's comes last."""
    return [(key, document) for key, document in plan.documents() if target.read(key) != document]


def check_objects(plan: Plan, stored: Mapping[Shard, Stored], location: str, executor: Executor) -> dict[Shard, str]:
    """Read and decode each object, and return what is wrong with those that do not hold what was written.

    Parameters
    ----------
    plan
        That they were made by.
    stored
        What was written; an object that it doesn't know is wrong.
    location
        Where they are.
    executor
        Does it.
    """

    def call(shard: Shard) -> Call:
        return _problem, (location, plan.arrays[shard[0]], shard[1], stored.get(shard))

    return problems_of(plan, call, executor)


def problems_of(plan: Plan, call: Callable[[Shard], Call], executor: Executor) -> dict[Shard, str]:
    """Have each object checked by a function that returns what is wrong, or None; return what is."""
    listener = _Listener()
    Run(executor, call, listener).run(plan.shards())
    return listener.problems


class _Listener:
    def __init__(self) -> None:
        self.problems: dict[Shard, str] = {}

    def done(self, shard: Shard, result: str | None) -> None:
        if result is not None:
            self.problems[shard] = result

    def failed(self, shard: Shard, error: BaseException, *, is_last: bool) -> None:
        if is_last:
            self.problems[shard] = str(error) or type(error).__name__

    def tick(self) -> None:
        pass


def _problem(location: str, array: ArrayPlan, place: int, expected: Stored | None) -> str | None:
    """Return what is wrong with an object, or None."""
    if expected is None:
        return "it was never made"
    found = readable(location).read(array.place_key(place))
    if found is None:
        return None if expected.nbytes is None else "it is missing"
    if expected.nbytes is None:
        return "it is there, but all of its block held the fill value"
    if len(found) != expected.nbytes:
        return f"it has {len(found):,} bytes instead of {expected.nbytes:,}"
    try:
        digest = stored_digest(array, place, found)
    except Exception as error:  # noqa: BLE001 - codecs raise whatever they like: the object is damaged
        return f"it can't be decoded ({type(error).__name__}: {error})"
    return None if digest == expected.digest else "it holds other values than were written"
