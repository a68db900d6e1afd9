"""Chunks that are asked for one by one, as zarr's own pipeline does: those of a moment are read together."""

from __future__ import annotations

import asyncio
import math
import re
from typing import TYPE_CHECKING, Protocol

import numpy as np
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest

from lindi_dask import process
from lindi_dask.errors import DataError, LindiError, RefsError
from lindi_dask.refs import MISSING, WHOLE, Locations
from lindi_dask.transport import Batcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from lindi_dask.refs import ChunkManifest, References

    Deliver = Callable[[NDArray[np.intp], list[memoryview]], None]
    Failed = Callable[[NDArray[np.intp], LindiError], None]
    Get = tuple[str, int, ByteRequest | None]  # path, place in the grid, part
    Outcome = memoryview | LindiError | None  # None: the references don't list it

__all__ = ["bounds", "gets_of", "located", "places_of"]

_SMALL = 256 * 1024  # bytes: a chunk of more is worth a request of its own
_NUMBERS = re.compile(r"(0|[1-9][0-9]{0,17})(\.(0|[1-9][0-9]{0,17}))*")


class Chunks(Protocol):
    """What chunks are read from: a `LindiStore`."""

    @property
    def references(self) -> References: ...

    async def get_many(
        self, path: str, locations: Locations, deliver: Deliver, *, failed: Failed | None = None
    ) -> None: ...


def gets_of(store: Chunks) -> Batcher[Get, memoryview | None]:
    """Return how chunks of a store are read that are asked for one by one; each has an outcome of its own."""
    typical: dict[str, float] = {}  # bytes of a chunk, by path

    def moment_s(get: Get) -> float:
        return process.moment_s() if typical.get(get[0], 0) < _SMALL else 0.0

    async def of_one_array(path: str, gets: list[Get]) -> list[Outcome]:
        outcomes: list[Outcome] = [None] * len(gets)
        failure = None
        try:
            found = await located(store.references.manifests[path], np.array([get[1] for get in gets], np.uint64))
        except LindiError as error:
            failure = error
        if failure is not None:
            return [failure.fresh() for _ in gets]
        at = np.flatnonzero(found.sources != MISSING)
        if len(at):
            sized = found.lengths[at]
            typical[path] = float(sized.mean())
            reading = _Reading(store, path, [gets[i][2] for i in at.tolist()], found[at])
            for i, outcome in zip(at.tolist(), await reading.outcomes(), strict=True):
                outcomes[i] = outcome
        return outcomes

    async def together(gets: Sequence[Get]) -> list[Outcome]:
        by_path: dict[str, list[int]] = {}
        for i, (path, *_) in enumerate(gets):
            by_path.setdefault(path, []).append(i)
        found = await asyncio.gather(*(of_one_array(path, [gets[i] for i in at]) for path, at in by_path.items()))
        outcomes: list[Outcome] = [None] * len(gets)
        for at, of_path in zip(by_path.values(), found, strict=True):
            for i, outcome in zip(at, of_path, strict=True):
                outcomes[i] = outcome
        return outcomes

    return Batcher(together, moment_s=moment_s)


class _Reading:
    """Some chunks of one array, or parts of them."""

    def __init__(self, store: Chunks, path: str, parts: list[ByteRequest | None], locations: Locations) -> None:
        self._store, self._path = store, path
        self._parts, self._locations = parts, locations
        for i, part in enumerate(parts):
            if part is not None and self._is_divisible(i):
                # Only what is asked for
                start, stop = bounds(part, int(locations.lengths[i]))
                locations.offsets[i] += np.uint64(start)
                locations.lengths[i] = stop - start
                parts[i] = None
        self._outcomes: list[memoryview | LindiError | None] = [None] * len(parts)
        self._repeated: list[int] = []

    def _is_divisible(self, i: int) -> bool:
        references = self._store.references
        if self._locations.lengths[i] == WHOLE or self._path in references.selections:
            return False
        inline = references.sources[int(self._locations.sources[i])].data is not None
        return inline or self._path not in references.padded

    async def outcomes(self) -> list[memoryview | LindiError]:
        """Read them; those that were read along with one that is to blame for an error once more, alone."""
        await self._read(np.arange(len(self._parts)))
        await asyncio.gather(*(self._read(np.array([i])) for i in self._repeated))
        done: list[memoryview | LindiError] = []
        for outcome, part in zip(self._outcomes, self._parts, strict=True):
            if outcome is None:
                raise TypeError("a chunk was neither read nor said why not")
            if isinstance(outcome, memoryview):
                start, stop = bounds(part, len(outcome))
                done.append(outcome[start:stop])
            else:
                done.append(outcome)
        return done

    async def _read(self, at: NDArray[np.intp]) -> None:
        def deliver(indices: NDArray[np.intp], views: list[memoryview]) -> None:
            for i, view in zip(at[indices].tolist(), views, strict=True):
                self._outcomes[i] = view

        def failed(indices: NDArray[np.intp], error: LindiError) -> None:
            for i in at[indices].tolist():
                self._outcomes[i] = error.fresh()
            if len(indices) > 1 and isinstance(error, DataError | RefsError):
                self._repeated.extend(at[indices].tolist())

        failure = None
        try:
            await self._store.get_many(self._path, self._locations[at], deliver, failed=failed)
        except LindiError as error:
            failure = error
        if failure is not None:
            failed(np.flatnonzero([self._outcomes[i] is None for i in at.tolist()]), failure)


def places_of(manifest: ChunkManifest, names: Sequence[str]) -> NDArray[np.uint64] | None:
    """Return the places of chunks in the grid, as `ChunkManifest.place` does one by one; None if one isn't there."""
    grid = manifest.grid
    joined = ".".join(names)
    if not grid or len(names) == 1 or not _NUMBERS.fullmatch(joined) or math.prod(grid) >= 2**63:
        each = [manifest.place(name) for name in names]
        return None if None in each else np.array(each, np.uint64)
    numbers = np.array(list(map(int, joined.split("."))), np.int64)
    if len(numbers) != len(grid) * len(names) or any(name.count(".") != len(grid) - 1 for name in names):
        return None
    coordinates = numbers.reshape(-1, len(grid)).T
    if any((one >= extent).any() for one, extent in zip(coordinates, grid, strict=True)):
        return None
    return np.asarray(np.ravel_multi_index(tuple(coordinates), grid), np.uint64)


async def located(manifest: ChunkManifest, places: NDArray[np.uint64]) -> Locations:
    """Locate chunks; a manifest that may read something first does so in a thread."""
    if manifest.is_ready:
        return manifest.locate(places)
    return await asyncio.to_thread(manifest.locate, places)


def bounds(request: ByteRequest | None, nbytes: int) -> tuple[int, int]:
    """First byte of a request, and the first one after it, within a value of `nbytes`."""
    match request:
        case None:
            return 0, nbytes
        case RangeByteRequest(start=start, end=end):
            return min(start, nbytes), max(min(end, nbytes), min(start, nbytes))
        case OffsetByteRequest(offset=offset):
            return min(offset, nbytes), nbytes
        case SuffixByteRequest(suffix=suffix):
            return max(nbytes - suffix, 0), nbytes
        case _:
            raise TypeError(f"Unexpected byte_range, got {request!r}.")
