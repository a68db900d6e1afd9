"""What a ledger tells, put in order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lindi_dask.conversion.history import history_of, spread
from lindi_dask.transport import Counts


def done(t: float, place: int, **other: Any) -> dict[str, Any]:
    seconds = {"read": 0.5, "encode": 0.25, "write": 0.0, "check": 0.0}
    event = {"t": t, "event": "done", "array": 0, "place": place, "nbytes": 10, "raw_nbytes": 40, "digest": f"d{place}"}
    return {**event, "seconds": seconds, "process": "h:1", "memory": 100, "counts": {"requests": 2}, **other}


def started(t: float, kept: int = 0) -> dict[str, Any]:
    return {"t": t, "event": "started", "plan": "p", "kept": kept, "host": "h", "pid": 1, "threads": 2}


def sample(t: float, **counts: int) -> dict[str, Any]:
    return {"t": t, "event": "sample", "counts": counts, "memory": {}}


def failed(t: float, place: int, event: str = "failed") -> dict[str, Any]:
    return {"t": t, "event": event, "array": 0, "place": place, "error": "CorruptChunk", "reason": "broken"}


def test_time_between_runs_is_none() -> None:
    events = [
        started(1000),
        done(1002, 0),
        sample(1003, requests=5, renewals=1),
        # killed; resumed the next day
        started(90_000, kept=1),
        done(90_004, 1),
        sample(90_005, requests=3, retries=2),
        {"t": 90_006, "event": "ended", "error": None},
    ]
    history = history_of(events)
    assert [(run.begin_s, run.seconds, run.kept, run.has_ended) for run in history.runs] == [
        (0, 3, 0, False),
        (3, 6, 1, True),
    ]
    assert [one.ended_s for one in history.makings] == [2, 7]
    assert history.seconds == 9
    assert history.counts == Counts(requests=8, renewals=1, retries=2)
    assert history.makings[0].counts == Counts(requests=2)
    assert history.makings[0].total_s == 0.75


def test_an_object_counts_once_as_it_was_made_last() -> None:
    history = history_of([started(0), done(1, 0), done(2, 1), done(3, 0, nbytes=None, digest="new")])
    assert [(one.shard, one.nbytes, one.digest) for one in history.makings] == [
        ((0, 1), 10, "d1"),
        ((0, 0), None, "new"),
    ]


def test_what_was_set_aside_and_made_since_is_not_set_aside() -> None:
    events = [started(0), failed(1, 0), failed(2, 0, "set_aside"), failed(3, 1, "set_aside"), started(10), done(11, 0)]
    history = history_of(events)
    assert [one.shard for one in history.set_aside] == [(0, 1)]
    assert [one.is_last for one in history.failures] == [False, True, True]


def test_a_ledger_without_events_tells_nothing() -> None:
    history = history_of([])
    assert (history.seconds, history.counts, history.set_aside) == (0, Counts(), [])


amounts = st.lists(
    st.tuples(st.floats(-5, 20), st.floats(0, 20), st.integers(0, 1000)).map(
        lambda one: (min(one[0], one[1]), one[1], float(one[2]))
    ),
    max_size=8,
)


@given(amounts, st.floats(0.1, 20), st.integers(1, 12))
def test_amounts_are_spread_as_if_by_small_steps(amounts: Any, seconds: float, bins: int) -> None:
    found = spread(amounts, seconds, bins)
    assert sum(found) * seconds / bins == pytest.approx(sum(amount for *_, amount in amounts))
    steps = 400
    expected = [0.0] * bins
    for start, stop, amount in amounts:
        first, last = max(start, 0), min(stop, seconds)
        for step in range(steps):
            at = first + (last - first) * (step + 0.5) / steps
            expected[min(int(at / seconds * bins), bins - 1)] += amount / steps
    of_bin = [rate * seconds / bins for rate in found]
    assert of_bin == pytest.approx(expected, abs=2 * sum(amount for *_, amount in amounts) / steps + 1e-9)
