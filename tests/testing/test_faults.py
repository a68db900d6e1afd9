"""Each fault, as a client sees it that hides nothing: http.client, one connection a request."""

from __future__ import annotations

import gzip
import http.client
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from lindi_dask.testing import Fault
from lindi_dask.testing.faults import KINDS, FaultPlan, Injection

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.testing import Asset, EmbeddedArchive
    from lindi_dask.testing.records import Plane

FIRST, LAST = 1000, 1999


class Seen(NamedTuple):
    """What came back; an exception's class in place of what did not."""

    status: Any
    headers: Any
    body: Any
    took_s: float


def look(url: str, timeout_s: float = 5, **headers: str) -> Seen:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
    started = time.monotonic()
    status: Any = None
    fields: Any = None
    try:
        connection.request("GET", url.partition(parts.netloc)[2], headers=headers)
        response = connection.getresponse()
        status, fields = response.status, dict(response.headers)
        try:
            body: Any = response.read()
        finally:
            response.close()
    except http.client.IncompleteRead as error:
        body = error.partial
        status = f"{status} incomplete"
    except (OSError, http.client.HTTPException) as error:
        status = type(error).__name__ if status is None else f"{status} {type(error).__name__}"
        body = None
    finally:
        connection.close()
    return Seen(status, fields, body, time.monotonic() - started)


@pytest.fixture
def look_at_s3(url: str) -> Callable[..., Seen]:
    return lambda **headers: look(url, Range=f"bytes={FIRST}-{LAST}", **headers)


@pytest.fixture
def look_at_api(embedded_archive: EmbeddedArchive, asset: Asset) -> Callable[[], Seen]:
    return lambda: look(asset.url, Authorization=f"token {embedded_archive.owner_token}")


S3_CASES: list[tuple[dict[str, Any], Callable[[Seen, bytes], bool]]] = [
    ({"kind": "status"}, lambda seen, _: seen.status == 503 and b"<Code>SlowDown</Code>" in seen.body),
    ({"kind": "status", "status": 500}, lambda seen, _: seen.status == 500 and b"InternalError" in seen.body),
    ({"kind": "status", "status": 502}, lambda seen, _: seen.status == 502 and b"BadGateway" in seen.body),
    (
        {"kind": "status", "status": 429, "retry_after": "7"},
        lambda seen, _: seen.status == 429 and seen.headers["Retry-After"] == "7",
    ),
    ({"kind": "reset"}, lambda seen, _: seen.status == "ConnectionResetError"),
    ({"kind": "garbage"}, lambda seen, _: seen.status == "BadStatusLine"),
    (
        {"kind": "stall", "delay_s": 0.2},
        lambda seen, part: seen.status == 206 and seen.body == part and seen.took_s >= 0.2,
    ),
    (
        {"kind": "stall-mid-body", "delay_s": 0.2},
        lambda seen, part: seen.status == 206 and seen.body == part and seen.took_s >= 0.2,
    ),
    ({"kind": "reset-mid-body"}, lambda seen, _: seen.status == "206 ConnectionResetError"),
    (
        {"kind": "short-body"},
        lambda seen, part: (
            seen.status == "206 incomplete" and seen.body == part[:500] and seen.headers["Content-Length"] == "1000"
        ),
    ),
    (
        {"kind": "short-length"},
        lambda seen, part: (
            seen.status == 206
            and seen.body == part[:500]
            and seen.headers["Content-Range"] == f"bytes {FIRST}-{LAST}/100000"
        ),
    ),
    (
        {"kind": "short-range"},
        lambda seen, part: (
            seen.status == 206 and seen.body == part[:500] and seen.headers["Content-Range"] == "bytes 1000-1499/100000"
        ),
    ),
    (
        {"kind": "whole-file"},
        lambda seen, _: seen.status == 200 and len(seen.body) == 100_000 and "Content-Range" not in seen.headers,
    ),
    ({"kind": "error-200"}, lambda seen, _: seen.status == 200 and b"<Code>InternalError</Code>" in seen.body),
    (
        {"kind": "wrong-range"},
        lambda seen, part: (
            seen.headers["Content-Range"] == "bytes 1001-2000/100000"
            and seen.body[:-1] == part[1:]
            and len(seen.body) == 1000
        ),
    ),
    ({"kind": "changed-etag"}, lambda seen, part: seen.status == 206 and seen.body == part),
    (
        {"kind": "gzip"},
        lambda seen, part: seen.headers["Content-Encoding"] == "gzip" and gzip.decompress(seen.body) == part,
    ),
    (
        {"kind": "redirect", "location": "http://127.0.0.1:1/"},
        lambda seen, _: seen.status == 307 and seen.headers["Location"] == "http://127.0.0.1:1/",
    ),
]

