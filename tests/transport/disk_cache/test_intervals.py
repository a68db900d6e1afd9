"""Finding what covers a range, against brute force."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lindi_dask.transport.disk_cache.intervals import NONE, Intervals

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20)).map(lambda one: (one[0], one[0] + one[1])))


def of(ranges: list[tuple[int, int]]) -> Intervals:
    columns = np.array(ranges, np.int64).reshape(-1, 2).T
    return Intervals.of(columns[0], columns[1])


def pairs(intervals: Intervals) -> list[tuple[int, int]]:
    return list(zip(intervals.starts.tolist(), intervals.stops.tolist(), strict=True))


def maximal(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    distinct = set(ranges)
    return sorted(
        one for one in distinct if not any(a <= one[0] and one[1] <= b and (a, b) != one for a, b in distinct)
    )


@given(RANGES)
def test_those_within_others_are_left_out_and_both_ends_ascend(ranges: list[tuple[int, int]]) -> None:
    found = of(ranges)
    assert pairs(found) == maximal(ranges)
    assert (np.diff(found.starts) > 0).all()
    assert (np.diff(found.stops) > 0).all()


@given(RANGES, RANGES)
def test_a_range_is_found_where_any_covers_it(held: list[tuple[int, int]], wanted: list[tuple[int, int]]) -> None:
    intervals = of(held)
    starts, stops = np.array(wanted, np.int64).reshape(-1, 2).T
    found = intervals.covering(starts, stops)
    for (start, stop), i in zip(wanted, found.tolist(), strict=True):
        is_covered = any(a <= start and stop <= b for a, b in held)
        assert (i != NONE) == is_covered
        assert intervals.covers(start, stop) == is_covered
        if is_covered:
            assert intervals.starts[i] <= start
            assert stop <= intervals.stops[i]


@given(RANGES)
def test_one_by_one_they_come_to_the_same(ranges: list[tuple[int, int]]) -> None:
    intervals = Intervals.none()
    for one in ranges:
        intervals = intervals.plus(*one)
    assert pairs(intervals) == maximal(ranges)


@given(RANGES, st.tuples(st.integers(0, 40), st.integers(1, 60)))
def test_one_is_taken_out_and_no_other(ranges: list[tuple[int, int]], one: tuple[int, int]) -> None:
    intervals = of(ranges)
    assert pairs(intervals.minus(*one)) == [other for other in pairs(intervals) if other != one]
    for held in pairs(intervals):
        assert pairs(intervals.minus(*held)) == [other for other in pairs(intervals) if other != held]
