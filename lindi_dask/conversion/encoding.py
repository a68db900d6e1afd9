"""What an object of the output holds: encoded, decoded, and in one digest."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from zarr.core.metadata import ArrayV3Metadata

from lindi_dask.conversion.by_zarr import decoded_by_zarr
from lindi_dask.conversion.codecs import native_codec
from lindi_dask.conversion.shards import BlockCodec, bits, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from lindi_dask.conversion.plan import ArrayPlan

    Bytes = bytes | memoryview

__all__ = ["block_codec", "digest_of", "digest_of_pieces", "each", "fill_of", "stored_digest"]

T = TypeVar("T")
R = TypeVar("R")


@cache
def _pool() -> ThreadPoolExecutor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(cores, thread_name_prefix="lindi-encode")


def each(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Call a function for each item, in threads of this process, and yield what it returns in their order."""
    return _pool().map(function, items)


def fill_of(array: ArrayPlan) -> NDArray[Any]:
    """Return an array's fill value, shape (1,), little-endian."""
    metadata = ArrayV3Metadata.from_dict(array.document)
    return np.array([metadata.fill_value], metadata.data_type.to_native_dtype().newbyteorder("<"))


def block_codec(array: ArrayPlan) -> BlockCodec:
    """Return what encodes the blocks of an array whose `way` is native."""
    codec = native_codec(array.codecs)
    if codec is None:
        raise TypeError(f"/{array.path} is not encoded here")
    counts = tuple(size // chunk for size, chunk in zip(array.unit, array.chunks, strict=True))
    fill = fill_of(array)
    return BlockCodec(codec, array.chunks, counts if array.is_sharded else None, fill.dtype, fill)


def digest_of(block: NDArray[Any]) -> str:
    """Return the SHA-256 of a block's elements in C order; of texts, each as its length in UTF-8 (4 bytes) and that."""
    if block.dtype.kind in "OT":
        texts = [str(text).encode() for text in block.ravel().tolist()]
        return hashlib.sha256(b"".join(len(text).to_bytes(4, "little") + text for text in texts)).hexdigest()
    return hashlib.sha256(bits(block).data).hexdigest()


def digest_of_pieces(pieces: Sequence[Bytes | None]) -> str:
    """Return the SHA-256 of encoded chunks in C order, each as its length (8 bytes) and that; none: all bits set."""
    found = hashlib.sha256()
    for piece in pieces:
        found.update((2**64 - 1 if piece is None else len(piece)).to_bytes(8, "little"))
        found.update(piece or b"")
    return found.hexdigest()


def stored_digest(array: ArrayPlan, place: int, stored: bytes) -> str:
    """Return the digest of what an object holds: of a copied array, of its chunks as they are encoded.

    Raises
    ------
    Exception
        Whatever codecs do for a damaged object, `ValueError` most often.
    """
    if array.way == "copy":
        counts = [size // chunk for size, chunk in zip(array.unit, array.chunks, strict=True)]
        return digest_of_pieces(unpacked(stored, int(np.prod(counts))) if array.is_sharded else [stored])
    if array.way == "zarr":
        return digest_of(decoded_by_zarr(array, place, stored))
    shape = tuple(part.stop - part.start for part in array.region(place))
    found = hashlib.sha256()
    for block in block_codec(array).decode(stored, shape, each):
        found.update(bits(block).data)
    return found.hexdigest()
