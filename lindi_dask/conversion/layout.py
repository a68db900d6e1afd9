"""Into which chunks and shards an array is converted: pure arithmetic over its shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SMALL", "Layout", "amplification", "asked_layout", "default_layout", "shrunk"]

SMALL: Final = 4 * 2**20
"""bytes of an array that becomes one chunk"""

_CHUNK: Final = 2 * 2**20  # bytes, not compressed, that an inner chunk should have
_SHARD: Final = 128 * 2**20  # likewise of a shard
_MAX_SHARD: Final = 256 * 2**20
_CHANNELS: Final = 64  # of a recording, in one inner chunk


@dataclass(frozen=True, slots=True)
class Layout:
    """Chunks, and the shards that hold them."""

    chunks: tuple[int, ...]
    """elements of an (inner) chunk along each dimension, at least 1"""
    shards: tuple[int, ...] | None
    """elements of a shard along each dimension, multiples of `chunks`; None: each chunk is an object of its own"""

    @property
    def unit(self) -> tuple[int, ...]:
        """Elements along each dimension of what one object holds."""
        return self.chunks if self.shards is None else self.shards


def default_layout(shape: tuple[int, ...], itemsize: int, source: tuple[int, ...]) -> Layout:
    """Return the layout of an array that nothing else is asked for.

    A small array is one chunk. Others have chunks of some 2 MB: of a recording (two dimensions) up to 64 channels, of
    images whole frames. Shards have some 128 MB, all channels, and whole chunks of the source, as long as that takes no
    more than 256 MB.

    Parameters
    ----------
    shape, itemsize
        Of the array; bytes an element.
    source
        Elements of a chunk of the source along each dimension.
    """
    if math.prod(shape) * itemsize <= SMALL:
        return Layout(tuple(max(extent, 1) for extent in shape), None)
    narrow = max(_CHANNELS, _CHUNK // itemsize // shape[0]) if len(shape) == 2 else 0
    chunks = _inner(shape[0], shape[1:], itemsize, source[0], narrow=narrow)
    widths = _widths(shape, itemsize, source, chunks[0])
    chunks = _inner(shape[0], widths, itemsize, source[0], narrow=narrow)
    shards = _shards(shape[0], widths, chunks, itemsize, source)
    return Layout(chunks, None if shards == chunks else shards)


def _widths(shape: tuple[int, ...], itemsize: int, source: tuple[int, ...], rows: int) -> tuple[int, ...]:
    """Return how much of each dimension but the first goes into one shard.

    All of it, unless the source, or a chunk, has so many rows that a shard of them would be too large: then as many of
    the source's chunks side by side as are not.
    """
    widths = list(shape[1:])
    least = min(max(source[0], rows), shape[0])
    for axis in range(len(widths)):
        beside = math.prod(widths) // widths[axis] * least * itemsize
        fitting = _MAX_SHARD // beside // source[axis + 1] * source[axis + 1]
        widths[axis] = min(widths[axis], max(fitting, min(source[axis + 1], widths[axis])))
    return tuple(widths)


def _inner(rows: int, widths: tuple[int, ...], itemsize: int, source: int, *, narrow: int) -> tuple[int, ...]:
    room = _CHUNK // itemsize
    sizes = []
    for width in reversed(widths):
        most = max(min(room, narrow or width), 1)
        size = -(-width // -(-width // most))  # even parts
        sizes.append(size)
        room = max(room // size, 1)
    return min(_aligned(room, source), rows), *reversed(sizes)


def _aligned(wanted: int, source: int) -> int:
    """Return a number of rows near the wanted one that goes into whole chunks of the source, or they into it."""
    if source <= wanted:
        return wanted // source * source
    parts = np.arange(-(-source // (2 * wanted)), 2 * source // wanted + 1)
    divisors = source // parts[source % parts == 0]
    if not len(divisors):
        return wanted
    return int(divisors[np.abs(np.log(divisors / wanted)).argmin()])


def _shards(
    rows: int, widths: tuple[int, ...], chunks: tuple[int, ...], itemsize: int, source: tuple[int, ...]
) -> tuple[int, ...]:
    across = tuple(-(-width // chunk) * chunk for width, chunk in zip(widths, chunks[1:], strict=True))
    row_nbytes = math.prod(across) * itemsize
    unit = math.lcm(chunks[0], source[0])
    if unit * row_nbytes > _MAX_SHARD:
        unit = chunks[0]
    units = -(-rows // unit)
    each = max(_SHARD // (unit * row_nbytes), 1)
    each = -(-units // -(-units // each))  # even parts
    return min(each * unit, -(-rows // chunks[0]) * chunks[0]), *across


def shrunk(layout: Layout) -> Layout | None:
    """Return a layout with shards of half as many chunks, along the first dimension that has several; None for none."""
    if layout.shards is None:
        return None
    for axis, (shard, chunk) in enumerate(zip(layout.shards, layout.chunks, strict=True)):
        if shard > chunk:
            half = -(-(shard // chunk) // 2) * chunk
            shards = (*layout.shards[:axis], half, *layout.shards[axis + 1 :])
            return Layout(layout.chunks, None if shards == layout.chunks else shards)
    return None


def amplification(shape: Sequence[int], source: Sequence[int], unit: Sequence[int]) -> float:
    """Return how often a chunk of the source is read, on average, when each object is made by itself.

    Parameters
    ----------
    shape
        Of the array.
    source, unit
        Elements of a chunk of the source, and of an object that is written, along each dimension.
    """
    times = 1.0
    for extent, chunk, size in zip(shape, source, unit, strict=True):
        starts = np.arange(0, extent, size, dtype=np.int64)
        stops = np.minimum(starts + size, extent)
        touched = int((-(-stops // chunk) - starts // chunk).sum())
        times *= touched / max(-(-extent // chunk), 1) if extent else 1.0
    return times


def asked_layout(
    shape: tuple[int, ...],
    itemsize: int,
    source: tuple[int, ...],
    chunks: Sequence[int] | None,
    shards: Sequence[int] | Literal[False] | None,
) -> Layout:
    """Return the layout that a user asks for.

    Parameters
    ----------
    shape, itemsize, source
        As of `default_layout`.
    chunks
        Elements of an inner chunk along each dimension, -1: all of it; None: the default.
    shards
        Likewise of a shard; False: no shards, an object a chunk; None: the default, in whole chunks.

    Raises
    ------
    ValueError
        If they do not go with the array, or with each other.
    """
    if chunks is None and shards is None:
        return default_layout(shape, itemsize, source)
    inner = default_layout(shape, itemsize, source).chunks if chunks is None else _extents("chunks", chunks, shape)
    if shards is False:
        return Layout(inner, None)
    if shards is None:
        outer = inner
        if shape and 0 not in shape:
            outer = _shards(shape[0], _widths(shape, itemsize, source, inner[0]), inner, itemsize, source)
        return Layout(inner, None if outer == inner else outer)
    outer = _extents("shards", shards, shape)
    if chunks is None:
        inner = tuple(map(_part, outer, inner))
    # What is as long as the array, or longer, may be rounded up to whole chunks
    sizes = zip(outer, shape, inner, strict=True)
    outer = tuple(-(-size // chunk) * chunk if size >= extent else size for size, extent, chunk in sizes)
    if any(size % chunk for size, chunk in zip(outer, inner, strict=True)):
        raise ValueError(f"shards of {outer} are not whole chunks of {inner}")
    return Layout(inner, None if outer == inner else outer)


def _part(shard: int, wanted: int) -> int:
    """Return a divisor of a shard's extent, near the wanted extent of a chunk."""
    found = _aligned(min(wanted, shard), shard)
    return found if shard % found == 0 else math.gcd(wanted, shard)


def _extents(what: str, sizes: Sequence[int], shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(sizes) != len(shape) or not all(type(size) is int and (size > 0 or size == -1) for size in sizes):
        raise ValueError(f"{what} of {sizes} do not go with {shape}: a whole number a dimension, or -1 for all of it")
    return tuple(max(extent, 1) if size == -1 else size for size, extent in zip(sizes, shape, strict=True))
