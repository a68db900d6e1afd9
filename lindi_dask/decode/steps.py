"""From bytes to bytes: compressors within a bound, checksums, HDF5's shuffle."""

from __future__ import annotations

import bz2
import lzma
import struct
import threading
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import deflate
import numcodecs
import numcodecs.blosc
import numcodecs.lz4
import numpy as np
import zstandard
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Bytes: TypeAlias = memoryview | bytes | bytearray | NDArray[np.uint8]
    Step: TypeAlias = Callable[[Bytes], Bytes]

__all__ = ["Unshuffle", "blosc_frame_nbytes", "byte_steps", "inflated", "interleave", "numcodecs_name", "split_known"]

C = TypeVar("C")

_FLETCHER32_NBYTES = 4
_LZMA_MEMORY = 256 << 20  # bytes: four times what xz's highest preset needs to inflate
_FIRST_BOUND, _GROWTH = 2**16, 2**4  # of bytes that are made room for, before it is known how many come out
_ZARRS: dict[type, str] = {BloscCodec: "blosc", GzipCodec: "gzip", ZstdCodec: "zstd"}
_local = threading.local()


def byte_steps(codecs: Iterable[object], nbytes: int) -> list[Step] | None:
    """Return how what some codecs (in the order of encoding) made of `nbytes` is decoded, or None if one is not known.

    In the order of decoding. What a compressor gives out is hardly longer than what it was given: that bounds the
    inner ones.
    """
    steps: list[Step] = []
    size = nbytes
    for codec in codecs:
        step = _step(codec, size)
        if step is None:
            return None
        steps.append(step)
        match numcodecs_name(codec):
            case "shuffle":
                pass
            case "fletcher32":
                size += _FLETCHER32_NBYTES
            case _:
                size += size // 8 + 65536
    return steps[::-1]


def split_known(codecs: Sequence[C]) -> tuple[Sequence[C], Sequence[C]]:
    """Part codecs (in the order of encoding) into those that are left to zarr, and the outer ones, known here."""
    known = len(codecs)
    while known > 0 and _step(codecs[known - 1], 0) is not None:
        known -= 1
    return codecs[:known], codecs[known:]


def inflated(codecs: Sequence[object], data: Bytes, limit: int) -> Bytes:
    """Undo known codecs on what is of no known length, such as text.

    Raises
    ------
    ValueError
        If they can't be undone, or more than `limit` bytes come out.
    """
    bound, why = _FIRST_BOUND, ""
    while True:
        current: Bytes = data
        try:
            for step in byte_steps(codecs, bound) or ():
                current = step(current)
            if len(current) <= bound:
                return current
        except Exception as error:  # noqa: BLE001 - libraries differ in what they raise where there is no room
            why = f" ({type(error).__name__}: {error})"
        if bound >= limit:
            raise ValueError(f"it is damaged, or more than {limit >> 20} MiB come out of it{why}")
        bound = min(bound * _GROWTH, limit)


def numcodecs_name(codec: object) -> str:
    """Return the numcodecs name of a codec, or an empty string."""
    return str(getattr(codec, "codec_name", "")).removeprefix("numcodecs.")


def _step(codec: object, size: int) -> Step | None:
    """Return how a codec's bytes are decoded to at most `size`."""
    configuration = getattr(codec, "codec_config", {})
    name = _ZARRS.get(type(codec), numcodecs_name(codec))
    match name:
        case "blosc":
            return lambda data: _blosc(data, size)
        case "zlib":
            return lambda data: _zlib(data, size)
        case "gzip":
            return lambda data: _gzip(data, size)
        case "zstd":
            return lambda data: _zstd(data, size)
        case "lz4":
            return lambda data: _lz4(data, size)
        case "bz2":
            return lambda data: _streamed(bz2.BZ2Decompressor, data, size)
        case "lzma":
            return lambda data: _streamed(lambda: _lzma_decompressor(configuration), data, size)
        case "shuffle":
            return Unshuffle(configuration.get("elementsize", 4))
        case "fletcher32":
            return _fletcher32
        case _:
            return None


def _zlib(data: Bytes, size: int) -> bytearray:
    # libdeflate stops at `size`: a stream that inflates to more is an error, not memory
    inflated: bytearray = deflate.zlib_decompress(data, size)
    return inflated


def _gzip(data: Bytes, size: int) -> Bytes:
    # A trailer that says the length that came out ends the only member
    inflated: bytearray | None = None
    with suppress(deflate.DeflateError):
        inflated = deflate.gzip_decompress(data, size)
    if inflated is not None and struct.unpack("<I", bytes(data[-4:]))[0] == len(inflated):
        return inflated
    return _streamed(_gzip_member, data, size)


