"""The codecs of a chunk index, undone: none makes more bytes than the chunk may have, whatever its header says."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, Final

import numcodecs
import numcodecs.blosc
import numcodecs.zstd
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CODECS", "decoded"]

CODECS: Final = frozenset(("blosc", "crc32c", "gzip", "zstd"))
"""from bytes to bytes, by their Zarr v3 names"""

_CHECKSUM_NBYTES: Final = 4


def decoded(data: Any, steps: tuple[str, ...], nbytes: int) -> Any:  # noqa: ANN401 - bytes in many forms
    """Undo codecs; never makes more than `nbytes` and what checksums add.

    Parameters
    ----------
    data
        As stored.
    steps
        Of `CODECS`, at most one of them a compressor, in the order of encoding.
    nbytes
        That have to come out.

    Raises
    ------
    ValueError, RuntimeError, zlib.error
        If others come out, or none; numcodecs raises RuntimeError.
    """
    checksums = next((i for i, step in enumerate(steps) if step != "crc32c"), 0)  # that are within the compressor
    before = nbytes + _CHECKSUM_NBYTES * checksums
    for step in reversed(steps):
        match step:
            case "crc32c":
                if len(data) < _CHECKSUM_NBYTES:
                    raise ValueError("it is too short for its checksum")
                data = numcodecs.CRC32C().decode(np.frombuffer(data, np.uint8))
            case "blosc":
                data = _unblosc(bytes(data), before)
            case "gzip":
                data = _gunzipped(data, before)
            case _:
                data = _unzstd(bytes(data), before)
    if len(data) != nbytes:
        raise ValueError(f"{len(data)} bytes came out, but it has {nbytes}")
    return data


def _unblosc(data: bytes, nbytes: int) -> Any:  # noqa: ANN401 - bytes
    # The library trusts the header: it would read behind the end of a frame that was cut short
    held, stored = (struct.unpack_from("<I", data, at)[0] for at in (4, 12)) if len(data) >= 16 else (None, None)
    if (held, stored) != (nbytes, len(data)):
        raise ValueError(f"it is not a Blosc frame of {len(data)} bytes that holds {nbytes}")
    return numcodecs.blosc.decompress(data)


def _gunzipped(data: Any, nbytes: int) -> bytes:  # noqa: ANN401 - bytes in many forms
    inflate = zlib.decompressobj(wbits=31)
    inflated = inflate.decompress(data, nbytes + 1)  # one more, so that the end, and the checksum in it, is reached
    if len(inflated) != nbytes or not inflate.eof or inflate.unused_data:
        raise ValueError(f"it is not one gzip stream of {nbytes} bytes")
    return inflated


def _unzstd(data: bytes, nbytes: int) -> NDArray[np.uint8]:
    # The library says nothing of a frame that fills only a part of the buffer, if the frame's header says so
    if _zstd_nbytes(data) not in (None, nbytes):
        raise ValueError(f"it is not a Zstandard frame that holds {nbytes} bytes")
    out = np.empty(nbytes, np.uint8)
    numcodecs.zstd.decompress(data, out)
    return out


def _zstd_nbytes(data: bytes) -> int | None:
    """Bytes that a Zstandard frame says it holds, None if it does not say; RFC 8878, section 3.1.1.1."""
    if len(data) < 6 or data[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    descriptor = data[4]
    size, single = (0, 2, 4, 8)[descriptor >> 6], descriptor >> 5 & 1
    if single and size == 0:
        size = 1
    if size == 0:
        return None
    at = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    return int.from_bytes(data[at : at + size], "little") + (256 if size == 2 else 0)
