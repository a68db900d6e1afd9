"""A file object over ranges that are read elsewhere, for h5py: few requests for HDF5's many small reads."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from lindi_dask.errors import ConfigurationError, LindiError
from lindi_dask.types import ByteRange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from typing_extensions import Buffer

    ReadRanges = Callable[[Sequence[ByteRange]], list[bytes]]

__all__ = ["BLOCK", "SIGNATURE", "START", "RemoteFile", "chunk_tree_children"]

BLOCK: Final = 2**14
"""bytes that are kept together"""

START: Final = 2**18
"""bytes, from the start of a file, that are read first"""

_AT_LEAST: Final = 16  # blocks of a read: they take about as long as a request's latency does
_AHEAD: Final = 512  # blocks that are read at once, at most, where reads follow one another
_NODES: Final = 1024  # nodes that were read ahead and not asked for yet

_WITH: Final = 3  # blocks that are read for one that is wanted ahead
_NEAR: Final = 4  # blocks between two such that are always read, too
_FAR: Final = 256  # that never are
_SPARE: Final = 136 * 2**20  # bytes that may be read between them, a file
_FIRST: Final = 2**22  # bytes by which the pace is found
_ROUND: Final = 2**25  # bytes that are in memory at once
_AT_A_TIME: Final = 16  # requests whose latencies pass together

SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_TREE_OF_CHUNKS = b"TREE\x01"
_HEADER = struct.Struct("<4sBBHQQ")  # signature, type, level, entries in use, left and right sibling
_ADDRESS: Final = 8  # bytes
_FANOUT: Final = 64  # entries of a node: 2 K for K = 32, which is the format's default for chunks
_MAX_NDIM: Final = 32


class RemoteFile(io.RawIOBase):
    """A read-only, seekable file. What was read of it is kept in a nameless temporary file. Not thread-safe.

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
    etag
        Entity tag of the file, without quotes, that all reads are held to; None: they are to none.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        size: int,
        read: ReadRanges,
        *,
        start: bytes = b"",
        etag: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.name = name
        self.size = size
        self.etag = etag
        self.failure: LindiError | None = None
        """why a read failed; all later ones fail for it too, so that who reads on after an error gets no data"""
        self._read = read
        self._position = 0
        self._kept = _Kept(size)
        self._next, self._ahead = 0, _AT_LEAST
        self._pace = _Pace(clock)
        self._spare = _SPARE
        self._nodes: dict[int, bytes] = {}
        self._trees: set[int] = set()
        self._base = 0
        self._kept.put(0, start if len(start) == size else start[: len(start) // BLOCK * BLOCK])

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

    def close(self) -> None:
        """Let go of what was kept."""
        self._kept.close()
        super().close()

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

    def kept(self, offset: int, length: int) -> bytes | None:
        """Return bytes that were read already, fewer at the end of the file; None if not all of them were."""
        stop = min(offset + length, self.size)
        if offset >= stop:
            return b""
        return self._kept.get(offset, stop) if not len(self._kept.missing(offset, stop)) else None

    def bring(self, ranges: Sequence[ByteRange]) -> None:
        """Read ranges ahead, all at once: for many small ones that lie near each other, what is between them, too.

        One request more costs its share of a latency; a byte for nothing costs what the path's pace, as it was seen in
        the first megabytes, makes of it. After 136 MiB of those a file, only close neighbours are joined.

        Raises
        ------
        LindiError
            As `read`.
        """
        parts = [self._kept.missing(one.offset, min(one.end, self.size)) for one in ranges if one.offset < self.size]
        places = np.unique(np.concatenate([np.zeros(0, np.int64), *parts]))
        around = (places[:, None] + np.arange(_WITH)).reshape(-1)  # what belongs together was mostly written together
        wanted = self._kept.absent(np.unique(around[around * BLOCK < self.size]))
        while len(wanted):
            limit = _ROUND if self._pace.is_known else _FIRST
            joined = self._joined(wanted)[: limit // BLOCK]
            self._spare -= (len(joined) - len(np.intersect1d(joined, wanted))) * BLOCK
            self._get(joined)
            wanted = wanted[wanted > joined[-1]]

    def _joined(self, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return blocks, and those between neighbours that are worth reading."""
        gaps = np.diff(wanted) - 1
        far = min(max(self._pace.worth_a_request() // BLOCK, _NEAR), _FAR)
        order = np.argsort(gaps, kind="stable")
        chosen = order[(gaps[order] > 0) & (gaps[order] <= far)]
        cost = np.cumsum(gaps[chosen]) * BLOCK
        chosen = chosen[(cost <= self._spare) | (gaps[chosen] <= _NEAR)]
        between = [np.arange(wanted[i] + 1, wanted[i + 1]) for i in chosen.tolist()]
        return np.union1d(wanted, self._kept.absent(np.concatenate([np.zeros(0, np.int64), *between])))

    def _get(self, blocks: NDArray[np.int64]) -> None:
        """Read blocks at once, neighbours as one range."""
        firsts = np.flatnonzero(np.diff(blocks, prepend=-2) != 1)
        counts = np.diff(np.append(firsts, len(blocks)))
        ranges = [
            ByteRange(first * BLOCK, min(count * BLOCK, self.size - first * BLOCK))
            for first, count in zip(blocks[firsts].tolist(), counts.tolist(), strict=True)
        ]
        for one, data in zip(ranges, self._pace.timed(self._read, ranges), strict=True):
            self._kept.put(one.offset, data)

    def _bytes(self, start: int, stop: int) -> bytes:
        data = self._nodes.pop(start, b"")
        if len(data) != stop - start:
            missing = self._kept.missing(start, stop)
            if len(missing):
                self._get(self._around(missing))
            data = self._kept.get(start, stop)
        if data.startswith(SIGNATURE):
            self._base = start  # of all addresses in the file: there may be a user block in front
        elif data.startswith(_TREE_OF_CHUNKS) and start not in self._trees:
            self._read_children(start, data)
        return data

    def _around(self, missing: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return missing blocks and some that follow them, ever more where one read follows the other."""
        first, last = int(missing[0]), int(missing[-1])
        self._ahead = min(2 * self._ahead, _AHEAD) if first == self._next else _AT_LEAST
        self._next = min(max(last + 1, first + self._ahead), -(-self.size // BLOCK))
        return np.union1d(missing, self._kept.absent(np.arange(last + 1, self._next)))

    def _read_children(self, start: int, node: bytes) -> None:
        """Read the nodes below one of a chunk index at once: HDF5 is about to ask for them, one after the other."""
        self._trees.add(start)
        children = [
            child
            for child in chunk_tree_children(node, self._base)
            if child.end <= self.size and len(self._kept.missing(child.offset, child.end))
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


class _Kept:
    """Blocks of a file, in a temporary file that has no name and goes with this process."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._is_here = np.zeros(-(-size // BLOCK), bool)
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - `close` closes it

    def close(self) -> None:
        self._file.close()

    def put(self, offset: int, data: bytes) -> None:
        """Keep whole blocks."""
        failure = None
        try:
            with memoryview(data) as rest:
                done = 0
                while done < len(rest):
                    done += os.pwrite(self._file.fileno(), rest[done:], offset + done)
        except OSError as error:
            failure = ConfigurationError(
                f"What was read can't be kept for a while in {tempfile.gettempdir()} ({error.strerror}): make room "
                "there, or set TMPDIR to another folder."
            )
        if failure is not None:
            raise failure
        self._is_here[offset // BLOCK : -(-(offset + len(data)) // BLOCK)] = True

    def get(self, start: int, stop: int) -> bytes:
        """Return bytes whose blocks are all here."""
        return os.pread(self._file.fileno(), stop - start, start)

    def missing(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return which blocks of a range of bytes are not here."""
        first = start // BLOCK
        return np.flatnonzero(~self._is_here[first : -(-stop // BLOCK)]) + first

    def absent(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of these blocks are not here."""
        return blocks[~self._is_here[blocks]]


class _Pace:
    """How long reads take: the shortest is the latency, the fastest of the longer ones the pace."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._latency_s = 0.05
        self._bytes_per_s = 0.0

    @property
    def is_known(self) -> bool:
        return self._bytes_per_s > 0

    def timed(self, read: ReadRanges, ranges: list[ByteRange]) -> list[bytes]:
        """Read, and take the time."""
        began = self._clock()
        parts = read(ranges)
        took = self._clock() - began
        self._latency_s = min(self._latency_s, max(took, 1e-3))
        nbytes = sum(map(len, parts))
        if nbytes >= _FIRST // 4:
            self._bytes_per_s = max(self._bytes_per_s, nbytes / max(took - self._latency_s, 1e-3))
        return parts

    def worth_a_request(self) -> int:
        """Return the bytes that come in the time of a request, when others run beside it; many, if nothing is known."""
        return int(self._latency_s * self._bytes_per_s / _AT_A_TIME) if self.is_known else _FAR * BLOCK


def _near(ranges: list[ByteRange]) -> list[list[ByteRange]]:
    """Part ranges into groups of those that lie within some blocks of each other: a request each."""
    groups: list[list[ByteRange]] = []
    for one in sorted(ranges, key=lambda one: one.offset):
        if groups and one.offset - groups[-1][-1].end <= _AT_LEAST // 2 * BLOCK:
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
