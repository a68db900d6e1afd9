"""Reference files at paths and below URLs, in every form: what is found, what is read again, which errors come."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
import zarr
import zstandard
from aiohttp import web

import lindi_dask as ld
from lindi_dask import errors, process
from lindi_dask.archive import LeaseCache, PlainUrls, Resolver
from lindi_dask.retry import RetryPolicy
from lindi_dask.saving import save
from lindi_dask.testing.blobs import Blob
from lindi_dask.testing.hosting import Port, ServerThread
from lindi_dask.testing.ranges import read
from lindi_dask.transport import download, peek

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VALUES = np.arange(200, dtype="<i8")  # in data.bin, 10 to a chunk
QUICK = RetryPolicy(attempts=2, total_s=5, first_s=0.001, cap_s=0.001, retry_on=errors.StorageUnavailable)
ZARRAY = {
    "zarr_format": 2,
    "shape": [200],
    "chunks": [10],
    "dtype": "<i8",
    "fill_value": 0,
    "order": "C",
    "compressor": None,
    "filters": None,
}


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a look at a plain URL rides out, with bounds that a test can wait for."""
    plain = PlainUrls(retry=QUICK)
    monkeypatch.setattr(process, "_leases", LeaseCache(process._Source(Resolver()), plain=plain))


def document(url: str = "data.bin", *, first: int = 0) -> dict[str, Any]:
    """References to 20 chunks, by default of a file beside them."""
    chunks = {f"a/{i}": [url, 80 * i, 80] for i in range(first, 20)}
    return {"version": 1, "refs": {".zgroup": '{"zarr_format": 2}', "a/.zarray": json.dumps(ZARRAY), **chunks}}


def write_json(folder: Path) -> Path:
    (folder / "refs.json").write_text(json.dumps(document()))
    return folder / "refs.json"


def write_gzip(folder: Path) -> Path:
    (folder / "refs.json.gz").write_bytes(gzip.compress(json.dumps(document()).encode()))
    return folder / "refs.json.gz"


def write_zstd(folder: Path) -> Path:
    (folder / "refs.json.zst").write_bytes(zstandard.compress(json.dumps(document()).encode()))
    return folder / "refs.json.zst"


def write_bundle(folder: Path) -> Path:
    (folder / "x.lindi.d").mkdir()
    (folder / "x.lindi.d" / "lindi.json").write_text(json.dumps(document("./blobs/data.bin")))
    (folder / "x.lindi.d" / "blobs").mkdir()
    shutil.copy(folder / "data.bin", folder / "x.lindi.d" / "blobs" / "data.bin")
    return folder / "x.lindi.d"


def write_parquet(folder: Path) -> Path:
    """Three records, of 8 rows each."""
    (folder / "all.json").write_text(json.dumps(document("https://host.invalid/data.bin")))
    save(ld.StoreFactory(folder / "all.json").load()[0], folder / "x.parquet", record_size=8)
    for record in (folder / "x.parquet" / "a").iterdir():  # as kerchunk has them: paths relative to the folder
        table = pq.read_table(record)
        column = pa.array(["data.bin" if path else None for path in table["path"].to_pylist()])
        pq.write_table(table.set_column(table.schema.get_field_index("path"), "path", column), record)
    shutil.copy(folder / "data.bin", folder / "x.parquet")
    return folder / "x.parquet"


def write_zarrshadow(folder: Path) -> Path:
    place = folder / "x.zarrshadow"
    layout: dict[str, Any] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [200],
        "data_type": "int64",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
    }
    root = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}})
    options: dict[str, Any] = {"shape": (20, 2), "chunks": (8, 2), "dtype": "uint64", "fill_value": 2**64 - 1}
    index = zarr.create_array(place / "index" / "a", zarr_format=3, **options)
    index[...] = np.array([[80 * i, 80] for i in range(20)], np.uint64)
    written = {
        "version": 1,
        "refs": {"zarr.json": root, "a/zarr.json": json.dumps(layout)},
        "indexes": {"a": {"url": "data.bin", "index": "index/a"}},
    }
    (place / "refs.json").write_text(json.dumps(written))
    shutil.copy(folder / "data.bin", place)
    return place


