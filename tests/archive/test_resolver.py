"""What the resolver asks of one archive at a time, over loopback: few requests, and none while it wants peace."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lindi_dask.archive import Resolver, configured_instances, keys
from lindi_dask.errors import AuthenticationError
from lindi_dask.testing import EmbeddedArchive, Fault
from lindi_dask.types import Asset

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def archive() -> Iterator[EmbeddedArchive]:
    with EmbeddedArchive(lifetime_s=3600) as archive:
        yield archive


def assets(archive: EmbeddedArchive, count: int) -> list[Asset]:
    instance = configured_instances({"local": {"api-url": archive.api_url}})[-1]
    return [Asset(instance, archive.add(b"x", path=f"{number}.nwb").id) for number in range(count)]


def test_when_the_archive_asks_to_wait_no_asset_is_asked_for_before_the_time(archive: EmbeddedArchive) -> None:
    resolver = Resolver(environ={"LOCAL_API_KEY": archive.owner_token})
    first, *others = assets(archive, 12)
    fault = archive.inject(Fault(plane="api", kind="status", status=429, retry_after="2", asset_id=first.id))
    with ThreadPoolExecutor(12) as threads:
        limited = threads.submit(resolver.exchange, first)
        while not fault.injected:
            time.sleep(0.005)
        time.sleep(0.1)  # for the answer to arrive
        leases = list(threads.map(resolver.exchange, others))
        assert limited.result().url
    assert len({lease.url for lease in leases}) == 11
    (refused,) = [request for request in archive.requests if request.status == 429]
    later = [request for request in archive.requests if request is not refused]
    assert len(later) == 12
    assert min(request.monotonic_s for request in later) - refused.monotonic_s >= 2


def test_an_anonymous_one_sends_no_key_wherever_there_is_one(
    archive: EmbeddedArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    (asset,) = assets(archive, 1)
    monkeypatch.setenv("LOCAL_API_KEY", archive.owner_token)
    assert asset.instance is not None
    monkeypatch.setattr(keys, "_offered", {asset.instance: lambda: archive.owner_token})
    with pytest.raises(AuthenticationError):
        Resolver(anonymous=True).exchange(asset)
    assert [request.authorized for request in archive.requests] == [False]
    assert Resolver().exchange(asset).url


def test_at_most_four_requests_are_on_their_way(archive: EmbeddedArchive) -> None:
    resolver = Resolver(environ={"LOCAL_API_KEY": archive.owner_token})
    archive.inject(Fault(plane="api", kind="stall", delay_s=0.5, times=None))
    with ThreadPoolExecutor(12) as threads:
        list(threads.map(resolver.exchange, assets(archive, 12)))
    arrived = sorted(request.monotonic_s for request in archive.requests)
    assert len(arrived) == 12
    for early, late in zip(arrived, arrived[4:], strict=False):
        assert late - early >= 0.45  # of any five, one had been answered before the last was sent
