"""What is learnt of a path: its latency and pace, and how many requests it takes at a time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.transport.adaptive import MIB, Link, Window


@pytest.mark.parametrize(("latency_s", "bytes_per_s"), [(0.002, 200e6), (0.03, 100e6), (0.1, 20e6), (0.3, 5e6)])
def test_latency_and_pace_are_found(latency_s: float, bytes_per_s: float) -> None:
    link = Link()
    rng = random.Random(3)
    for _ in range(1000):
        nbytes = rng.choice([20_000, 300_000, 2 * MIB, 8 * MIB])
        link.observe(nbytes, (latency_s + nbytes / bytes_per_s) * rng.uniform(0.9, 1.1))
    assert link.latency_s == pytest.approx(latency_s, rel=0.6, abs=0.01)
    assert link.bytes_per_s == pytest.approx(bytes_per_s, rel=0.3)


@given(seen=st.lists(st.tuples(st.integers(0, 2**31), st.floats(0, 1000)), max_size=30))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_whatever_requests_took_the_sizes_stay_sane(seen: list[tuple[int, float]]) -> None:
    link = Link()
    for nbytes, seconds in seen:
        link.observe(nbytes, seconds)
    sizes = link.sizes()
    assert 16 * 1024 <= sizes.max_gap <= 256 * 1024
    assert 2 * MIB <= sizes.size <= 8 * MIB
    assert 1e-3 <= link.latency_s <= 2
    assert link.expected_s(0) <= link.expected_s(MIB)


def test_a_far_host_is_asked_for_more_at_once_and_across_wider_gaps() -> None:
    near, far = Link(), Link()
    for nbytes in [100_000, MIB, 4 * MIB] * 100:
        near.observe(nbytes, 0.001 + nbytes / 100e6)
        far.observe(nbytes, 0.2 + nbytes / 100e6)
    assert near.sizes().size < far.sizes().size
    assert near.sizes().max_gap < far.sizes().max_gap


def simulate(window: Window, pace_of: dict[int, float] | float, answers: int, *, full: bool = True) -> int:
    """Answers of 1 MiB; a path gives `pace_of` MiB/s at a window, or a second's latency to each without limit."""
    now = 0.0
    for _ in range(answers):
        most = pace_of if isinstance(pace_of, float) else max(v for k, v in pace_of.items() if k <= window.size)
        now += 1 / min(window.size, most)
        window.answered(MIB, now, full=full)
    return window.size


def test_the_window_doubles_while_that_pays_up_to_what_the_user_allows() -> None:
    window = Window(64, start=4)
    assert [simulate(window, 1e9, 2 * n + 2) for n in (4, 8, 16, 32)] == [8, 16, 32, 64]
    assert simulate(window, 1e9, 500) == 64


def test_the_window_stops_doubling_where_the_path_gives_no_more() -> None:
    window = Window(1024, start=4)
    assert 20 <= simulate(window, 20.0, 60) <= 40
    assert simulate(window, 20.0, 2000) < 128


@pytest.mark.parametrize("most", [1, 3, 16])
def test_a_fixed_number_is_never_exceeded(most: int) -> None:
    window = Window(most)
    assert window.size == most
    assert simulate(window, 1e9, 100) == most


def test_a_window_that_holds_nothing_back_does_not_grow() -> None:
    assert simulate(Window(64, start=4), 1e9, 500, full=False) == 4


def test_push_back_halves_once_a_round_and_growth_is_by_one_then() -> None:
    window = Window(64, start=32)
    for _ in range(20):  # all of them answers to one burst
        window.pushed_back()
    assert window.size == 16
    now = 0.0
    for _ in range(40):
        now += 0.01
        window.answered(MIB, now, full=False)
    window.pushed_back()
    assert window.size == 8
    sizes = []
    for _ in range(10):
        sizes.append(simulate(window, 1e9, 1))
        now += 1
    assert max(sizes) <= 9
    for _ in range(300):
        window.pushed_back()
        window.answered(MIB, 1, full=False)
    assert window.size == 1
