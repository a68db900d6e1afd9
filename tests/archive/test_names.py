from __future__ import annotations

from functools import partial

import pytest

from lindi_dask.archive.instances import BUILTIN, make_instance
from lindi_dask.archive.names import Names, is_public_storage
from lindi_dask.archive.urls import is_private_address, split_url
from lindi_dask.errors import ArchiveUnavailable, StorageUnavailable, UrlRefused
from lindi_dask.types import Asset

PLAIN = Asset(None, "https://host.example/x")
OF_DANDI = Asset(BUILTIN[0], "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0")
STORAGE = "https://storage.example/blobs/x?X-Amz-Signature=planted"

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1%eth0",
    "fd00::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
]
PUBLIC = ["8.8.8.8", "52.219.1.1", "2606:4700:4700::1111", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_the_internet_cannot_reach_is_private(address: str) -> None:
    assert is_private_address(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_any_other_is_not(address: str) -> None:
    assert not is_private_address(address)


@pytest.mark.parametrize("addresses", [{"10.0.0.1"}, {"8.8.8.8", "10.0.0.1"}, {"8.8.8.8", "::1"}])
def test_a_name_is_private_if_any_of_its_addresses_is(addresses: set[str]) -> None:
    assert Names(lambda *_: addresses).is_private(split_url(PLAIN.id), PLAIN)


def test_a_name_is_looked_up_once_a_minute() -> None:
    now, asked = 0.0, 0

    def lookup(host: str, port: int) -> set[str]:
        nonlocal asked
        asked += 1
        assert (host, port) == ("host.example", 443)
        return {"8.8.8.8"} if asked == 1 else {"10.0.0.1"}

    names = Names(lookup, clock=lambda: now)
    assert not names.is_private(split_url(PLAIN.id), PLAIN)
    now = 59.0
    assert not names.is_private(split_url(PLAIN.id), PLAIN)
    now = 61.0
    assert names.is_private(split_url(PLAIN.id), PLAIN)
    assert asked == 2


def test_a_name_that_cannot_be_looked_up_is_worth_another_attempt_and_not_remembered() -> None:
    failing = True

    def lookup(*_: object) -> set[str]:
        if failing:
            raise OSError("planted")
        return {"8.8.8.8"}

    names = Names(lookup)
    with pytest.raises(StorageUnavailable, match=r"host\.example can't be looked up"):
        names.is_private(split_url(PLAIN.id), PLAIN)
    failing = False
    assert not names.is_private(split_url(PLAIN.id), PLAIN)


def test_the_system_s_own_resolver_knows_this_machine() -> None:
    assert Names().is_private(split_url("https://localhost/"), PLAIN)


def test_behind_a_proxy_names_are_the_proxy_s_to_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(lambda *_: {"10.0.0.1"})
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    assert not names.is_private(split_url(PLAIN.id), PLAIN)
    assert names.is_private(split_url("https://10.0.0.1/"), PLAIN)
    monkeypatch.setenv("NO_PROXY", "host.example")
    assert names.is_private(split_url(PLAIN.id), PLAIN)


PUBLIC_STORAGE = [
    "dandiarchive.s3.amazonaws.com",
    "dandiarchive.s3.us-east-2.amazonaws.com",
    "s3.us-east-2.amazonaws.com",
    "s3.amazonaws.com",
    "a.b.s3.amazonaws.com",
    "storage.googleapis.com",
]
OTHERS = [
    "bucket.s3-website-us-west-2.amazonaws.com",
    "bucket.s3-website.us-east-2.amazonaws.com",
    "s3.amazonaws.com.evil.example",
    "evils3.amazonaws.com",
    "ec2-1-2-3-4.compute.amazonaws.com",
    "storage.googleapis.com.evil.example",
    "evil.storage.googleapis.com",
]


def test_the_large_object_stores_are_known_by_their_exact_hosts() -> None:
    assert [host for host in PUBLIC_STORAGE + OTHERS if is_public_storage(host)] == PUBLIC_STORAGE


def _looked_up(known: dict[str, set[str]], host: str, _: int) -> set[str]:
    return known.get(host, {"8.8.8.8"})


def test_a_public_archive_s_storage_may_not_be_private() -> None:
    for addresses in ({"8.8.8.8"}, {"10.0.0.1"}):
        looked_up = {"storage.example": addresses}
        names = Names(partial(_looked_up, looked_up))
        if addresses == {"8.8.8.8"}:
            names.check_storage(STORAGE, OF_DANDI)
        else:
            with pytest.raises(UrlRefused, match="private network") as caught:
                names.check_storage(STORAGE, OF_DANDI)
            assert "planted" not in repr(caught.value)


def test_a_storage_host_that_can_t_be_looked_up_makes_the_exchange_worth_another_attempt() -> None:
    def lookup(*_: object) -> set[str]:
        raise OSError("no network")

    with pytest.raises(ArchiveUnavailable, match="can't be looked up") as caught:
        Names(lookup).check_storage(STORAGE, OF_DANDI)
    assert caught.value.unanswered
    assert "planted" not in repr(caught.value)


def test_a_private_archive_s_storage_may_be_private_too() -> None:
    names = Names(lambda *_: {"10.0.0.1"})
    names.check_storage(STORAGE, Asset(make_instance("lab", "https://archive.lab.example/api"), OF_DANDI.id))
    names.check_storage(STORAGE, Asset(make_instance("lab", "http://127.0.0.1:8901/api"), OF_DANDI.id))
