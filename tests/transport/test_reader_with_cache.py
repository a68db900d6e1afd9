"""Reads through the disk cache, on the embedded archive: the exact bytes whatever befalls the cache."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
from aiohttp import web

from lindi_dask.archive import LeaseCache, Resolver, UrlPolicy
from lindi_dask.archive.instances import make_instance
from lindi_dask.errors import AuthenticationError, CorruptChunk, SourceMismatch, StorageUnavailable
from lindi_dask.refs import Locations
from lindi_dask.refs.manifest import WHOLE
from lindi_dask.retry import RetryPolicy
from lindi_dask.testing import Fault
from lindi_dask.testing.blobs import Blob
from lindi_dask.testing.hosting import Port, ServerThread
from lindi_dask.testing.ranges import read as answer_range
from lindi_dask.transport import Counts, IoLoop, RangeCache, RangeReader, Traffic
from lindi_dask.transport.disk_cache.usage import locked
from lindi_dask.types import Asset, DiskCache, LocalFile, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from lindi_dask.errors import LindiError
    from lindi_dask.testing import EmbeddedArchive
    from lindi_dask.transport.disk_cache.range_cache import Found

MIB = 2**20
CONTENT = np.random.default_rng(3).bytes(3 * MIB)
QUICK = RetryPolicy(attempts=5, total_s=20, first_s=0.01, cap_s=0.05, retry_on=StorageUnavailable)
CHUNKS = [(10, 5_000), (5_010, 5_000), (2 * MIB, 700_000), (0, 10), (3 * MIB - 1, 1), (500_000, 64 * 1024)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Process:
    """What one process would have: a reader, a cache, leases. With the owner's key, or none."""

    def __init__(
        self, path: Path, archive: EmbeddedArchive | None, *, has_key: bool = True, limit: int = 2**30, **options: Any
    ) -> None:
        environ = {"LOCAL_API_KEY": archive.owner_token} if has_key and archive is not None else {}
        self.traffic = Traffic(**options)
        self.cache = RangeCache(DiskCache(str(path), limit))
        self.reader = RangeReader(
            LeaseCache(Resolver(environ=environ)), concurrency=4, traffic=self.traffic, retry=QUICK, cache=self.cache
        )
        self.loop = IoLoop()

    def read(self, target: Target, chunks: list[tuple[int, int]], **options: Any) -> list[bytes]:
        return self.read_all([(1, *chunk) for chunk in chunks], {1: target}, **options)

    def read_all(
        self,
        chunks: list[tuple[int, int, int]],
        targets: Mapping[int, Target],
        *,
        check: Callable[[int, bytes], object] = lambda *_: None,
        failed: Callable[[NDArray[np.intp], LindiError], None] | None = None,
    ) -> list[bytes]:
        found: dict[int, bytes] = {}

        def keep(indices: NDArray[np.intp], views: list[memoryview]) -> None:
            for i, view in zip(indices.tolist(), views, strict=True):
                assert i not in found, "delivered twice"
                found[i] = bytes(view)
                check(i, found[i])

        sources, offsets, lengths = zip(*chunks, strict=True)
        at = Locations(np.array(sources, "u4"), np.array(offsets, "u8"), np.array(lengths, "u4"))
        self.loop.submit(self.reader.fetch(targets, at, keep, failed=failed)).result(60)
        assert self.traffic.memory.taken == 0
        return [found[i] for i in range(len(chunks)) if failed is None or i in found]

    @property
    def counts(self) -> Counts:
        return replace(self.traffic.counters.counts(), wait_s=0, decode_s=0)


def added(archive: EmbeddedArchive, content: bytes = CONTENT, **claims: Any) -> Target:
    asset = UrlPolicy((make_instance("local", archive.api_url),)).asset(archive.add(content).url)
    return Target(asset, **claims)


def expected(chunks: list[tuple[int, int]], content: bytes = CONTENT) -> list[bytes]:
    return [content[offset : offset + length] for offset, length in chunks]


def files(path: Path) -> list[Path]:
    return sorted(path.glob("*/*.range"))


