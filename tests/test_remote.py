"""Reference files that are (embargoed) assets: requests are counted at the archive, and no secret stays on disk."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import stat
import subprocess
import sys
import tarfile
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zstandard

import lindi_dask as ld
from lindi_dask import errors, process
from lindi_dask.archive import LeaseCache, Resolver
from lindi_dask.index_cache import WORTH_FROM
from lindi_dask.retry import RetryPolicy
from lindi_dask.transport import download, peek

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import h5py

    from lindi_dask.testing import EmbeddedArchive

LFP = "processing/ecephys/LFP/LFP/data"
VALUES = np.random.default_rng(5).integers(1, 2**62, WORTH_FROM, "<i8")

# Loads a pickled factory, as a worker does, and prints the sum of an array or the name of the error
WORKER = """
import pickle, sys
from lindi_dask import errors
store = pickle.load(sys.stdin.buffer)()
try:
    import zarr
    print(int(zarr.open_array(store, path="a", mode="r")[:50].sum()))
except errors.LindiError as error:
    print(type(error).__name__)
"""


@pytest.fixture
def options(embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]]) -> dict[str, Any]:
    return {"instances": own_key(embedded_archive)}


@pytest.fixture
def added(embedded_archive: EmbeddedArchive) -> Callable[..., str]:
    """Adds an asset, and returns its URL."""
    return lambda source, path="refs.lindi.json": embedded_archive.add(source, path=path).url


@pytest.fixture
def asked(embedded_archive: EmbeddedArchive) -> Callable[[str], list[tuple[str, int | None, int]]]:
    """Plane, status and bytes of the body of the requests for an asset since the last call."""
    seen = 0

    def requests(url: str) -> list[tuple[str, int | None, int]]:
        nonlocal seen
        new, seen = embedded_archive.requests[seen:], len(embedded_archive.requests)
        return [(one.plane, one.status, one.nbytes) for one in new if one.asset_id == asset_id(url)]

    return requests


def asset_id(url: str) -> str:
    return url.rstrip("/").split("/")[-2]


def document(url: str, n: int = 100, *, at: int = 0) -> bytes:
    """References to `n` chunks of one number each."""
    zarray = {"zarr_format": 2, "shape": [n], "chunks": [1], "dtype": "<i8", "fill_value": 0, "order": "C"}
    refs: dict[str, Any] = {".zgroup": {"zarr_format": 2}, "a/.zarray": {**zarray, "compressor": None, "filters": None}}
    refs.update({f"a/{i}": [url, 8 * ((i + at) % n), 8] for i in range(n)})
    return json.dumps({"refs": refs}).encode()


def as_worker(factory: ld.StoreFactory) -> str:
    """Run a fresh process with the factory, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER], input=pickle.dumps(factory), capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode().strip()


@pytest.mark.parametrize(
    ("kind", "compress"),
    [("plain", bytes), ("gzip", gzip.compress), ("zstd", zstandard.compress)],
)
def test_an_embargoed_reference_file_of_an_embargoed_session_is_read(
    kind: str,
    compress: Callable[[bytes], bytes],
    options: dict[str, Any],
    added: Callable[..., str],
    session_refs: Callable[..., dict[str, Any]],
    session_h5: h5py.File,
    data: Path,
) -> None:
    session = json.dumps(session_refs(added(data / "session.nwb", "session.nwb"))).encode()
    array = ld.open_array(added(compress(session), f"session.lindi.json.{kind}"), LFP, **options)
    np.testing.assert_array_equal(array[5000:9000].compute(), session_h5[LFP][5000:9000])


def test_a_file_comes_once_and_then_is_asked_about(
    options: dict[str, Any], added: Callable[..., str], asked: Callable[..., Any]
) -> None:
    content = document(added(VALUES.tobytes()))
    url = added(content)
    ld.open_store(url, **options)
    assert asked(url) == [("api", 302, 0), ("s3", 206, 1032), ("s3", 200, len(content))]
    ld.open_store(url, **options)
    assert asked(url) == [("s3", 304, 0)]  # on the lease of before


def test_changed_content_comes_anew_and_has_other_keys(
    embedded_archive: EmbeddedArchive, options: dict[str, Any], added: Callable[..., str], asked: Callable[..., Any]
) -> None:
    values = added(VALUES.tobytes())
    url = added(document(values))
    first = ld.open_array(url, "a", **options)
    content = document(values, at=1)
    embedded_archive.overwrite(asset_id(url), content)
    asked(url)
    second = ld.open_array(url, "a", **options)
    assert asked(url) == [("s3", 200, len(content))]
    assert second.name != first.name
    np.testing.assert_array_equal(second.compute(), np.roll(VALUES[:100], -1))


