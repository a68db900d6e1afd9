"""`LindiStore`: references as a read-only Zarr store."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lindi_dask import codecs, process
from lindi_dask.errors import CorruptChunk, InvalidReferences, UnsupportedArray, UrlRefused
from lindi_dask.refs import MISSING, WHOLE, Locations, References, follow
from lindi_dask.store.gets import bounds, gets_of, located, places_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from numpy.typing import NDArray
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from lindi_dask.archive import UrlPolicy
    from lindi_dask.errors import LindiError
    from lindi_dask.refs import ChunkManifest, Selection
    from lindi_dask.types import Base, DiskCache, Target

    Deliver = Callable[[NDArray[np.intp], list[memoryview]], None]
    Failed = Callable[[NDArray[np.intp], LindiError], None]

__all__ = ["LindiStore", "Recipe"]


class Recipe(Protocol):
    """What a store is made from: a `StoreFactory`. Picklable and hashable."""

    @property
    def name(self) -> str:
        """How messages call the references."""
        ...

    @property
    def policy(self) -> UrlPolicy:
        """What the references' URLs may point at."""
        ...

    @property
    def concurrency(self) -> int:
        """Requests for data at a time, in each process."""
        ...

    @property
    def cache(self) -> DiskCache | None:
        """Where fetched bytes are kept, on each node; None: nowhere."""
        ...

    def load(self) -> tuple[References, Base]:
        """Return the references, and where relative ones start from; blocks at the first call."""
        ...

    def __call__(self) -> LindiStore:
        """Return this process's store of the recipe."""
        ...

    def __dask_tokenize__(self) -> tuple[Any, ...]: ...


