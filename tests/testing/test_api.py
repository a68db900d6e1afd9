from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from lindi_dask.testing.api import Throttle, read_token
from lindi_dask.testing.routes import parse_path

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from lindi_dask.testing import Asset, EmbeddedArchive

UNKNOWN = "00000000-0000-4000-8000-000000000000"
NO_CREDENTIALS = {"detail": "Authentication credentials were not provided."}
INVALID = {"detail": "Invalid token."}
FORBIDDEN = {"detail": "You do not have permission to perform this action."}
NOT_FOUND = {"detail": "No Asset matches the given query."}


def download(archive: EmbeddedArchive, asset_id: str) -> str:
    return f"{archive.api_url}/assets/{asset_id}/download/"


@pytest.mark.parametrize(
    ("embargoed", "who", "status", "body"),
    [
        (True, "owner", 302, None),
        (True, "nobody", 401, NO_CREDENTIALS),
        (True, "stranger", 403, FORBIDDEN),
        (True, "impostor", 401, INVALID),
        (False, "owner", 302, None),
        (False, "nobody", 302, None),
        (False, "stranger", 302, None),
        (False, "impostor", 401, INVALID),
    ],
)
def test_who_may_have_an_asset(
    embedded_archive: EmbeddedArchive,
    session: requests.Session,
    asset: Asset,
    embargoed: bool,
    who: str,
    status: int,
    body: Any,
) -> None:
    keys = {
        "owner": embedded_archive.owner_token,
        "stranger": embedded_archive.stranger_token,
        "impostor": "no-such-key",
    }
    headers = {"Authorization": f"token {keys[who]}"} if who in keys else {}
    embedded_archive.set_embargo(asset.id, embargoed)

    answer = session.get(asset.url, headers=headers, allow_redirects=False)

    assert answer.status_code == status
    assert ("Location" in answer.headers) == (status == 302)
    if body is not None:
        assert answer.json() == body
    if status == 401:
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    about = session.get(f"{embedded_archive.api_url}/assets/{asset.id}/", headers=headers)
    assert about.status_code == (200 if status == 302 else status)


@pytest.mark.parametrize(
    ("path", "status", "content_type"),
    [
        (f"/assets/{UNKNOWN}/download/", 404, "application/json"),
        (f"/assets/{UNKNOWN}/", 404, "application/json"),
        ("/assets/not-a-uuid/download/", 404, "text/html; charset=utf-8"),
        ("/assets/", 404, "text/html; charset=utf-8"),
        (f"/assets/{UNKNOWN}/download", 301, "text/html; charset=utf-8"),
        (f"/dandisets/123/versions/draft/assets/{UNKNOWN}/download/", 404, "text/html; charset=utf-8"),
    ],
)
def test_a_path_that_leads_nowhere(
    embedded_archive: EmbeddedArchive, session: requests.Session, path: str, status: int, content_type: str
) -> None:
    answer = session.get(embedded_archive.api_url + path, allow_redirects=False)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, content_type)


def test_a_missing_slash_is_redirected_with_its_query(
    embedded_archive: EmbeddedArchive, session: requests.Session
) -> None:
    without = download(embedded_archive, UNKNOWN).rstrip("/")
    answer = session.get(f"{without}?content_disposition=inline", allow_redirects=False)
    assert answer.headers["Location"] == f"/api/assets/{UNKNOWN}/download/?content_disposition=inline"


def test_the_nested_url_gives_the_same_as_the_flat_one(
    embedded_archive: EmbeddedArchive, session: requests.Session, content: bytes
) -> None:
    asset = embedded_archive.add(content, dandiset="000777")
    key = {"Authorization": f"token {embedded_archive.owner_token}"}
    nested = f"{embedded_archive.api_url}/dandisets/{{}}/versions/draft/assets/{asset.id}/download/"

    answer = session.get(nested.format("000777"), headers=key, allow_redirects=False)

    assert answer.status_code == 302
    assert session.get(answer.headers["Location"]).content == content
    assert session.get(nested.format("000778"), headers=key).status_code == 404


def test_a_zarr_asset_has_no_download(embedded_archive: EmbeddedArchive, session: requests.Session) -> None:
    asset = embedded_archive.add_zarr(embargoed=False)
    answer = session.get(asset.url)
    assert answer.status_code == 400
    assert "zarr" in answer.json()


def test_what_is_known_of_an_asset(
    embedded_archive: EmbeddedArchive, session: requests.Session, content: bytes
) -> None:
    asset = embedded_archive.add(content, embargoed=False, path="sub-1/session.nwb")
    about = session.get(f"{embedded_archive.api_url}/assets/{asset.id}/").json()
    assert (about["identifier"], about["path"], about["contentSize"]) == (asset.id, "sub-1/session.nwb", len(content))


