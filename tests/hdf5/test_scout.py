"""Metadata that are read ahead: few rounds, and the same references whatever the bytes say."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.errors import LindiError
from lindi_dask.hdf5 import index_hdf5, remote_file, scout
from lindi_dask.hdf5.fractal_heap import linked_objects, read_heap
from lindi_dask.hdf5.layouts import Message, messages
from lindi_dask.hdf5.local import index_remote
from lindi_dask.hdf5.remote_file import RemoteFile
from lindi_dask.refs import Source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lindi_dask.refs import References
    from lindi_dask.types import ByteRange

URL = "https://example.org/session.nwb"
GROUPS = 60


class Ranges:
    """Bytes, read by ranges; counts."""

    def __init__(self, content: bytes) -> None:
        self.content, self.rounds, self.nbytes = content, 0, 0

    def __call__(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        self.rounds += 1
        self.nbytes += sum(one.length for one in ranges)
        return [self.content[one.offset : one.end] for one in ranges]

    def index(self) -> References:
        start = self.content[: remote_file.START]
        size = len(self.content)
        return index_remote(RemoteFile("the file", size, self, start=start), Source(URL, size=size))


@pytest.fixture(autouse=True)
def _no_file_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scout, "_WHOLE", 0)


@pytest.fixture(scope="module", params=["earliest", "latest"])
def spread(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 MB: metadata of many groups between their data."""
    path = tmp_path_factory.mktemp(request.param) / "spread.h5"
    data = np.random.default_rng(2).integers(0, 2**16, (250_000,), "u2")
    with h5py.File(path, "w", libver=request.param, userblock_size=512) as file:
        for number in range(GROUPS):
            group = file.create_group(f"series{number}")
            group.attrs["description"] = f"series {number}"
            made = group.create_dataset("data", data=data, chunks=(2500,), compression="gzip", compression_opts=1)
            made.attrs["unit"] = "V"
            group["labels"] = np.array([f"label {i}" for i in range(8)], h5py.string_dtype())
            group["gain"] = 1.5
    return path


def test_spread_metadata_are_read_in_a_round_a_level(spread: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "_SPARE", 0)  # what is read is what was found to be needed
    ranges = Ranges(spread.read_bytes())
    found, here = ranges.index(), index_hdf5(spread, URL)
    assert found.fingerprint == here.fingerprint
    assert len(ranges.content) > 25e6
    assert ranges.rounds <= 20
    assert ranges.nbytes < 12e6


def test_references_are_those_of_the_local_file(torture: Path) -> None:
    ranges = Ranges(torture.read_bytes())
    found, here = ranges.index(), index_hdf5(torture, URL)
    assert found.metadata == here.metadata
    assert found.unreadable == here.unreadable
    assert found.fingerprint == here.fingerprint


def test_a_small_file_is_read_at_once(torture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scout, "_WHOLE", 2**23)
    ranges = Ranges(torture.read_bytes())
    ranges.index()
    assert ranges.rounds == 1


def test_a_header_that_goes_on_in_itself_is_looked_at_once() -> None:
    rest = struct.pack("<HHIQQ", Message.CONTINUATION, 16, 0, 64, 64) + struct.pack("<HHI", Message.LINK, 0, 0) * 5
    content = struct.pack("<BBHII4x", 1, 0, 9, 1, 24) + struct.pack("<HHIQQ", Message.CONTINUATION, 16, 0, 64, 64)
    content = content.ljust(64, b"\0") + rest
    found = list(messages(lambda at, n: content[at : at + n], 0, 0))
    assert found == [(Message.LINK, b"")] * 5


def test_no_more_than_may_be_is_looked_at(spread: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    look = messages

    def noted(*given: Any) -> Any:
        for one in look(*given):
            looked.append(one)
            yield one

    monkeypatch.setattr(scout, "messages", noted)
    monkeypatch.setattr(scout, "_STEPS", 40)
    Ranges(spread.read_bytes()).index()
    assert len(looked) <= 40


@given(header=st.binary(max_size=200) | st.binary(max_size=150).map(lambda rest: b"FRHP\0" + rest))
def test_a_heap_that_is_none_names_blocks_within_bounds(header: bytes) -> None:
    with contextlib.suppress(struct.error):
        heap = read_heap(header)
        assert heap is None or (len(heap.sizes) <= 4096 and max(heap.sizes, default=0) <= 2**24)


@given(block=st.binary(max_size=300))
def test_links_that_are_none_end(block: bytes) -> None:
    with contextlib.suppress(struct.error, IndexError):
        assert len(linked_objects(block)) <= len(block)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes_are_hints_of_nothing(torture: Path, data: st.DataObject) -> None:
    content = bytearray(torture.read_bytes())
    for _ in range(data.draw(st.integers(1, 30))):
        at = data.draw(st.integers(1024, 40_000) | st.integers(1024, len(content) - 9))
        content[at : at + 8] = data.draw(
            st.binary(min_size=8, max_size=8) | st.integers(0, len(content)).map(lambda n: n.to_bytes(8, "little"))
        )
    ranges = Ranges(bytes(content))
    file = RemoteFile("the file", len(content), ranges, start=bytes(content[: remote_file.START]))
    scout.scout(file)
    assert ranges.nbytes <= len(content)
    assert file.failure is None


def test_a_file_that_can_not_be_read_is_the_readers_own_error(torture: Path) -> None:
    def fail(_: Sequence[ByteRange]) -> list[bytes]:
        raise LindiError("gone")

    content = torture.read_bytes()
    file = RemoteFile("the file", len(content), fail, start=content[: remote_file.BLOCK])
    with pytest.raises(LindiError, match="gone"):
        index_remote(file, Source(URL))