class LindiStore(codecs.BulkStore):
    """A read-only Zarr v3 store over references. Made by a `StoreFactory`, and pickled as one.

    Makes no I/O until something is read. Only a chunk that the references do not list is missing (and so holds the
    fill value); whatever goes wrong with one that they list is an error, of `lindi_dask.errors`.

    Parameters
    ----------
    factory
        The `StoreFactory` that makes it.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True
    supports_partial_writes = False

    def __init__(self, factory: Recipe) -> None:
        super().__init__(read_only=True)
        self._factory = factory
        self._references: References | None = None
        self._base: Base = None
        self._target = cache(self._find_target)
        self._gets = gets_of(self)
        codecs.install()

    @property
    def references(self) -> References:
        """What the store reads; loaded at the first call, which blocks."""
        if self._references is None:
            references, self._base = self._factory.load()
            self._references = references
        return self._references

    async def locate(self, path: str, names: Sequence[str]) -> Locations:
        """Return where chunks of the array at `path` lie.

        Parameters
        ----------
        path
            Of the array, without a leading slash.
        names
            Of the chunks: `"3.0"`.

        Raises
        ------
        UnsupportedArray
            If the array is listed but can't be read.
        """
        manifest, path = await self._manifest(path)
        places = places_of(manifest, names)
        if places is None:
            wrong = next((name for name in names if manifest.place(name) is None), names[0])
            raise InvalidReferences(f"/{path} has no chunk {wrong!r}.", key=path, reason="outside the chunk grid")
        return await located(manifest, places)

    async def locate_at(self, path: str, places: NDArray[np.uint64]) -> Locations:
        """Return where chunks of the array at `path` lie, by their places (C order) in its grid; likewise."""
        manifest, _ = await self._manifest(path)
        return await located(manifest, places)

    async def _manifest(self, path: str) -> tuple[ChunkManifest, str]:
        references = await self._loaded()
        path = self.real_path(path)
        self.check_readable(path)
        return references.manifests[path], path

    async def get_many(
        self, path: str, locations: Locations, deliver: Deliver, *, failed: Failed | None = None
    ) -> None:
        """Read chunks of one array at once.

        Parameters
        ----------
        path
            Of the array.
        locations
            From `locate`, none of them missing.
        deliver
            Called with (indices into the locations, their bytes), in threads, several at a time; each chunk
            exactly once.
        failed
            Called with (indices into the locations, why they can't be read), in a thread; the others are read on. None:
            the first error ends all.

        Raises
        ------
        LindiError
            Of the first chunk that can't be read.
        """
        references = await self._loaded()
        path = self.real_path(path)
        held = {
            number: source.data
            for number in np.unique(locations.sources).tolist()
            if (source := references.sources[number]).data is not None
        }
        padded = references.padded.get(path)

        def pad(indices: NDArray[np.intp], views: list[memoryview]) -> None:
            if padded is not None:
                # The length of a whole file is known only now: nothing has said that it may be short
                _check_whole(locations.lengths[indices] == WHOLE, views, padded, path)
                views = [_padded(view, padded) for view in views]
            deliver(indices, views)

        here = np.isin(locations.sources, list(held)) if held else np.zeros(len(locations), bool)
        if here.any():
            at = np.flatnonzero(here)
            found = locations[at]
            rows = zip(found.sources.tolist(), found.offsets.tolist(), found.lengths.tolist(), strict=True)
            pad(at, [held[source][start : start + length] for source, start, length in rows])
        if not here.all():
            selection = references.selections.get(path)

            def select(indices: NDArray[np.intp], views: list[memoryview]) -> None:
                pad(indices, views if selection is None else [_selected(view, selection, path) for view in views])

            await self._fetch(path, locations, np.flatnonzero(~here), select, failed)

    async def _fetch(
        self, path: str, locations: Locations, at: NDArray[np.intp], deliver: Deliver, failed: Failed | None
    ) -> None:
        remote = locations[at]
        refused = None
        try:
            targets = {number: self._target(number) for number in np.unique(remote.sources).tolist()}
        except UrlRefused as error:
            refused = UrlRefused(f"/{path}: {error}", reason=error.reason)
        if refused is not None:
            raise refused
        fetching = process.reader(self._factory.concurrency, self._factory.cache).fetch(
            targets,
            remote,
            lambda members, views: deliver(at[members], views),
            failed=None if failed is None else lambda members, error: failed(at[members], error),
        )
        await asyncio.wrap_future(process.io_loop().submit(fetching))

    def _find_target(self, number: int) -> Target:
        return self._factory.policy.target(self.references.sources[number], self._base)

    def real_path(self, path: str) -> str:
        """Return the path of the object itself, past soft links."""
        links = self.references.links
        return (follow(path, links) or path) if links else path

    async def _loaded(self) -> References:
        if self._references is not None:
            return self._references
        return await asyncio.to_thread(lambda: self.references)

    def check_readable(self, path: str) -> None:
        """Raise `UnsupportedArray` for a path that is (or lies below) an array or link that can't be read."""
        unreadable = self.references.unreadable
        while path and unreadable:
            reason = unreadable.get(path)
            if reason is not None:
                raise UnsupportedArray(f"/{path} can't be read: {reason}.", path=path, reason=reason)
            path = path.rpartition("/")[0]

    # What zarr asks of a store

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return a document or an encoded chunk, or a part of it; None only if the references do not list it."""
        references = await self._loaded()
        path, _, name = key.rpartition("/")
        path = self.real_path(path)
        document = references.metadata.get(f"{path}/{name}" if path else name)
        if document is not None:
            start, stop = bounds(byte_range, len(document))
            return prototype.buffer.from_bytes(document[start:stop])
        self.check_readable(path)
        manifest = references.manifests.get(path)
        place = None if manifest is None else manifest.place(name)
        if manifest is None or place is None:
            bounds(byte_range, 0)
            return None
        data = await self._gets.call((path, place, byte_range))
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return several parts; they are read at once."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Return whether the references list `key`."""
        references = await self._loaded()
        path, _, name = key.rpartition("/")
        path = self.real_path(path)
        if (f"{path}/{name}" if path else name) in references.metadata:
            return True
        manifest = references.manifests.get(path)
        place = manifest.place(name) if manifest is not None else None
        if manifest is None or place is None:
            return False
        return bool((await located(manifest, np.array([place], np.uint64))).sources[0] != MISSING)

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys that begin with `prefix`."""
        references = await self._loaded()
        for key in references.metadata:
            if key.startswith(prefix):
                yield key
        for path, manifest in references.manifests.items():
            folder = f"{path}/" if path else ""
            if folder.startswith(prefix) or prefix.startswith(folder):
                for name in manifest.names():
                    if f"{folder}{name}".startswith(prefix):
                        yield f"{folder}{name}"

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names of keys and folders right below `prefix`."""
        references = await self._loaded()
        path = self.real_path(prefix.strip("/"))
        folder = f"{path}/" if path else ""
        below = [*references.metadata, *(f"{path}/" for path in references.manifests)]
        names = {key.removeprefix(folder).partition("/")[0]: None for key in below if key.startswith(folder)}
        for name in names:
            if name:
                yield name
        manifest = references.manifests.get(folder.rstrip("/"))
        for name in manifest.names() if manifest is not None else ():
            yield name

    async def set(self, key: str, value: Buffer) -> None:  # noqa: ARG002 - zarr's signature
        """Raise: the store is read-only."""
        self._check_writable()

    async def delete(self, key: str) -> None:  # noqa: ARG002 - zarr's signature
        """Raise: the store is read-only."""
        self._check_writable()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LindiStore) and self._factory == other._factory

    def __hash__(self) -> int:
        return hash(self._factory)

    def __repr__(self) -> str:
        return f"LindiStore({self._factory.name!r})"

    def __str__(self) -> str:
        return f"lindi://{self._factory.name}"

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return self._factory.__dask_tokenize__()

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_factory, (self._factory,)


def _from_factory(factory: Recipe) -> LindiStore:
    return factory()


def _selected(view: memoryview, selection: Selection, path: str) -> memoryview:
    """Return the bytes of a chunk that belong to the array."""
    reason = None
    try:
        return selection.apply(view)
    except ValueError as error:
        reason = str(error)
    raise CorruptChunk(f"A chunk of /{path} can't be read: {reason}.", key=path, reason=reason)


def _check_whole(whole: NDArray[np.bool_], views: list[memoryview], nbytes: int, path: str) -> None:
    """Raise for a whole file that is not as long as the uncompressed chunk that it is said to be."""
    for i in np.flatnonzero(whole).tolist():
        if len(views[i]) != nbytes:
            reason = f"a file that is to be a whole chunk gave {len(views[i])} bytes, but the chunk has {nbytes}"
            raise CorruptChunk(
                f"A chunk of /{path} can't be read: {reason}. It is damaged, or another file than the references were "
                "made for.",
                key=path,
                reason=reason,
            )


def _padded(view: memoryview, nbytes: int) -> memoryview:
    """Bytes of an uncompressed chunk; what its dataset does not reach is never looked at, but has to be there."""
    return view if len(view) == nbytes else memoryview(bytes(view) + bytes(nbytes - len(view)))
