"""All chunks of a dataset at once, from the bytes of its B-tree of version 1: no call and no object a chunk.

The format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html, III.A.1. The file may be a stranger's:
nothing is read but whole nodes within it, at most once each, and whatever is odd is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lindi_dask.hdf5.layouts import ReadBytes

__all__ = ["ChunkColumns", "joined", "read_chunk_tree"]

_HEADER: Final = np.dtype([("signature", "S4"), ("kind", "u1"), ("level", "u1"), ("used", "<u2"), ("around", "<u8", 2)])
_FANOUT: Final = 64  # entries of a node: 2 K for K = 32; nodes of files with another K have more, and are left to h5py
_AT_ONCE: Final = 512  # nodes
_MAX_LEVEL: Final = 32


@dataclass(frozen=True, slots=True)
class ChunkColumns:
    """Where chunks lie; element i of each column belongs to the i-th of them."""

    places: NDArray[np.uint64]
    """in the grid, C order"""
    offsets: NDArray[np.uint64]
    """bytes, from the start of the file"""
    lengths: NDArray[np.uint32]
    """bytes"""
    masks: NDArray[np.uint32]
    """which filters were left out: bit i is that of filter i"""

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, at: NDArray[np.bool_]) -> ChunkColumns:
        return ChunkColumns(self.places[at], self.offsets[at], self.lengths[at], self.masks[at])


def joined(parts: list[ChunkColumns]) -> ChunkColumns:
    """Return the columns of all parts, one behind the other."""
    return ChunkColumns(
        np.concatenate([np.zeros(0, np.uint64), *(part.places for part in parts)]),
        np.concatenate([np.zeros(0, np.uint64), *(part.offsets for part in parts)]),
        np.concatenate([np.zeros(0, np.uint32), *(part.lengths for part in parts)]),
        np.concatenate([np.zeros(0, np.uint32), *(part.masks for part in parts)]),
    )


def read_chunk_tree(
    read: ReadBytes, size: int, base: int, address: int, shape: tuple[int, ...], chunks: tuple[int, ...]
) -> tuple[ChunkColumns, int] | None:
    """Return where the chunks of a dataset lie, and the bytes of all of them; None if the tree is not as it should be.

    Parameters
    ----------
    read
        As for `chunk_index`.
    size
        Bytes of the file.
    base
        Bytes, from the start of the file, that its addresses count from.
    address
        Of the root.
    shape, chunks
        Of the dataset, of a chunk: elements. Chunks behind the shape, which has shrunk, are left out.
    """
    tree = _Tree(read, size, base, shape, chunks)
    root = tree.nodes(np.array([address], np.uint64))
    if root is None:
        return None
    level = int(root[1]["level"][0])
    if level > _MAX_LEVEL:
        return None
    addresses = np.array([address], np.uint64)
    for below in range(level, 0, -1):
        found = tree.children(addresses, below)
        if found is None:
            return None
        addresses = found
    return tree.leaves(addresses)


class _Tree:
    def __init__(self, read: ReadBytes, size: int, base: int, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
        self._read, self._size, self._base = read, size, base
        self._shape, self._chunks = shape, chunks
        self._grid = tuple(-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True))
        self._entry = np.dtype([("size", "<u4"), ("mask", "<u4"), ("start", "<u8", len(shape) + 1), ("child", "<u8")])
        self._nbytes = _HEADER.itemsize + _FANOUT * self._entry.itemsize
        self._left = size // (_HEADER.itemsize + self._entry.itemsize)  # nodes that the file has room for

    def nodes(self, addresses: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.void]] | None:
        """Return nodes, a row each, and their headers."""
        self._left -= len(addresses)
        room = self._size - self._base - _HEADER.itemsize
        if self._left < 0 or room < 0 or bool((addresses > np.uint64(room)).any()):
            return None
        n, base = self._nbytes, self._base
        # The last node of a file may end with its last entry in use
        parts = [self._read(base + at, n).ljust(n, b"\0") for at in addresses.tolist()]
        rows = np.frombuffer(b"".join(parts), np.uint8).reshape(-1, n)
        headers = np.ascontiguousarray(rows[:, : _HEADER.itemsize]).view(_HEADER).reshape(-1)
        is_sound = (headers["signature"] == b"TREE") & (headers["kind"] == 1) & (headers["used"] <= _FANOUT)
        return (rows, headers) if bool(is_sound.all()) else None

    def _entries(self, addresses: NDArray[np.uint64], level: int) -> NDArray[np.void] | None:
        found = self.nodes(addresses)
        if found is None or bool((found[1]["level"] != level).any()):
            return None
        rows, headers = found
        entries = rows[:, _HEADER.itemsize :].reshape(len(rows), _FANOUT, self._entry.itemsize)
        used = np.arange(_FANOUT) < headers["used"][:, None]
        return entries[used].view(self._entry).reshape(-1)

    def children(self, addresses: NDArray[np.uint64], level: int) -> NDArray[np.uint64] | None:
        """Return the addresses of the nodes below nodes of a level."""
        parts = []
        for first in range(0, len(addresses), _AT_ONCE):
            entries = self._entries(addresses[first : first + _AT_ONCE], level)
            if entries is None:
                return None
            parts.append(entries["child"].copy())
        found = np.concatenate([np.zeros(0, np.uint64), *parts])
        return found if len(np.unique(found)) == len(found) <= self._left else None

    def leaves(self, addresses: NDArray[np.uint64]) -> tuple[ChunkColumns, int] | None:
        """Return the chunks that leaves list, and the bytes of all that they list."""
        parts: list[ChunkColumns] = []
        total, last = 0, -1
        for first in range(0, len(addresses), _AT_ONCE):
            entries = self._entries(addresses[first : first + _AT_ONCE], 0)
            part = None if entries is None else self._columns(entries)
            if part is None or entries is None:
                return None
            total += int(entries["size"].sum(dtype=np.int64))
            if len(part):
                # HDF5 keeps them in the order of the grid: so none is there twice
                if int(part.places[0]) <= last or bool((part.places[1:] <= part.places[:-1]).any()):
                    return None
                last = int(part.places[-1])
                parts.append(part)
        return joined(parts), total

    def _columns(self, entries: NDArray[np.void]) -> ChunkColumns | None:
        start, lengths = entries["start"], entries["size"].copy()
        offsets = entries["child"] + np.uint64(self._base)
        is_sound = (start[:, -1] == 0) & (entries["child"] < np.uint64(self._size)) & (lengths > 0)
        is_sound &= offsets + lengths <= np.uint64(self._size)
        inside = np.ones(len(entries), bool)
        places = np.zeros(len(entries), np.uint64)
        for axis, (extent, chunk, count) in enumerate(zip(self._shape, self._chunks, self._grid, strict=True)):
            at = start[:, axis]
            number, rest = np.divmod(at, np.uint64(chunk))
            is_sound &= rest == 0
            inside &= at < np.uint64(extent)
            places = places * np.uint64(count) + number
        if not bool(is_sound.all()):
            return None
        columns = ChunkColumns(places, offsets, lengths, entries["mask"].copy())
        return columns if bool(inside.all()) else columns[inside]
