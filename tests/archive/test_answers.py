"""The answer table of docs/design.md."""

from __future__ import annotations

import math
from email.utils import formatdate
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest
from requests.structures import CaseInsensitiveDict

from lindi_dask.archive.answers import Answer, read_answer
from lindi_dask.archive.expiry import DEFAULT_LIFETIME_S, ArchiveClock
from lindi_dask.archive.instances import BUILTIN, make_instance
from lindi_dask.errors import (
    AccessError,
    ArchiveUnavailable,
    AssetNotFound,
    AuthenticationError,
    LindiError,
    PermissionDenied,
    UrlRefused,
)
from lindi_dask.types import Asset, Lease

if TYPE_CHECKING:
    from collections.abc import Mapping

ID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
DANDI = Asset(BUILTIN[0], ID)
LOCAL = Asset(make_instance("local", "http://127.0.0.1:8901/api"), ID)
NOW = 1772366400.0  # 2026-03-01T12:00:00Z, by the archive's clock
SENT_AT, RECEIVED_AT = 100.0, 100.25  # by ours
SIGNATURE = "planted-signature"


def location(
    host: str = "https://bucket.s3.amazonaws.com", *, signed: str = "20260301T120000Z", lasts: int = 3600
) -> str:
    return f"{host}/blobs/x?X-Amz-Date={signed}&X-Amz-Expires={lasts}&X-Amz-Signature={SIGNATURE}"


def read(
    status: int,
    headers: Mapping[str, str | None] = MappingProxyType({}),
    *,
    asset: Asset = DANDI,
    with_key: bool = True,
    clock: ArchiveClock | None = None,
) -> Lease:
    fields: dict[str, str | None] = {"Date": formatdate(NOW, usegmt=True), **headers}
    given = CaseInsensitiveDict({name: value for name, value in fields.items() if value is not None})
    answer = Answer(
        status, given, sent_at=SENT_AT, received_at=RECEIVED_AT, key_place="LOCAL_API_KEY" if with_key else None
    )
    return read_answer(answer, asset, clock or ArchiveClock())


def test_302_is_a_lease_that_ends_when_its_signature_does() -> None:
    lease = read(302, {"Location": location()})
    assert lease.url == location()
    assert lease.obtained_at == RECEIVED_AT
    assert (lease.expires_at, lease.dead_at) == (SENT_AT + 3599, RECEIVED_AT + 3600)


def test_a_lifetime_is_told_by_the_archives_clock_whatever_ours_says() -> None:
    lease = read(302, {"Location": location(signed="20360301T120000Z"), "Date": "Sat, 01 Mar 2036 12:00:00 GMT"})
    assert lease.lifetime_s == pytest.approx(3600, abs=1.25)


def test_sigv2_is_understood() -> None:
    lease = read(302, {"Location": f"https://bucket.s3.amazonaws.com/x?Expires={NOW + 60:.0f}&Signature=s"})
    assert lease.lifetime_s == pytest.approx(60, abs=1.25)


@pytest.mark.parametrize(
    "headers",
    [
        {"Location": "https://cdn.example/blobs/x"},
        {"Location": "https://cdn.example/blobs/x?Expires=never"},
        {"Location": location(), "Date": None},
        {"Location": location(), "Date": ""},
        {"Location": location(), "Date": "yesterday"},
        {"Location": location(), "Date": "Mon, 99999999999999999999 Jan 2026 00:00:00 GMT"},
        {"Location": location(), "Date": "Sun, 01 Mar 2026 12:00:00 +99999999999999999999"},
    ],
)
def test_without_expiry_or_date_a_lease_has_a_short_life(headers: dict[str, str | None]) -> None:
    lease = read(302, headers)
    assert lease.expires_at == lease.dead_at == RECEIVED_AT + DEFAULT_LIFETIME_S


def test_the_url_is_the_one_put_together_from_checked_parts() -> None:
    lease = read(302, {"Location": "HTTPS://Bucket.S3.amazonaws.com:443/x%20y?Signature=a%2Fb%3D#fragment"})
    assert lease.url == "https://bucket.s3.amazonaws.com/x%20y?Signature=a%2Fb%3D"


def test_loopback_may_redirect_to_plain_http_on_loopback() -> None:
    assert read(302, {"Location": location("http://127.0.0.1:9000")}, asset=LOCAL).url.startswith(
        "http://127.0.0.1:9000/"
    )


