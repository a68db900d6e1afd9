"""The lease cache: single flight, renewal ahead of expiry, failures. The clock is passed in; nothing sleeps."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from lindi_dask.archive import LeaseCache, settle
from lindi_dask.errors import ArchiveUnavailable, LindiError
from lindi_dask.types import Asset, Instance, Lease

INSTANCE = Instance("local", "http://127.0.0.1:1/api", ("LOCAL_API_KEY",))
ASSET = Asset(INSTANCE, "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")
OTHER = Asset(INSTANCE, "1f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")
WAIT_S = 30


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    """Grants leases of `lifetime_s`, or raises what stands in `failures` first; `gate` holds exchanges back."""

    def __init__(self, clock: Clock, lifetime_s: float = 100.0) -> None:
        self.clock = clock
        self.lifetime_s = lifetime_s
        self.exchanges: Counter[Asset] = Counter()
        self.failures: list[BaseException] = []
        self.refused: list[Lease | None] = []
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    def exchange(self, asset: Asset, refused: Lease | None = None) -> Lease:
        with self._lock:
            self.exchanges[asset] += 1
            self.refused.append(refused)
            number = self.exchanges.total()
            failure = self.failures.pop(0) if self.failures else None
        assert self.gate.wait(WAIT_S)
        if failure is not None:
            raise failure
        now = self.clock.now
        return Lease(f"https://s3/{asset.id}?n={number}", now, now + self.lifetime_s, now + self.lifetime_s)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(clock: Clock) -> Source:
    return Source(clock)


@pytest.fixture
def cache(source: Source, clock: Clock) -> LeaseCache:
    return LeaseCache(source, clock=clock)


def settled(cache: LeaseCache, asset: Asset = ASSET) -> None:
    """Wait until no exchange is pending."""
    pending = cache._entries[asset].pending
    if pending is not None:
        pending.result(WAIT_S)


def test_64_threads_and_one_expired_lease_make_exactly_one_exchange(
    cache: LeaseCache, source: Source, clock: Clock
) -> None:
    cache.get(ASSET)
    clock.now += source.lifetime_s + 1
    source.gate.clear()
    barrier = threading.Barrier(65)

    def ask() -> str:
        barrier.wait(WAIT_S)
        return cache.get(ASSET).url

    with ThreadPoolExecutor(64) as pool:
        asked = [pool.submit(ask) for _ in range(64)]
        barrier.wait(WAIT_S)
        source.gate.set()
        urls = {one.result(WAIT_S) for one in asked}
    assert len(urls) == 1
    assert source.exchanges[ASSET] == 2  # the first lease, and one for all 64


def test_64_threads_whose_lease_was_refused_make_exactly_one_exchange(cache: LeaseCache, source: Source) -> None:
    refused = cache.get(ASSET)
    source.gate.clear()
    with ThreadPoolExecutor(64) as pool:
        asked = [pool.submit(lambda: settle(cache.renew(ASSET, refused).result(WAIT_S)).url) for _ in range(64)]
        source.gate.set()
        urls = {one.result(WAIT_S) for one in asked}
    assert urls == {cache.get(ASSET).url}
    assert source.exchanges[ASSET] == 2


def test_a_lease_is_used_until_a_quarter_of_its_life_is_left(cache: LeaseCache, source: Source, clock: Clock) -> None:
    first = cache.get(ASSET)
    clock.now += 0.72 * source.lifetime_s  # the advance is a quarter, give or take a tenth of it
    assert cache.get(ASSET) is first
    assert source.exchanges[ASSET] == 1


def test_in_its_last_quarter_it_is_renewed_behind_the_callers_back(
    cache: LeaseCache, source: Source, clock: Clock
) -> None:
    first = cache.get(ASSET)
    clock.now += 0.8 * source.lifetime_s
    source.gate.clear()
    assert cache.get(ASSET) is first  # without waiting: the gate is shut
    assert cache.get(ASSET) is first
    source.gate.set()
    settled(cache)
    assert cache.get(ASSET) is not first
    assert source.exchanges[ASSET] == 2


def test_in_its_last_eighth_callers_wait_for_the_new_one(cache: LeaseCache, source: Source, clock: Clock) -> None:
    first = cache.get(ASSET)
    clock.now += 0.9 * source.lifetime_s
    assert cache.get(ASSET) is not first


def test_a_lease_of_six_hours_is_renewed_in_its_last_quarter_of_an_hour(
    cache: LeaseCache, source: Source, clock: Clock
) -> None:
    source.lifetime_s = 6 * 3600
    first = cache.get(ASSET)
    clock.now += source.lifetime_s - 1000
    assert cache.get(ASSET) is first
    assert source.exchanges[ASSET] == 1
    clock.now += 200
    assert cache.get(ASSET) is first
    settled(cache)
    assert source.exchanges[ASSET] == 2


def test_a_renewal_that_fails_keeps_the_lease_that_is_alive(cache: LeaseCache, source: Source, clock: Clock) -> None:
    first = cache.get(ASSET)
    clock.now += 0.8 * source.lifetime_s
    source.failures = [ArchiveUnavailable("down")]
    assert cache.get(ASSET) is first
    settled(cache)
    assert cache.get(ASSET) is first
    assert source.exchanges[ASSET] == 2  # and the failure is remembered: no third one at once


def test_a_failed_exchange_is_told_to_all_that_wait_and_remembered_for_a_moment(
    cache: LeaseCache, source: Source, clock: Clock
) -> None:
    source.failures = [ArchiveUnavailable("down")]
    source.gate.clear()
    waiting = [cache.request(ASSET) for _ in range(10)]
    source.gate.set()
    errors = []
    for one in waiting:
        with pytest.raises(ArchiveUnavailable, match="down") as caught:
            settle(one.result(WAIT_S))
        errors.append(caught.value)
    assert len(set(map(id, errors))) == 10  # each has its own: a shared one would collect their tracebacks
    with pytest.raises(ArchiveUnavailable):
        cache.get(ASSET)
    assert source.exchanges[ASSET] == 1
    clock.now += 2.1
    assert cache.get(ASSET).url
    assert source.exchanges[ASSET] == 2


def test_a_failure_is_never_kept_as_a_lease(cache: LeaseCache, source: Source, clock: Clock) -> None:
    source.failures = [ArchiveUnavailable("down")] * 3
    for _ in range(3):
        with pytest.raises(ArchiveUnavailable):
            cache.get(ASSET)
        clock.now += 2.1
    assert cache.get(ASSET).url


def test_what_a_library_raises_in_an_exchange_reaches_the_waiters_without_its_words(
    cache: LeaseCache, source: Source
) -> None:
    source.failures = [RuntimeError("Authorization: token SECRET")]
    with pytest.raises(LindiError, match="RuntimeError") as caught:
        cache.get(ASSET)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_waiter_that_gives_up_does_not_end_the_exchange_of_the_others(cache: LeaseCache, source: Source) -> None:
    source.gate.clear()
    first, second = cache.request(ASSET), cache.request(ASSET)
    assert not first.cancel()
    source.gate.set()
    assert settle(second.result(WAIT_S)).url


def test_an_asset_waits_only_for_its_own_exchange(cache: LeaseCache, source: Source) -> None:
    other = cache.get(OTHER)
    source.gate.clear()
    pending = cache.request(ASSET)
    assert cache.get(OTHER) is other
    source.gate.set()
    pending.result(WAIT_S)


def test_a_lease_refused_long_ago_does_not_cost_the_lease_of_today(cache: LeaseCache, source: Source) -> None:
    first = cache.get(ASSET)
    second = settle(cache.renew(ASSET, first).result(WAIT_S))
    assert settle(cache.renew(ASSET, first).result(WAIT_S)) is second
    assert source.exchanges[ASSET] == 2


def test_a_plain_url_is_a_matter_of_the_source_for_plain_urls(source: Source, clock: Clock) -> None:
    plain = Source(clock)
    cache = LeaseCache(source, plain=plain, clock=clock)
    asset = Asset(None, "https://example.org/file.nwb")
    cache.get(asset)
    cache.get(ASSET)
    assert (source.exchanges, plain.exchanges) == ({ASSET: 1}, {asset: 1})


def test_a_thousand_assets_are_exchanged_by_few_threads(cache: LeaseCache, source: Source) -> None:
    source.gate.clear()
    assets = [Asset(INSTANCE, f"{n:08d}-4b5a-6978-8796-a5b4c3d2e1f0") for n in range(1000)]
    waiting = [cache.request(asset) for asset in assets]
    assert sum(thread.name == "lindi-exchange" for thread in threading.enumerate()) <= 32
    source.gate.set()
    for one in waiting:
        settle(one.result(WAIT_S))
    assert source.exchanges.total() == 1000


def test_the_source_is_told_which_lease_was_refused_and_an_exchange_under_way_can_be_seen(
    cache: LeaseCache, source: Source, clock: Clock
) -> None:
    first = cache.get(ASSET)
    assert cache.upcoming(ASSET) is None
    source.gate.clear()
    renewing = cache.renew(ASSET, first)
    assert cache.upcoming(ASSET) is renewing
    source.gate.set()
    second = settle(renewing.result(WAIT_S))
    assert source.refused == [None, first]
    clock.now += source.lifetime_s - 1
    assert cache.get(ASSET) is not second
    assert source.refused == [None, first, None]


def test_assets_that_nobody_uses_any_more_are_forgotten(
    cache: LeaseCache, source: Source, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lindi_dask.archive.lease._KEPT", 10)
    assets = [Asset(INSTANCE, f"{n:08d}-4b5a-6978-8796-a5b4c3d2e1f0") for n in range(20)]
    for asset in assets[:10]:
        cache.get(asset)
    clock.now += source.lifetime_s + 1
    cache.get(assets[10])
    assert set(cache._entries) == {assets[10]}
