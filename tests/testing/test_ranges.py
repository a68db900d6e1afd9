from __future__ import annotations

import gzip
import hashlib
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lindi_dask.testing.answers import Span
from lindi_dask.testing.blobs import Blob
from lindi_dask.testing.ranges import parse_range, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import requests

    from lindi_dask.testing import Asset, EmbeddedArchive

SIZE = 100_000


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize(
    ("header", "part", "content_range"),
    [
        ("bytes=0-0", slice(0, 1), "bytes 0-0/100000"),
        ("bytes=0-99999", slice(None), "bytes 0-99999/100000"),
        ("bytes=5000-9999", slice(5000, 10_000), "bytes 5000-9999/100000"),
        ("bytes=99999-99999", slice(99_999, None), "bytes 99999-99999/100000"),
        ("bytes=99990-", slice(99_990, None), "bytes 99990-99999/100000"),
        ("bytes=-10", slice(99_990, None), "bytes 99990-99999/100000"),
        ("bytes=-200000", slice(None), "bytes 0-99999/100000"),
        ("bytes=99990-200000", slice(99_990, None), "bytes 99990-99999/100000"),
    ],
)
def test_a_range_is_exactly_those_bytes(
    embedded_archive: EmbeddedArchive,
    session: requests.Session,
    tmp_path: Path,
    content: bytes,
    header: str,
    part: slice,
    content_range: str,
    as_file: bool,
) -> None:
    path = tmp_path / "session.nwb"
    path.write_bytes(content)
    asset = embedded_archive.add(path if as_file else content, embargoed=False)

    answer = session.get(asset.url, headers={"Range": header})

    assert answer.status_code == 206
    assert answer.content == content[part]
    assert answer.headers["Content-Range"] == content_range
    assert int(answer.headers["Content-Length"]) == len(content[part])
    start, stop, _ = part.indices(SIZE)
    seen = embedded_archive.requests[-1]
    assert (seen.range, seen.nbytes) == ((start, stop - start), stop - start)


def test_without_a_range_it_is_the_whole_file(session: requests.Session, url: str, content: bytes) -> None:
    answer = session.get(url)
    assert (answer.status_code, answer.content) == (200, content)
    assert "Content-Range" not in answer.headers
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Type"] == "binary/octet-stream"
    assert answer.headers["Last-Modified"].endswith("GMT")


@pytest.mark.parametrize("header", ["bytes=100000-", "bytes=100000-100001", "bytes=-0", "bytes=999999-9999999"])
def test_past_the_end_there_is_nothing(session: requests.Session, url: str, header: str) -> None:
    answer = session.get(url, headers={"Range": header})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == "bytes */100000"
    assert "<Code>InvalidRange</Code>" in answer.text


