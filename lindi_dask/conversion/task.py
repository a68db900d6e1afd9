"""One task: makes one object of the output, and proves that it holds what the source does."""

from __future__ import annotations

import itertools
import os
import platform
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr

from lindi_dask.conversion.by_zarr import encoded_by_zarr
from lindi_dask.conversion.codecs import checksummed
from lindi_dask.conversion.encoding import block_codec, digest_of, digest_of_pieces, each, stored_digest
from lindi_dask.conversion.shards import packed
from lindi_dask.conversion.targets import target_of
from lindi_dask.errors import ConversionError
from lindi_dask.lazy import LazyArray, result_of
from lindi_dask.refs import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from lindi_dask.conversion.plan import ArrayPlan
    from lindi_dask.factory import StoreFactory

__all__ = ["Made", "Work", "WrittenWrong", "make"]

_NUMBERS: Final = "biufc"


class WrittenWrong(ConversionError):
    """An object that was read back does not hold what was written.

    Attributes
    ----------
    key : str
        Of the object.
    """

    key: str


@dataclass(frozen=True, slots=True)
class Work:
    """What the tasks of a job need to know. Picklable; holds no keys."""

    factory: StoreFactory
    target: str
    """where objects go: a folder, or `s3://bucket/prefix`"""


@dataclass(frozen=True, slots=True)
class Made:
    """What became of an object."""

    nbytes: int | None
    """that are stored; None: all of its block holds the fill value, so there is no object"""
    digest: str
    """SHA-256 (hexadecimal) of what it holds, see `stored_digest`"""
    read_s: float
    """seconds for reading the source"""
    encode_s: float
    """seconds for encoding"""
    write_s: float
    """seconds for writing"""
    check_s: float
    """seconds for reading back, decoding and comparing"""
    process: str
    """that made it: host and pid"""


def make(work: Work, array: ArrayPlan, place: int) -> Made:
    """Make the object at a place of an array's grid.

    The block is read, encoded and written; then what is stored is read back, decoded, and compared with the block.

    Raises
    ------
    LindiError
        If the source can't be read, the object not be written, or what is read back is something else.
    """
    return _copied(work, array, place) if array.way == "copy" else _encoded(work, array, place)


def _encoded(work: Work, array: ArrayPlan, place: int) -> Made:
    clock = _Clock()
    block = _read(work.factory, array, place)
    clock.lap()
    codec = block_codec(array) if array.way == "native" else None
    parts = encoded_by_zarr(array, place, block) if codec is None else codec.encode(block, each)
    digest = digest_of(block)
    clock.lap()

    def check(stored: bytes) -> None:
        if codec is not None:
            codec.check(stored, block, each)
        elif stored_digest(array, place, stored) != digest:
            raise ValueError("it holds other values than were written")

    return _written(work.target, array.place_key(place), parts, digest, check, clock)


def _written(
    location: str,
    key: str,
    parts: Sequence[bytes] | None,
    digest: str,
    check: Callable[[bytes], None],
    clock: _Clock,
) -> Made:
    """Write an object and check what is stored; None: make sure that there is none."""
    target = target_of(location)
    if parts is None:
        target.remove(key)
        return Made(None, digest, *clock.laps(), f"{platform.node()}:{os.getpid()}")
    nbytes = target.write(key, parts)
    del parts
    clock.lap()
    stored = target.read(key)
    reason = "it is gone" if stored is None else None
    if stored is not None:
        try:
            check(stored)
        except Exception as error:  # noqa: BLE001 - codecs raise whatever they like; it becomes our error
            reason = f"{type(error).__name__}: {error}"
    if reason is not None:
        raise WrittenWrong(f"{key} is not what was written, as it is read back ({reason}).", key=key)
    clock.lap()
    return Made(nbytes, digest, *clock.laps(), f"{platform.node()}:{os.getpid()}")


class _Clock:
    """Seconds of the four parts of a task."""

    def __init__(self) -> None:
        self._at = [time.perf_counter()]

    def lap(self) -> None:
        self._at.append(time.perf_counter())

    def laps(self) -> tuple[float, float, float, float]:
        laps = [round(after - before, 4) for before, after in itertools.pairwise(self._at)]
        read_s, encode_s, write_s, check_s = [*laps, 0.0, 0.0, 0.0][:4]
        return read_s, encode_s, write_s, check_s


# The source


@lru_cache(maxsize=64)
def _source(factory: StoreFactory, path: str) -> zarr.Array[Any]:
    return zarr.open_array(factory(), path=path, mode="r", zarr_format=3)


def _read(factory: StoreFactory, array: ArrayPlan, place: int) -> NDArray[Any]:
    source = _source(factory, array.path)
    found = LazyArray(source)[array.region(place)] if array.shape else source[()]
    block = np.asarray(found, source.dtype)
    if block.dtype.kind not in _NUMBERS:
        return block
    return np.ascontiguousarray(block, block.dtype.newbyteorder("<")).reshape(block.shape)


# Chunks that stay as they are encoded


def _copied(work: Work, array: ArrayPlan, place: int) -> Made:
    clock = _Clock()
    pieces = _pieces(work.factory, array, place)
    clock.lap()
    # The plan says the same codecs, or one more: a checksum behind them
    if len(array.codecs) > len(_source(work.factory, array.path).metadata.codecs):  # type: ignore[union-attr] # Zarr v3
        pieces = [None if piece is None else checksummed(piece) for piece in pieces]
    digest = digest_of_pieces(pieces)
    parts: list[bytes] | None = None
    if any(piece is not None for piece in pieces):
        parts = packed(pieces) if array.is_sharded else [piece for piece in pieces if piece is not None]
    del pieces
    clock.lap()

    def check(stored: bytes) -> None:
        if stored_digest(array, place, stored) != digest:
            raise ValueError("it holds other bytes than were written")

    return _written(work.target, array.place_key(place), parts, digest, check, clock)


def _pieces(factory: StoreFactory, array: ArrayPlan, place: int) -> list[bytes | None]:
    """Return the source's chunks that go into an object, in C order; None where there is none."""
    store, grid = factory(), tuple(-(-n // chunk) for n, chunk in zip(array.shape, array.chunks, strict=True))
    starts = [part.start // chunk for part, chunk in zip(array.region(place), array.chunks, strict=True)]
    counts = [size // chunk for size, chunk in zip(array.unit, array.chunks, strict=True)]
    coordinates = [np.array(at) + starts for at in np.ndindex(*counts)]
    inside = [i for i, at in enumerate(coordinates) if all(number < n for number, n in zip(at, grid, strict=True))]
    places = np.array([np.ravel_multi_index(coordinates[i], grid) if grid else 0 for i in inside], np.uint64)
    pieces: list[bytes | None] = [None] * len(coordinates)

    async def read() -> None:
        locations = await store.locate_at(array.path, places)
        present = np.flatnonzero(locations.sources != MISSING)

        def deliver(indices: NDArray[np.intp], views: Sequence[memoryview]) -> None:
            for i, view in zip(present[indices].tolist(), views, strict=True):
                pieces[inside[i]] = bytes(view)

        if len(present):
            await store.get_many(array.path, locations[present], deliver)

    result_of(read())
    return pieces
