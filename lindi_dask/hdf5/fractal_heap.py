"""The links of a large group of HDF5's newer format, as they lie in its fractal heap. Pure.

The format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html, III.G and IV.A.2.g. What is read here
are hints: of a heap that is odd there are none, or wrong ones.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["HEADER_NBYTES", "Heap", "linked_objects", "read_heap"]

HEADER_NBYTES: Final = 142
"""of a heap's header, as far as it is read"""

_TABLE = struct.Struct("<HQQHHQH")  # width, first and largest direct block, bits of an offset, rows, root and its rows
_TABLE_AT: Final = 110
_NOWHERE: Final = 2**64 - 1
_MOST: Final = 2**24  # bytes of a block
_BLOCKS: Final = 4096


@dataclass(frozen=True, slots=True)
class Heap:
    """Where a heap has its blocks."""

    root: int
    """address"""
    rows: int
    """of the root, which is then a table of blocks; 0: it is a block itself"""
    prefix: int
    """bytes of a block in front of its objects"""
    sizes: tuple[int, ...]
    """bytes of the blocks that the root has room for, in its order"""

    @property
    def table_nbytes(self) -> int:
        """Bytes of the root, if it is a table."""
        return self.prefix + 8 * len(self.sizes)

    def blocks(self, table: bytes) -> list[tuple[int, int]]:
        """Return address and length of each block that a table names."""
        if table[:4] != b"FHIB":
            return []
        addresses = struct.unpack_from(f"<{len(self.sizes)}Q", table, self.prefix)
        return [(at, size) for at, size in zip(addresses, self.sizes, strict=True) if at != _NOWHERE]


def read_heap(header: bytes) -> Heap | None:
    """Return what a heap's header says; None if it is none that is known here."""
    if header[:5] != b"FRHP\0" or int.from_bytes(header[7:9], "little"):  # blocks went through filters
        return None
    width, first, largest, bits, _, root, rows = _TABLE.unpack_from(header, _TABLE_AT)
    if root == _NOWHERE or not 0 < first <= largest <= _MOST or max(width, 1) * rows > _BLOCKS:
        return None
    prefix = 13 + -(-bits // 8)
    if rows == 0:
        return Heap(root, 0, prefix + 4 * bool(header[9] & 2), (first,))
    of_rows = [first << max(row - 1, 0) for row in range(rows)]
    sizes = tuple(size for size in of_rows if size <= largest for _ in range(width))
    return Heap(root, rows, prefix, sizes)


def linked_objects(block: bytes) -> list[int]:
    """Return the addresses of the objects that the links in a block lead to, one link behind the other."""
    found: list[int] = []
    at = 0
    while at + 4 < len(block) and block[at] == 1:
        flags, at = block[at + 1], at + 2
        kind = block[at] if flags & 8 else 0
        at += bool(flags & 8) + 8 * bool(flags & 4) + bool(flags & 16)
        width = 1 << (flags & 3)
        at += width + int.from_bytes(block[at : at + width], "little")
        if kind == 0:
            found += struct.unpack_from("<Q", block, at)
            at += 8
        else:
            at += 2 + int.from_bytes(block[at : at + 2], "little")
    return found
