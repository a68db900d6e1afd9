"""One task: makes one object of the output, and proves that it holds what the source does."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psutil

from lindi_dask import process
from lindi_dask.conversion.by_zarr import encoded_by_zarr
from lindi_dask.conversion.codecs import checksummed
from lindi_dask.conversion.encoding import block_codec, digest_of, digest_of_pieces, each, stored_digest
from lindi_dask.conversion.reading import blocks_of, encoded_chunks, source_of
from lindi_dask.conversion.shards import bits, packed
from lindi_dask.conversion.targets import target_of
from lindi_dask.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lindi_dask.conversion.plan import ArrayPlan
    from lindi_dask.factory import StoreFactory

__all__ = ["Made", "Work", "WrittenWrong", "make"]


class WrittenWrong(JobError):
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
    seconds: dict[str, float]
    """of waiting for the source (`read`), `encode`, `write`, and reading back (`check`)"""
    process: str
    """that made it: host and pid"""
    memory: int
    """bytes that the process took, the most of the ends of the steps"""
    counts: dict[str, int]
    """what the process read meanwhile, for other tasks of it, too; by names of `Counts`"""


def make(work: Work, array: ArrayPlan, place: int) -> Made:
    """Make the object at a place of an array's grid.

    What is encoded is decoded again and compared with what was read of the source; what is stored is read back and
    compared with that. So what is stored decodes to what was read.

    Raises
    ------
    LindiError
        If the source can't be read, the object not be written, or what is read back is something else.
    """
    return _WAYS[array.way](work, array, place)


def _encoded(work: Work, array: ArrayPlan, place: int) -> Made:
    """Encode block by block, while the next one is read; each chunk is decoded again at once, and compared."""
    clock = Clock()
    codec = block_codec(array)
    pieces: list[bytes | None] = []
    digest = hashlib.sha256()
    with closing(blocks_of(work.factory, array, place)) as blocks:
        for block in blocks:
            clock.lap("read")
            encoded = codec.encode(block, each)
            digest.update(bits(block).data)
            pieces += encoded
            clock.lap("encode")
            del block, encoded
    parts = codec.object_of(pieces)
    return _written(work.target, array.place_key(place), parts, digest.hexdigest(), clock)


def _encoded_by_zarr(work: Work, array: ArrayPlan, place: int) -> Made:
    clock = Clock()
    with closing(blocks_of(work.factory, array, place)) as blocks:
        (block,) = blocks
    clock.lap("read")
    parts = encoded_by_zarr(array, place, block)
    digest = digest_of(block)
    if stored_digest(array, place, parts[0]) != digest:
        raise ValueError(f"{array.place_key(place)} does not decode to what it was")
    clock.lap("encode")
    return _written(work.target, array.place_key(place), parts, digest, clock)


def _copied(work: Work, array: ArrayPlan, place: int) -> Made:
    """Put chunks into the object as they are in the source, with a checksum behind each if the plan says so."""
    clock = Clock()
    pieces = encoded_chunks(work.factory, array, place)
    clock.lap("read")
    source = source_of(work.factory, array.path).metadata
    if len(array.codecs) > len(source.codecs):  # type: ignore[union-attr] # Zarr v3 has codecs
        pieces = [None if piece is None else checksummed(piece) for piece in pieces]
    digest = digest_of_pieces(pieces)
    parts: list[bytes] | None = None
    if any(piece is not None for piece in pieces):
        parts = packed(pieces) if array.is_sharded else [piece for piece in pieces if piece is not None]
    clock.lap("encode")
    return _written(work.target, array.place_key(place), parts, digest, clock)


_COUNTS: Final = ("requests", "bytes_fetched", "exchanges", "renewals", "refusals", "retries", "hedges")
_WAYS: Final = {"native": _encoded, "zarr": _encoded_by_zarr, "copy": _copied}


def _written(location: str, key: str, parts: Sequence[bytes] | None, digest: str, clock: Clock) -> Made:
    """Write an object, read it back and compare; None: make sure that there is none."""
    target, nbytes = target_of(location), None
    if parts is None:
        target.remove(key)
    else:
        nbytes = target.write(key, parts)
        clock.lap("write")
        if not target.holds(key, parts):
            raise WrittenWrong(f"{key} is not what was written, as it is read back.", key=key)
        clock.lap("check")
    who = f"{platform.node()}:{os.getpid()}"
    return Made(nbytes, digest, clock.seconds, who, clock.memory, clock.counts())


class Clock:
    """What a task takes: seconds of its steps, memory and requests of its process."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("read", "encode", "write", "check"), 0.0)
        self.memory = 0
        self._before = process.counters().counts()
        self._at = time.perf_counter()

    def lap(self, step: str) -> None:
        """Say that a step has ended just now, as the last one had before it."""
        now = time.perf_counter()
        self.seconds[step] = round(self.seconds[step] + now - self._at, 4)
        self._at = now
        self.memory = max(self.memory, int(psutil.Process().memory_info().rss))

    def counts(self) -> dict[str, int]:
        """Return what the process has read since the task began."""
        since = process.counters().counts() - self._before
        return {name: getattr(since, name) for name in _COUNTS}