def test_a_store_is_called_by_its_asset(options: dict[str, Any], added: Callable[..., str]) -> None:
    url = added(document(added(VALUES.tobytes())))
    assert str(ld.open_store(url, **options)) == f"lindi://local:{asset_id(url)}"


# Bundles in one file


class Bundle:
    """A `.lindi.tar` as LINDI writes it, of members with the values 0, 1, 2, ..."""

    def __init__(self, n: int, nbytes: int, *, swapped: bool = False) -> None:
        self.nbytes = nbytes
        zarray = {"zarr_format": 2, "shape": [n * nbytes // 8], "chunks": [nbytes // 8], "dtype": "<i8", "order": "C"}
        refs = {f"a/{i}": [f"./blobs/{i:05}", 0, nbytes] for i in range(n)}
        refs |= {".zgroup": {"zarr_format": 2}}  # type: ignore[dict-item]
        refs["a/.zarray"] = {**zarray, "fill_value": 0, "compressor": None, "filters": None}  # type: ignore[assignment]
        self.document = json.dumps({"refs": refs}).encode()
        names = list(range(n))
        if swapped:  # as of who unpacked it, and packed it again in another order
            names[0], names[-1] = names[-1], names[0]
        blobs = [(f"blobs/{i:05}", np.full(nbytes // 8, i, "<i8").tobytes()) for i in names]
        listed = [".tar_entry.json", ".tar_index.json", "lindi.json", *(f"blobs/{i:05}" for i in range(n))]
        sizes = [1024, 120 * (n + 3) + 100, len(self.document), *[nbytes] * n]
        at, files = 0, []
        for name, size in zip(listed, sizes, strict=True):
            files.append({"n": name, "o": at, "d": at + 512, "s": size})
            at += 512 + -(-size // 512) * 512
        entry = json.dumps({"index": files[1]}).encode().ljust(sizes[0])
        index = json.dumps({"files": files}).encode().ljust(sizes[1])
        members = [(".tar_entry.json", entry), (".tar_index.json", index), ("lindi.json", self.document), *blobs]
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        self.content = packed.getvalue()


def test_a_large_bundle_is_opened_by_a_handful_of_requests_and_read_by_ranges(
    options: dict[str, Any], added: Callable[..., str], asked: Callable[..., Any]
) -> None:
    opened = []
    for n in (200, 2000):
        bundle = Bundle(n, 8192)
        url = added(bundle.content, "session.lindi.tar")
        array = ld.open_array(url, "a", chunks=1024, **options)
        requests = asked(url)
        opened.append(len(requests))
        assert sum(nbytes for _, _, nbytes in requests) < len(bundle.document) + 400_000
        np.testing.assert_array_equal(array[5 * 1024 : 7 * 1024].compute(), np.repeat([5, 6], 1024))
        assert sum(nbytes for _, _, nbytes in asked(url)) < 100_000
    assert max(opened) <= 5  # an exchange; the start, the start of the tar, its index, its document


def test_a_bundle_of_few_members_is_checked_where_it_is_opened(
    options: dict[str, Any], added: Callable[..., str], asked: Callable[..., Any]
) -> None:
    url = added(Bundle(8, 4096).content, "session.lindi.tar")
    ld.open_store(url, **options)
    assert len(asked(url)) == 4  # an exchange, the start, all up to the document, and the headers in one request
    with pytest.raises(errors.InvalidReferences, match="the bundle's index says that it lies where it does not"):
        ld.open_store(added(Bundle(8, 4096, swapped=True).content, "session.lindi.tar"), **options)


def test_a_bundle_of_many_members_is_checked_where_they_are_read(
    options: dict[str, Any], added: Callable[..., str]
) -> None:
    array = ld.open_array(added(Bundle(50, 4096, swapped=True).content, "x.lindi.tar"), "a", chunks=512, **options)
    np.testing.assert_array_equal(array[512:1024].compute(), np.full(512, 1))
    for wrong in (array[:10], array[-10:], array):
        with pytest.raises(errors.InvalidReferences, match="lies where it does not"):
            wrong.compute()


def test_a_bundle_is_read_by_a_worker(options: dict[str, Any], added: Callable[..., str]) -> None:
    factory = ld.StoreFactory(added(Bundle(50, 80).content, "x.lindi.tar"), **options)
    assert as_worker(factory) == str(10 * (0 + 1 + 2 + 3 + 4))


# Workers


@pytest.mark.parametrize(("n", "requests"), [(100, 2), (WORTH_FROM, 0)])
def test_a_worker_downloads_no_reference_file_that_this_node_has(
    n: int, requests: int, options: dict[str, Any], added: Callable[..., str], asked: Callable[..., Any]
) -> None:
    url = added(document(added(VALUES.tobytes()), n))
    factory = ld.StoreFactory(url, **options)
    factory.load()
    asked(url)
    assert as_worker(factory) == str(int(VALUES[:50].sum()))
    found = asked(url)
    assert found == [("api", 302, 0), ("s3", 304, 0)][:requests]


def test_a_worker_without_a_cache_downloads_it(
    options: dict[str, Any], added: Callable[..., str], asked: Callable[..., Any], index_folder: Path
) -> None:
    url = added(content := document(added(VALUES.tobytes())))
    factory = ld.StoreFactory(url, **options)
    for path in index_folder.iterdir():
        path.unlink()
    asked(url)
    assert as_worker(factory) == str(int(VALUES[:50].sum()))
    assert asked(url)[-1] == ("s3", 200, len(content))


def test_a_worker_refuses_other_content_behind_the_url(
    embedded_archive: EmbeddedArchive, options: dict[str, Any], added: Callable[..., str]
) -> None:
    values = added(VALUES.tobytes())
    url = added(document(values))
    factory = ld.StoreFactory(url, **options)
    embedded_archive.overwrite(asset_id(url), document(values, at=1))
    assert as_worker(factory) == "RefsChanged"
    with pytest.raises(errors.RefsChanged, match="Open it again") as raised:
        pickle.loads(pickle.dumps(factory)).load()
    assert raised.value.expected == factory.fingerprint
    assert raised.value.found == ld.StoreFactory(url, **options).fingerprint


# Access


def test_no_key_and_no_presigned_url_is_kept(
    embedded_archive: EmbeddedArchive, options: dict[str, Any], added: Callable[..., str], index_folder: Path
) -> None:
    for n in (100, WORTH_FROM):
        factory = ld.StoreFactory(added(document(added(VALUES.tobytes()), n)), **options)
        ld.open_array(factory, "a")[:3].compute()
        as_worker(factory)
        assert embedded_archive.owner_token.encode() not in pickle.dumps(factory)
    ld.open_store(added(Bundle(20, 80).content), **options)
    files = [path for path in index_folder.parent.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".lindi-refs", ".lindi-index"}
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        content = path.read_bytes() + os.fsencode(path.name)
        for secret in (embedded_archive.owner_token, "X-Amz-", embedded_archive.s3_url.partition("//")[2]):
            assert secret.encode() not in content
    assert stat.S_IMODE(index_folder.stat().st_mode) == 0o700


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    read = RetryPolicy(attempts=2, total_s=5, first_s=0.001, cap_s=0.001, retry_on=errors.StorageUnavailable)
    exchange = RetryPolicy(attempts=2, total_s=5, first_s=0.001, cap_s=0.001, retry_on=errors.ArchiveUnavailable)
    leases = LeaseCache(Resolver(retry=exchange))
    monkeypatch.setattr(process, "leases", lambda: leases)
    monkeypatch.setattr("lindi_dask.remote.download", partial(download, retry=read))
    monkeypatch.setattr("lindi_dask.remote.peek", partial(peek, retry=read))


DENIALS: dict[str, tuple[type[errors.LindiError], str]] = {
    "no key": (errors.AuthenticationError, "Set LOCAL_API_KEY"),
    "a bad key": (errors.AuthenticationError, "does not know the key in LOCAL_API_KEY"),
    "another's key": (errors.PermissionDenied, "not an owner"),
    "no such asset": (errors.AssetNotFound, "no such asset"),
    "a Zarr asset": (errors.AssetNotFound, "not a file that can be downloaded"),
    "an archive that is down": (errors.ArchiveUnavailable, "can't be reached"),
}


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("what", DENIALS)
def test_what_the_archive_does_not_give_is_a_named_error(
    what: str,
    embedded_archive: EmbeddedArchive,
    options: dict[str, Any],
    added: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = added(b"{}")
    match what:
        case "no key":
            monkeypatch.delenv("LOCAL_API_KEY")
        case "a bad key":
            monkeypatch.setenv("LOCAL_API_KEY", "0" * 40)
        case "another's key":
            monkeypatch.setenv("LOCAL_API_KEY", embedded_archive.stranger_token)
        case "no such asset":
            embedded_archive.remove(asset_id(url))
        case "a Zarr asset":
            url = embedded_archive.add_zarr().url
        case _:
            embedded_archive.stop()
    kind, message = DENIALS[what]
    with pytest.raises(kind, match=message) as raised:
        ld.StoreFactory(url, **options)
    assert raised.value.__context__ is None
    for secret in (embedded_archive.owner_token, embedded_archive.stranger_token, "X-Amz"):
        assert secret not in str(raised.value)
