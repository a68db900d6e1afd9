"""Chunks that several blocks have a part of."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import h5py
import numpy as np
import pytest

import lindi_dask as ld
from lindi_dask import errors, process
from lindi_dask.decode import Promise, SharedChunks
from lindi_dask.hdf5 import index_hdf5
from lindi_dask.store import LindiStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from lindi_dask.testing import EmbeddedArchive

ROWS, CHUNKS = 100, 30


@pytest.fixture(autouse=True)
def nothing_is_kept() -> Iterator[None]:
    process.shared_chunks().clear()
    yield
    process.shared_chunks().clear()


@pytest.fixture(params=["gzip and shuffle", "nothing", "big-endian and gzip"])
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "recording.h5"
    values = np.random.default_rng(3).integers(-99, 99, (ROWS * CHUNKS - 30, 8))
    kinds: dict[str, dict[str, Any]] = {
        "gzip and shuffle": {"dtype": "<i2", "compression": 1, "shuffle": True},
        "nothing": {"dtype": "<i4"},
        "big-endian and gzip": {"dtype": ">f8", "compression": 1},
    }
    packed = kinds[request.param]
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=values.astype(packed["dtype"]), chunks=(ROWS, 4), **packed)
    return path


@pytest.fixture
def opened(
    recording: Path, embedded_archive: EmbeddedArchive, own_key: Callable[..., dict[str, str]]
) -> Callable[[Any], da.Array]:
    refs = recording.with_suffix(".json")
    index_hdf5(recording, embedded_archive.add(recording).url).save(refs)

    def opened(chunks: Any) -> da.Array:
        return ld.open_array(refs, "data", chunks=chunks, instances=own_key(embedded_archive))

    return opened


@pytest.fixture
def truth(recording: Path) -> NDArray[Any]:
    with h5py.File(recording) as file:
        values: NDArray[Any] = file["data"][...]
    return values


@pytest.mark.filterwarnings("ignore::dask.array.PerformanceWarning")
@pytest.mark.parametrize("chunks", [(150, -1), (30, 3), (99, 8), (1000, 1)])
@pytest.mark.parametrize("latency_s", [0.0, 0.01])
def test_blocks_that_cut_chunks_are_right_and_fetch_each_chunk_once(
    opened: Callable[..., da.Array],
    truth: NDArray[Any],
    embedded_archive: EmbeddedArchive,
    chunks: tuple[int, int],
    latency_s: float,
) -> None:
    embedded_archive.latency_s = latency_s
    before = ld.stats()
    array = opened(chunks)
    with dask.config.set(scheduler="threads", num_workers=8):
        np.testing.assert_array_equal(array.compute(), truth)
    read = ld.stats() - before
    assert read.chunks == 2 * CHUNKS
    assert read.chunks_shared > 0


def test_whole_chunks_are_not_kept(opened: Callable[..., da.Array], truth: NDArray[Any]) -> None:
    np.testing.assert_array_equal(opened((2 * ROWS, 8)).compute(), truth)
    assert process.shared_chunks()._nbytes == 0


@pytest.mark.filterwarnings("ignore::dask.array.PerformanceWarning")
def test_a_read_that_fails_does_not_fail_for_those_who_waited_for_its_chunks(
    opened: Callable[..., da.Array], truth: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    get_many, calls = LindiStore.get_many, itertools.count()

    async def failing_first(self: LindiStore, *args: Any, **kwargs: Any) -> None:
        if next(calls) == 0:
            await asyncio.sleep(0.5)
            raise errors.StorageUnavailable("gone")
        await get_many(self, *args, **kwargs)

    monkeypatch.setattr(LindiStore, "get_many", failing_first)
    blocks = opened((10, -1))[:80].to_delayed().ravel()
    outcomes: list[NDArray[Any] | errors.LindiError | None] = [None] * len(blocks)

    def read(i: int) -> None:
        try:
            outcomes[i] = blocks[i].compute(scheduler="synchronous")
        except errors.StorageUnavailable as error:
            outcomes[i] = error

    threads = [threading.Thread(target=read, args=(i,)) for i in range(len(blocks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, errors.LindiError)]
    assert len(failed) == 1
    for i, outcome in enumerate(outcomes):
        if i not in failed:
            np.testing.assert_array_equal(outcome, truth[10 * i : 10 * i + 10])


def test_no_more_than_the_limit_is_kept_the_last_used_longest() -> None:
    shared = SharedChunks(100)
    promises = shared.claim(["a", "b", "c"])
    assert all(isinstance(one, Promise) for one in promises)
    for promise in promises:
        assert isinstance(promise, Promise)
        shared.keep(promise, str(promise.key).encode() * 30)
    assert shared.claim(["a"]) == [b"a" * 30]  # used
    (promise,) = shared.claim(["d"])
    assert isinstance(promise, Promise)
    shared.keep(promise, b"d" * 30)
    assert shared.claim(["a", "c", "d"]) == [b"a" * 30, b"c" * 30, b"d" * 30]
    assert isinstance(shared.claim(["b"])[0], Promise)
    assert shared._nbytes == 90
    shared.clear()
    assert isinstance(shared.claim(["a"])[0], Promise)


def test_who_waits_gets_the_chunk_or_has_to_read_it() -> None:
    shared = SharedChunks(100)
    (promise,) = shared.claim(["a"])
    (future,) = shared.claim(["a"])
    assert isinstance(promise, Promise)
    assert future is promise.future
    assert not promise.future.cancel()  # by one who waits
    shared.keep(promise, b"x")
    assert promise.future.result() == b"x"
    shared.give_up([promise])  # was kept
    assert shared.claim(["a"]) == [b"x"]
    (promise,) = shared.claim(["b"])
    assert isinstance(promise, Promise)
    shared.give_up([promise])
    assert promise.future.result() is None
    shared.keep(promise, b"late")  # nobody waits any more
    (again,) = shared.claim(["b"])
    assert isinstance(again, Promise)
    shared.give_up([promise])  # another's
    assert not again.future.done()


def test_a_part_of_a_larger_range_is_kept_as_a_copy() -> None:
    shared = SharedChunks(100)
    whole = bytes(1000)
    parts: dict[str, Any] = {"a": memoryview(whole)[:10], "b": np.frombuffer(whole, "u1")[:10]}
    for key, part in parts.items():
        (promise,) = shared.claim([key])
        assert isinstance(promise, Promise)
        shared.keep(promise, part)
        assert promise.future.result() == bytes(10)
        assert isinstance(promise.future.result(), bytes)
    assert shared.is_worthwhile(25)
    assert not shared.is_worthwhile(26)
    assert not shared.is_worthwhile(0)
