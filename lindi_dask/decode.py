"""Native decoding of one chunk: the codecs that HDF5 files and LINDI use, outside the GIL where libraries allow.

Every decoder knows how many bytes must come out, and never gives out or allocates more.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, TypeAlias

import deflate
import numcodecs
import numcodecs.blosc
import numpy as np
from zarr.codecs import BloscCodec, BytesCodec, TransposeCodec

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from zarr.core.array_spec import ArraySpec
    from zarr.core.codec_pipeline import BatchedCodecPipeline

    Bytes: TypeAlias = memoryview | bytes | bytearray | NDArray[np.uint8]
    ChunkDecoder: TypeAlias = Callable[[memoryview], NDArray[Any]]
    Step: TypeAlias = Callable[[Bytes], Bytes]

__all__ = ["blosc_frame_nbytes", "chunk_decoder"]

_FLETCHER32_NBYTES = 4


def chunk_decoder(pipeline: BatchedCodecPipeline, spec: ArraySpec) -> ChunkDecoder | None:
    """Return a function from a chunk's encoded bytes to its array, or None if a codec is not among the native ones.

    Parameters
    ----------
    pipeline
        Holds the codecs.
    spec
        Shape and data type of the chunk.

    Returns
    -------
    callable or None
        Raises `ValueError`, or what the codec's library raises, for bytes that are not a chunk of exactly that
        shape. Thread-safe.
    """
    dtype = spec.dtype.to_native_dtype()
    if dtype.hasobject or dtype.kind not in "biufc" or not isinstance(pipeline.array_bytes_codec, BytesCodec):
        return None
    shape, axes = spec.shape, tuple(range(len(spec.shape)))
    for codec in pipeline.array_array_codecs:
        if not isinstance(codec, TransposeCodec) or len(pipeline.array_array_codecs) > 1:
            return None
        axes = codec.order
    nbytes = math.prod(shape) * dtype.itemsize
    steps = _steps(pipeline, nbytes)
    if steps is None:
        return None
    endian = getattr(pipeline.array_bytes_codec.endian, "value", pipeline.array_bytes_codec.endian)
    stored = dtype.newbyteorder("big" if endian == "big" else "little")
    stored_shape = tuple(shape[axis] for axis in axes)
    inverse = tuple(int(axis) for axis in np.argsort(axes))

    def decode(data: memoryview) -> NDArray[Any]:
        current: Bytes = data
        for step in steps:
            current = step(current)
        if len(current) != nbytes:
            raise ValueError(f"{len(current)} bytes came out, but the chunk has {nbytes}")
        return np.frombuffer(current, stored).reshape(stored_shape).transpose(inverse)

    return decode


def _steps(pipeline: BatchedCodecPipeline, nbytes: int) -> list[Step] | None:
    """In the order of decoding. Only the innermost compressor's output has a known size, so there may be only one."""
    steps: list[Step] = []
    size: int | None = nbytes
    for codec in pipeline.bytes_bytes_codecs:
        if size is None and not _keeps_size(codec):
            return None
        step = _step(codec, size)
        if step is None:
            return None
        steps.append(step)
        if not _keeps_size(codec):
            size = None
        elif size is not None and _numcodecs_name(codec) == "fletcher32":
            size += _FLETCHER32_NBYTES
    return steps[::-1]


def _keeps_size(codec: object) -> bool:
    return _numcodecs_name(codec) in {"shuffle", "fletcher32"}


def _numcodecs_name(codec: object) -> str:
    return str(getattr(codec, "codec_name", "")).removeprefix("numcodecs.")


def _step(codec: object, size: int | None) -> Step | None:
    if isinstance(codec, BloscCodec) and size is not None:
        return lambda data: _blosc(data, size)
    configuration = getattr(codec, "codec_config", {})
    match _numcodecs_name(codec):
        case "zlib" if size is not None:
            return lambda data: _zlib(data, size)
        case "shuffle":
            itemsize = configuration.get("elementsize", 4)
            return lambda data: _unshuffle(data, itemsize)
        case "fletcher32":
            return _fletcher32
        case _:
            return None


def _zlib(data: Bytes, size: int) -> bytearray:
    # libdeflate stops at `size`: a stream that inflates to more is an error, not memory
    inflated: bytearray = deflate.zlib_decompress(data, size)
    return inflated


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
    if inflated != size:
        raise ValueError(f"its Blosc frame claims to hold {inflated} bytes, but the chunk has {size}")
    decoded: bytes = numcodecs.blosc.decompress(data)
    return decoded


def _unshuffle(data: Bytes, itemsize: int) -> NDArray[np.uint8]:
    """HDF5's shuffle filter undone; bytes that do not fill an item stay at the end."""
    shuffled = np.frombuffer(data, np.uint8)
    count = len(shuffled) // itemsize
    if itemsize == 1 or count == 0:
        return shuffled
    out = np.empty(len(shuffled), np.uint8)
    items, planes = (
        out[: count * itemsize].reshape(count, itemsize),
        shuffled[: count * itemsize].reshape(itemsize, count),
    )
    for i in range(itemsize):  # a strided copy releases the GIL, numcodecs' shuffle does not
        items[:, i] = planes[i]
    out[count * itemsize :] = shuffled[count * itemsize :]
    return out


def _fletcher32(data: Bytes) -> Bytes:
    if len(data) < _FLETCHER32_NBYTES:
        raise ValueError("it is too short for its checksum")
    return memoryview(numcodecs.Fletcher32().decode(np.frombuffer(data, np.uint8)))
