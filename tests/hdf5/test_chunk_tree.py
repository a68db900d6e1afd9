"""The chunk index by numpy, against h5py's own; and against files that lie."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lindi_dask as ld
from lindi_dask.errors import LindiError
from lindi_dask.hdf5 import chunks as chunks_module
from lindi_dask.hdf5.chunk_tree import ChunkColumns, read_chunk_tree
from lindi_dask.hdf5.layouts import chunk_index

if TYPE_CHECKING:
    from pathlib import Path


def by_h5py(dataset: h5py.Dataset) -> dict[int, tuple[int, int, int]]:
    grid = [-(-extent // size) for extent, size in zip(dataset.shape, dataset.chunks, strict=True)]
    found: dict[int, tuple[int, int, int]] = {}

    def keep(chunk: Any) -> None:
        at = tuple(start // size for start, size in zip(chunk.chunk_offset, dataset.chunks, strict=True))
        if all(i < count for i, count in zip(at, grid, strict=True)):
            found[int(np.ravel_multi_index(at, grid))] = (chunk.byte_offset, chunk.size, chunk.filter_mask)

    dataset.id.chunk_iter(keep)
    return found


class Content:
    """A file's bytes, and how many were asked for."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.reads = 0

    def read(self, at: int, n: int) -> bytes:
        assert 0 <= at <= len(self.content)
        self.reads += 1
        return self.content[at : at + n]


def by_numpy(path: Path, name: str = "x") -> ChunkColumns | None:
    with h5py.File(path) as file:
        dataset = file[name]
        base = file.userblock_size
        address = h5py.h5o.get_info(dataset.id).addr
        shape, sizes = dataset.shape, dataset.chunks
    content = Content(path.read_bytes())
    index = chunk_index(content.read, base, address)
    if index is None or index.kind:
        return None
    found = read_chunk_tree(content.read, len(content.content), base, index.address, shape, sizes)
    return None if found is None else found[0]


