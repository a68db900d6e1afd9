"""What the API tells of dandisets, versions and assets: as the real one does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from lindi_dask.testing.routes import parse_path

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from lindi_dask.testing import EmbeddedArchive

    Ask = Callable[..., requests.Response]

NO_CREDENTIALS = {"detail": "Authentication credentials were not provided."}
INVALID = {"detail": "Invalid token."}
FORBIDDEN = {"detail": "You do not have permission to perform this action."}
PATHS = ["sub-1/sub-1_ecephys.nwb", "sub-1/sub-1_ophys.nwb", "sub-10/sub-10.nwb", "Sub-2/a.b.nwb", "derived.nwb.zarr"]


@pytest.fixture
def ask(embedded_archive: EmbeddedArchive, session: requests.Session) -> Ask:
    def ask(path: str, key: str | None = "owner", /, **query: object) -> requests.Response:
        keys = {"owner": embedded_archive.owner_token, "stranger": embedded_archive.stranger_token}
        headers = {} if key is None else {"Authorization": f"token {keys.get(key, key)}"}
        url = path if path.startswith("http") else embedded_archive.api_url + path
        params = {name: str(value) for name, value in query.items()}
        return session.get(url, headers=headers, params=params, allow_redirects=False, timeout=5)

    return ask


@pytest.fixture
def listed(embedded_archive: EmbeddedArchive, ask: Ask) -> Callable[..., Any]:
    """Adds the paths above, and returns what answers with a page of them."""
    for path in PATHS[:-1]:
        embedded_archive.add(path.encode(), path=path)
    embedded_archive.add_zarr(PATHS[-1])
    return lambda **query: ask("/dandisets/000123/versions/draft/assets/", **query).json()


def paths_of(page: dict[str, Any]) -> list[str]:
    return [asset["path"] for asset in page["results"]]


@pytest.mark.parametrize("path", ["/dandisets/000123/", "/dandisets/000123/versions/draft/"])
@pytest.mark.parametrize(
    ("key", "status", "body"),
    [("owner", 200, None), (None, 401, NO_CREDENTIALS), ("stranger", 403, FORBIDDEN), ("x", 401, INVALID)],
)
def test_an_embargoed_dandiset_is_its_owners(
    embedded_archive: EmbeddedArchive, ask: Ask, path: str, key: str | None, status: int, body: Any
) -> None:
    asset = embedded_archive.add(b"x")
    for one in (path, "/dandisets/000123/versions/draft/assets/", f"/assets/{asset.id}/info/"):
        answer = ask(one, key)
        assert answer.status_code == status
        if body is not None:
            assert answer.json() == body
    embedded_archive.set_embargo(asset.id, False)
    assert ask(path, None).status_code == 200
    assert ask("/dandisets/000123/versions/draft/assets/", None).json()["count"] == 1


@pytest.mark.parametrize(
    ("path", "key", "status", "detail"),
    [
        ("/dandisets/000999/", "owner", 404, "No Dandiset matches the given query."),
        ("/dandisets/000999/versions/draft/", None, 404, "No Dandiset matches the given query."),
        ("/dandisets/000999/versions/draft/assets/", None, 404, "No Version matches the given query."),
        ("/dandisets/000123/versions/0.230101.1234/", "owner", 404, "No Version matches the given query."),
        ("/dandisets/000123/versions/0.230101.1234/", None, 401, NO_CREDENTIALS["detail"]),
        ("/dandisets/000123/versions/0.230101.1234/assets/", None, 404, "No Version matches the given query."),
        ("/dandisets/123/", "owner", 404, None),
        ("/dandisets/000123/versions/latest/assets/", "owner", 404, None),
        ("/dandisets/000123", "owner", 301, None),
    ],
)
def test_what_is_not_there(
    embedded_archive: EmbeddedArchive, ask: Ask, path: str, key: str | None, status: int, detail: str | None
) -> None:
    embedded_archive.add(b"x")
    answer = ask(path, key)
    assert answer.status_code == status
    if detail is None:
        assert answer.headers["Content-Type"].startswith("text/html")
    else:
        assert answer.json() == {"detail": detail}


def test_an_asset_is_told_of_with_its_digest(embedded_archive: EmbeddedArchive, ask: Ask) -> None:
    asset = embedded_archive.add(b"content", path="sub-1/session.nwb")
    location = ask(f"/assets/{asset.id}/download/").headers["Location"]
    etag = ask(location, None).headers["ETag"]
    found = ask(f"/assets/{asset.id}/info/").json()
    assert {name: found[name] for name in ("asset_id", "path", "size", "zarr")} == {
        "asset_id": asset.id,
        "path": "sub-1/session.nwb",
        "size": 7,
        "zarr": None,
    }
    assert found["blob"] in location
    assert abs((datetime.fromisoformat(found["modified"]) - datetime.now(UTC)).total_seconds()) < 60
    about = ask(f"/assets/{asset.id}/").json()
    assert about == found["metadata"]
    assert (about["identifier"], about["contentSize"]) == (asset.id, 7)
    assert f'"{about["digest"]["dandi:dandi-etag"]}"' == etag
    nested = ask(f"/dandisets/000123/versions/draft/assets/{asset.id}/info/").json()
    assert nested == found


def test_a_zarr_asset_has_no_blob(listed: Callable[..., Any]) -> None:
    (found,) = listed(path="derived", metadata="true")["results"]
    assert found["blob"] is None
    assert len(found["zarr"]) == 36
    assert "dandi:dandi-zarr-checksum" in found["metadata"]["digest"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"order": "path"}, sorted(PATHS)),
        ({"order": "-path"}, sorted(PATHS)[::-1]),
        ({"order": "created"}, PATHS),
        ({"path": "sub-1/", "order": "path"}, PATHS[:2]),
        ({"path": "SUB-1", "order": "path"}, PATHS[:3]),
        ({"glob": "sub-*.nwb", "order": "path"}, sorted(PATHS[:4])),
        ({"glob": "*ophys*"}, PATHS[1:2]),
        ({"glob": "sub-1/sub-1_ophys.nw?"}, []),
        ({"glob": "sub-[12]*"}, []),
        ({"glob": "sub-2/a.b.nwb"}, PATHS[3:4]),
        ({"glob": "sub-2/a?b.nwb"}, []),
        ({"path": "", "order": "", "glob": "*a*", "page_size": "1"}, None),
    ],
)
def test_path_glob_and_order(listed: Callable[..., Any], query: dict[str, str], expected: list[str] | None) -> None:
    page = listed(**query)
    if expected is None:
        assert len(page["results"]) == 1
    else:
        assert paths_of(page) == expected
    assert "metadata" not in page["results"][0] if page["results"] else page["count"] == 0


@pytest.mark.parametrize(
    ("query", "status", "body"),
    [
        ({"glob": " "}, 400, {"glob": ["This field may not be blank."]}),
        ({"metadata": "maybe"}, 400, {"metadata": ["Must be a valid boolean."]}),
        ({"order": "size"}, 400, {"order": ["Select a valid choice. size is not one of the available choices."]}),
        ({"page": "0"}, 404, {"detail": "Invalid page."}),
        ({"page": "last"}, 404, {"detail": "Invalid page."}),
    ],
)
def test_queries_that_make_no_sense(
    listed: Callable[..., Any], ask: Ask, query: dict[str, str], status: int, body: Any
) -> None:
    assert listed()["count"] == len(PATHS)
    answer = ask("/dandisets/000123/versions/draft/assets/", **query)
    assert (answer.status_code, answer.json()) == (status, body)


def test_pages_lead_to_each_other_and_only_the_first_counts(embedded_archive: EmbeddedArchive, ask: Ask) -> None:
    paths = [f"sub-{number:04}.nwb" for number in range(1203)]
    for path in paths:
        embedded_archive.add(b"x", path=path)
    url = f"{embedded_archive.api_url}/dandisets/000123/versions/draft/assets/"
    assert len(ask(url).json()["results"]) == 100
    assert len(ask(url, page_size="many").json()["results"]) == 100
    pages = [ask(url, order="path", page_size=5000, metadata="false").json()]
    while pages[-1]["next"] is not None:
        pages.append(ask(pages[-1]["next"]).json())
    assert [page["count"] for page in pages] == [1203, None]
    assert [path for page in pages for path in paths_of(page)] == paths
    assert pages[0]["next"] == f"{url}?metadata=false&order=path&page=2&page_size=5000"
    assert pages[1]["previous"] == f"{url}?metadata=false&order=path&page_size=5000"
    assert pages[0]["previous"] is None
    assert ask(url, page=99).json() == {
        "count": None,
        "next": None,
        "previous": f"{url}?page=98",
        "results": [],
    }


def test_a_replaced_asset_is_not_in_the_draft_any_more(embedded_archive: EmbeddedArchive, listed: Any) -> None:
    before = {asset["path"]: asset for asset in listed()["results"]}
    edited = embedded_archive.replace(before[PATHS[0]]["asset_id"])
    changed = embedded_archive.replace(before[PATHS[1]]["asset_id"], b"other bytes")
    after = {asset["path"]: asset for asset in listed()["results"]}
    assert after.keys() == before.keys()
    assert (after[PATHS[0]]["asset_id"], after[PATHS[1]]["asset_id"]) == (edited.id, changed.id)
    assert after[PATHS[0]]["blob"] == before[PATHS[0]]["blob"]
    assert after[PATHS[1]]["blob"] != before[PATHS[1]]["blob"]
    assert after[PATHS[1]]["size"] == 11
    assert after[PATHS[0]]["modified"] > before[PATHS[0]]["modified"]


def test_a_published_version_stays_as_it_was(embedded_archive: EmbeddedArchive, ask: Ask) -> None:
    asset = embedded_archive.add(b"x", embargoed=False, path="a.nwb")
    assert ask("/dandisets/000123/").json()["most_recent_published_version"] is None
    for version in ("0.230101.1234", "0.231231.0001"):
        embedded_archive.publish(version)
        embedded_archive.add(b"y", embargoed=False, path=f"{version}.nwb")
    new = embedded_archive.replace(asset.id)
    about = ask("/dandisets/000123/", None).json()
    assert about["most_recent_published_version"]["version"] == "0.231231.0001"
    assert (about["identifier"], about["embargo_status"]) == ("000123", "OPEN")
    assert about["draft_version"]["asset_count"] == 3
    first = ask("/dandisets/000123/versions/0.230101.1234/assets/").json()
    assert [found["asset_id"] for found in first["results"]] == [asset.id]
    draft = ask("/dandisets/000123/versions/draft/assets/", path="a.nwb").json()
    assert [found["asset_id"] for found in draft["results"]] == [new.id]
    assert ask("/dandisets/000123/versions/0.230101.1234/").json()["assetsSummary"]["numberOfFiles"] == 1
    embedded_archive.set_embargo(new.id, True)
    with pytest.raises(ValueError, match="embargoed"):
        embedded_archive.publish("0.240101.0000")


def test_they_are_in_the_records_without_their_query(embedded_archive: EmbeddedArchive, listed: Any) -> None:
    listed(path="sub-1")
    (request,) = embedded_archive.requests
    assert (request.path, request.status) == ("/api/dandisets/000123/versions/draft/assets/", 200)
    assert (request.authorized, request.asset_id, request.is_download) == (True, None, False)
    assert embedded_archive.counts()["exchanges_refused"] == 0


def test_paths_are_read_as_a_whole() -> None:
    assert parse_path("/api/dandisets/000123/versions/draft/assets/x") is None
    assert parse_path("/api/dandisets/000123/versions/draft/assets/") is not None
    assert parse_path("/x/api/dandisets/000123/") is None