def test_a_second_process_reads_without_a_request_a_lease_or_a_key(
    embedded_archive: EmbeddedArchive, path: Path
) -> None:
    target = added(embedded_archive)
    first = Process(path, embedded_archive)
    assert first.read(target, CHUNKS) == expected(CHUNKS)
    sent = len(embedded_archive.requests)
    second = Process(path, embedded_archive, has_key=False)
    assert second.read(target, CHUNKS) == expected(CHUNKS)
    assert second.read(target, CHUNKS[::-1]) == expected(CHUNKS[::-1])
    assert len(embedded_archive.requests) == sent
    nbytes = sum(length for _, length in CHUNKS)
    wanted = Counts(chunks=12, bytes_wanted=2 * nbytes, cache_hits=12, bytes_cached=2 * nbytes)
    assert second.counts == wanted
    with pytest.raises(AuthenticationError):
        second.read(target, [(1_000_000, 5)])  # which it has not


def test_it_reads_on_when_the_archive_is_gone_and_all_leases_have_expired(
    make_archive: Callable[..., EmbeddedArchive], path: Path
) -> None:
    archive = make_archive(lifetime_s=1)
    target = added(archive)
    process = Process(path, archive)
    assert process.read(target, CHUNKS) == expected(CHUNKS)
    archive.stop()
    assert process.read(target, CHUNKS) == expected(CHUNKS)
    assert Process(path, archive).read(target, CHUNKS) == expected(CHUNKS)


def test_what_is_missing_is_fetched_beside_what_is_there(embedded_archive: EmbeddedArchive, path: Path) -> None:
    target, other = added(embedded_archive), added(embedded_archive, CONTENT[::-1])
    Process(path, embedded_archive).read(target, CHUNKS[::2])
    process = Process(path, embedded_archive)
    chunks = [(number, *chunk) for chunk in CHUNKS for number in (4, 7)]
    content = {4: CONTENT, 7: CONTENT[::-1]}
    got = process.read_all(chunks, {4: target, 7: other})
    assert got == [content[n][offset : offset + length] for n, offset, length in chunks]
    assert process.counts.cache_hits >= 3
    fetched = process.counts.bytes_fetched
    assert fetched < 2 * sum(length for _, length in CHUNKS)
    assert process.read_all(chunks, {4: target, 7: other}) == got
    assert process.counts.bytes_fetched == fetched


@pytest.mark.parametrize("lengths", [(1,), (100, 70_000), (3 * MIB,), (64 * 1024, 64 * 1024 + 1)])
def test_random_reads_are_exact_however_they_overlap(
    embedded_archive: EmbeddedArchive, path: Path, lengths: tuple[int, ...]
) -> None:
    target, rng = added(embedded_archive), random.Random(str(lengths))
    for process in (Process(path, embedded_archive), Process(path, embedded_archive, limit=MIB)):
        for _ in range(15):
            chunks = []
            for _ in range(rng.randrange(1, 12)):
                length = rng.choice(lengths)
                chunks.append((rng.randrange(len(CONTENT) - length + 1), length))
            assert process.read(target, chunks) == expected(chunks)


def test_a_chunk_that_comes_in_parts_is_kept_as_one(embedded_archive: EmbeddedArchive, path: Path) -> None:
    content = np.random.default_rng(5).bytes(20 * MIB + 17)
    target = added(embedded_archive, content)
    for _ in range(2):
        process = Process(path, embedded_archive)
        assert process.read(target, [(3, 20 * MIB)]) == [content[3 : 20 * MIB + 3]]
    assert [file.name for file in files(path)] == [f"3-{20 * MIB + 3}.range"]
    assert process.counts.requests == 0


def test_whole_sources_empty_chunks_and_local_files_are_not_kept(
    embedded_archive: EmbeddedArchive, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "session.nwb").write_bytes(CONTENT)
    local = Target(LocalFile(str(tmp_path / "session.nwb")))
    process = Process(path, embedded_archive)
    chunks = [(1, 5, WHOLE), (1, 7, 0), (2, 5, WHOLE), (2, 100, 1000)]
    for _ in range(2):
        got = process.read_all(chunks, {1: added(embedded_archive), 2: local})
        assert got == [CONTENT[5:], b"", CONTENT[5:], CONTENT[100:1100]]
    assert not path.exists()
    assert process.counts.cache_hits == 0