REFUSED: dict[str, tuple[Asset, str, str]] = {
    "plain http": (DANDI, location("http://bucket.s3.amazonaws.com"), "plain http"),
    "plain http on loopback": (DANDI, location("http://127.0.0.1:9000"), "plain http"),
    "plain http from a loopback instance": (LOCAL, location("http://bucket.s3.amazonaws.com"), "plain http"),
    "itself": (DANDI, location("https://api.dandiarchive.org"), "to itself"),
    "itself, spelt otherwise": (DANDI, location("HTTPS://API.dandiarchive.org.:443"), "to itself"),
    "itself on loopback": (LOCAL, location("http://127.0.0.1:8901"), "to itself"),
    "a path": (DANDI, f"/login?next={SIGNATURE}", "neither https nor http"),
    "a file": (DANDI, f"file:///etc/passwd?{SIGNATURE}", "neither https nor http"),
    "a user": (DANDI, f"https://user@bucket.s3.amazonaws.com/?{SIGNATURE}", "plain name"),
    "a disguised address": (DANDI, f"https://127.1/?{SIGNATURE}", "plain name"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_redirect_that_a_key_or_data_should_not_take_is_refused(name: str) -> None:
    asset, to, reason = REFUSED[name]
    with pytest.raises(UrlRefused, match=reason) as caught:
        read(302, {"Location": to}, asset=asset)
    assert_no_secret(caught.value)


@pytest.mark.parametrize("to", [None, ""])
def test_a_redirect_that_leads_nowhere_is_worth_another_attempt(to: str | None) -> None:
    with pytest.raises(ArchiveUnavailable, match="leads nowhere"):
        read(302, {"Location": to})


def test_a_url_that_is_surely_dead_on_arrival_is_worth_another_attempt() -> None:
    with pytest.raises(ArchiveUnavailable, match="had expired") as caught:
        read(302, {"Location": location(signed="20260301T115958Z", lasts=1)})
    assert_no_secret(caught.value)


def test_a_url_that_may_still_live_is_a_lease() -> None:
    lease = read(302, {"Location": location(signed="20260301T115959Z", lasts=2)})
    assert lease.expires_at < RECEIVED_AT < lease.dead_at


OPERATOR = "dandi:" + ID
ANSWERS: list[tuple[int, bool, dict[str, str], type[LindiError], dict[str, Any], str]] = [
    (401, True, {}, AuthenticationError, {"asset": OPERATOR, "variable": "DANDI_API_KEY"}, "does not know the key"),
    (401, False, {}, AuthenticationError, {"asset": OPERATOR, "variable": "DANDI_API_KEY"}, "DANDI_API_KEY"),
    (403, True, {}, PermissionDenied, {"asset": OPERATOR}, "not an owner of its embargoed dandiset .* was replaced"),
    (403, False, {}, PermissionDenied, {"asset": OPERATOR}, "embargoed"),
    (404, True, {}, AssetNotFound, {"asset": OPERATOR}, "no such asset"),
    (404, False, {}, AssetNotFound, {"asset": OPERATOR}, "no such asset"),
    (400, True, {}, AssetNotFound, {"asset": OPERATOR}, "not a file"),
    (408, True, {}, ArchiveUnavailable, {"retry_after_s": None}, "answered 408"),
    (429, True, {}, ArchiveUnavailable, {"retry_after_s": None}, "answered 429"),
    (429, True, {"Retry-After": "7"}, ArchiveUnavailable, {"retry_after_s": 7.0}, "answered 429"),
    (429, True, {"Retry-After": "0.5"}, ArchiveUnavailable, {"retry_after_s": 0.5}, "answered 429"),
    (429, True, {"Retry-After": "-5"}, ArchiveUnavailable, {"retry_after_s": 0.0}, "answered 429"),
    (429, True, {"Retry-After": "1e999"}, ArchiveUnavailable, {"retry_after_s": 3600.0}, "answered 429"),
    (429, True, {"Retry-After": "9" * 400}, ArchiveUnavailable, {"retry_after_s": 3600.0}, "answered 429"),
    (429, True, {"Retry-After": "nan"}, ArchiveUnavailable, {"retry_after_s": None}, "answered 429"),
    (429, True, {"Retry-After": "soon"}, ArchiveUnavailable, {"retry_after_s": None}, "answered 429"),
    (429, True, {"Retry-After": "Sun, 01 Mar 2026 12:00:07 GMT"}, ArchiveUnavailable, {"retry_after_s": None}, "429"),
    (500, True, {}, ArchiveUnavailable, {}, "answered 500"),
    (502, True, {}, ArchiveUnavailable, {}, "answered 502"),
    (503, True, {"Retry-After": "3"}, ArchiveUnavailable, {"retry_after_s": 3.0}, "answered 503"),
    (504, True, {}, ArchiveUnavailable, {}, "answered 504"),
    (200, True, {}, AccessError, {}, "answered 200, which is not an answer"),
    (301, True, {}, AccessError, {}, "answered 301, which is not an answer"),
    (307, True, {}, AccessError, {}, "answered 307, which is not an answer"),
    (418, True, {}, AccessError, {}, "answered 418, which is not an answer"),
    (501, True, {}, AccessError, {}, "answered 501, which is not an answer"),
]


@pytest.mark.parametrize(
    ("status", "with_key", "headers", "kind", "attributes", "message"),
    ANSWERS,
    ids=[f"{row[0]}-{'key' if row[1] else 'no key'}-{'-'.join(row[2].values())[:12]}" for row in ANSWERS],
)
def test_an_answer_becomes_the_error_that_says_what_to_do(
    status: int,
    with_key: bool,
    headers: dict[str, str],
    kind: type[LindiError],
    attributes: dict[str, Any],
    message: str,
) -> None:
    extra = {"Location": location(), "Set-Cookie": f"session={SIGNATURE}"}
    with pytest.raises(LindiError, match=message) as caught:
        read(status, {**headers, **extra}, with_key=with_key)
    assert type(caught.value) is kind
    assert {name: getattr(caught.value, name) for name in attributes} == attributes
    assert OPERATOR in str(caught.value)
    assert_no_secret(caught.value)


def test_401_says_whether_a_key_was_sent() -> None:
    messages = []
    for with_key in (True, False):
        with pytest.raises(AuthenticationError) as caught:
            read(401, with_key=with_key)
        messages.append(str(caught.value))
    assert all("on a cluster: on its workers" in message for message in messages)
    assert messages[0] != messages[1]


def test_an_error_tells_the_clock_the_time_too() -> None:
    clock = ArchiveClock()
    with pytest.raises(ArchiveUnavailable):
        read(503, clock=clock)
    assert all(map(math.isfinite, clock.window(NOW)))


def test_a_plain_url_is_never_exchanged() -> None:
    with pytest.raises(TypeError, match="no exchange"):
        read(302, {"Location": location()}, asset=Asset(None, "https://example.org/x"))


def assert_no_secret(error: LindiError) -> None:
    assert SIGNATURE not in f"{error!r} {error} {vars(error)} {error.__context__!r} {error.__cause__!r}"