def _zstd(data: Bytes, size: int) -> Bytes:
    """Inflate all frames; one that doesn't say its length has to be the only one."""
    decompressor: zstandard.ZstdDecompressor | None = getattr(_local, "zstd", None)
    if decompressor is None:
        decompressor = _local.zstd = zstandard.ZstdDecompressor()
    parts: list[bytes] = []
    left, rest = size, bytes(data) if isinstance(data, np.ndarray) else data
    while len(rest) > 0:
        # The library allocates what the frame claims, whatever limit it is given
        claimed = zstandard.frame_content_size(rest)
        if claimed > left:
            raise ValueError(f"its zstd frame claims to hold {claimed} bytes, but the chunk has {size}")
        if claimed < 0:
            parts.append(decompressor.decompress(rest, max_output_size=max(left, 1), allow_extra_data=False))
            break
        frame = decompressor.decompressobj()
        parts.append(frame.decompress(rest))
        if not frame.eof:
            raise ValueError("its zstd frame was cut short")
        left, rest = left - len(parts[-1]), frame.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _lz4(data: Bytes, size: int) -> bytes:
    """Numcodecs' frame: the length, little-endian in four bytes, then one block of LZ4."""
    if len(data) < 4:
        raise ValueError("it is too short for an LZ4 frame")
    claimed = struct.unpack("<I", bytes(data[:4]))[0]
    if claimed > size:
        raise ValueError(f"its LZ4 frame claims to hold {claimed} bytes, but the chunk has {size}")
    decoded: bytes = numcodecs.lz4.decompress(data)
    return decoded


def blosc_frame_nbytes(data: Bytes) -> int:
    """Return how many bytes a Blosc frame says that it holds.

    The library trusts the header and reads past the end of a frame that was cut short.

    Raises
    ------
    ValueError
        If the frame is not as long as its header says.
    """
    if len(data) < 16:
        raise ValueError("it is too short for a Blosc frame")
    inflated, _, held = struct.unpack("<III", bytes(data[4:16]))
    if held != len(data):
        raise ValueError(f"its Blosc frame claims {held} bytes, but it has {len(data)}")
    return int(inflated)


def _blosc(data: Bytes, size: int) -> bytes:
    inflated = blosc_frame_nbytes(data)
    if inflated > size:
        raise ValueError(f"its Blosc frame claims to hold {inflated} bytes, but the chunk has {size}")
    decoded: bytes = numcodecs.blosc.decompress(data)
    return decoded


class _Stream(Protocol):
    """A decompressor of the standard library's."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: memoryview, /, max_length: int) -> bytes: ...


def _streamed(make: Callable[[], _Stream], data: Bytes, size: int) -> bytes:
    """Inflate the streams that follow each other, to at most one byte more than `size`."""
    parts: list[bytes] = []
    left, rest = size + 1, np.frombuffer(data, np.uint8).data
    while len(rest) > 0 and left > 0:
        stream = make()
        part = stream.decompress(rest, left)
        left -= len(part)
        parts.append(part)
        if not stream.eof and left > 0:
            raise ValueError("it was cut short")
        rest = memoryview(stream.unused_data.lstrip(b"\x00"))  # archives may be padded
    return b"".join(parts)


def _gzip_member() -> _Stream:
    return zlib.decompressobj(wbits=31)


def _lzma_decompressor(configuration: dict[str, Any]) -> _Stream:
    form = configuration.get("format", lzma.FORMAT_XZ)
    limit = None if form == lzma.FORMAT_RAW else _LZMA_MEMORY
    return lzma.LZMADecompressor(form, memlimit=limit, filters=configuration.get("filters"))


@dataclass(frozen=True, slots=True)
class Unshuffle:
    """HDF5's shuffle filter undone; bytes that do not fill an item stay at the end."""

    itemsize: int

    def __call__(self, data: Bytes) -> Bytes:
        """Return the bytes as they were."""
        return _unshuffle(data, self.itemsize)


def _unshuffle(data: Bytes, itemsize: int) -> NDArray[np.uint8]:
    shuffled = np.frombuffer(data, np.uint8)
    count = len(shuffled) // itemsize
    if itemsize == 1 or count == 0:
        return shuffled
    out = np.empty(len(shuffled), np.uint8)
    whole = count * itemsize
    planes = shuffled[:whole].reshape(itemsize, count)
    if itemsize % 2 == 0:
        words = out[:whole].view("<u4" if itemsize == 4 else "<u2")
        interleave(list(planes), words if itemsize in {2, 4} else words.reshape(count, itemsize // 2))
    else:
        items = out[:whole].reshape(count, itemsize)
        for i in range(itemsize):  # a strided copy releases the GIL, numcodecs' shuffle does not
            items[:, i] = planes[i]
    out[whole:] = shuffled[whole:]
    return out


def _fletcher32(data: Bytes) -> Bytes:
    if len(data) < _FLETCHER32_NBYTES:
        raise ValueError("it is too short for its checksum")
    return memoryview(numcodecs.Fletcher32().decode(np.frombuffer(data, np.uint8)))


def interleave(planes: list[NDArray[np.uint8]], region: NDArray[np.unsignedinteger]) -> None:
    """Write words whose bytes, the lowest first, are given one plane each.

    Arithmetic on whole words takes a quarter of the time of strided copies of bytes, and releases the GIL like these.
    """
    if region.ndim == planes[0].ndim:
        if region.shape != planes[0].shape:
            raise ValueError(f"a part of shape {planes[0].shape} does not fit a place of shape {region.shape}")
        np.multiply(planes[-1], 256, out=region, dtype=region.dtype)
        np.bitwise_or(region, planes[-2], out=region)
        for plane in planes[-3::-1]:
            np.left_shift(region, 8, out=region)
            np.bitwise_or(region, plane, out=region)
        return
    word = np.empty(planes[0].shape, region.dtype)
    for pair in range(len(planes) // 2):
        interleave(planes[2 * pair : 2 * pair + 2], word)
        region[..., pair] = word
