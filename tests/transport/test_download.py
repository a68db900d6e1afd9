"""Whole files under faults: all of the bytes or a named error. On the embedded archive."""

from __future__ import annotations

import gzip
import logging
import random
from typing import TYPE_CHECKING

import pytest

from lindi_dask.archive import LeaseCache, Resolver, UrlPolicy
from lindi_dask.archive.instances import make_instance
from lindi_dask.errors import (
    ArchiveUnavailable,
    AssetNotFound,
    AuthenticationError,
    InvalidReferences,
    LindiError,
    PermissionDenied,
    StorageUnavailable,
)
from lindi_dask.retry import RetryPolicy
from lindi_dask.testing import EmbeddedArchive, Fault
from lindi_dask.transport import Downloaded, IoLoop, decompressed, download, peek

if TYPE_CHECKING:
    from collections.abc import Callable

CONTENT = random.Random(4).randbytes(3_000_000)
LIMIT = 2**30
QUICK = RetryPolicy(attempts=5, total_s=20, first_s=0.01, cap_s=0.05, retry_on=StorageUnavailable)


class Downloading:
    """One asset, and leases of its owner or of whoever has `key`."""

    def __init__(self, archive: EmbeddedArchive, content: bytes = CONTENT, *, key: str | None = None) -> None:
        instance = make_instance("local", archive.api_url)
        self.id = (added := archive.add(content, path="session.lindi.json")).id
        self.asset = UrlPolicy((instance,)).asset(added.url)
        key = archive.owner_token if key is None else key
        quick = RetryPolicy(attempts=3, total_s=20, first_s=0.01, cap_s=0.05, retry_on=ArchiveUnavailable)
        self.leases = LeaseCache(Resolver(environ={"LOCAL_API_KEY": key}, retry=quick))
        self.loop = IoLoop()

    def __call__(self, *, known_etag: str | None = None, limit: int = LIMIT) -> Downloaded | None:
        work = download(self.asset, self.leases, known_etag=known_etag, limit=limit, retry=QUICK)
        return self.loop.submit(work).result(60)

    def peek(self, nbytes: int) -> tuple[bytes, int]:
        found = self.loop.submit(peek(self.asset, self.leases, nbytes, retry=QUICK)).result(60)
        return found.content, found.size

    def content(self) -> bytes:
        downloaded = self()
        assert downloaded is not None
        return downloaded.content


def test_a_file_comes_whole_with_its_tag(embedded_archive: EmbeddedArchive) -> None:
    for content in (CONTENT, b"{}", b""):
        downloaded = Downloading(embedded_archive, content)()
        assert downloaded is not None
        assert downloaded.content == content
        assert downloaded.etag is not None
        assert downloaded.etag.startswith('"')


def test_a_file_that_is_known_is_not_sent_again(embedded_archive: EmbeddedArchive) -> None:
    downloading = Downloading(embedded_archive)
    first = downloading()
    assert first is not None
    assert first.etag is not None
    for etag in (first.etag, first.etag.strip('"'), f"W/{first.etag}"):
        assert downloading(known_etag=etag) is None
        assert embedded_archive.requests[-1].status == 304
        assert embedded_archive.requests[-1].nbytes == 0
    for etag in ('"other"', "", "a\r\nb"):
        assert downloading(known_etag=etag) == first
    embedded_archive.overwrite(downloading.id, CONTENT[:-1])
    second = downloading(known_etag=first.etag)
    assert second is not None
    assert second.content == CONTENT[:-1]
    assert second.etag != first.etag


def test_a_file_that_is_compressed_comes_as_it_is(embedded_archive: EmbeddedArchive) -> None:
    compressed = gzip.compress(CONTENT)
    downloading = Downloading(embedded_archive)
    for encoding in (None, "gzip"):
        embedded_archive.overwrite(downloading.id, compressed, content_encoding=encoding)
        assert downloading.content() == compressed
    assert decompressed(downloading.content(), LIMIT) == CONTENT


def test_a_file_that_is_too_large_is_not_read(embedded_archive: EmbeddedArchive) -> None:
    downloading = Downloading(embedded_archive)
    assert downloading(limit=len(CONTENT)) is not None
    embedded_archive.bytes_per_s = 1e6
    with pytest.raises(InvalidReferences, match="larger than 2999999 bytes"):
        downloading(limit=len(CONTENT) - 1)
    assert sum(request.plane == "s3" for request in embedded_archive.requests) == 2