FORMS: dict[str, Callable[[Path], Path]] = {
    "json": write_json,
    "gzip": write_gzip,
    "zstd": write_zstd,
    "bundle": write_bundle,
    "parquet": write_parquet,
    "zarrshadow": write_zarrshadow,
}
FOLDERS = ("bundle", "parquet", "zarrshadow")


class Site:
    """A static host on loopback: files below a folder, with ranges and ETags."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, int]] = []
        """path and status of each request, but for the looks at where a URL ends"""
        self.absent = 404
        """status for what is not there: S3 says 403 in a bucket that may not be listed"""
        self.port = Port()
        self.url = f"http://127.0.0.1:{self.port.number}/"
        self._thread = ServerThread([(self.port.lend(), self._handle)])

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = self.folder / request.path.lstrip("/")
        response = web.Response(status=self.absent)
        if request.path.startswith("/status/"):
            response = web.Response(status=int(request.path.split("/")[2]))
        elif path.is_file():
            ranges, tags = request.headers.get("Range"), request.headers.get("If-None-Match")
            answer = read(Blob(path.read_bytes()), range_header=ranges, if_none_match=tags)
            body = answer.body if isinstance(answer.body, bytes) else answer.body.read(0, len(answer.body))
            response = web.Response(status=answer.status, headers=answer.headers, body=body)
        if request.headers.get("Range") != "bytes=0-0":
            self.asked.append((request.path.lstrip("/"), response.status))
        return response

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.stop()
        self.port.release()

    def files_asked(self) -> list[str]:
        """What was asked for since the last call, and was there."""
        asked, self.asked = self.asked, []
        return [path for path, status in asked if status < 400]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "data.bin").write_bytes(VALUES.tobytes())
    return folder


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield stack.enter_context(Site(folder))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lindi_dask.remote.download", partial(download, retry=QUICK))
    monkeypatch.setattr("lindi_dask.remote.peek", partial(peek, retry=QUICK))


def url_of(path: Path, site: Site) -> str:
    return f"{site.url}{path.relative_to(site.folder)}"


# Paths


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read_from_a_path(form: str, folder: Path) -> None:
    place = FORMS[form](folder)
    np.testing.assert_array_equal(ld.open_array(place, "a").compute(), VALUES)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_content_has_the_same_keys_wherever_it_lies(form: str, folder: Path, tmp_path: Path) -> None:
    place = FORMS[form](folder)
    other = tmp_path / "elsewhere"
    other.mkdir()
    copied = other / "other.name"
    _ = shutil.copytree(place, copied) if place.is_dir() else shutil.copy(place, copied)
    assert ld.open_array(place, "a").name == ld.open_array(copied, "a").name


@pytest.mark.parametrize(
    ("form", "changed"),
    [("json", ""), ("bundle", "lindi.json"), ("parquet", "a/refs.1.parq"), ("zarrshadow", "index/a/c/1/0")],
)
def test_what_was_changed_has_other_keys_and_is_refused_where_the_first_was_expected(
    form: str, changed: str, folder: Path
) -> None:
    place = FORMS[form](folder)
    before = ld.StoreFactory(place)
    path = place / changed if changed else place
    content = bytearray(path.read_bytes())
    if path.suffix == ".json":
        path.write_bytes(bytes(content) + b" ")
    else:
        content[-1] ^= 1
        path.write_bytes(content)
    os.utime(path, (1e9, 1e9))
    assert ld.StoreFactory(place).fingerprint != before.fingerprint
    with pytest.raises(errors.RefsChanged, match="Open it again") as raised:
        pickle.loads(pickle.dumps(before)).load()
    assert raised.value.expected == before.fingerprint


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("hello"), "is not a reference file"),
    "nothing": (lambda path: path.write_bytes(b""), "is not a reference file"),
    "other JSON": (lambda path: path.write_text('{"refs": 5}'), "no object called 'refs'"),
    "broken gzip": (lambda path: path.write_bytes(gzip.compress(b"{}" * 500)[:-5]), "gzip"),
    "a folder": (lambda path: path.mkdir(), "a folder without lindi.json, .zmetadata, refs.json"),
    "a pipe": (os.mkfifo, "not a regular file"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_reference_file_says_why(what: str, tmp_path: Path) -> None:
    make, message = REFUSED[what]
    make(tmp_path / "x")
    with pytest.raises(errors.InvalidReferences, match=message):
        ld.open_store(tmp_path / "x")


def test_a_path_with_nothing_there_is_unreachable_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(errors.RefsUnreachable, match="save it to a path that they reach") as raised:
        ld.open_store(tmp_path / "x")
    assert raised.value.__context__ is None


def test_a_file_that_went_away_is_unreachable_on_the_worker(folder: Path) -> None:
    pickled = pickle.dumps(ld.StoreFactory(write_json(folder)))
    (folder / "refs.json").unlink()
    with pytest.raises(errors.RefsUnreachable, match="Workers read the reference file themselves"):
        pickle.loads(pickled).load()


# URLs


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read_from_below_a_url(form: str, folder: Path, site: Site) -> None:
    place = FORMS[form](folder)
    url = url_of(place, site) + "/" * (form in FOLDERS)
    by_url = ld.open_array(url, "a", allow=[site.url])
    np.testing.assert_array_equal(by_url.compute(), VALUES)
    if form in ("json", "gzip", "zstd", "bundle"):  # of other folders, the names below a URL are not known
        assert by_url.name == ld.open_array(place, "a").name


@pytest.mark.parametrize("form", ["bundle", "parquet"])
def test_the_slash_behind_a_folder_s_name_may_be_left_out_where_the_name_says_what_it_is(
    form: str, folder: Path, site: Site
) -> None:
    url = url_of(FORMS[form](folder), site)
    np.testing.assert_array_equal(ld.open_array(url, "a", allow=[site.url]).compute(), VALUES)


def test_only_the_records_that_are_needed_are_read(folder: Path, site: Site) -> None:
    url = url_of(write_parquet(folder), site)
    array = ld.open_array(f"{url}/", "a", chunks=10, allow=[site.url])
    assert site.files_asked() == ["x.parquet/.zmetadata"]
    np.testing.assert_array_equal(array[100:110].compute(), VALUES[100:110])
    assert site.files_asked() == ["x.parquet/a/refs.1.parq", "x.parquet/data.bin"]


def test_a_record_that_is_not_there_is_an_error_not_zeros(folder: Path, site: Site) -> None:
    place = write_parquet(folder)
    (place / "a" / "refs.1.parq").unlink()
    array = ld.open_array(f"{url_of(place, site)}/", "a", allow=[site.url])
    with pytest.raises(errors.InvalidReferences, match=r"refs\.1\.parq"):
        array.compute()


def test_a_folder_in_a_bucket_that_may_not_be_listed_is_found_all_the_same(folder: Path, site: Site) -> None:
    site.absent = 403
    url = f"{url_of(write_parquet(folder), site)}/"
    np.testing.assert_array_equal(ld.open_array(url, "a", allow=[site.url]).compute(), VALUES)
    with pytest.raises(errors.PermissionDenied):
        ld.open_store(f"{site.url}nothing/", allow=[site.url])


def test_a_folder_url_without_references_says_what_was_looked_for(site: Site) -> None:
    with pytest.raises(errors.InvalidReferences, match=r"none of lindi\.json, \.zmetadata, refs\.json"):
        ld.open_store(f"{site.url}nothing/", allow=[site.url])


def test_a_small_file_is_asked_about_once_where_it_is_known(folder: Path, site: Site) -> None:
    url = url_of(write_json(folder), site)
    ld.open_store(url, allow=[site.url])
    assert site.asked == [("refs.json", 206), ("refs.json", 200)]
    site.asked.clear()
    factory = ld.StoreFactory(url, allow=[site.url])
    factory.load()
    assert site.asked == [("refs.json", 304)]
    site.asked.clear()
    pickle.loads(pickle.dumps(factory)).load()
    assert site.asked == [("refs.json", 304)]


def test_a_changed_file_is_fetched_anew_and_has_other_keys(folder: Path, site: Site) -> None:
    path = write_json(folder)
    first = ld.open_array(url_of(path, site), "a", allow=[site.url])
    path.write_text(json.dumps(document(first=1)))
    second = ld.open_array(url_of(path, site), "a", allow=[site.url])
    assert first.name != second.name
    np.testing.assert_array_equal(second.compute(), np.where(VALUES < 10, 0, VALUES))


def test_an_hdf5_file_below_a_url_is_opened_as_it_is(folder: Path, site: Site, data: Path) -> None:
    shutil.copy(data / "session.nwb", folder)
    url = f"{site.url}session.nwb"
    before = ld.StoreFactory(url, allow=[site.url])
    series = "acquisition/ElectricalSeries/data"
    here = ld.open_array(data / "session.nwb", series)
    np.testing.assert_array_equal(ld.open_array(before, series).compute(), here.compute())
    after = ld.StoreFactory(url, allow=[site.url])
    with (folder / "session.nwb").open("r+b") as file:
        file.seek(1000)
        file.write(b"others")
    shutil.rmtree(os.environ["DASK_LINDI_DASK__INDEX_CACHE"])
    with pytest.raises(errors.RefsChanged, match="while it was opened"):
        after.load()
    assert ld.StoreFactory(url, allow=[site.url]).fingerprint != before.fingerprint


def test_a_host_without_ranges_is_read_too(folder: Path) -> None:
    path = write_json(folder)

    async def whole(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=(folder / request.path.lstrip("/")).read_bytes())

    port = Port()
    thread = ServerThread([(port.lend(), whole)])
    thread.start()
    try:
        url = f"http://127.0.0.1:{port.number}/"
        assert "a" in ld.open_group(f"{url}{path.name}", allow=[url])
    finally:
        thread.stop()
        port.release()


STATUSES = {
    401: errors.LindiError,
    403: errors.PermissionDenied,
    404: errors.AssetNotFound,
    410: errors.LindiError,
    503: errors.StorageUnavailable,
}


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("status", STATUSES)
def test_each_status_is_a_named_error_without_the_query(status: int, site: Site) -> None:
    with pytest.raises(STATUSES[status]) as raised:
        ld.StoreFactory(f"{site.url}status/{status}/refs.json?download=SECRET", allow=[site.url])
    assert str(status) in str(raised.value) or status == 404
    assert "refs.json?" not in str(raised.value)
    assert "SECRET" not in repr(vars(raised.value)) + str(raised.value)
    assert raised.value.__context__ is None


@pytest.mark.usefixtures("quick_retries")
def test_a_host_that_does_not_answer_is_unavailable(folder: Path) -> None:
    with Site(folder) as gone:
        url = gone.url
    with pytest.raises(errors.StorageUnavailable, match="can't be reached"):
        ld.StoreFactory(f"{url}refs.json?download=SECRET", allow=[url])


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("https://user:word@host.example/refs.json", errors.ConfigurationError, "holds a signature or a password"),
        ("https://host.example/refs.json?X-Amz-Signature=5ec4e7", errors.ConfigurationError, "Download the file"),
        ("https://host.example/refs.json?sig=5ec4e7", errors.ConfigurationError, "refs.json holds a signature"),
        ("http://host.example/refs.json", errors.UrlRefused, "plain http"),
        ("https://127.0.0.1/refs.json", errors.UrlRefused, "private network"),
        ("https://api.dandiarchive.org/api/info/", errors.UrlRefused, "not at an asset's download"),
        ("s3://bucket/refs.json", errors.ConfigurationError, "neither a path nor an https URL"),
    ],
)
def test_urls_that_may_not_be_read_are_refused_without_a_request(
    url: str, error: type[errors.LindiError], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        ld.StoreFactory(url)
    assert "5ec4e7" not in str(raised.value)
    assert "word@" not in str(raised.value)


def test_a_file_below_a_url_may_not_be_a_local_one(folder: Path, site: Site, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(VALUES.tobytes())
    (folder / "refs.json").write_text(json.dumps(document(str(secret))))
    array = ld.open_array(f"{site.url}refs.json", "a", allow=[site.url])
    with pytest.raises(errors.UrlRefused, match="local path"):
        array.compute()
