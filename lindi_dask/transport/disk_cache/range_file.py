"""Files that hold one range of a source, each page of it with a checksum.

::

    magic and version            8 bytes
    checksum of each page        4 bytes each, little-endian
    the bytes of the range

A page is 64 KiB of the range, the last one what is left. Its checksum is the CRC-32 that begins with that of the file's
own name plus the page's number: a file under another's name, or a page in another's place, fails as a flipped bit does.
So nothing has to be flushed to the disk before it is renamed: what a crash left torn is found out when it is read.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from typing import TYPE_CHECKING, Final

from lindi_dask.private_files import TEMPORARY, distrusted
from lindi_dask.transport.local import pread

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "PAGE",
    "DamagedRangeError",
    "file_nbytes",
    "laid_out",
    "name_of",
    "pages_of",
    "range_of",
    "read_parts",
]

PAGE: Final = 64 * 1024
"""bytes of a range that one checksum is for"""

_MAGIC: Final = b"\x89LDRC1\r\n"
_RANGE: Final = ".range"
_NAME: Final = re.compile(
    rf"(0|[1-9][0-9]{{0,17}})-([1-9][0-9]{{0,17}})(?:{re.escape(_RANGE)}|\.[0-9a-f]{{16}}{re.escape(TEMPORARY)})"
)


class DamagedRangeError(Exception):
    """A file does not hold what it should."""


def name_of(start: int, stop: int) -> str:
    """Return the name of the file that holds a range."""
    return f"{start}-{stop}{_RANGE}"


def range_of(name: str) -> tuple[int, int] | None:
    """Return the range that a file holds, or is being written for; None for the name of any other file."""
    match = _NAME.fullmatch(name)
    if match is None or int(match[1]) >= int(match[2]):
        return None
    return int(match[1]), int(match[2])


def file_nbytes(nbytes: int) -> int:
    """Return the size of the file that holds a range of `nbytes`."""
    return _table_end(nbytes) + nbytes


def pages_of(start: int, stop: int, nbytes: int) -> tuple[int, int]:
    """Return where the pages begin and end that hold a part of a range of `nbytes`; all from the range's start."""
    return start - start % PAGE, min(stop + -stop % PAGE, nbytes)


def laid_out(data: memoryview, seed: bytes) -> list[bytes | memoryview]:
    """Return the content of a file, in parts.

    Parameters
    ----------
    data
        The bytes of the range.
    seed
        What the range is, told from all others.
    """
    table = [_checksum(data[at : at + PAGE], seed, at // PAGE) for at in range(0, len(data), PAGE)]
    return [_MAGIC + struct.pack(f"<{len(table)}I", *table), data]


def read_parts(handle: int, nbytes: int, parts: Sequence[tuple[int, int]], seed: bytes) -> list[memoryview]:
    """Return some parts of a range; checks the pages that they lie in, and no others.

    Parameters
    ----------
    handle
        Of the file, open for reading.
    nbytes
        Of the whole range.
    parts
        (start, stop) of each, in bytes from the start of the range.
    seed
        As it was written with.

    Raises
    ------
    DamagedRangeError
        If it is not what was written, whole, by this user.
    OSError
        If it can't be read.
    """
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        raise DamagedRangeError("it is not a file")
    reason = distrusted(found)
    if reason is not None:
        raise DamagedRangeError(reason)
    if found.st_size != file_nbytes(nbytes):
        raise DamagedRangeError(f"it has {found.st_size} bytes instead of {file_nbytes(nbytes)}")
    begin = _table_end(nbytes)
    head = pread(handle, 0, begin)
    if len(head) != begin or not head.startswith(_MAGIC):
        raise DamagedRangeError("it begins with something else")
    table = struct.unpack(f"<{_pages(nbytes)}I", head[len(_MAGIC) :])
    views = []
    for start, stop in parts:
        first, last = pages_of(start, stop, nbytes)
        data = memoryview(pread(handle, begin + first, last - first))
        if len(data) != last - first:
            raise DamagedRangeError("it ends before its end")
        for at in range(0, len(data), PAGE):
            page = (first + at) // PAGE
            if _checksum(data[at : at + PAGE], seed, page) != table[page]:
                raise DamagedRangeError("a checksum does not hold")
        views.append(data[start - first : stop - first])
    return views


def _checksum(page: memoryview, seed: bytes, number: int) -> int:
    return zlib.crc32(page, (zlib.crc32(seed) + number) & 0xFFFF_FFFF)


def _pages(nbytes: int) -> int:
    return -(-nbytes // PAGE)


def _table_end(nbytes: int) -> int:
    return len(_MAGIC) + 4 * _pages(nbytes)
