from __future__ import annotations

from typing import Any

import pytest

from lindi_dask.testing import Request
from lindi_dask.testing.records import Ledger, count
from lindi_dask.testing.renewals import count_renewals


def exchange(number: int, client: str = "a", asset: str = "x", **more: Any) -> Request:
    path = f"/api/assets/{asset}/download/"
    fields = {"status": 302, "asset_id": asset, "exchange": number, "client": client, **more}
    return Request(at_s=0, monotonic_s=0, plane="api", method="GET", path=path, **fields)


def read(number: int, client: str = "a", asset: str = "x", **more: Any) -> Request:
    fields = {"status": 206, "asset_id": asset, "exchange": number, "client": client, "range": (0, 10), "nbytes": 10}
    return Request(at_s=0, monotonic_s=0, plane="s3", method="GET", path="/b/k", **{**fields, **more})


@pytest.mark.parametrize(
    ("requests", "renewals"),
    [
        ([], 0),
        ([exchange(1), read(1), read(1)], 0),
        ([exchange(1), read(1), exchange(2)], 0),
        ([exchange(1), read(1), exchange(2), read(2)], 1),
        ([exchange(1), exchange(2), read(2)], 0),
        ([exchange(1), read(1), exchange(2), read(1)], 0),
        ([exchange(1), read(1), exchange(2), read(1), read(2), read(2)], 1),
        ([exchange(1), read(1), exchange(2), exchange(3), read(3)], 2),
        ([exchange(1), read(1), exchange(2), read(2), exchange(3), read(3)], 2),
        ([exchange(1), read(1), exchange(2, "b"), read(2, "b")], 0),
        ([exchange(1), read(1), exchange(2, asset="y"), read(2, asset="y")], 0),
        ([exchange(1), read(1, status=403), exchange(2), read(2)], 0),
        ([exchange(1), read(1, nbytes=3), exchange(2), read(2)], 0),
        ([exchange(1), read(1, fault="short-length"), exchange(2), read(2)], 0),
        ([exchange(1), read(1, fault="stall"), exchange(2), read(2)], 1),
        (
            [
                exchange(1),
                exchange(2, "b"),
                read(1),
                read(2, "b"),
                exchange(3),
                read(3),
                exchange(4, "b"),
                read(4, "b"),
            ],
            2,
        ),
    ],
)
def test_a_renewal_is_an_exchange_between_reads(requests: list[Request], renewals: int) -> None:
    assert count_renewals(requests) == renewals


def test_counters() -> None:
    requests = [
        exchange(1),
        exchange(0, exchange=None, status=401),
        exchange(0, exchange=None, status=503, fault="status"),
        read(1),
        read(1),
        read(1, nbytes=4),
        read(1, status=403, error="Expired"),
        read(1, fault="whole-file", status=200),
    ]
    assert count(requests) == {
        "exchanges": 1,
        "exchanges_refused": 2,
        "reads": 2,
        "read_bytes": 20,
        "reads_refused": 3,
        "expired": 1,
        "faults": 2,
    }


def test_what_fell_short_is_amended() -> None:
    ledger = Ledger()
    assert [ledger.open_exchange("a"), ledger.open_exchange("b")] == [1, 2]
    position = ledger.add(read(1))
    before = ledger.snapshot()
    ledger.amend(position, 3)
    assert (before[0].nbytes, ledger.snapshot()[0].nbytes) == (10, 3)
    assert ledger.client_of(2) == "b"
