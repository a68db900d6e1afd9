"""Where the chunks of an HDF5 dataset lie: from the bytes of its index where these are known here, else from h5py."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numcodecs
import numpy as np

from lindi_dask.hdf5.chunk_tree import ChunkColumns, joined, read_chunk_tree
from lindi_dask.hdf5.filters import numcodecs_of
from lindi_dask.hdf5.layouts import chunk_index
from lindi_dask.refs.dialect.v2_kinds import UntranslatableError
from lindi_dask.refs.scan import MAX_ENTRIES

if TYPE_CHECKING:
    from h5py.h5d import DatasetID, StoreInfo

    from lindi_dask.hdf5.layouts import ReadBytes

__all__ = ["FileBytes", "chunk_columns", "contiguous_columns", "refiltered"]

_FEW: Final = 256  # chunks of a grid for which asking h5py takes no longer
_KNOWN: Final = 1  # B-trees of version 1 have the number 0
_AT_ONCE: Final = 65536  # chunks that are gathered before they go into columns


class FileBytes:
    """The bytes of a file that h5py has open.

    Parameters
    ----------
    read
        Returns the bytes at an offset from the start of the file; fewer at its end.
    size
        Bytes of the file.
    base
        Bytes, from the start of the file, that its addresses count from.
    """

    def __init__(self, read: ReadBytes, size: int, base: int) -> None:
        self.read, self.size, self.base = read, size, base


def chunk_columns(dataset: DatasetID, file: FileBytes, address: int, chunks: tuple[int, ...]) -> ChunkColumns:
    """Return where the chunks of a chunked dataset lie; those that were never written are not among them.

    Parameters
    ----------
    dataset
        Open.
    file
        That it lies in.
    address
        Of the dataset's object header, from the file's base.
    chunks
        Shape of a chunk.

    Raises
    ------
    UntranslatableError
        If there are too many, or one lies outside of the file.
    """
    shape = dataset.shape
    if math.prod(-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True)) > _FEW:
        index = chunk_index(file.read, file.base, address)
        if index is not None and index.kind < _KNOWN:
            found = read_chunk_tree(file.read, file.size, file.base, index.address, shape, chunks)
            # What HDF5 itself adds up says whether one was missed, or misread
            if found is not None and found[1] == dataset.get_storage_size():
                return found[0]
    return _by_h5py(dataset, file, chunks)


def _by_h5py(dataset: DatasetID, file: FileBytes, chunks: tuple[int, ...]) -> ChunkColumns:
    shape = dataset.shape
    grid = [-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True)]
    found: list[tuple[int, int, int, int]] = []
    parts: list[ChunkColumns] = []
    failures: list[UntranslatableError] = []

    def keep(chunk: StoreInfo) -> int | None:
        place = 0
        for start, size, extent, count in zip(chunk.chunk_offset, chunks, shape, grid, strict=True):
            if start >= extent:
                return None
            place = place * count + start // size
        if chunk.byte_offset is None or chunk.byte_offset + chunk.size > file.size:
            failures.append(UntranslatableError(f"its chunk at {chunk.chunk_offset} lies outside of the file"))
            return 1
        found.append((place, chunk.byte_offset, chunk.size, chunk.filter_mask))
        if len(found) == _AT_ONCE:
            parts.append(_columns(found))
            found.clear()
            if len(parts) * _AT_ONCE > MAX_ENTRIES:
                failures.append(UntranslatableError(f"it has more than {MAX_ENTRIES:,} chunks"))
                return 1
        return None

    if 0 not in shape:
        dataset.chunk_iter(keep)  # one pass; get_chunk_info walks the index anew for each chunk
    if failures:
        raise failures[0]
    return joined([*parts, _columns(found)])


def _columns(rows: list[tuple[int, int, int, int]]) -> ChunkColumns:
    places, offsets, lengths, masks = zip(*rows, strict=True) if rows else ((), (), (), ())
    return ChunkColumns(
        np.array(places, np.uint64),
        np.array(offsets, np.uint64),
        np.array(lengths, np.uint32),
        np.array(masks, np.uint32),
    )


def contiguous_columns(first: int, shape: tuple[int, ...], rows: int, itemsize: int) -> ChunkColumns:
    """Return the chunks that a contiguous dataset is split into along its first dimension.

    Parameters
    ----------
    first
        Bytes, from the start of the file: where the data begin.
    shape
        Of the dataset.
    rows
        Of a chunk; the last one is as short as the data.
    itemsize
        Bytes of an element.
    """
    row = math.prod(shape[1:]) * itemsize
    starts = np.arange(0, shape[0], rows, dtype=np.uint64)
    lengths = np.minimum(np.uint64(rows), np.uint64(shape[0]) - starts) * np.uint64(row)
    offsets = np.uint64(first) + starts * np.uint64(row)
    return ChunkColumns(
        np.arange(len(starts), dtype=np.uint64), offsets, lengths.astype(np.uint32), np.zeros(len(starts), np.uint32)
    )


def refiltered(data: bytes, mask: int, codecs: list[dict[str, Any]]) -> bytes:
    """Return a chunk that was stored without some of its dataset's filters, with all of them.

    Parameters
    ----------
    data
        As it is stored.
    mask
        Bit i: filter i was left out.
    codecs
        As `codecs_of` has them.
    """
    steps = [numcodecs.get_codec(numcodecs_of(codec)) for codec in codecs]
    for i in reversed(range(len(steps))):
        if not mask >> i & 1:
            data = steps[i].decode(data)
    for step in steps:
        data = step.encode(np.frombuffer(data, np.uint8))
    return bytes(data)