PASSING = [
    *(Fault(plane="s3", kind="status", status=status, times=2) for status in (503, 500, 502, 429)),
    Fault(plane="s3", kind="status", status=403, times=1),
    *(Fault(plane="s3", kind=kind, times=2) for kind in ("reset", "reset-mid-body", "short-body", "garbage")),
    *(Fault(plane="s3", kind=kind, times=1, delay_s=0.2) for kind in ("stall", "stall-mid-body")),
    Fault(plane="s3", kind="error-200", times=2),
    Fault(plane="api", kind="status", status=503, times=1),
    Fault(plane="api", kind="dead-lease", times=1),
    Fault(plane="api", kind="reset", times=1),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.plane}-{fault.kind}-{fault.status}")
def test_a_fault_that_passes_costs_time_and_nothing_else(embedded_archive: EmbeddedArchive, fault: Fault) -> None:
    injection = embedded_archive.inject(fault)
    assert Downloading(embedded_archive).content() == CONTENT
    assert injection.injected == fault.times


LASTING: list[tuple[Fault, type[LindiError]]] = [
    (Fault(plane="s3", kind="status", status=503, times=None), StorageUnavailable),
    (Fault(plane="s3", kind="status", status=403, times=None), PermissionDenied),
    (Fault(plane="s3", kind="status", status=404, times=None), AssetNotFound),
    (Fault(plane="s3", kind="reset-mid-body", times=None), StorageUnavailable),
    (Fault(plane="s3", kind="short-body", times=None), StorageUnavailable),
    (Fault(plane="s3", kind="error-200", times=None), StorageUnavailable),
    (Fault(plane="s3", kind="redirect", times=None), StorageUnavailable),
    (Fault(plane="api", kind="status", status=503, times=None), ArchiveUnavailable),
]


@pytest.mark.parametrize(("fault", "error"), LASTING, ids=lambda one: getattr(one, "kind", None))
def test_a_fault_that_lasts_is_a_named_error_without_the_url(
    embedded_archive: EmbeddedArchive, fault: Fault, error: type[LindiError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    embedded_archive.inject(fault)
    with pytest.raises(error) as caught:
        Downloading(embedded_archive)()
    assert "X-Amz" not in f"{caught.value} {vars(caught.value)} {caplog.text}"
    assert caught.value.__context__ is None


def test_an_embargoed_file_is_for_its_owners(embedded_archive: EmbeddedArchive) -> None:
    with pytest.raises(PermissionDenied):
        Downloading(embedded_archive, key=embedded_archive.stranger_token)()
    with pytest.raises(AuthenticationError):
        Downloading(embedded_archive, key="")()


def test_a_lease_that_dies_is_renewed(make_archive: Callable[..., EmbeddedArchive]) -> None:
    archive = make_archive(lifetime_s=60)
    downloading = Downloading(archive)
    assert downloading.content() == CONTENT
    archive.clock_offset_s = 3600
    assert downloading.content() == CONTENT
    assert archive.counts()["exchanges"] == 2
    assert archive.counts()["expired"] == 1


def test_a_plain_url_needs_no_archive(embedded_archive: EmbeddedArchive) -> None:
    added = embedded_archive.add(CONTENT, embargoed=False)
    policy = UrlPolicy((), (embedded_archive.api_url, embedded_archive.s3_url))
    downloading = Downloading(embedded_archive)
    downloading.asset = policy.asset(added.url)  # whose redirect obstore follows by itself
    assert downloading.asset.instance is None
    assert downloading.content() == CONTENT


def test_neither_content_nor_url_is_shown() -> None:
    assert "secret" not in repr(Downloaded(b"secret", None))


# The start of a file


@pytest.mark.parametrize("size", [0, 1, 999, 1_000, 1_001, 3_000_000])
def test_the_start_of_a_file_is_as_much_of_it_as_there_is(embedded_archive: EmbeddedArchive, size: int) -> None:
    downloading = Downloading(embedded_archive, CONTENT[:size])
    assert downloading.peek(1_000) == (CONTENT[: min(size, 1_000)], size)
    assert embedded_archive.requests[-1].range == ((0, min(size, 1_000)) if size else None)


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.plane}-{fault.kind}-{fault.status}")
def test_the_start_of_a_file_comes_whole_through_faults(embedded_archive: EmbeddedArchive, fault: Fault) -> None:
    embedded_archive.inject(fault)
    assert Downloading(embedded_archive).peek(1_000) == (CONTENT[:1_000], len(CONTENT))


def test_a_host_without_ranges_has_a_start_all_the_same(embedded_archive: EmbeddedArchive) -> None:
    embedded_archive.inject(Fault(plane="s3", kind="whole-file", times=1))
    assert Downloading(embedded_archive).peek(1_000) == (CONTENT[:1_000], len(CONTENT))
    assert [request.range for request in embedded_archive.requests if request.plane == "s3"] == [(0, 1_000), None]
