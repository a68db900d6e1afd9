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
    from zarr.abc.store import ByteGetter
    from zarr.core.array_spec import ArraySpec
    from zarr.core.indexing import SelectorTuple

    from lindi_dask.decode import ChunkDecoder
    from lindi_dask.decode.chunks import Place
    from lindi_dask.decode.steps import Bytes
    from lindi_dask.refs import Locations

    Request: TypeAlias = tuple[ByteGetter, ArraySpec, SelectorTuple, SelectorTuple, bool]

__all__ = ["BlockRead", "BulkStore"]


class BulkStore(Store):
    """A store that reads many chunks of an array at once."""

    @abstractmethod
    async def locate(self, path: str, names: Sequence[str]) -> Locations:
        """Return where the chunks called `names` of the array at `path` lie."""

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
    batch, keys
        zarr's requests for them, and their keys in the store.
    decoder, place
        Of the array, and onto the block.
    """

    def __init__(
        self,
        store: BulkStore,
        path: str,
        locations: Locations,
        batch: list[Request],
        keys: list[str],
        decoder: ChunkDecoder,
        place: Place,
    ) -> None:
        self._store, self._path, self._locations = store, path, locations
        self._batch, self._keys = batch, keys
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
        cut = [i for i, request in enumerate(self._batch) if not request[4]]
        if not shared.is_worthwhile(len(cut) * self._decoder.nbytes):
            await self._fetch(np.arange(len(self._batch)))
            return
        kept: list[tuple[int, Bytes]] = []
        pending: list[tuple[int, Future[Bytes | None]]] = []
        for i, claimed in zip(cut, shared.claim([(self._store, self._keys[i]) for i in cut]), strict=True):
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
            await self._fetch(np.array([i for i in range(len(self._batch)) if i not in others], np.intp))
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
        _, _, chunk_selection, out_selection, _ = self._batch[i]
        reason = None
        try:
            self._place(raw, chunk_selection, out_selection)
        except Exception as error:  # noqa: BLE001 - likewise, of filters
            reason = f"{type(error).__name__}: {error}"
        if reason is not None:
            raise self._corrupt(i, reason)

    def _corrupt(self, i: int, reason: str) -> CorruptChunk:
        return CorruptChunk(
            f"The chunk {self._keys[i]} can't be decoded ({reason}). Its file is damaged, or is another one than the "
            "references were made from.",
            key=self._keys[i],
            reason=reason,
        )