def test_without_a_cache_nothing_is_written(embedded_archive: EmbeddedArchive, path: Path) -> None:
    process = Process(path, embedded_archive)
    process.reader = RangeReader(process.reader._stores._leases, concurrency=4, traffic=process.traffic)
    assert process.read(added(embedded_archive), CHUNKS) == expected(CHUNKS)
    assert not path.exists()


def test_nothing_in_the_folder_tells_where_the_bytes_came_from_or_with_which_right(
    embedded_archive: EmbeddedArchive, path: Path
) -> None:
    target = added(embedded_archive)
    assert isinstance(target.asset, Asset)
    etag = '"0123456789abcdef"'
    with pytest.raises(SourceMismatch):
        Process(path, embedded_archive).read(replace(target, etag=etag), CHUNKS)
    Process(path, embedded_archive).read(target, CHUNKS)
    presigned = next(request for request in embedded_archive.requests if request.plane == "s3")
    secrets = [
        embedded_archive.api_url, embedded_archive.s3_url, "127.0.0.1", "http", "X-Amz", "Signature", "Expires",
        embedded_archive.owner_token, target.asset.id, presigned.path, etag,
    ]  # fmt: skip
    assert all(secrets)
    everything = [file for file in path.rglob("*") if file.is_file()]
    assert len(everything) >= 3
    for file in everything:
        where = str(file.relative_to(path)).encode()
        for secret in secrets:
            assert secret.encode() not in where
            assert secret.encode() not in file.read_bytes()


# What the references claim of the file


def test_claims_that_do_not_hold_are_errors_beside_a_cache_that_was_filled_without_them(
    embedded_archive: EmbeddedArchive, path: Path
) -> None:
    target = added(embedded_archive)
    process = Process(path, embedded_archive)
    assert process.read(target, CHUNKS) == expected(CHUNKS)
    for wrong in ({"size": len(CONTENT) - 1}, {"etag": "other"}, {"etag": 'W/"other"'}):
        for _ in range(2):
            with pytest.raises(SourceMismatch):
                process.read(replace(target, **wrong), CHUNKS)
    assert process.read(replace(target, size=len(CONTENT)), CHUNKS) == expected(CHUNKS)


