"""Reference files that are compressed as a whole: gzip and zstd, told by their first bytes. Pure."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import zstandard

from lindi_dask.errors import InvalidReferences

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["decompressed"]

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after a byte of 0x50 to 0x5f: RFC 8878, section 3.1.2
_FRAMES = 2**18  # gzip members or zstd frames of one file: bgzip makes one of each 64 KiB
_WINDOW = 2**27  # bytes, of zstd: what its command line takes by default
_PIECE = 64 * 1024  # bytes given to zlib at a time: what a member leaves of them is copied
_ZSTD_PIECE = 1024  # bytes given to zstd at a time: 4 of them are at most 128 KiB, all of them 32 MiB


def decompressed(content: bytes, limit: int) -> bytes:
    """Return the content of a file that may be compressed by gzip or zstd; any other comes back as it is.

    Parameters
    ----------
    content
        Of the file; several gzip members or zstd frames in a row are one content.
    limit
        Bytes of what comes back, at most; what has more is given up 32 MiB further on at the latest.

    Raises
    ------
    InvalidReferences
        If there is more to it than `limit`, or it is damaged or cut off.
    """
    if content.startswith(_GZIP):
        kind, pieces = "gzip", _gunzip(content, limit)
    elif content.startswith(_ZSTD) or _is_skippable(content):
        kind, pieces = "zstd", _unzstd(content)
    elif len(content) > limit:
        raise _invalid(f"it is larger than {limit} bytes")
    else:
        return content
    parts: list[bytes] = []
    held = 0
    reason = None
    try:
        for piece in pieces:
            parts.append(piece)
            held += len(piece)
            if held > limit:
                reason = f"it is larger than {limit} bytes when it is decompressed"
                break
    except (zlib.error, zstandard.ZstdError, _BrokenError) as error:
        reason = f"it is not sound {kind} data ({error})"
    if reason is not None:
        raise _invalid(reason)
    return b"".join(parts)


class _BrokenError(Exception):
    """What the libraries don't say by errors of their own."""


def _gunzip(content: bytes, limit: int) -> Iterator[bytes]:
    position = 0
    for _ in range(_FRAMES):
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            fed = member.unconsumed_tail or content[position : position + _PIECE]
            if not fed:
                raise _BrokenError("it is cut off")
            if not member.unconsumed_tail:
                position += len(fed)
            yield member.decompress(fed, min(limit + 1, 2**24))
        position -= len(member.unused_data)
        if not content[position : position + 1].strip(b"\0") and not content[position:].strip(b"\0"):
            return  # padding of zeros may follow, as of a tape's blocks
        if not content.startswith(_GZIP, position):
            raise _BrokenError("something else follows it")
    raise _BrokenError(f"it has more than {_FRAMES} members")


def _unzstd(content: bytes) -> Iterator[bytes]:
    position = 0
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    for _ in range(_FRAMES):
        frame = decompressor.decompressobj()
        while not frame.eof:
            fed = content[position : position + _ZSTD_PIECE]
            if not fed:
                raise _BrokenError("it is cut off")
            position += len(fed)
            yield frame.decompress(fed)
        position -= len(frame.unused_data)
        if position == len(content):
            return
    raise _BrokenError(f"it has more than {_FRAMES} frames")


def _is_skippable(content: bytes) -> bool:
    return content[1:4] == _ZSTD_SKIPPABLE and content[0] & 0xF0 == 0x50


def _invalid(reason: str) -> InvalidReferences:
    return InvalidReferences(f"This is not a reference file: {reason}.", key=None, reason=reason)
