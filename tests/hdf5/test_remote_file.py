"""`RemoteFile` beside the file itself: the same bytes for any reads, the same index, in few requests."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Sequence  # noqa: TC003 - of signatures that hypothesis may look at
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lindi_dask.errors import ConfigurationError, StorageUnavailable
from lindi_dask.hdf5.remote_file import BLOCK, RemoteFile, chunk_tree_children
from lindi_dask.types import ByteRange

SESSION = Path(__file__).parents[1] / "data" / "session.nwb"
LFP = "processing/ecephys/LFP/LFP/data"
CONTENT = np.random.default_rng(5).bytes(48 * BLOCK + 12_345)


class Ranges:
    """Bytes, read by ranges; remembers which were asked for at once."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.rounds: list[list[ByteRange]] = []

    def __call__(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        assert all(one.length > 0 and one.end <= len(self.content) for one in ranges)
        self.rounds.append(list(ranges))
        return [self.content[one.offset : one.end] for one in ranges]

    @property
    def nbytes(self) -> int:
        return sum(one.length for ranges in self.rounds for one in ranges)

    def file(self, **options: Any) -> RemoteFile:
        return RemoteFile("the file", len(self.content), self, **options)


def chunks_of(file: Any, name: str) -> list[h5py.h5d.StoreInfo]:
    found: list[h5py.h5d.StoreInfo] = []
    with h5py.File(file, "r") as opened:
        opened[name].id.chunk_iter(found.append)
    return found


near_edges = st.integers(0, 49).flatmap(lambda block: st.integers(-3, 3).map(lambda at: max(block * BLOCK + at, 0)))
positions = near_edges | st.integers(0, len(CONTENT) + 100)
lengths = st.integers(0, 5) | st.integers(0, 2 * BLOCK) | st.just(BLOCK) | st.just(20 * BLOCK)


@given(
    reads=st.lists(st.tuples(positions, lengths), max_size=12), start=st.sampled_from([0, 1, BLOCK, BLOCK + 7, 2**30])
)
def test_any_reads_give_the_bytes_of_the_file(reads: list[tuple[int, int]], start: int) -> None:
    ranges, truth = Ranges(CONTENT), io.BytesIO(CONTENT)
    file = ranges.file(start=CONTENT[:start])
    for position, length in reads:
        assert file.seek(position) == truth.seek(position)
        assert file.read(length) == truth.read(length)
        assert file.tell() == truth.tell()
    asked = [one.offset for some in ranges.rounds for one in some]
    assert len(asked) == len(set(asked)), "a block that is kept was read again"


def test_seeks_count_from_the_start_the_position_and_the_end() -> None:
    file = Ranges(CONTENT).file()
    assert file.seek(-10, os.SEEK_END) == len(CONTENT) - 10
    assert file.read() == CONTENT[-10:]
    assert file.seek(-4, os.SEEK_CUR) == len(CONTENT) - 4
    assert file.seek(5, os.SEEK_END) == len(CONTENT) + 5
    assert file.read(3) == b""
    with pytest.raises(ValueError, match="no position"):
        file.seek(-1)
    with pytest.raises(ValueError, match="no position"):
        file.seek(0, 7)


def blocks_of(rounds: list[list[ByteRange]]) -> list[int]:
    return [sum(-(-one.length // BLOCK) for one in some) for some in rounds]


def test_reads_that_follow_one_another_are_read_ahead_ever_further() -> None:
    ranges = Ranges(bytes(1600 * BLOCK))
    file = ranges.file()
    while file.read(BLOCK // 4):
        pass
    assert blocks_of(ranges.rounds) == [32, 64, 128, 256, 512, 512, 96]


def test_what_was_read_is_never_read_again() -> None:
    ranges = Ranges(bytes(600 * BLOCK))
    file = ranges.file()
    for number in [*range(0, 600, 2), 598, *range(600)]:
        file.seek(number * BLOCK)
        file.read(1)
    assert sum(blocks_of(ranges.rounds)) == 600


def test_a_disk_without_room_is_an_error_that_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = Ranges(CONTENT).file()
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ConfigurationError, match=r"No space left.*TMPDIR"):
        file.read(1)


class Link:
    """A path of some latency and pace, by a clock of its own."""

    def __init__(self, size: int, bytes_per_s: float) -> None:
        self.now, self.size, self.pace = 0.0, size, bytes_per_s
        self.rounds: list[list[ByteRange]] = []

    def __call__(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        self.rounds.append(list(ranges))
        self.now += 0.03 + sum(one.length for one in ranges) / self.pace
        return [bytes(one.length) for one in ranges]

    def file(self) -> RemoteFile:
        return RemoteFile("the file", self.size, self, clock=lambda: self.now)

    @property
    def nbytes(self) -> int:
        return sum(one.length for some in self.rounds for one in some)


SPREAD = [ByteRange(at, 100) for at in range(0, 200_000_000, 300_000)]


def test_what_lies_between_is_read_along_where_that_costs_less_than_requests() -> None:
    path = Link(200_000_000, bytes_per_s=1e9)
    path.file().bring(SPREAD)
    assert sum(map(len, path.rounds)) < 250
    assert 136 * 2**20 < path.nbytes < 180e6


def test_on_a_slow_path_little_is_read_along() -> None:
    path = Link(200_000_000, bytes_per_s=10e6)
    path.file().bring(SPREAD)
    assert path.nbytes < len(SPREAD) * 3 * BLOCK + 2**22


@given(
    ranges=st.lists(st.builds(ByteRange, st.integers(0, 30_000_000), st.integers(1, 300_000)), max_size=30),
    pace=st.sampled_from([1e5, 1e7, 1e9]),
)
def test_what_was_brought_is_here(ranges: list[ByteRange], pace: float) -> None:
    path = Link(20_000_000, pace)
    file = path.file()
    file.bring(ranges)
    file.bring(ranges)
    asked = [one for some in path.rounds for one in some]
    assert all(file.kept(one.offset, one.length) is not None for one in ranges)
    assert all(one.offset % BLOCK == 0 and one.end <= path.size for one in asked)
    assert sum(one.length for one in asked) <= path.size  # nothing twice


def test_a_read_that_failed_fails_ever_after() -> None:
    calls = []

    def fail(ranges: Sequence[ByteRange]) -> list[bytes]:
        calls.append(ranges)
        raise StorageUnavailable("gone")

    file = RemoteFile("the file", 10, fail)
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match="gone"):
            file.read(1)
    assert len(calls) == 1
    assert isinstance(file.failure, StorageUnavailable)
    with pytest.raises(StorageUnavailable, match="gone"):
        h5py.File(file, "r")


def test_h5py_finds_the_same_index_in_few_rounds() -> None:
    ranges = Ranges(SESSION.read_bytes())
    assert chunks_of(ranges.file(), LFP) == chunks_of(SESSION, LFP)
    assert len(ranges.rounds) <= 7
    assert ranges.nbytes < 4e6


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 MB behind a user block: 12,500 chunks in a tree of three levels."""
    path = tmp_path_factory.mktemp("large") / "large.h5"
    with h5py.File(path, "w", userblock_size=1024) as file:
        x = file.create_dataset("x", (12_500 * 16, 50), "<i2", chunks=(16, 50))
        piece = np.zeros((16, 50), "<i2")
        for row in range(0, len(x), 16):
            x[row : row + 16] = piece
    return path


def test_the_nodes_of_a_chunk_index_are_read_a_level_at_once(large: Path) -> None:
    ranges = Ranges(large.read_bytes())
    assert len(chunks_of(ranges.file(), "x")) == 12_500
    assert len(ranges.content) > 2e7
    assert len(ranges.rounds) <= 10  # of some 200 nodes, one below the root after the other
    assert sum(len(one) for one in ranges.rounds) <= 20  # ranges: what lies near is read along


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("maxshape", [(3000, 4), (None, 4), (None, None)])
def test_all_kinds_of_chunk_indexes_are_read(tmp_path: Path, libver: str, maxshape: tuple[int | None, ...]) -> None:
    path = tmp_path / "file.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("x", data=np.arange(12_000).reshape(3000, 4), chunks=(2, 4), maxshape=maxshape)
    found = chunks_of(Ranges(path.read_bytes()).file(), "x")
    assert found == chunks_of(path, "x")
    assert len(found) == 1500


@given(node=st.binary(max_size=3000) | st.binary(max_size=2608).map(lambda rest: b"TREE\x01\x01" + rest))
def test_a_node_that_is_none_is_a_hint_of_nothing_that_could_do_harm(node: bytes) -> None:
    found = chunk_tree_children(node, 0)
    assert len(found) <= 64
    assert all(one.length == len(node) for one in found)


def test_a_tree_that_leads_nowhere_is_only_a_hint() -> None:
    node = bytearray(2616)
    node[:8] = b"TREE\x01\x01\x40\x00"
    for entry in range(64):
        node[56 + 40 * entry : 64 + 40 * entry] = (2**63 + entry).to_bytes(8, "little")
    ranges = Ranges(bytes(node) + CONTENT)
    file = ranges.file()
    assert file.read(2616) == bytes(node)
    assert len(chunk_tree_children(bytes(node), 0)) == 64
    assert len(ranges.rounds) == 1