class Site:
    """A static host on loopback with one file, with or without an ETag."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.gives_etag = True
        self.is_weak = False
        self.asked = 0
        self.port = Port()
        self.url = f"http://127.0.0.1:{self.port.number}/session.nwb"
        self._thread = ServerThread([(self.port.lend(), self._handle)])

    @property
    def etag(self) -> str:
        return Blob(self.content).etag

    @property
    def asset(self) -> Asset:
        return Asset(None, self.url, (self.url,))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked += request.headers.get("Range") != "bytes=0-0"  # that is the look at where the URL ends
        answer = answer_range(Blob(self.content), range_header=request.headers.get("Range"))
        headers = dict(answer.headers)
        headers.pop("ETag")
        if self.gives_etag:
            headers["ETag"] = f"W/{self.etag}" if self.is_weak else self.etag
        body = answer.body if isinstance(answer.body, bytes) else answer.body.read(0, len(answer.body))
        return web.Response(status=answer.status, headers=headers, body=body)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.stop()
        self.port.release()


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield stack.enter_context(Site())


def test_a_plain_url_is_kept_by_its_strong_tag_and_another_state_of_it_is_another_file(site: Site, path: Path) -> None:
    target = Target(site.asset, etag=site.etag)
    process = Process(path, None)
    for _ in range(3):
        assert process.read(target, CHUNKS) == expected(CHUNKS)
    asked = process.counts.requests
    assert asked == site.asked == process.counts.ranges
    site.content = CONTENT[::-1]
    assert process.read(target, CHUNKS) == expected(CHUNKS)  # the state that the references mean
    newer = replace(target, etag=site.etag)
    for _ in range(2):
        assert process.read(newer, CHUNKS) == expected(CHUNKS, CONTENT[::-1])
    assert site.asked == 2 * asked
    with pytest.raises(SourceMismatch):
        process.read(target, [(1_000_000, 5)])


@pytest.mark.parametrize(
    ("claim", "gives_etag", "is_weak"),
    [("none", True, False), ("weak", True, False), ("strong", False, False), ("strong", True, True)],
)
def test_a_plain_url_whose_state_nobody_vouches_for_is_not_kept(
    site: Site, path: Path, claim: str, gives_etag: bool, is_weak: bool
) -> None:
    site.gives_etag, site.is_weak = gives_etag, is_weak
    etag = {"none": None, "weak": f"W/{site.etag}", "strong": site.etag}[claim]
    process = Process(path, None)
    for _ in range(2):
        assert process.read(Target(site.asset, etag=etag), CHUNKS) == expected(CHUNKS)
    assert process.counts.cache_hits == 0
    assert files(path) == []


def test_a_url_that_grants_access_is_not_kept(site: Site, path: Path) -> None:
    process = Process(path, None)
    target = Target(Asset(None, f"{site.url}?X-Amz-Signature=abc", (site.url,)), etag=site.etag)
    for _ in range(2):
        assert process.read(target, CHUNKS) == expected(CHUNKS)
    assert not path.exists()


# What may befall the files


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for at in range(0, len(content), 1000):
        content[at] ^= 1
    file.write_bytes(content)


def link(file: Path) -> None:
    file.rename(file.with_name("other"))
    file.symlink_to(file.with_name("other"))


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "bits flipped": flip,
    "cut off": lambda file: os.truncate(file, 5000),
    "longer": lambda file: os.truncate(file, file.stat().st_size + 1),
    "emptied": lambda file: os.truncate(file, 0),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "something else": lambda file: file.write_bytes(b"something else"),
    "removed": lambda file: file.unlink(),
    "a link": link,
    "a pipe": pipe,
    "writable by others": lambda file: file.chmod(0o666),
}


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("is_new", [True, False])
def test_damage_costs_a_request_and_is_mended_by_it(
    embedded_archive: EmbeddedArchive, path: Path, what: str, is_new: bool
) -> None:
    target = added(embedded_archive)
    process = Process(path, embedded_archive)
    assert process.read(target, CHUNKS) == expected(CHUNKS)
    assert process.read(target, CHUNKS) == expected(CHUNKS)
    for file in files(path):
        DAMAGE[what](file)
    if is_new:
        process = Process(path, embedded_archive)
    assert process.read(target, CHUNKS) == expected(CHUNKS)
    requests = process.counts.requests
    assert process.read(target, CHUNKS) == expected(CHUNKS)
    assert process.counts.requests == requests
    assert process.counts.cache_hits >= len(CHUNKS)


def test_files_in_each_others_place_are_damage(embedded_archive: EmbeddedArchive, path: Path) -> None:
    first, second = added(embedded_archive), added(embedded_archive, CONTENT[::-1])
    for target in (first, second):
        Process(path, embedded_archive).read(target, CHUNKS)
    one, two = {file.parent for file in files(path)}
    one.rename(path / "x")
    two.rename(one)
    (path / "x").rename(two)
    process = Process(path, embedded_archive)
    assert process.read(first, CHUNKS) == expected(CHUNKS)
    assert process.read(second, CHUNKS) == expected(CHUNKS, CONTENT[::-1])
    assert process.counts.cache_hits == 0


@pytest.mark.parametrize("damage", ["usage", "all", "folder"])
def test_a_lost_count_or_folder_changes_no_data(embedded_archive: EmbeddedArchive, path: Path, damage: str) -> None:
    target = added(embedded_archive)
    process = Process(path, embedded_archive)
    assert process.read(target, CHUNKS[:2]) == expected(CHUNKS[:2])
    if damage == "usage":
        (path / "usage.lindi-cache").write_bytes(b"\xff" * 12)
    else:
        for file in sorted(path.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        if damage == "folder":
            path.rmdir()
    for _ in range(2):
        assert process.read(target, CHUNKS) == expected(CHUNKS)
    assert process.counts.cache_hits >= len(CHUNKS)


def test_bytes_that_do_not_decode_are_not_kept(embedded_archive: EmbeddedArchive, path: Path) -> None:
    target = added(embedded_archive)

    def refuse(*_: object) -> None:
        raise CorruptChunk("no", key="0", reason="no")

    process = Process(path, embedded_archive)
    with pytest.raises(CorruptChunk):
        process.read(target, CHUNKS[:1], check=refuse)
    assert files(path) == []


@pytest.mark.parametrize("tells", [True, False])
def test_kept_bytes_that_do_not_decode_are_an_error_once_and_then_fetched(
    embedded_archive: EmbeddedArchive, path: Path, tells: bool
) -> None:
    target = added(embedded_archive)
    process = Process(path, embedded_archive)
    process.cache.put(target, 0, memoryview(b"?" * 20_000))  # as from a host that once sent something else

    def check(_: int, data: bytes) -> None:
        if data.startswith(b"?"):
            raise CorruptChunk("no", key="0", reason="no")

    failed: list[int] = []
    if tells:
        chunks = [(1, *chunk) for chunk in CHUNKS]
        process.read_all(chunks, {1: target}, check=check, failed=lambda indices, _: failed.extend(indices.tolist()))
        assert sorted(failed) == [0, 1, 3]
    else:
        with pytest.raises(CorruptChunk):
            process.read(target, CHUNKS, check=check)
    assert process.read(target, CHUNKS, check=check) == expected(CHUNKS)


def test_errors_of_what_is_fetched_are_told_apart_from_what_is_there(
    embedded_archive: EmbeddedArchive, path: Path
) -> None:
    target = added(embedded_archive)
    Process(path, embedded_archive).read(target, [(0, 10), (1_500_000, 10)])
    process = Process(path, embedded_archive)
    errors: dict[int, LindiError] = {}
    chunks = [(1, 0, 10), (1, 3 * MIB - 5, 10), (1, 1_500_000, 10), (1, 700_000, 10)]
    got = process.read_all(
        chunks, {1: target}, failed=lambda indices, error: errors.update(dict.fromkeys(indices.tolist(), error))
    )
    assert got == [CONTENT[0:10], CONTENT[1_500_000:1_500_010], CONTENT[700_000:700_010]]
    assert list(errors) == [1]
    assert isinstance(errors[1], SourceMismatch)


@pytest.mark.parametrize("kind", ["reset-mid-body", "short-body", "wrong-range", "whole-file", "error-200", "gzip"])
def test_answers_that_are_not_the_range_are_not_kept(embedded_archive: EmbeddedArchive, path: Path, kind: str) -> None:
    target = added(embedded_archive)
    embedded_archive.inject(Fault(plane="s3", kind=kind, times=3))
    assert Process(path, embedded_archive).read(target, CHUNKS) == expected(CHUNKS)
    process = Process(path, embedded_archive, has_key=False)
    assert process.read(target, CHUNKS) == expected(CHUNKS)
    assert process.counts.requests == 0


# Limits


def test_memory_and_once_each_hold_while_files_vanish(
    embedded_archive: EmbeddedArchive, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = np.random.default_rng(5).bytes(24 * MIB)
    target = added(embedded_archive, content)
    memory = 3 * MIB
    process = Process(path, embedded_archive, memory=memory)
    most = 0
    take = process.traffic.memory.take

    async def spy(amount: int, key: tuple[int, int]) -> None:
        nonlocal most
        await take(amount, key)
        most = max(most, process.traffic.memory.taken)

    process.traffic.memory.take = spy  # type: ignore[method-assign]
    rng, find, lost = random.Random(8), process.cache.find, 0

    def find_and_lose(*arguments: Any) -> Found:
        nonlocal lost
        found = find(*arguments)
        for file in files(path):
            if rng.random() < 0.3:
                file.unlink()
        lost += sum(not process.cache._files.file(*astuple(held)).exists() for held in found.held)
        return found

    monkeypatch.setattr(process.cache, "find", find_and_lose)
    for _ in range(25):
        starts = rng.sample(range(0, 24 * MIB, MIB), 20)  # too far from each other to be one range
        chunks = [(start, rng.choice([10, 40_000, 700_000])) for start in starts]
        assert process.read(target, chunks) == expected(chunks, content)
    assert lost > 20
    assert most <= memory
    counts = process.counts
    assert counts.cache_hits > 0
    assert counts.chunks == 25 * 20
    assert process.traffic.slots.taken == 0


def test_after_a_read_is_cancelled_nothing_is_held(embedded_archive: EmbeddedArchive, path: Path) -> None:
    content = np.random.default_rng(5).bytes(12 * MIB)
    target = added(embedded_archive, content)
    chunks = [(at, MIB) for at in range(0, 12 * MIB, MIB)]
    Process(path, embedded_archive).read(target, chunks)
    process = Process(path, embedded_archive, memory=3 * MIB)
    begun = threading.Event()
    offsets, lengths = np.array(chunks).T
    at = Locations(np.ones(12, "u4"), offsets.astype("u8"), lengths.astype("u4"))
    future = process.loop.submit(process.reader.fetch({1: target}, at, lambda *_: begun.set()))
    assert begun.wait(20)
    future.cancel()
    assert process.read(target, chunks) == expected(chunks, content)


CHILD = """
import json, random, sys
from pathlib import Path
import numpy as np
from lindi_dask.archive import LeaseCache, Resolver, UrlPolicy
from lindi_dask.archive.instances import make_instance
from lindi_dask.refs import Locations
from lindi_dask.transport import IoLoop, RangeCache, RangeReader
from lindi_dask.types import DiskCache, Target

