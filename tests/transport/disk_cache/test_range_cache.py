"""What a cache finds, reads and keeps, without a network."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.refs import Locations
from lindi_dask.refs.manifest import WHOLE
from lindi_dask.transport.disk_cache.hits import nbytes_of, plan_hits, read_hits
from lindi_dask.transport.disk_cache.intervals import NONE
from lindi_dask.transport.disk_cache.range_cache import RangeCache
from lindi_dask.transport.disk_cache.range_file import PAGE
from lindi_dask.types import Asset, DiskCache, Instance, LocalFile, Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INSTANCE = Instance("local", "http://127.0.0.1:8901/api", ("LOCAL_API_KEY",))
ONE, TWO = (Target(Asset(INSTANCE, name)) for name in ("one", "two"))
CHANGING = Target(Asset(None, "https://example.org/session.nwb"))
CONTENT = np.random.default_rng(4).bytes(400_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def cache_of(path: Path, limit: int = 2**30, clock: Callable[[], float] | None = None) -> RangeCache:
    return (
        RangeCache(DiskCache(str(path), limit))
        if clock is None
        else RangeCache(DiskCache(str(path), limit), clock=clock)
    )


def put(cache: RangeCache, start: int, stop: int, target: Target = ONE) -> None:
    cache.put(target, start, memoryview(CONTENT)[start:stop])


def at(*ranges: tuple[int, int], sources: list[int] | None = None) -> Locations:
    starts, stops = np.array(ranges, np.int64).reshape(-1, 2).T
    of = np.zeros(len(starts), "u4") if sources is None else np.array(sources, "u4")
    return Locations(of, starts.astype("u8"), (stops - starts).astype("u4"))


def found(cache: RangeCache, *ranges: tuple[int, int], target: Target = ONE) -> list[tuple[int, int] | None]:
    """Return for each range the held one that it was found in."""
    result = cache.find({0: target}, at(*ranges))
    return [None if i == NONE else (result.held[i].start, result.held[i].stop) for i in result.at.tolist()]


def read(cache: RangeCache, start: int, stop: int) -> bytes | None:
    """Return a range out of the cache."""
    result = cache.find({0: ONE}, at((start, stop)))
    if result.at[0] == NONE:
        return None
    views = cache.read(result.held[0], [(start, stop)])
    return None if views is None else bytes(views[0])


def file_of(path: Path) -> Path:
    (file,) = path.glob("*/*.range")
    return file


RANGES = st.lists(
    st.tuples(st.integers(0, 390_000), st.integers(1, 150_000)).map(lambda one: (one[0], min(sum(one), 400_000))),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(RANGES, RANGES, st.data())
def test_what_is_found_and_read_is_what_brute_force_says(
    tmp_path_factory: pytest.TempPathFactory,
    held: list[tuple[int, int]],
    wanted: list[tuple[int, int]],
    data: st.DataObject,
) -> None:
    cache = cache_of(tmp_path_factory.mktemp("cache") / "below")
    targets = {3: ONE, 7: TWO, 9: CHANGING, 11: Target(LocalFile("/data/session.nwb"))}
    numbers = st.sampled_from(sorted(targets))
    where = [(data.draw(numbers), *one) for one in held]
    for number, start, stop in where:
        put(cache, start, stop, targets[number])
    for reader in (cache, cache_of(cache._files.path)):
        sources = data.draw(st.lists(numbers, min_size=len(wanted), max_size=len(wanted)))
        locations = at(*wanted, sources=sources)
        result = reader.find(targets, locations)
        expected = [
            source in {3, 7} and any(n == source and a <= start and stop <= b for n, a, b in where)
            for source, (start, stop) in zip(sources, wanted, strict=True)
        ]
        assert (result.at != NONE).tolist() == expected
        got: dict[int, bytes] = {}
        for batch in plan_hits(result, locations):
            assert nbytes_of(batch) <= sum(stop - start + 2 * PAGE for start, stop in (hit.part for hit in batch))
            for hit, read_ in zip(batch, read_hits(reader.read, batch), strict=True):
                assert read_ is not None
                assert {sources[i] for i in hit.planned.members.tolist()} == {hit.planned.source}
                for i, view in zip(hit.planned.members.tolist(), hit.planned.cut(locations, read_), strict=True):
                    assert i not in got, "twice"
                    got[i] = bytes(view)
        assert got == {i: CONTENT[slice(*wanted[i])] for i, is_held in enumerate(expected) if is_held}


def test_whole_sources_nothing_at_all_and_what_lies_beyond_numbers_are_not_found(path: Path) -> None:
    cache = cache_of(path)
    put(cache, 0, 400_000)
    offsets = np.array([0, 5, 2**63 - 5, 2**64 - 1, 0], "u8")
    locations = Locations(np.zeros(5, "u4"), offsets, np.array([WHOLE, 0, 10, 10, 10], "u4"))
    assert cache.find({0: ONE}, locations).at.tolist() == [NONE, NONE, NONE, NONE, 0]


def test_what_another_process_kept_is_found_by_one_that_looked_before(path: Path) -> None:
    clock = Clock()
    cache, other = cache_of(path, clock=clock), cache_of(path)
    assert found(cache, (0, 100)) == [None]
    put(other, 0, 1000)
    assert found(cache, (0, 100), (900, 1001)) == [(0, 1000), None]
    put(other, 500, 2000)
    assert found(cache, (0, 100), (900, 1001)) == [(0, 1000), (500, 2000)]


def test_to_list_a_folder_takes_a_twentieth_of_the_time_at_most(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    cache, other = cache_of(path, clock=clock), cache_of(path)
    put(other, 0, 10)
    ranges, listings = cache._files.ranges, 0

    def slow(source: str) -> list[tuple[int, int]]:
        nonlocal listings
        listings += 1
        clock.seconds += 1
        return ranges(source)

    monkeypatch.setattr(cache._files, "ranges", slow)
    assert found(cache, (0, 10)) == [(0, 10)]
    put(other, 10, 20)
    for _ in range(5):
        assert found(cache, (10, 20)) == [None]
    put(cache, 50, 60)  # one's own are known at once
    assert found(cache, (50, 60)) == [(50, 60)]
    assert listings == 1
    clock.seconds += 20
    assert found(cache, (10, 20)) == [(10, 20)]
    assert listings == 2


def test_while_all_is_found_the_folder_is_not_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = cache_of(path, clock=Clock())
    put(cache, 0, 1000)
    assert found(cache, (0, 10)) == [(0, 1000)]
    monkeypatch.setattr(cache._files, "changed_ns", lambda _: pytest.fail("looked"))
    assert found(cache, (0, 10), (990, 1000)) == [(0, 1000), (0, 1000)]


def test_a_folder_that_has_not_changed_is_not_listed_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache_of(path), 0, 1000)
    (folder,) = (one for one in path.iterdir() if one.is_dir())
    os.utime(folder, (1e9, 1e9))  # not so lately that its clock may not have ticked since
    cache = cache_of(path, clock=Clock())
    assert found(cache, (0, 2000)) == [None]
    monkeypatch.setattr(cache._files, "ranges", lambda _: pytest.fail("listed"))
    assert found(cache, (0, 2000), (0, 10)) == [None, (0, 1000)]


def test_a_folder_that_was_changed_within_a_tick_of_its_clock_is_listed_again(path: Path) -> None:
    cache, other = cache_of(path, clock=Clock()), cache_of(path)
    put(other, 0, 10)
    (folder,) = (one for one in path.iterdir() if one.is_dir())
    before = folder.stat()
    assert found(cache, (0, 10)) == [(0, 10)]
    put(other, 10, 20)
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(cache, (10, 20)) == [(10, 20)]


def test_what_was_evicted_is_no_longer_there(path: Path) -> None:
    cache = cache_of(path)
    put(cache, 0, 1000)
    assert read(cache, 5, 10) == CONTENT[5:10]
    file_of(path).unlink()
    assert read(cache, 5, 10) is None
    assert found(cache, (5, 10)) == [None]
    put(cache, 0, 1000)
    assert read(cache, 5, 10) == CONTENT[5:10]


def test_few_sources_are_remembered_and_all_are_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lindi_dask.transport.disk_cache.range_cache._SOURCES", 3)
    cache = cache_of(path)
    targets = {i: Target(Asset(INSTANCE, f"asset-{i}")) for i in range(8)}
    for target in targets.values():
        put(cache, 0, 100, target)
    for _ in range(2):
        result = cache.find(targets, at(*[(0, 10)] * 8, sources=list(targets)))
        assert sorted(result.at.tolist()) == list(range(8))
        assert len(cache._known) == 3


@pytest.mark.parametrize("age_s", [30, 90])
def test_a_use_is_noted_to_the_minute(path: Path, age_s: int) -> None:
    put(cache_of(path), 0, 1000)
    file = file_of(path)
    os.utime(file, (1e9, 1e9))
    assert read(RangeCache(DiskCache(str(path), 2**30), now=lambda: 1e9 + age_s), 0, 10) == CONTENT[:10]
    assert file.stat().st_mtime == (1e9 if age_s < 60 else 1e9 + age_s)


def test_what_is_used_stays_when_others_make_way(path: Path) -> None:
    cache = cache_of(path, limit=10 * 12 * 1024)
    for i in range(10):
        put(cache, i * 10_000, i * 10_000 + 10_000)
    for i, file in enumerate(sorted(path.glob("*/*.range"), key=lambda file: int(file.name.partition("-")[0]))):
        os.utime(file, (1e9 + i, 1e9 + i))
    assert read(cache, 0, 10) is not None
    put(cache, 100_000, 110_000)
    assert found(cache_of(path), *((i * 10_000, i * 10_000 + 5) for i in range(11))) == [
        (0, 10_000), None, None, *((i * 10_000, i * 10_000 + 10_000) for i in range(3, 11)),
    ]  # fmt: skip


def test_a_range_within_one_that_is_held_and_one_that_is_too_large_are_not_kept(path: Path) -> None:
    cache = cache_of(path, limit=2**20)
    put(cache, 0, 50_000)
    assert found(cache, (0, 10)) == [(0, 50_000)]
    put(cache, 100, 200)
    put(cache, 0, 300_000)
    put(cache, 5, 5)
    assert [file.name for file in path.glob("*/*.range")] == ["0-50000.range"]


# When it can't be used


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOLCK])
def test_one_that_can_not_be_written_is_said_once_and_tried_again_a_minute_later(
    path: Path, code: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    cache = cache_of(path, clock=clock)
    tries = 0

    def fail(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(cache._files, "add", fail)
        for _ in range(3):
            put(cache, 0, 1000)
        clock.seconds += 61
        put(cache, 0, 1000)
        assert tries == 2
    assert warnings(caplog) == [f"nothing can be kept in the cache {path} for now: {os.strerror(code)}"]
    clock.seconds += 61
    put(cache, 0, 1000)
    assert read(cache, 0, 10) == CONTENT[:10]


def test_a_place_where_no_folder_can_be_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("a file")
    cache = cache_of(tmp_path / "file" / "cache")
    for _ in range(3):
        put(cache, 0, 1000)
        assert found(cache, (0, 10)) == [None]
    assert any("nothing can be kept" in message for message in warnings(caplog))
    assert len(set(warnings(caplog))) == len(warnings(caplog)) <= 2


def test_a_folder_that_others_may_write_is_refused_and_that_is_said_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(cache_of(path), 0, 1000)
    path.chmod(0o777)
    clock = Clock()
    cache = cache_of(path, clock=clock)
    for _ in range(3):
        clock.seconds += 100
        assert found(cache, (0, 10)) == [None]
        put(cache, 1000, 2000)
    assert warnings(caplog) == [
        f"the cache {path} is not used: others may write it",
        f"nothing can be kept in the cache {path} for now: others may write it",
    ]
    assert [file.name for file in path.glob("*/*.range")] == ["0-1000.range"]


def test_folders_of_another_user_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(cache_of(path), 0, 1000)
    owner = path.stat().st_uid
    if owner == 0:  # root is trusted by all: have the folder belong to somebody else
        os.chown(path, 4321, 4321)
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert found(cache_of(path), (0, 10)) == [None]
    assert "it belongs to another user" in caplog.text


READING = """
import sys
from lindi_dask.transport import RangeCache
from lindi_dask.types import Asset, DiskCache, Instance, Target
target = Target(Asset(Instance("local", "http://127.0.0.1:8901/api", ("LOCAL_API_KEY",)), "one"))
cache = RangeCache(DiskCache(sys.argv[1], 2**30))
cache.put(target, 0, memoryview(sys.stdin.buffer.read()))
"""


def test_what_one_process_keeps_another_one_reads(path: Path) -> None:
    subprocess.run([sys.executable, "-c", READING, str(path)], input=CONTENT, check=True, timeout=60)
    assert read(cache_of(path), 100_000, 300_000) == CONTENT[100_000:300_000]
