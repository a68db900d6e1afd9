from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.archive.expiry import ArchiveClock, expiry_of

SIGNED = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()

EXPIRIES: dict[str, float | None] = {
    "X-Amz-Date=20260301T120000Z&X-Amz-Expires=3600": SIGNED + 3600,
    "X-Amz-Expires=1&X-Amz-Signature=ab&X-Amz-Date=20260301T120000Z": SIGNED + 1,
    "x-amz-date=20260301T120000Z&x-amz-expires=60": SIGNED + 60,
    "X-Amz-Date=20260301T120000Z&X-Amz-Expires=60&Expires=1": SIGNED + 60,
    "AWSAccessKeyId=AK&Signature=s%3D&Expires=1772366400": 1772366400.0,
    "expires=1772366400": 1772366400.0,
    "": None,
    "x=1": None,
    "X-Amz-Expires=3600": None,
    "X-Amz-Date=20260301T120000Z": None,
    "X-Amz-Date=&X-Amz-Expires=3600": None,
    "X-Amz-Date=20260301T120000Z&X-Amz-Expires=": None,
    "X-Amz-Date=20260301T120000Z&X-Amz-Expires=soon": None,
    "X-Amz-Date=20260301T120000Z&X-Amz-Expires=1.5": None,
    "X-Amz-Date=20260301&X-Amz-Expires=3600": None,
    "X-Amz-Date=20261301T120000Z&X-Amz-Expires=3600": None,
    "X-Amz-Date=20260301T120000Z&X-Amz-Expires=99999999999999999999": None,
    "X-Amz-Date=99991231T235959Z&X-Amz-Expires=3600": None,
    "Expires=": None,
    "Expires=Sun%2C+01+Mar+2026": None,
    f"Expires={'9' * 400}": None,
    f"Expires={'9' * 5000}": None,
}


@pytest.mark.parametrize("query", EXPIRIES)
def test_the_expiry_is_read_out_of_the_query(query: str) -> None:
    assert expiry_of(query) == EXPIRIES[query]


@given(st.text(max_size=40) | st.text("X-Amz-Dateexpires=&0123456789TZ%", max_size=60))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_no_query_whatever_is_an_error(query: str) -> None:
    expiry = expiry_of(query)
    assert expiry is None or math.isfinite(expiry)


# A simulated archive: its clock is the process's monotonic one plus an offset; it writes whole seconds into headers

seconds = st.floats(0, 1e6, allow_nan=False)
exchanges = st.lists(st.tuples(seconds, st.floats(0, 30), st.floats(0, 1)), min_size=1, max_size=12)


def observe(clock: ArchiveClock, offset: float, sent_at: float, travel: float, share: float) -> None:
    """One answer that was written after `share` of its travel time."""
    date = math.floor(sent_at + travel * share + offset)
    clock.observe(date, sent_at=sent_at, received_at=sent_at + travel)


@given(st.floats(0, 2e9), exchanges)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_the_true_moment_is_always_in_the_window_which_only_narrows(
    offset: float, exchanges: list[tuple[float, float, float]]
) -> None:
    clock, width, moment = ArchiveClock(), math.inf, 1.8e9
    rounding = 1e-5
    for sent_at, travel, share in exchanges:
        observe(clock, offset, sent_at, travel, share)
        earliest, latest = clock.window(moment)
        assert earliest - rounding <= moment - offset <= latest + rounding
        assert latest - earliest <= min(width, 1 + travel) + rounding
        width = latest - earliest


def test_before_any_answer_every_moment_is_possible() -> None:
    assert ArchiveClock().window(1e9) == (-math.inf, math.inf)


def test_one_answer_tells_the_offset_to_a_second_and_its_travel_time() -> None:
    clock = ArchiveClock()
    clock.observe(1000.0, sent_at=10.0, received_at=10.25)
    assert clock.window(1005.0) == (14.0, 15.25)


def test_answers_just_before_and_after_a_full_second_tell_it_closely() -> None:
    clock = ArchiveClock()
    clock.observe(1000.0, sent_at=10.875, received_at=10.875)
    clock.observe(1001.0, sent_at=11.0, received_at=11.0)
    assert clock.window(1010.0) == (19.875, 20.0)


@pytest.mark.parametrize("jump", [-3600.0, -5.0, 5.0, 3600.0])
def test_a_jump_of_the_archives_clock_starts_anew(jump: float) -> None:
    clock = ArchiveClock()
    for sent_at in (10.0, 10.5, 11.25):
        observe(clock, 1000.0, sent_at, 0.125, 0.5)
    observe(clock, 1000.0 + jump, 12.0, 0.125, 0.5)
    earliest, latest = clock.window(2000.0)
    assert earliest <= 1000.0 - jump <= latest
    assert latest - earliest == 1.125
