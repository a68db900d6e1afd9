"""Range reads under faults: the exact bytes or a named error, never anything else. On the embedded archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from lindi_dask.archive import LeaseCache, Resolver, UrlPolicy
from lindi_dask.archive.instances import make_instance
from lindi_dask.errors import LindiError, PermissionDenied, SourceMismatch, StorageUnavailable
from lindi_dask.refs import Locations
from lindi_dask.retry import RetryPolicy
from lindi_dask.testing import EmbeddedArchive, Fault
from lindi_dask.transport import IoLoop, RangeReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CONTENT = np.random.default_rng(3).bytes(300_000)
QUICK = RetryPolicy(attempts=5, total_s=20, first_s=0.01, cap_s=0.05, retry_on=StorageUnavailable)
CHUNKS = [(10, 5_000), (5_010, 5_000), (200_000, 70_000), (0, 10), (299_999, 1)]  # offset, length


class Reading:
    """A reader of its own, and one asset of 300,000 random bytes."""

    def __init__(self, archive: EmbeddedArchive, content: bytes = CONTENT) -> None:
        instance = make_instance("local", archive.api_url)
        self.asset = UrlPolicy((instance,)).asset(archive.add(content).url)
        leases = LeaseCache(Resolver(environ={"LOCAL_API_KEY": archive.owner_token}))
        self.reader = RangeReader(leases, concurrency=4, retry=QUICK)
        self.loop = IoLoop()

    def read(self, chunks: list[tuple[int, int]]) -> list[bytes]:
        found: dict[int, bytes] = {}

        def keep(indices: NDArray[np.intp], views: list[memoryview]) -> None:
            for i, view in zip(indices.tolist(), views, strict=True):
                assert i not in found, "delivered twice"
                found[i] = bytes(view)

        offsets, lengths = zip(*chunks, strict=True)
        at = Locations(np.ones(len(chunks), "u4"), np.array(offsets, "u8"), np.array(lengths, "u4"))
        self.loop.submit(self.reader.fetch({1: self.asset}, at, keep)).result(60)
        return [found[i] for i in range(len(chunks))]


def expected(chunks: list[tuple[int, int]]) -> list[bytes]:
    return [CONTENT[offset : offset + length] for offset, length in chunks]


def test_chunks_in_any_order_are_delivered_once_each(embedded_archive: EmbeddedArchive) -> None:
    assert Reading(embedded_archive).read(CHUNKS) == expected(CHUNKS)


PASSING = [
    Fault(plane="s3", kind="status", status=503, times=2),
    Fault(plane="s3", kind="status", status=500, times=2),
    Fault(plane="s3", kind="status", status=502, times=2),
    Fault(plane="s3", kind="status", status=429, times=2),
    Fault(plane="s3", kind="status", status=403, times=1),
    Fault(plane="s3", kind="reset", times=2),
    Fault(plane="s3", kind="reset-mid-body", times=2),
    Fault(plane="s3", kind="short-body", times=2),
    Fault(plane="s3", kind="short-length", times=2),
    Fault(plane="s3", kind="stall", times=2, delay_s=0.2),
    Fault(plane="s3", kind="stall-mid-body", times=2, delay_s=0.2),
    Fault(plane="s3", kind="garbage", times=2),
    Fault(plane="s3", kind="whole-file", times=2),
    Fault(plane="s3", kind="error-200", times=2),
    Fault(plane="s3", kind="wrong-range", times=2),
    Fault(plane="s3", kind="gzip", times=2),
    Fault(plane="api", kind="status", status=503, times=1),
    Fault(plane="api", kind="status", status=500, html=True, times=1),
    Fault(plane="api", kind="status", status=429, retry_after="0", times=1),
    Fault(plane="api", kind="reset", times=1),
    Fault(plane="api", kind="no-location", times=1),
    Fault(plane="api", kind="dead-lease", times=1),
]


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.plane}-{fault.kind}-{fault.status}")
def test_a_fault_that_passes_costs_time_and_nothing_else(embedded_archive: EmbeddedArchive, fault: Fault) -> None:
    injection = embedded_archive.inject(fault)
    assert Reading(embedded_archive).read(CHUNKS) == expected(CHUNKS)
    assert injection.injected == fault.times


LASTING: list[tuple[Fault, type[LindiError]]] = [
    (Fault(plane="s3", kind="status", status=503, times=None), StorageUnavailable),
    (Fault(plane="s3", kind="reset-mid-body", times=None), StorageUnavailable),
    (Fault(plane="s3", kind="short-body", times=None), StorageUnavailable),
    (Fault(plane="s3", kind="whole-file", times=None), StorageUnavailable),
    (Fault(plane="s3", kind="wrong-range", times=None), StorageUnavailable),
    (Fault(plane="s3", kind="gzip", times=None), LindiError),
    (Fault(plane="s3", kind="short-length", times=None), LindiError),
    (Fault(plane="s3", kind="short-range", times=None), LindiError),
    (Fault(plane="s3", kind="status", status=403, times=None), PermissionDenied),
    (Fault(plane="s3", kind="status", status=412, times=None), SourceMismatch),
    (Fault(plane="s3", kind="status", status=404, times=None), LindiError),
]


@pytest.mark.parametrize(("fault", "error"), LASTING, ids=lambda one: getattr(one, "kind", None))
def test_a_fault_that_lasts_is_a_named_error_without_the_url(
    embedded_archive: EmbeddedArchive, fault: Fault, error: type[LindiError]
) -> None:
    injection = embedded_archive.inject(fault)
    with pytest.raises(error) as caught:
        Reading(embedded_archive).read(CHUNKS[:1])
    injection.cancel()
    assert 1 <= injection.injected <= 2 * QUICK.attempts  # an answer of odd length is looked into by one request more
    assert "X-Amz" not in str(caught.value)
    assert caught.value.__context__ is None


def test_bytes_behind_the_end_of_the_file_are_an_error_not_fewer_bytes(embedded_archive: EmbeddedArchive) -> None:
    for chunk in ((299_990, 20), (300_000, 10), (999_999_999, 10)):
        with pytest.raises(SourceMismatch, match="another version of the file"):
            Reading(embedded_archive).read([chunk])


def test_a_storage_host_that_denies_a_living_lease_costs_one_renewal_before_the_error(
    embedded_archive: EmbeddedArchive,
) -> None:
    embedded_archive.inject(Fault(plane="s3", kind="status", status=403, times=None))
    with pytest.raises(PermissionDenied):
        Reading(embedded_archive).read(CHUNKS[:1])
    assert embedded_archive.counts()["exchanges"] == 2


@pytest.mark.parametrize("offset_s", [-3600, 3600])
def test_a_clock_that_is_an_hour_off_costs_nothing(
    make_archive: Callable[..., EmbeddedArchive], offset_s: float
) -> None:
    archive = make_archive(lifetime_s=60, clock_offset_s=offset_s)
    reading = Reading(archive)
    for _ in range(3):
        assert reading.read(CHUNKS) == expected(CHUNKS)
    assert archive.counts()["exchanges"] == 1


def test_chunks_side_by_side_are_one_request(embedded_archive: EmbeddedArchive) -> None:
    chunks = [(at, 1000) for at in range(0, 100_000, 1000)]
    assert Reading(embedded_archive).read(chunks) == expected(chunks)
    assert embedded_archive.counts()["reads"] == 1