given = json.loads(sys.argv[1])
content = Path(given["content"]).read_bytes()
target = Target(UrlPolicy((make_instance("local", given["api_url"]),)).asset(given["url"]))
cache = RangeCache(DiskCache(given["cache"], given["limit"]))
reader = RangeReader(LeaseCache(Resolver(environ={"LOCAL_API_KEY": given["key"]})), concurrency=4, cache=cache)
loop, rng = IoLoop(), random.Random(given["seed"])
for turn in range(10**6):
    starts = np.array(rng.sample(range(0, len(content) - 100_000, 1000), 8), "u8")
    lengths = np.array(rng.choices([10, 5_000, 100_000], k=8), "u4")
    found = {}
    def keep(indices, views):
        found.update(zip(indices.tolist(), map(bytes, views), strict=True))
    loop.submit(reader.fetch({1: target}, Locations(np.ones(8, "u4"), starts, lengths), keep)).result(60)
    for i, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist())):
        if found[i] != content[start : start + length]:
            sys.exit(f"wrong bytes at {start}")
    counts = reader._traffic.counters.counts()
    print(json.dumps([turn, counts.cache_hits, counts.requests]), flush=True)
"""


def test_processes_that_read_and_write_at_once_have_the_right_bytes_within_the_limit_until_they_are_killed(
    embedded_archive: EmbeddedArchive, path: Path, tmp_path: Path
) -> None:
    embedded_archive.lifetime_s = 1
    (tmp_path / "content").write_bytes(CONTENT)
    url, limit = embedded_archive.add(CONTENT).url, 2 * MIB
    given = {
        "content": str(tmp_path / "content"), "api_url": embedded_archive.api_url, "url": url,
        "cache": str(path), "limit": limit, "key": embedded_archive.owner_token,
    }  # fmt: skip
    commands = [[sys.executable, "-c", CHILD, json.dumps({**given, "seed": seed})] for seed in range(2)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    fullest = 0
    try:
        for _ in range(60):
            for child in children:
                assert child.stdout is not None
                line = child.stdout.readline()
                assert line, "it found wrong bytes"
                turn, hits, requests = json.loads(line)
            with locked(path / "usage.lindi-cache", patience_s=60):  # nobody adds or removes meanwhile
                used = sum(file.stat().st_size for file in path.glob("*/*"))
            assert used <= limit
            fullest = max(fullest, used)
        assert turn >= 59
        assert hits > 0
        assert requests > 0
        assert fullest > limit // 2
    finally:
        for child in children:
            child.send_signal(signal.SIGKILL)
            child.wait(20)
            assert child.stdout is not None
            child.stdout.close()
    target = Target(UrlPolicy((make_instance("local", embedded_archive.api_url),)).asset(url))
    process = Process(path, embedded_archive, limit=limit)
    held = [file.name.removesuffix(".range").split("-") for file in files(path)]
    chunks = [(int(start), int(stop) - int(start)) for start, stop in held]
    assert process.read(target, chunks) == expected(chunks)
    assert process.counts.cache_hits == len(chunks) > 0