@pytest.mark.parametrize("header", ["bytes=5-3", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,5-6", "bytes=\u0661-"])
def test_a_range_that_is_none_is_ignored(header: str) -> None:
    assert parse_range(header, SIZE) is None


def test_large_bodies_arrive_whole(
    embedded_archive: EmbeddedArchive, session: requests.Session, content: bytes
) -> None:
    large = content * 50
    asset = embedded_archive.add(large, embargoed=False)
    assert session.get(asset.url).content == large
    assert session.get(asset.url, headers={"Range": "bytes=1-"}).content == large[1:]


@given(data=st.binary(max_size=40), first=st.integers(0, 50), last=st.integers(0, 50), form=st.sampled_from("abc"))
def test_ranges_agree_with_slices(data: bytes, first: int, last: int, form: str) -> None:
    header, expected = {
        "a": (f"bytes={first}-{last}", data[first : last + 1]),
        "b": (f"bytes={first}-", data[first:]),
        "c": (f"bytes=-{last}", data[max(0, len(data) - last) :]),
    }[form]
    answer = read(Blob(data), range_header=header)
    if form == "a" and last < first:
        assert answer.status == 200
    elif not expected:
        assert answer.status == 416
    else:
        assert isinstance(answer.body, Span)
        assert answer.status == 206
        assert answer.body.read(0, len(answer.body)) == expected


def test_if_match_guards_against_another_object(
    embedded_archive: EmbeddedArchive, session: requests.Session, url: str
) -> None:
    etag = session.get(url, headers={"Range": "bytes=0-0"}).headers["ETag"]
    assert etag.startswith('"')
    assert etag.endswith('"')
    statuses = [
        session.get(url, headers={"Range": "bytes=0-0", "If-Match": if_match}).status_code
        for if_match in (etag, etag.strip('"'), "*", f'"x", {etag}', '"other"')
    ]
    assert statuses == [206, 206, 206, 206, 412]
    assert embedded_archive.requests[-1].if_match == '"other"'


def test_a_file_cut_short_under_the_archive_is_never_padded(
    embedded_archive: EmbeddedArchive, session: requests.Session, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "session.nwb"
    path.write_bytes(content)
    asset = embedded_archive.add(path, embargoed=False)
    path.write_bytes(content[:10])
    assert session.get(asset.url, headers={"Range": "bytes=5-20"}).status_code == 500


def test_the_etag_is_that_of_the_bytes(embedded_archive: EmbeddedArchive, session: requests.Session) -> None:
    tags = [session.get(embedded_archive.add(data, embargoed=False).url).headers["ETag"] for data in (b"a", b"a", b"b")]
    assert tags == [f'"{hashlib.md5(data).hexdigest()}"' for data in (b"a", b"a", b"b")]


def test_a_files_etag_is_the_same_until_the_file_changes(
    embedded_archive: EmbeddedArchive, session: requests.Session, tmp_path: Path
) -> None:
    path = tmp_path / "session.nwb"
    path.write_bytes(b"before")

    def etag() -> str:
        return session.get(embedded_archive.add(path, embargoed=False).url).headers["ETag"]

    before = etag()
    assert etag() == before
    os.utime(path, (1, 1))
    assert etag() != before


def test_if_none_match_spares_the_body_of_what_is_known(
    embedded_archive: EmbeddedArchive, session: requests.Session, url: str, content: bytes
) -> None:
    etag = session.get(url).headers["ETag"]
    for known in (etag, etag.strip('"'), "*", f'"x", {etag}'):
        answer = session.get(url, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", etag)
        assert embedded_archive.requests[-1].nbytes == 0
    assert session.get(url, headers={"If-None-Match": '"other"'}).content == content
    assert session.get(url, headers={"If-None-Match": etag, "If-Match": '"other"'}).status_code == 412


def test_an_overwritten_file_has_the_same_urls_and_another_etag(
    embedded_archive: EmbeddedArchive,
    session: requests.Session,
    asset: Asset,
    url: str,
    exchange: Callable[..., str],
    tmp_path: Path,
) -> None:
    etag = session.get(url).headers["ETag"]
    path = tmp_path / "other.nwb"
    path.write_bytes(b"other bytes")
    for other in (b"other bytes", path):
        after = embedded_archive.overwrite(asset.id, other)
        assert (after.id, after.url, after.nbytes) == (asset.id, asset.url, 11)
        for leased in (url, exchange(embedded_archive, asset)):
            answer = session.get(leased)
            assert answer.content == b"other bytes"
            assert answer.headers["ETag"] != etag
            assert session.get(leased, headers={"If-Match": etag}).status_code == 412


def test_an_asset_that_took_over_a_file_is_overwritten_with_it(
    embedded_archive: EmbeddedArchive, session: requests.Session, asset: Asset, url: str, exchange: Callable[..., str]
) -> None:
    newer = embedded_archive.replace(asset.id)
    embedded_archive.overwrite(asset.id, b"other bytes")
    for leased in (url, exchange(embedded_archive, newer)):
        assert session.get(leased).content == b"other bytes"


def test_what_can_not_be_overwritten_is_an_error(embedded_archive: EmbeddedArchive, tmp_path: Path) -> None:
    path = tmp_path / "other.nwb"
    path.touch()
    with pytest.raises(KeyError):
        embedded_archive.overwrite("none", path)
    with pytest.raises(ValueError, match="Zarr"):
        embedded_archive.overwrite(embedded_archive.add_zarr().id, path)


def test_a_content_encoding_is_given_as_it_was_put(
    embedded_archive: EmbeddedArchive, session: requests.Session, content: bytes
) -> None:
    asset = embedded_archive.add(gzip.compress(content), embargoed=False, content_encoding="gzip")
    answer = session.get(asset.url)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.content == content  # requests undoes it
    embedded_archive.overwrite(asset.id, content)
    assert "Content-Encoding" not in session.get(asset.url).headers
