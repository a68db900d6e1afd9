from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime

import cloudpickle
import pytest

from lindi_dask.archive.addresses import parse_address
from lindi_dask.archive.instances import BUILTIN
from lindi_dask.types import Asset, AssetInfo, ByteRange, Instance, Lease, without_query

URL = "https://bucket.example/blobs/x?X-Amz-Signature=planted"
LEASE = Lease(URL, 1.0, 61.0, 62.0)


def test_a_lease_never_pickles() -> None:
    for dump in (pickle.dumps, cloudpickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            dump(LEASE)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps({"lease": [LEASE]})


@pytest.mark.parametrize("shown", [repr(LEASE), str(LEASE), f"{LEASE}", f"{[LEASE]}", ascii(LEASE)])
def test_a_lease_does_not_show_its_url(shown: str) -> None:
    assert "planted" not in shown
    assert "bucket" not in shown


def test_the_lifetime_of_a_lease_is_counted_from_the_exchange() -> None:
    assert LEASE.lifetime_s == 60.0


@pytest.mark.parametrize(
    ("asset", "shown"),
    [
        (Asset(BUILTIN[0], "0f1e"), "dandi:0f1e"),
        (Asset(None, URL), "https://bucket.example/blobs/x"),
        (Asset(None, "https://user:pass@bucket.example:8443/x?y#z"), "https://bucket.example:8443/x"),
    ],
)
def test_an_asset_is_shown_without_query_and_user(asset: Asset, shown: str) -> None:
    assert str(asset) == shown


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("sub-1/a é.nwb", "dandi://dandi/000123@draft/sub-1/a é.nwb"),
        ("50%*.nwb", "dandi://dandi/000123@draft/50%25%2A.nwb"),
        ("a\nb.nwb", None),
        ("a\u200bb.nwb", None),
    ],
)
def test_an_asset_has_an_address_if_its_path_can_stand_in_one(path: str, address: str | None) -> None:
    info = AssetInfo(Asset(BUILTIN[0], "0f1e"), "000123", "draft", path, 1, datetime.now(UTC))
    assert info.address == address
    assert address is None or parse_address(address, BUILTIN).path == path


def test_without_query_keeps_scheme_host_port_and_path() -> None:
    assert without_query("https://h:1/a/b?c=d&e#f") == "https://h:1/a/b"


def test_a_range_ends_where_its_length_says() -> None:
    assert ByteRange(10, 5).end == 15


@pytest.mark.parametrize(
    ("url", "loopback"), [("http://127.0.0.1:1/api", True), ("https://archive.example/api", False)]
)
def test_plain_http_means_loopback(url: str, loopback: bool) -> None:
    assert Instance("local", url, ()).is_loopback is loopback
