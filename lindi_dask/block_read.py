"""One read of a block: its chunks fetched at once and decoded as they arrive, those that it cuts shared with others."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from zarr.abc.store import Store

from lindi_dask import process
from lindi_dask.decode import Promise
from lindi_dask.errors import CorruptChunk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from zarr.core.indexing import SelectorTuple

    from lindi_dask.decode import ChunkDecoder
    from lindi_dask.decode.chunks import Place
    from lindi_dask.decode.steps import Bytes
    from lindi_dask.refs import Locations

    Part: TypeAlias = tuple[SelectorTuple, SelectorTuple, bool]

__all__ = ["BlockRead", "BulkStore"]


class BulkStore(Store):
    """A store that reads many chunks of an array at once."""

    @abstractmethod
    async def locate(self, path: str, names: Sequence[str]) -> Locations:
        """Return where the chunks called `names` of the array at `path` lie."""

    @abstractmethod
    async def locate_at(self, path: str, places: NDArray[np.uint64]) -> Locations:
        """Return where the chunks at some places (C order) of the grid of the array at `path` lie."""

    @abstractmethod
    async def get_many(
        self, path: str, locations: Locations, deliver: Callable[[NDArray[np.intp], list[memoryview]], None]
    ) -> None:
        """Read those chunks; call `deliver` with (indices into the locations, bytes) in threads."""


class BlockRead:
    """Reads chunks into their places. Used once.

    Parameters
    ----------
    store, path
        Of the array.
    locations
        Of the chunks, none of them missing.
    parts
        For each which selection of the chunk goes to which selection of the block, and whether that is all of it.
    key
        Returns the key of one of them in the store, by its number.
    decoder, place
        Of the array, and onto the block.
    """

    def __init__(
        self,
        store: BulkStore,
        path: str,
        locations: Locations,
        parts: Sequence[Part],
        key: Callable[[int], str],
        decoder: ChunkDecoder,
        place: Place,
    ) -> None:
        self._store, self._path, self._locations = store, path, locations
        self._parts, self._key = parts, key
        self._decoder, self._place = decoder, place
        self._promises: dict[int, Promise] = {}

    async def run(self) -> None:
        """Read and place all.

        Raises
        ------
        LindiError
            Of the first chunk that can't be read or decoded.
        """
        shared = process.shared_chunks()
        cut = [i for i, (*_, is_whole) in enumerate(self._parts) if not is_whole]
        if not shared.is_worthwhile(len(cut) * self._decoder.nbytes):
            await self._fetch(np.arange(len(self._parts)))
            return
        kept: list[tuple[int, Bytes]] = []
        pending: list[tuple[int, Future[Bytes | None]]] = []
        for i, claimed in zip(cut, shared.claim([(self._store, self._key(i)) for i in cut]), strict=True):
            match claimed:
                case Promise():
                    self._promises[i] = claimed
                case Future():
                    pending.append((i, claimed))
                case _:
                    kept.append((i, claimed))
        others = {i for i, _ in [*kept, *pending]}
        try:
            # What is promised comes first: whoever waits for another's waits for nobody who waits for it
            await self._fetch(np.array([i for i in range(len(self._parts)) if i not in others], np.intp))
        finally:
            shared.give_up(self._promises.values())
        found = await asyncio.gather(*(asyncio.wrap_future(future) for _, future in pending))
        kept += [(i, raw) for (i, _), raw in zip(pending, found, strict=True) if raw is not None]
        if kept:
            process.counters().add(chunks_shared=len(kept))
            await asyncio.to_thread(self._put_all, kept)
        await self._fetch(np.array([i for (i, _), raw in zip(pending, found, strict=True) if raw is None], np.intp))

    async def _fetch(self, at: NDArray[np.intp]) -> None:
        if not len(at):
            return

        def deliver(indices: NDArray[np.intp], views: Sequence[memoryview]) -> None:
            # In threads: no two chunks share a place in the block
            for i, view in zip(at[indices].tolist(), views, strict=True):
                self._decode(i, view)

        await self._store.get_many(self._path, self._locations[at], deliver)

    def _decode(self, i: int, view: memoryview) -> None:
        reason = None
        try:
            raw = self._decoder.raw(view)
        except Exception as error:  # noqa: BLE001 - codecs raise whatever they like; it becomes our error
            reason = f"{type(error).__name__}: {error}"
        if reason is not None:
            raise self._corrupt(i, reason)
        if i in self._promises:
            process.shared_chunks().keep(self._promises[i], raw)
        self._put(i, raw)

    def _put_all(self, kept: Sequence[tuple[int, Bytes]]) -> None:
        for i, raw in kept:
            self._put(i, raw)

    def _put(self, i: int, raw: Bytes) -> None:
        chunk_selection, out_selection, _ = self._parts[i]
        reason = None
        try:
            self._place(raw, chunk_selection, out_selection)
        except Exception as error:  # noqa: BLE001 - likewise, of filters
            reason = f"{type(error).__name__}: {error}"
        if reason is not None:
            raise self._corrupt(i, reason)

    def _corrupt(self, i: int, reason: str) -> CorruptChunk:
        key = self._key(i)
        return CorruptChunk(
            f"The chunk {key} can't be decoded ({reason}). Its file is damaged, or is another one than the "
            "references were made from.",
            key=key,
            reason=reason,
        )
