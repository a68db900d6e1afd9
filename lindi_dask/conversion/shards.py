"""Blocks of numbers <-> the bytes of a shard, or of a chunk that is an object of its own.

A shard holds its chunks in C order, then its index with a checksum, as Zarr's codec `sharding_indexed` defines it
(https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html). Chunks that hold nothing but the
fill value, or lie outside of the array, are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.conversion.codecs import checksummed, verified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from lindi_dask.conversion.codecs import ChunkCodec

    Chunk = tuple[tuple[slice, ...], tuple[int, ...]]
    Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]

__all__ = ["BlockCodec", "bits", "packed", "unpacked"]

_EMPTY: Final = 2**64 - 1  # offset and length of a chunk that is left out
_AT_ONCE: Final = 8  # chunks that are decoded side by side


@dataclass(frozen=True, slots=True)
class BlockCodec:
    """Encodes and decodes what one object holds. Thread-safe."""

    codec: ChunkCodec
    chunks: tuple[int, ...]
    """elements of an (inner) chunk along each dimension"""
    counts: tuple[int, ...] | None
    """chunks of a shard along each dimension; None: the object is one chunk"""
    dtype: np.dtype[Any]
    """little-endian"""
    fill: NDArray[Any]
    """shape (1,)"""

    def encode(self, block: NDArray[Any], each: Map) -> Iterator[bytes | None]:
        """Yield what is stored of each chunk of a block, in C order; None of one that holds nothing but the fill value.

        Each is decoded again, and compared with the block.

        Parameters
        ----------
        block
            Rows of what the object holds, from a multiple of a chunk's on; smaller than that at the array's end.
        each
            Like `map`; may run in threads, from now on.

        Raises
        ------
        ValueError
            If a chunk does not decode to what it was.
        """
        return each(lambda chunk: self._encoded(block, chunk), self._chunks(block.shape, is_part=True))

    def _encoded(self, block: NDArray[Any], chunk: Chunk) -> bytes | None:
        where, extents = chunk
        part = block[where]
        if self._is_fill(part):
            return None
        if part.shape != self.chunks:
            whole = np.empty(self.chunks, self.dtype)
            whole[...] = self.fill[0]
            whole[tuple(map(slice, part.shape))] = part
        encoded = self.codec.encode(bits(part if part.shape == self.chunks else whole).data)
        if not _is_same(bits(self._part(memoryview(encoded), extents)), bits(part)):
            raise ValueError("an encoded chunk does not decode to what it was")
        return encoded

    def object_of(self, pieces: list[bytes | None]) -> list[bytes] | None:
        """Return the object of all its chunks, in parts, or None if all of it holds the fill value."""
        if not any(piece is not None for piece in pieces):
            return None
        if self.counts is None:
            return [piece for piece in pieces if piece is not None]
        left_out: list[bytes | None] = [None] * (math.prod(self.counts) - len(pieces))
        return packed([*pieces, *left_out])

    def _is_fill(self, part: NDArray[Any]) -> bool:
        if not part.size:
            return True
        fill = bits(self.fill)
        if not np.array_equal(bits(part[(slice(1),) * part.ndim]), fill):
            return False  # most often the first element tells
        return bool((bits(part).reshape(-1, len(fill)) == fill).all())

    def decode(self, stored: bytes, shape: tuple[int, ...], each: Map) -> Iterator[NDArray[Any]]:
        """Yield the block of some shape that an object holds, some rows at a time.

        Raises
        ------
        ValueError
            If the object is damaged; or what a codec's library raises then.
        """
        held = list(zip(self._chunks(shape), self._pieces(stored), strict=True))
        if not shape:
            yield np.asarray(self._part(held[0][1], ()))
            return
        beside = math.prod((self.counts or (1,))[1:])  # chunks in a row of them
        step = -(-_AT_ONCE // beside) * beside
        for first in range(0, len(held), step):
            chunks = held[first : first + step]
            top = chunks[0][0][0][0].start
            rows = sum(extents[0] for (_, extents), _ in chunks[::beside])
            block = np.empty((rows, *shape[1:]), self.dtype)
            parts = each(lambda one: self._part(one[1], one[0][1]), chunks)
            for ((where, extents), _), part in zip(chunks, parts, strict=True):
                at = where[0].start - top
                block[(slice(at, at + extents[0]), *where[1:])] = part
            yield block

    def _part(self, held: memoryview | None, extents: tuple[int, ...]) -> NDArray[Any]:
        if held is None:
            return np.broadcast_to(self.fill.reshape((1,) * len(extents)), extents)
        raw = self.codec.decode(held, math.prod(self.chunks) * self.dtype.itemsize)
        return np.frombuffer(raw, self.dtype).reshape(self.chunks)[tuple(map(slice, extents))]

    def _pieces(self, stored: bytes) -> list[memoryview | None]:
        return [memoryview(stored)] if self.counts is None else unpacked(stored, math.prod(self.counts))

    def _chunks(self, shape: tuple[int, ...], *, is_part: bool = False) -> list[Chunk]:
        """Return where each chunk lies in a block of some shape, and how much of it does, in C order.

        Of all chunks that the object has room for; or, where the block is a part, of those in its rows.
        """
        counts = self.counts or (1,) * len(shape)
        if is_part and counts:
            counts = (-(-shape[0] // self.chunks[0]), *counts[1:])
        found: list[Chunk] = []
        for at in np.ndindex(counts):
            starts = [number * size for number, size in zip(at, self.chunks, strict=True)]
            stops = [min(start + size, extent) for start, size, extent in zip(starts, self.chunks, shape, strict=True)]
            extents = tuple(max(stop - start, 0) for start, stop in zip(starts, stops, strict=True))
            found.append((tuple(map(slice, starts, stops)), extents))
        return found


def _is_same(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    words = len(one) // 8 * 8  # eight bytes at a time take an eighth of the time
    same = np.array_equal(one[:words].view(np.uint64), other[:words].view(np.uint64))
    return len(one) == len(other) and same and np.array_equal(one[words:], other[words:])


def packed(pieces: Sequence[bytes | None]) -> list[bytes]:
    """Return a shard of encoded chunks (None: left out) in C order, in parts; the last one is its index."""
    lengths = np.array([0 if piece is None else len(piece) for piece in pieces], np.uint64)
    index = np.empty((len(pieces), 2), "<u8")
    index[:, 0], index[:, 1] = np.cumsum(lengths) - lengths, lengths
    index[[piece is None for piece in pieces]] = _EMPTY
    return [*(piece for piece in pieces if piece is not None), checksummed(index.tobytes())]


def unpacked(shard: bytes, count: int) -> list[memoryview | None]:
    """Return the encoded chunks of a shard that has room for `count`, in C order.

    Raises
    ------
    ValueError
        If the index is damaged, or names bytes that the shard does not have.
    """
    view = memoryview(shard)
    begin = len(view) - 16 * count - 4
    if begin < 0:
        raise ValueError("it is too short for its index")
    index = np.frombuffer(verified(view[begin:]), "<u8").reshape(count, 2)
    chunks: list[memoryview | None] = []
    for start, length in index.tolist():
        if start == length == _EMPTY:
            chunks.append(None)
            continue
        if start + length > begin:
            raise ValueError("its index names bytes that it does not have")
        chunks.append(view[start : start + length])
    return chunks


def bits(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an array's elements as bytes, in C order."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
