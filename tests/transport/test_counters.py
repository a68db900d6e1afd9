from __future__ import annotations

import threading

import pytest

from lindi_dask.transport import Counters, Counts


def test_threads_may_count_at_once() -> None:
    counters = Counters()

    def count() -> None:
        for _ in range(2000):
            counters.add(requests=1, decode_s=0.5)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.counts() == Counts(requests=8000, decode_s=4000.0)


def test_what_was_counted_between_two_moments_is_their_difference() -> None:
    counters = Counters()
    counters.add(requests=3, bytes_wanted=5)
    before = counters.counts()
    counters.add(requests=4, hedges=1)
    assert counters.counts() - before == Counts(requests=4, hedges=1)
    with pytest.raises(KeyError):
        counters.add(request=1)