API_CASES: list[tuple[dict[str, Any], Callable[[Seen], bool]]] = [
    ({"kind": "status"}, lambda seen: seen.status == 503 and seen.headers["Content-Type"] == "application/json"),
    ({"kind": "status", "status": 500, "html": True}, lambda seen: seen.status == 500 and b"<html" in seen.body),
    (
        {"kind": "status", "status": 429, "retry_after": "1"},
        lambda seen: seen.status == 429 and seen.headers["Retry-After"] == "1",
    ),
    ({"kind": "reset"}, lambda seen: seen.status == "ConnectionResetError"),
    ({"kind": "garbage"}, lambda seen: seen.status == "BadStatusLine"),
    ({"kind": "stall", "delay_s": 0.2}, lambda seen: seen.status == 302 and seen.took_s >= 0.2),
    ({"kind": "no-location"}, lambda seen: seen.status == 302 and "Location" not in seen.headers),
    (
        {"kind": "dead-lease"},
        lambda seen: look(seen.headers["Location"]).body.count(b"Request has expired") == 1,
    ),
    (
        {"kind": "redirect"},
        lambda seen: seen.status == 302 and seen.headers["Location"].endswith("/download/"),
    ),
]


LISTING_CASES: list[tuple[dict[str, Any], Callable[[Seen, bytes], bool]]] = [
    ({"kind": "status"}, lambda seen, _: seen.status == 503 and seen.headers["Content-Type"] == "application/json"),
    (
        {"kind": "status", "status": 429, "retry_after": "1"},
        lambda seen, _: seen.status == 429 and seen.headers["Retry-After"] == "1",
    ),
    ({"kind": "reset"}, lambda seen, _: seen.status == "ConnectionResetError"),
    ({"kind": "garbage"}, lambda seen, _: seen.status == "BadStatusLine"),
    ({"kind": "stall", "delay_s": 0.2}, lambda seen, page: seen.body == page and seen.took_s >= 0.2),
    ({"kind": "stall-mid-body", "delay_s": 0.2}, lambda seen, page: seen.body == page and seen.took_s >= 0.2),
    ({"kind": "reset-mid-body"}, lambda seen, _: seen.status == "200 ConnectionResetError"),
    (
        {"kind": "short-body"},
        lambda seen, page: seen.status == "200 incomplete" and seen.body == page[: len(page) // 2],
    ),
    ({"kind": "short-length"}, lambda seen, page: seen.status == 200 and seen.body == page[: len(page) // 2]),
    (
        {"kind": "next", "location": "http://127.0.0.1:1/"},
        lambda seen, page: json.loads(seen.body) == {**json.loads(page), "next": "http://127.0.0.1:1/"},
    ),
    (
        {"kind": "redirect", "location": "http://127.0.0.1:1/"},
        lambda seen, _: seen.status == 302 and seen.headers["Location"] == "http://127.0.0.1:1/",
    ),
]


def name_of(case: object) -> str | None:
    return "-".join(str(value) for value in case.values()) if isinstance(case, dict) else None


@pytest.mark.parametrize(("fault", "is_seen"), S3_CASES, ids=name_of)
def test_a_fault_of_the_s3_host_is_seen_and_counted(
    embedded_archive: EmbeddedArchive,
    look_at_s3: Callable[..., Seen],
    content: bytes,
    fault: dict[str, Any],
    is_seen: Callable[[Seen, bytes], bool],
) -> None:
    part = content[FIRST : LAST + 1]
    good = look_at_s3()
    injection = embedded_archive.inject(Fault(plane="s3", times=2, **fault))

    spoiled = [look_at_s3() for _ in range(2)]

    for seen in spoiled:
        assert is_seen(seen, part), seen
    after = look_at_s3()
    assert (after.status, after.body, after.headers["ETag"]) == (206, part, good.headers["ETag"])
    assert injection.injected == 2
    assert [request.fault for request in embedded_archive.requests[1:]] == [None, fault["kind"], fault["kind"], None]
    assert embedded_archive.counts()["faults"] == 2


@pytest.mark.parametrize(("fault", "is_seen"), API_CASES, ids=name_of)
def test_a_fault_of_the_api_host_is_seen_and_counted(
    embedded_archive: EmbeddedArchive,
    look_at_api: Callable[[], Seen],
    fault: dict[str, Any],
    is_seen: Callable[[Seen], bool],
) -> None:
    injection = embedded_archive.inject(Fault(plane="api", times=2, **fault))
    spoiled = [look_at_api() for _ in range(2)]
    for seen in spoiled:
        assert is_seen(seen), seen
    assert look(look_at_api().headers["Location"]).status == 200
    assert injection.injected == 2
    withheld = fault["kind"] not in {"stall", "dead-lease"}
    assert embedded_archive.counts()["exchanges"] == (1 if withheld else 3)
    assert embedded_archive.counts()["exchanges_refused"] == (2 if withheld else 0)


@pytest.mark.parametrize(("fault", "is_seen"), LISTING_CASES, ids=name_of)
def test_a_fault_of_a_listing_is_seen_and_counted_and_spoils_no_exchange(
    embedded_archive: EmbeddedArchive,
    look_at_api: Callable[[], Seen],
    fault: dict[str, Any],
    is_seen: Callable[[Seen, bytes], bool],
) -> None:
    url = f"{embedded_archive.api_url}/dandisets/000123/versions/draft/assets/"
    key = f"token {embedded_archive.owner_token}"
    page = look(url, Authorization=key).body
    injection = embedded_archive.inject(Fault(plane="api", listing=True, times=2, **fault))
    assert look_at_api().status == 302
    assert look(url).status == 401
    spoiled = [look(url, Authorization=key) for _ in range(2)]
    for seen in spoiled:
        assert is_seen(seen, page), seen
    assert look(url, Authorization=key).body == page
    assert injection.injected == 2


def test_every_kind_has_its_case() -> None:
    places: list[tuple[str, list[Any]]] = [("s3", S3_CASES), ("api", API_CASES), ("listing", LISTING_CASES)]
    tried = {(place, case["kind"]) for place, cases in places for case, _ in cases}
    assert tried == {(place, kind) for kind, found in KINDS.items() for place in found}


def test_a_changed_etag_is_412_to_who_minds(embedded_archive: EmbeddedArchive, look_at_s3: Callable[..., Seen]) -> None:
    etag = look_at_s3().headers["ETag"]
    embedded_archive.inject(Fault(plane="s3", kind="changed-etag", times=2))
    assert look_at_s3().headers["ETag"] != etag
    assert look_at_s3(**{"If-Match": etag}).status == 412
    assert look_at_s3(**{"If-Match": etag}).status == 206


def test_a_fault_spoils_only_what_would_have_been_good(
    embedded_archive: EmbeddedArchive, asset: Asset, url: str, look_at_s3: Callable[..., Seen]
) -> None:
    s3 = embedded_archive.inject(Fault(plane="s3", kind="reset"))
    api = embedded_archive.inject(Fault(plane="api", kind="reset"))
    assert look(url.partition("?")[0]).status == 403
    assert look(url, Range="bytes=100000-").status == 416
    assert look(asset.url).status == 401
    assert (s3.injected, api.injected) == (0, 0)
    assert look_at_s3().status == "ConnectionResetError"
    assert s3.injected == 1


def test_a_fault_can_be_for_one_asset(embedded_archive: EmbeddedArchive, look_at_s3: Callable[..., Seen]) -> None:
    other = embedded_archive.add(b"other", embargoed=False)
    injection = embedded_archive.inject(Fault(plane="s3", kind="status", asset_id=other.id))
    assert look_at_s3().status == 206
    assert look(look(other.url).headers["Location"]).status == 503
    assert injection.injected == 1


def test_a_fault_without_end_ends_when_cancelled(
    embedded_archive: EmbeddedArchive, look_at_s3: Callable[..., Seen]
) -> None:
    injection = embedded_archive.inject(Fault(plane="s3", kind="status", times=None))
    assert [look_at_s3().status for _ in range(4)] == [503] * 4
    injection.cancel()
    assert look_at_s3().status == 206
    assert injection.injected == 4


def strikes(fault: Fault, number: int) -> list[bool]:
    injection = Injection(fault)
    return [injection.strike("s3", "some") for _ in range(number)]


def test_skip_and_times_say_which() -> None:
    fault = Fault(plane="s3", kind="reset", skip=2, times=3)
    assert strikes(fault, 7) == [False, False, True, True, True, False, False]


def test_chance_is_the_same_for_the_same_seed() -> None:
    draws = [
        strikes(Fault(plane="s3", kind="reset", times=None, probability=0.05, seed=seed), 2000) for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]
    assert 60 < sum(draws[0]) < 140


def test_the_first_fault_injected_goes_first() -> None:
    plan = FaultPlan()
    for kind in ("reset", "garbage"):
        plan.inject(Fault(plane="s3", kind=kind))
    taken = [plan.take("s3", "some") for _ in range(3)]
    assert [fault and fault.kind for fault in taken] == ["reset", "garbage", None]


@pytest.mark.parametrize(
    ("plane", "options"),
    [
        ("s3", {"kind": "no-such"}),
        ("api", {"kind": "gzip"}),
        ("s3", {"kind": "dead-lease"}),
        ("api", {"kind": "next"}),
        ("api", {"kind": "dead-lease", "listing": True}),
        ("s3", {"kind": "reset", "listing": True}),
        ("s3", {"kind": "reset", "times": 0}),
        ("s3", {"kind": "reset", "probability": 0}),
        ("s3", {"kind": "status", "status": 200}),
        ("s3", {"kind": "stall", "delay_s": -1}),
    ],
)
def test_a_fault_that_cannot_be_is_refused(plane: Plane, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"fault|times|probability|status|delay_s"):
        Fault(plane=plane, **options)
