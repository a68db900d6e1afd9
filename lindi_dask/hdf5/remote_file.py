"""A file object over ranges that are read elsewhere, for h5py: few requests for HDF5's many small reads."""

from __future__ import annotations

import io
import os
import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from lindi_dask.errors import LindiError
from lindi_dask.types import ByteRange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    ReadRanges = Callable[[Sequence[ByteRange]], list[bytes]]

__all__ = ["BLOCK", "RemoteFile", "chunk_tree_children"]

BLOCK: Final = 2**18
"""bytes that are read at least: they take about as long as a request's latency does"""

_KEPT: Final = 64  # blocks
_AHEAD: Final = 32  # blocks that are read at once, at most, where reads follow one another
_NODES: Final = 1024  # nodes that were read ahead and not asked for yet

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_TREE_OF_CHUNKS = b"TREE\x01"
_HEADER = struct.Struct("<4sBBHQQ")  # signature, type, level, entries in use, left and right sibling
_ADDRESS: Final = 8  # bytes
_FANOUT: Final = 64  # entries of a node: 2 K for K = 32, which is the format's default for chunks
_MAX_NDIM: Final = 32


class RemoteFile(io.RawIOBase):
    """A read-only, seekable file, of blocks that are kept and read ahead. Not thread-safe.

    Parameters
    ----------
    name
        How messages call the file.
    size
        Bytes of the file.
    read
        Returns the bytes of ranges inside of the file, all that are asked for; it may read them at the same time.
    start
        The file's first bytes, where they are here already.
    """

    def __init__(self, name: str, size: int, read: ReadRanges, *, start: bytes = b"") -> None:
        super().__init__()
        self.name = name
        self.size = size
        self.failure: LindiError | None = None
        """why a read failed; all later ones fail for it too, so that who reads on after an error gets no data"""
        self._read = read
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next, self._ahead = 0, 1
        self._nodes: dict[int, bytes] = {}
        self._trees: set[int] = set()
        self._base = 0
        for number in range(-(-len(start) // BLOCK)):
            block = start[number * BLOCK : (number + 1) * BLOCK]
            if len(block) == self._range(number).length:
                self._blocks[number] = block

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position: bytes, from the start of the file."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, perhaps behind the end, and return it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence)
        if origin is None or origin + offset < 0:
            raise ValueError(f"there is no position {offset} (whence {whence})")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill a buffer as far as the file reaches, and return the number of bytes.

        Raises
        ------
        LindiError
            What `read` raised: now, or at an earlier read.
        """
        if self.failure is not None:
            raise self.failure.fresh()
        with memoryview(buffer).cast("B") as view:
            start, stop = self._position, min(self._position + len(view), self.size)
            if start >= stop:
                return 0
            try:
                data = self._bytes(start, stop)
            except LindiError as error:
                self.failure = error.fresh()
                raise
            view[: len(data)] = data
        self._position = stop
        return len(data)

    def _bytes(self, start: int, stop: int) -> bytes:
        data = self._nodes.pop(start, b"")
        if len(data) != stop - start:
            data = self._from_blocks(start, stop)
        if data.startswith(_SIGNATURE):
            self._base = start  # of all addresses in the file: there may be a user block in front
        elif data.startswith(_TREE_OF_CHUNKS) and start not in self._trees:
            self._read_children(start, data)
        return data

    def _from_blocks(self, start: int, stop: int) -> bytes:
        first, last = start // BLOCK, (stop - 1) // BLOCK
        blocks = {number: self._blocks[number] for number in range(first, last + 1) if number in self._blocks}
        missing = [number for number in range(first, last + 1) if number not in blocks]
        if missing:
            self._ahead = min(2 * self._ahead, _AHEAD) if missing[0] == self._next else 1
            self._next = min(max(last + 1, missing[0] + self._ahead), -(-self.size // BLOCK))
            wanted = [number for number in range(missing[0], self._next) if number not in self._blocks]
            blocks |= zip(wanted, self._read([self._range(number) for number in wanted]), strict=True)
        for number in sorted(blocks):
            self._blocks[number] = blocks[number]
            self._blocks.move_to_end(number)
        while len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)
        whole = b"".join(blocks[number] for number in range(first, last + 1))
        return whole[start - first * BLOCK : stop - first * BLOCK]

    def _range(self, number: int) -> ByteRange:
        return ByteRange(number * BLOCK, min(BLOCK, self.size - number * BLOCK))

    def _read_children(self, start: int, node: bytes) -> None:
        """Read the nodes below one of a chunk index at once: HDF5 is about to ask for them, one after the other."""
        self._trees.add(start)
        children = [
            child
            for child in chunk_tree_children(node, self._base)
            if child.end <= self.size and child.offset // BLOCK not in self._blocks
        ]
        if not children:
            return
        if len(self._nodes) + len(children) > _NODES:
            self._nodes.clear()  # nobody asks for them
        groups = _near(children)
        spans = [ByteRange(group[0].offset, max(child.end for child in group) - group[0].offset) for group in groups]
        for group, span, data in zip(groups, spans, self._read(spans), strict=True):
            for child in group:
                start = child.offset - span.offset
                self._nodes[child.offset] = data[start : start + child.length]


def _near(ranges: list[ByteRange]) -> list[list[ByteRange]]:
    """Part ranges into groups of those that lie within half a block of each other: a request each."""
    groups: list[list[ByteRange]] = []
    for one in sorted(ranges, key=lambda one: one.offset):
        if groups and one.offset - groups[-1][-1].end <= BLOCK // 2:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def chunk_tree_children(node: bytes, base: int) -> list[ByteRange]:
    """Return where the nodes below a node of a chunk index lie; none of a leaf, or of what is no such node.

    It is a hint: that of a node which is not laid out as most are is wrong, or empty.

    Parameters
    ----------
    node
        All of a node of a B-tree of version 1, of chunks
        (https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html, III.A.1), in a file with addresses of 8
        bytes.
    base
        Bytes, from the start of the file, that its addresses count from.
    """
    # A key: size and filter mask of a chunk (4 bytes each), its offset in each dimension and in the element (8)
    key, rest = divmod(len(node) - _HEADER.size - _FANOUT * _ADDRESS, _FANOUT + 1)
    if rest or key % 8 or not 3 <= key // 8 <= _MAX_NDIM + 2:
        return []
    _, kind, level, used, _, _ = _HEADER.unpack_from(node)
    if kind != 1 or level == 0 or used > _FANOUT:
        return []
    first, step = _HEADER.size + key, key + _ADDRESS
    addresses = [int.from_bytes(node[at : at + _ADDRESS], "little") for at in range(first, first + used * step, step)]
    return [ByteRange(base + address, len(node)) for address in addresses]
