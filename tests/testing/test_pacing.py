from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
import requests

from lindi_dask.testing.pacing import BURST_S, Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.testing import EmbeddedArchive


def test_pieces_queue_for_the_link() -> None:
    link = Link()
    waits = [link.reserve(100, bytes_per_s=1000, now_s=50.0) for _ in range(3)]
    assert waits == pytest.approx([0.1 - BURST_S, 0.2 - BURST_S, 0.3 - BURST_S])


def test_an_idle_link_saves_up_no_more_than_a_burst() -> None:
    link = Link()
    link.reserve(1000, bytes_per_s=1000, now_s=0.0)
    assert link.reserve(100, bytes_per_s=1000, now_s=99.0) == pytest.approx(0.1 - BURST_S)


def test_waking_late_is_made_good() -> None:
    link = Link()
    now_s = 0.0
    for _ in range(1000):
        now_s += link.reserve(10, bytes_per_s=1000, now_s=now_s) + 0.001
    assert now_s == pytest.approx(10, abs=0.1)


def test_a_link_without_limit_does_not_wait() -> None:
    link = Link()
    link.reserve(10_000, bytes_per_s=1.0, now_s=0.0)
    assert link.reserve(10_000, bytes_per_s=None, now_s=0.0) == 0
    assert link.reserve(1, bytes_per_s=1000.0, now_s=0.0) < 0.1


def fetch_all(url: str, times: int) -> float:
    """Seconds that so many connections take at once."""
    threads = [threading.Thread(target=requests.get, args=(url,), kwargs={"timeout": 30}) for _ in range(times)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started


def test_all_connections_share_the_link(make_archive: Callable[..., EmbeddedArchive]) -> None:
    archive = make_archive(bytes_per_s=1_000_000)
    url = archive.add(bytes(100_000), embargoed=False).url
    assert fetch_all(url, 4) > 0.35


def test_each_response_has_a_pace_of_its_own_too(make_archive: Callable[..., EmbeddedArchive]) -> None:
    archive = make_archive(stream_bytes_per_s=250_000)
    url = archive.add(bytes(100_000), embargoed=False).url
    shared_s = 4 * 100_000 / 250_000
    assert 0.35 < fetch_all(url, 4) < shared_s


def test_each_host_waits_before_it_answers(
    make_archive: Callable[..., EmbeddedArchive], session: requests.Session
) -> None:
    archive = make_archive(latency_s=0.3)
    url = archive.add(b"abc", embargoed=False).url
    location = session.get(url, allow_redirects=False)
    data = session.get(location.headers["Location"])
    archive.latency_s, archive.api_latency_s = 0, 0.3
    slow = session.get(url, allow_redirects=False)
    took_s = [answer.elapsed.total_seconds() for answer in (location, data, slow)]
    assert took_s[0] < 0.3 <= min(took_s[1:])