def test_owners_of_an_asset_s_own_replace_the_archive_s(
    embedded_archive: EmbeddedArchive, session: requests.Session, content: bytes
) -> None:
    asset = embedded_archive.add(content, owners=["another-key"])
    statuses = [
        session.get(asset.url, headers={"Authorization": f"token {key}"}, allow_redirects=False).status_code
        for key in ("another-key", embedded_archive.owner_token)
    ]
    assert statuses == [302, 403]


def test_a_key_revoked_is_a_bad_key(embedded_archive: EmbeddedArchive, session: requests.Session, asset: Asset) -> None:
    key = {"Authorization": f"token {embedded_archive.owner_token}"}
    assert session.get(asset.url, headers=key, allow_redirects=False).status_code == 302
    embedded_archive.revoke(embedded_archive.owner_token)
    answer = session.get(asset.url, headers=key, allow_redirects=False)
    assert (answer.status_code, answer.json()) == (401, INVALID)


def test_an_embargoed_asset_that_was_replaced_is_denied_to_its_owner(
    embedded_archive: EmbeddedArchive, session: requests.Session, asset: Asset, content: bytes
) -> None:
    new = embedded_archive.replace(asset.id)
    key = {"Authorization": f"token {embedded_archive.owner_token}"}
    assert session.get(asset.url, headers=key, allow_redirects=False).status_code == 403
    answer = session.get(new.url, headers=key, allow_redirects=False)
    assert session.get(answer.headers["Location"]).content == content


def test_an_asset_removed_is_gone_from_both_hosts(
    embedded_archive: EmbeddedArchive, session: requests.Session, asset: Asset, url: str
) -> None:
    embedded_archive.remove(asset.id)
    assert session.get(asset.url).json() == NOT_FOUND
    answer = session.get(url)
    assert (answer.status_code, "<Code>NoSuchKey</Code>" in answer.text) == (404, True)


def test_head_is_not_a_way_to_an_exchange(
    embedded_archive: EmbeddedArchive, session: requests.Session, asset: Asset
) -> None:
    key = {"Authorization": f"token {embedded_archive.owner_token}"}
    assert session.head(asset.url, headers=key).status_code == 405
    assert session.post(asset.url, headers=key).json() == {"detail": 'Method "POST" not allowed.'}
    assert embedded_archive.counts()["exchanges"] == 0


def test_beyond_the_rate_limit_it_answers_429(
    make_archive: Callable[..., EmbeddedArchive], session: requests.Session, content: bytes
) -> None:
    archive = make_archive(rate_limit=(2, 60))
    asset = archive.add(content, embargoed=False)
    answers = [session.get(asset.url, allow_redirects=False) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [302, 302, 429]
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 60
    assert "throttled" in answers[2].json()["detail"]
    archive.rate_limit = None
    assert session.get(asset.url, allow_redirects=False).status_code == 302


def test_the_rate_limit_is_over_a_sliding_window() -> None:
    throttle = Throttle()
    waits = [throttle.wait_s((2, 10), now_s) for now_s in (0, 4, 5, 9.5, 10, 11, 14)]
    assert waits == [None, None, 5, 1, None, 3, None]


@pytest.mark.parametrize("offset_s", [-3600, 0, 3600])
def test_dates_and_signing_times_are_the_archive_s_own(
    embedded_archive: EmbeddedArchive, session: requests.Session, asset: Asset, offset_s: float
) -> None:
    embedded_archive.clock_offset_s = offset_s
    key = {"Authorization": f"token {embedded_archive.owner_token}"}

    answer = session.get(asset.url, headers=key, allow_redirects=False)

    location = answer.headers["Location"]
    dated = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    assert abs(dated - embedded_archive.now()) < 3
    assert parse_qs(urlsplit(location).query)["X-Amz-Expires"] == ["3600"]
    assert session.get(location).status_code == 200


def test_no_two_exchanges_give_the_same_url(
    embedded_archive: EmbeddedArchive, asset: Asset, exchange: Callable[..., str]
) -> None:
    assert len({exchange(embedded_archive, asset) for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("header", "token"),
    [(None, None), ("", None), ("token abc", "abc"), ("Token  abc", "abc"), ("Bearer abc", None)],
)
def test_the_key_in_a_header(header: str | None, token: str | None) -> None:
    assert read_token(header) == token


@pytest.mark.parametrize("header", ["token", "token a b"])
def test_half_a_header_is_told_so(session: requests.Session, asset: Asset, header: str) -> None:
    with pytest.raises(ValueError, match="Invalid token header"):
        read_token(header)
    answer = session.get(asset.url, headers={"Authorization": header}, allow_redirects=False)
    assert answer.status_code == 401
    assert answer.json()["detail"].startswith("Invalid token header.")


def test_a_path_is_read_as_a_whole() -> None:
    assert parse_path(f"/api/assets/{UNKNOWN}/download/x") is None
    assert parse_path(f"/x/api/assets/{UNKNOWN}/download/") is None
    assert parse_path(f"/api/assets/{UNKNOWN.replace('8', 'A')}/download/") is None
