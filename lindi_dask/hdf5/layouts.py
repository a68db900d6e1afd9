"""Where the index of a dataset's chunks lies, from the dataset's object header, which h5py does not tell.

The format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html, IV.A. Whatever is odd is None: h5py
then has to be asked chunk by chunk.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    ReadBytes = Callable[[int, int], bytes]

__all__ = ["ChunkIndex", "Message", "chunk_index", "index_of", "messages"]

_CHUNKED: Final = 2
_MAX_BLOCK: Final = 2**20  # bytes of a part of a header
_MAX_BLOCKS: Final = 64
_CHECKSUM: Final = 4
_PLACE = struct.Struct("<QQ")


class Message(IntEnum):
    """What a message of an object header is about (IV.A.2), of those that are looked at."""

    LINK_INFO = 0x02
    DATATYPE = 0x03
    LINK = 0x06
    LAYOUT = 0x08
    ATTRIBUTE = 0x0C
    CONTINUATION = 0x10
    SYMBOL_TABLE = 0x11


@dataclass(frozen=True, slots=True)
class ChunkIndex:
    """The index of the chunks of one dataset."""

    kind: int
    """0: B-tree of version 1; else as the layout has it: 1 single chunk, 2 implicit, 3 fixed array, 4 extensible array,
    5 B-tree of version 2"""
    address: int
    """bytes, from the file's base"""
    leaves_edges: bool
    """whether chunks at the edges are stored without the dataset's filters"""


def chunk_index(read: ReadBytes, base: int, address: int) -> ChunkIndex | None:
    """Return the index of the chunks of a dataset; None if its header is not one of those that are known here.

    Parameters
    ----------
    read
        Returns the bytes at an offset from the start of the file; fewer at its end.
    base
        Bytes, from the start of the file, that its addresses count from.
    address
        Of the dataset's object header.
    """
    for kind, data in messages(read, base, address):
        if kind == Message.LAYOUT:
            return index_of(data)
    return None


def index_of(data: bytes) -> ChunkIndex | None:
    """Return the index that a layout message names, or None."""
    if len(data) < 12 or data[1] != _CHUNKED:
        return None
    if data[0] == 3:
        return ChunkIndex(0, int.from_bytes(data[3:11], "little"), leaves_edges=False)
    if data[0] not in (4, 5):
        return None
    flags, ndim, width = data[2], data[3], data[4]
    at = 5 + ndim * width
    kind = data[at] if at < len(data) else 0
    skipped = {1: 12 if flags & 2 else 0, 2: 0, 3: 1, 4: 5, 5: 6}.get(kind)
    if skipped is None or len(data) < at + 9 + skipped:
        return None
    first = at + 1 + skipped
    return ChunkIndex(kind, int.from_bytes(data[first : first + 8], "little"), leaves_edges=bool(flags & 1))


def messages(read: ReadBytes, base: int, address: int) -> Iterator[tuple[int, bytes]]:
    """Yield kind and data of each message of an object header; none, or not all, of an odd one.

    Parameters are those of `chunk_index`.
    """
    start = read(base + address, 64)
    if start[:4] == b"OHDR" and start[4:5] == b"\x02":
        flags = start[5]
        at = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        length = int.from_bytes(start[at : at + width], "little")
        blocks = [(base + address + at + width, length)]
        step, order = 4, 2 * bool(flags & 4)
    elif start[:1] == b"\x01":
        length = int.from_bytes(start[8:12], "little")
        blocks, step, order = [(base + address + 16, length)], 8, 0
    else:
        return
    seen: set[int] = set()
    for _ in range(_MAX_BLOCKS):
        if not blocks or blocks[0][1] > _MAX_BLOCK or blocks[0][0] in seen:
            return
        block = read(*blocks[0])
        seen.add(blocks.pop(0)[0])
        at = 0
        while at + step + order <= len(block):
            if step == 8:
                kind, size = struct.unpack_from("<HH", block, at)
            else:
                kind, size = struct.unpack_from("<BH", block, at)
            data = block[at + step + order : at + step + order + size]
            if len(data) < size:
                break
            at += step + order + size
            if kind == Message.CONTINUATION and size >= _PLACE.size:
                more, length = _PLACE.unpack_from(data)
                # A block of version 2 has its signature in front, and a checksum behind
                blocks.append((base + more, length) if step == 8 else (base + more + 4, length - 4 - _CHECKSUM))
            else:
                yield kind, data