def as_dict(columns: ChunkColumns) -> dict[int, tuple[int, int, int]]:
    rows = zip(columns.offsets.tolist(), columns.lengths.tolist(), columns.masks.tolist(), strict=True)
    return dict(zip(columns.places.tolist(), rows, strict=True))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_dataset_has_the_chunks_that_h5py_says(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("tree") / "file.h5"
    ndim = data.draw(st.integers(1, 3))
    grid = data.draw(st.tuples(*[st.integers(1, {1: 3000, 2: 50, 3: 13}[ndim])] * ndim))
    sizes = data.draw(st.tuples(*[st.integers(1, 3)] * ndim))
    shape = tuple(count * size - data.draw(st.integers(0, size - 1)) for count, size in zip(grid, sizes, strict=True))
    total = int(np.prod(grid))
    seed = data.draw(st.integers(0, 2**16))
    order = np.random.default_rng(seed).permutation(total)[: data.draw(st.integers(0, total))]
    userblock = data.draw(st.sampled_from([0, 512, 4096]))
    with h5py.File(path, "w", userblock_size=userblock) as file:
        x = file.create_dataset("x", shape, "<i2", chunks=sizes, maxshape=(None,) * ndim, compression="gzip")
        for place in order.tolist():
            start = tuple(int(i) * size for i, size in zip(np.unravel_index(place, grid), sizes, strict=True))
            mask, raw = place % 2, bytes([place % 251] * 2 * int(np.prod(sizes)))
            x.id.write_direct_chunk(start, raw if mask else zlib.compress(raw), filter_mask=mask)
        if data.draw(st.booleans()):
            x.resize(tuple(data.draw(st.integers(1, extent)) for extent in shape))
    found = by_numpy(path)
    assert (found is None) == (len(order) == 0)  # of no chunk there is no tree
    with h5py.File(path) as file:
        assert ({} if found is None else as_dict(found)) == by_h5py(file["x"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """5,000 chunks: a tree of three levels."""
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        x = file.create_dataset("x", (5000,), "<i4", chunks=(1,))
        for i in range(5000):
            x.id.write_direct_chunk((i,), i.to_bytes(4, "little"))
    return path


def test_a_tree_of_levels_is_read_to_the_last_chunk(tree: Path) -> None:
    found = by_numpy(tree)
    assert found is not None
    assert len(found) == 5000
    np.testing.assert_array_equal(ld.open_array(ld.index(tree), "x", allow=[f"{tree.parent}/"]).compute(), range(5000))


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("maxshape", [(3000, 4), (None, 4), (None, None)])
def test_all_kinds_of_chunk_indexes_come_to_the_same(
    tmp_path: Path, libver: str, maxshape: tuple[int | None, ...]
) -> None:
    path = tmp_path / "file.h5"
    data = np.arange(12_000).reshape(3000, 4)
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("x", data=data, chunks=(2, 4), maxshape=maxshape)
    np.testing.assert_array_equal(ld.open_array(ld.index(path), "x", allow=[f"{tmp_path}/"]).compute(), data)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_tree_that_lies_ends_within_bounds_and_gives_no_other_chunks_than_h5py(data: st.DataObject) -> None:
    """Nodes with some bytes changed: what is read then is read within the file, at most once, or None."""
    shape, sizes = (200,), (1,)
    key, step = 24, 8 + 16 + 8
    nodes = []
    for first in range(0, 200, 50):
        node = b"TREE\x01\x00" + (50).to_bytes(2, "little") + b"\xff" * 16
        for i in range(first, first + 50):
            node += (4).to_bytes(4, "little") + bytes(4) + i.to_bytes(8, "little") + bytes(8)
            node += (20_000 + 4 * i).to_bytes(8, "little")
        nodes.append(node.ljust(key + 64 * step + 24, b"\0"))
    root = b"TREE\x01\x01" + (4).to_bytes(2, "little") + b"\xff" * 16
    for i in range(4):
        root += bytes(24) + (4000 * (i + 1)).to_bytes(8, "little")
    whole = bytearray(20_000 + 800)
    for i, node in enumerate([root, *nodes]):
        whole[4000 * i : 4000 * i + len(node)] = node
    intact = read_chunk_tree(Content(bytes(whole)).read, len(whole), 0, 0, shape, sizes)
    assert intact is not None
    assert intact[0].offsets.tolist() == [20_000 + 4 * i for i in range(200)]
    for _ in range(data.draw(st.integers(1, 4))):
        at = 4000 * data.draw(st.integers(0, 4)) + data.draw(st.integers(0, 24 + 10 * step))
        whole[at] = data.draw(st.integers(0, 255))
    content = Content(bytes(whole[: data.draw(st.sampled_from([len(whole), 19_000, 5_000]))]))
    found = read_chunk_tree(content.read, len(content.content), 0, 0, shape, sizes)
    assert content.reads <= 1 + len(content.content) // 56
    if found is not None:
        columns = found[0]
        assert (columns.places < 200).all()
        assert len(set(columns.places.tolist())) == len(columns)
        assert (columns.offsets + columns.lengths <= len(content.content)).all()


def test_a_node_that_is_its_own_child_ends() -> None:
    content = Content(b"TREE\x01\x02\x02\x00" + b"\xff" * 16 + bytes(5000))
    assert read_chunk_tree(content.read, len(content.content), 0, 0, (5000,), (1,)) is None
    assert content.reads <= 4


@given(header=st.binary(max_size=300) | st.binary(max_size=200).map(lambda rest: b"OHDR\x02\x20" + rest))
def test_a_header_that_is_none_ends(header: bytes) -> None:
    def read(at: int, n: int) -> bytes:
        assert n <= 2**20
        return header[at : at + n]

    chunk_index(read, 0, 0)


def test_an_index_that_hdf5_adds_up_otherwise_is_left_to_h5py(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_chunk_tree

    def lossy(*arguments: Any) -> Any:
        found = whole(*arguments)
        assert found is not None
        return found[0][np.arange(len(found[0])) > 0], found[1] - 4

    monkeypatch.setattr(chunks_module, "read_chunk_tree", lossy)
    manifest = ld.index(tree).manifests["x"]
    assert len(manifest.present()) == 5000


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_file_is_an_error_or_listed_but_never_other_data(tree: Path, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(tree.read_bytes())
    at = content.find(b"TREE\x01")
    for _ in range(3):
        content[at + int(rng.integers(0, 2000))] = int(rng.integers(0, 256))
    path = tmp_path / "damaged.h5"
    path.write_bytes(content)
    try:
        references = ld.index(path)
    except LindiError:
        return
    manifest = references.manifests["x"]
    located = manifest.locate(manifest.present())
    assert (located.offsets + located.lengths <= len(content)).all()
