"""Range reads under faults: the exact bytes or a named error, never anything else. On the embedded archive."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lindi_dask.archive import LeaseCache, Resolver, UrlPolicy
from lindi_dask.archive.instances import make_instance
from lindi_dask.errors import (
    DataError,
    InvalidReferences,
    LindiError,
    PermissionDenied,
    SourceMismatch,
    StorageUnavailable,
    UrlRefused,
)
from lindi_dask.refs import Locations
from lindi_dask.refs.manifest import WHOLE
from lindi_dask.retry import RetryPolicy
from lindi_dask.testing import EmbeddedArchive, Fault
from lindi_dask.transport import Counts, IoLoop, RangeReader, Traffic
from lindi_dask.transport.hedging import Hedging
from lindi_dask.types import LocalFile, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

CONTENT = np.random.default_rng(3).bytes(300_000)
QUICK = RetryPolicy(attempts=5, total_s=20, first_s=0.01, cap_s=0.05, retry_on=StorageUnavailable)
CHUNKS = [(10, 5_000), (5_010, 5_000), (200_000, 70_000), (0, 10), (299_999, 1)]  # offset, length


class Reading:
    """A reader of its own, and one asset of 300,000 random bytes."""

    def __init__(
        self, archive: EmbeddedArchive, content: bytes = CONTENT, *, concurrency: int = 4, **options: Any
    ) -> None:
        instance = make_instance("local", archive.api_url)
        self.archive = archive
        self.id = (added := archive.add(content)).id
        self.asset = UrlPolicy((instance,)).asset(added.url)
        leases = LeaseCache(Resolver(environ={"LOCAL_API_KEY": archive.owner_token}))
        self.traffic = Traffic(**options)
        self.reader = RangeReader(leases, concurrency=concurrency, traffic=self.traffic, retry=QUICK)
        self.loop = IoLoop()

    @property
    def etag(self) -> str:
        """Of the file as it is now."""
        entry = self.archive._registry.find(self.id)
        assert entry is not None
        assert entry.blob is not None
        return entry.blob.etag

    def read(
        self,
        chunks: list[tuple[int, int]],
        *,
        etag: str | None = None,
        size: int | None = None,
        target: Target | None = None,
    ) -> list[bytes]:
        of_source = target or Target(self.asset, etag, size)
        return self.read_all([(1, *chunk) for chunk in chunks], {1: of_source})

    def read_all(self, chunks: list[tuple[int, int, int]], targets: Mapping[int, Target]) -> list[bytes]:
        found: dict[int, bytes] = {}

        def keep(indices: NDArray[np.intp], views: list[memoryview]) -> None:
            for i, view in zip(indices.tolist(), views, strict=True):
                assert i not in found, "delivered twice"
                found[i] = bytes(view)

        sources, offsets, lengths = zip(*chunks, strict=True)
        at = Locations(np.array(sources, "u4"), np.array(offsets, "u8"), np.array(lengths, "u4"))
        self.loop.submit(self.reader.fetch(targets, at, keep)).result(60)
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


# What the references claim of the file


SOUND: list[dict[str, object]] = [{"size": 300_000}, {"etag": True}, {"etag": True, "size": 300_000}, {"etag": "W/"}]


@pytest.mark.parametrize("claim", SOUND, ids=str)
@pytest.mark.parametrize("fault", [None, *PASSING], ids=lambda fault: fault and f"{fault.kind}-{fault.status}")
def test_claims_that_hold_change_nothing(
    embedded_archive: EmbeddedArchive, claim: dict[str, object], fault: Fault | None
) -> None:
    injection = None if fault is None else embedded_archive.inject(fault)
    reading = Reading(embedded_archive)
    etag = {True: reading.etag.strip('"'), "W/": f"W/{reading.etag}", None: None}[claim.get("etag")]  # type: ignore[index]
    size = claim.get("size")
    assert isinstance(size, int | None)
    assert reading.read(CHUNKS, etag=etag, size=size) == expected(CHUNKS)
    assert fault is None or injection is None or injection.injected == fault.times
    sent = {request.if_match for request in embedded_archive.requests if request.plane == "s3"}
    assert sent == {reading.etag if claim.get("etag") is True else None}


@pytest.mark.parametrize("claim", [{"size": 299_999}, {"size": 300_001}, {"etag": "other"}, {"etag": 'W/"other"'}])
def test_a_claim_that_does_not_hold_is_an_error_at_once(
    embedded_archive: EmbeddedArchive, claim: dict[str, Any]
) -> None:
    with pytest.raises(SourceMismatch, match="make them anew"):
        Reading(embedded_archive).read(CHUNKS[:1], **claim)
    assert sum(request.plane == "s3" for request in embedded_archive.requests) == 1


def test_a_file_that_is_overwritten_in_mid_run_is_an_error_to_who_knows_its_tag_or_size(
    embedded_archive: EmbeddedArchive,
) -> None:
    reading = Reading(embedded_archive)
    etag = reading.etag
    assert reading.read(CHUNKS, etag=etag, size=300_000) == expected(CHUNKS)
    embedded_archive.overwrite(reading.id, bytes(300_000))
    for claim in (etag, etag.strip('"'), f"W/{etag}"):
        with pytest.raises(SourceMismatch, match="has changed"):
            reading.read(CHUNKS[:1], etag=claim)
    assert reading.read(CHUNKS[:1], size=300_000) == [bytes(5_000)]
    embedded_archive.overwrite(reading.id, bytes(300_001))
    with pytest.raises(SourceMismatch, match="has 300001 bytes, and had 300000"):
        reading.read(CHUNKS[:1], size=300_000)
    assert reading.read(CHUNKS[:1], etag=reading.etag, size=300_001) == [bytes(5_000)]
    assert embedded_archive.counts()["exchanges"] == 1


@pytest.mark.parametrize("etag", ["a\r\nX-Evil: 1", "\x00", "\u00e9", 'a"b'])
def test_a_tag_that_no_header_can_hold_is_another_files(embedded_archive: EmbeddedArchive, etag: str) -> None:
    with pytest.raises(SourceMismatch, match="has changed"):
        Reading(embedded_archive).read(CHUNKS[:1], etag=etag)


# Chunks that are all of their source


def test_a_chunk_that_is_all_of_its_source_is_one_request(embedded_archive: EmbeddedArchive) -> None:
    reading = Reading(embedded_archive)
    assert reading.read([(0, WHOLE), (299_000, WHOLE), (10, 5)]) == [CONTENT, CONTENT[299_000:], CONTENT[10:15]]
    assert embedded_archive.counts()["reads"] == 3


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: f"{fault.plane}-{fault.kind}-{fault.status}")
def test_a_fault_that_passes_costs_a_whole_source_nothing_else(embedded_archive: EmbeddedArchive, fault: Fault) -> None:
    injection = embedded_archive.inject(fault)
    assert Reading(embedded_archive).read([(7, WHOLE)]) == [CONTENT[7:]]
    assert injection.injected == (1 if fault.kind.startswith("stall") else fault.times)  # a stall is no failure


@pytest.mark.parametrize(("fault", "error"), LASTING, ids=lambda one: getattr(one, "kind", None))
def test_a_fault_that_lasts_is_an_error_of_a_whole_source(
    embedded_archive: EmbeddedArchive, fault: Fault, error: type[LindiError]
) -> None:
    embedded_archive.inject(fault)
    with pytest.raises(error) as caught:
        Reading(embedded_archive).read([(0, WHOLE)])
    assert "X-Amz" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_whole_source_is_read_as_it_is_now(embedded_archive: EmbeddedArchive) -> None:
    reading = Reading(embedded_archive)
    for content in (CONTENT[:5], CONTENT[5:50_000], b"", CONTENT):
        embedded_archive.overwrite(reading.id, content)
        assert reading.read([(0, WHOLE)]) == [content]
        assert reading.read([(0, WHOLE)], size=len(content), etag=reading.etag) == [content]
        with pytest.raises(SourceMismatch):
            reading.read([(0, WHOLE)], size=len(content) + 1)
        with pytest.raises(SourceMismatch):
            reading.read([(0, WHOLE)], etag="other" if content else "W/other", size=7)
        with pytest.raises(SourceMismatch, match=r"ends (before|at) byte"):
            reading.read([(len(content) + 1, WHOLE)])


def test_a_source_of_2_gib_is_too_large_for_a_chunk_and_is_not_read(
    embedded_archive: EmbeddedArchive, tmp_path: Path
) -> None:
    reading = Reading(embedded_archive)
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 2**31)
    embedded_archive.overwrite(reading.id, path)
    with pytest.raises(InvalidReferences, match="2147483647"):
        reading.read([(0, WHOLE)])
    assert reading.read([(2**31 - 9, WHOLE)]) == [bytes(9)]


# Local files


@pytest.fixture
def local(tmp_path: Path) -> Target:
    path = tmp_path / "session.nwb"
    path.write_bytes(CONTENT)
    return Target(LocalFile(str(path), (str(tmp_path),)))


def test_local_files_and_assets_are_read_side_by_side(embedded_archive: EmbeddedArchive, local: Target) -> None:
    reading = Reading(embedded_archive)
    chunks = [(i % 2, *chunk) for i, chunk in enumerate([*CHUNKS, *CHUNKS, (3, WHOLE), (4, WHOLE), (300_000, 0)])]
    assert reading.read_all(chunks, {0: local, 1: Target(reading.asset)}) == [
        CONTENT[offset : None if length == WHOLE else offset + length] for _, offset, length in chunks
    ]


def test_a_local_file_needs_neither_key_nor_request(embedded_archive: EmbeddedArchive, local: Target) -> None:
    assert Reading(embedded_archive).read(CHUNKS, target=local) == expected(CHUNKS)
    assert embedded_archive.requests == ()


def test_local_files_have_the_errors_of_remote_ones(embedded_archive: EmbeddedArchive, local: Target) -> None:
    reading, path = Reading(embedded_archive), str(local.asset)
    errors: list[tuple[Target, tuple[int, int], type[LindiError]]] = [
        (local, (299_990, 20), SourceMismatch),
        (local, (300_001, WHOLE), SourceMismatch),
        (replace(local, size=5), (0, 5), SourceMismatch),
        (Target(LocalFile(f"{path}.none")), (0, 5), DataError),
        (Target(LocalFile(path, ("/etc",))), (0, 5), UrlRefused),
        (Target(LocalFile("/")), (0, 5), UrlRefused),
    ]
    for target, chunk, error in errors:
        with pytest.raises(error) as caught:
            reading.read([(0, 10), chunk], target=target)
        assert type(caught.value) is error
        assert caught.value.__context__ is None


# Large chunks, limits, what is counted


MIB = 2**20


def test_a_chunk_that_is_larger_than_a_request_comes_in_parts(embedded_archive: EmbeddedArchive) -> None:
    content = np.random.default_rng(5).bytes(20 * MIB + 17)
    reading = Reading(embedded_archive, content)
    assert reading.read([(3, len(content) - 5), (0, 3)]) == [content[3:-2], content[:3]]
    sizes = [request.nbytes for request in embedded_archive.requests if request.is_read]
    assert len(sizes) == 1 + 3  # parts of 8 MiB at most
    assert sum(sizes) == len(content) - 2


def test_a_part_that_fails_for_good_fails_the_chunk(embedded_archive: EmbeddedArchive) -> None:
    reading = Reading(embedded_archive, bytes(20 * MIB))
    embedded_archive.inject(Fault(plane="s3", kind="status", status=412, skip=1, times=None))
    with pytest.raises(SourceMismatch):
        reading.read([(0, 20 * MIB)])


def test_no_more_memory_is_asked_for_than_there_is(embedded_archive: EmbeddedArchive) -> None:
    content = np.random.default_rng(5).bytes(12 * MIB)
    reading = Reading(embedded_archive, content, concurrency=32, memory=3 * MIB)
    most = 0
    chunks = [(at, MIB) for at in range(0, 12 * MIB, 2 * MIB)]  # too far from each other to be one range
    take = reading.traffic.memory.take

    async def spy(amount: int, key: tuple[int, int]) -> None:
        nonlocal most
        await take(amount, key)
        most = max(most, reading.traffic.memory.taken)

    reading.traffic.memory.take = spy  # type: ignore[method-assign]
    assert reading.read(chunks) == [content[at : at + n] for at, n in chunks]
    assert most == 3 * MIB
    assert reading.traffic.memory.taken == 0
    assert reading.traffic.slots.taken == 0


def test_readers_of_a_process_share_its_requests(embedded_archive: EmbeddedArchive) -> None:
    embedded_archive.latency_s = 0.05
    reading = Reading(embedded_archive, bytes(40 * MIB), concurrency=3)
    leases = reading.reader._stores._leases
    other = RangeReader(leases, concurrency=2, traffic=reading.traffic, retry=QUICK)
    at = np.arange(0, 40 * MIB, 2 * MIB, dtype="u8")
    chunks = Locations(np.ones(len(at), "u4"), at, np.full(len(at), 10, "u4"))
    seen: list[tuple[int, int]] = []

    def see(*_: object) -> None:
        seen.append((reading.traffic.slots.taken, other._stores._own_slots.taken))

    readers = (reading.reader, other)
    futures = [reading.loop.submit(one.fetch({1: Target(reading.asset)}, chunks, see)) for one in readers]
    for future in futures:
        future.result(60)
    assert max(of_all for of_all, _ in seen) <= 3
    assert max(of_other for _, of_other in seen) <= 2


def test_after_a_read_is_cancelled_no_request_is_sent(embedded_archive: EmbeddedArchive) -> None:
    embedded_archive.latency_s = 0.1
    reading = Reading(embedded_archive, bytes(64 * MIB), concurrency=2)
    at = np.arange(0, 64 * MIB, MIB, dtype="u8")
    chunks = Locations(np.ones(len(at), "u4"), at, np.full(len(at), 10, "u4"))
    begun = threading.Event()
    future = reading.loop.submit(reading.reader.fetch({1: Target(reading.asset)}, chunks, lambda *_: begun.set()))
    assert begun.wait(20)
    future.cancel()
    assert reading.read([(5, 5)]) == [bytes(5)]  # comes behind what was going on
    sent = len(embedded_archive.requests)
    assert sent < 12
    assert reading.read([(5, 5)]) == [bytes(5)]
    assert len(embedded_archive.requests) == sent + 1
    assert reading.traffic.memory.taken == reading.traffic.slots.taken == 0


def test_an_error_of_one_range_can_be_told_apart_from_the_others(embedded_archive: EmbeddedArchive) -> None:
    reading = Reading(embedded_archive)
    offsets = [0, 10, 299_990, 150_000]
    chunks = Locations(np.ones(4, "u4"), np.array(offsets, "u8"), np.array([10, 10, 20, 10], "u4"))
    read: list[int] = []
    errors: dict[int, LindiError] = {}
    fetching = reading.reader.fetch(
        {1: Target(reading.asset)},
        chunks,
        lambda members, _: read.extend(members.tolist()),
        failed=lambda members, error: errors.update(dict.fromkeys(members.tolist(), error)),
    )
    reading.loop.submit(fetching).result(60)
    assert sorted(read) == [0, 1, 3]
    assert list(errors) == [2]
    assert isinstance(errors[2], SourceMismatch)
    assert errors[2].__context__ is None
    assert errors[2].__traceback__ is None


@pytest.mark.parametrize("status", [503, 429])
def test_a_host_that_asks_for_patience_gets_fewer_requests_at_a_time(
    embedded_archive: EmbeddedArchive, status: int
) -> None:
    reading = Reading(embedded_archive, concurrency=32)
    before = reading.traffic.window.size
    embedded_archive.inject(Fault(plane="s3", kind="status", status=status, times=1))
    assert reading.read(CHUNKS) == expected(CHUNKS)
    assert reading.traffic.window.size == before // 2


def test_a_straggler_is_asked_for_again_beside_it(embedded_archive: EmbeddedArchive) -> None:
    hedging = Hedging()
    for _ in range(100):
        hedging.observe(0.001, 0.05)
    reading = Reading(embedded_archive, hedging=hedging)
    embedded_archive.inject(Fault(plane="s3", kind="stall", times=1, delay_s=30))
    assert reading.read(CHUNKS[:1]) == expected(CHUNKS[:1])
    counts = reading.traffic.counters.counts()
    assert (counts.requests, counts.hedges, counts.retries) == (2, 1, 0)
    assert reading.traffic.slots.taken == 0


def test_what_was_read_is_counted(embedded_archive: EmbeddedArchive) -> None:
    reading = Reading(embedded_archive)
    embedded_archive.inject(Fault(plane="s3", kind="status", status=503, times=1))
    embedded_archive.inject(Fault(plane="s3", kind="status", status=403, times=1))
    assert reading.read(CHUNKS) == expected(CHUNKS)
    counts = reading.traffic.counters.counts()
    assert counts.wait_s > 0
    assert counts.decode_s > 0
    assert replace(counts, wait_s=0, decode_s=0) == Counts(
        requests=4,
        bytes_wanted=80_011,
        bytes_fetched=10_010 + 100_000,
        chunks=5,
        ranges=2,
        retries=1,
        refusals=1,
    )


def test_connections_are_those_of_the_last_lease_of_few_assets(embedded_archive: EmbeddedArchive) -> None:
    reading = Reading(embedded_archive)
    targets = {
        i: Target(
            UrlPolicy((make_instance("local", embedded_archive.api_url),)).asset(embedded_archive.add(CONTENT).url)
        )
        for i in range(40)
    }
    for _ in range(2):
        reading.read_all([(i, 0, 10) for i in range(40)], targets)
    assert len(reading.traffic._stores) == 16
