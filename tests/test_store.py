"""`LindiStore` under zarr's own conformance suite, its chunks behind real presigned URLs of an embargoed asset."""

from __future__ import annotations

import pickle
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from zarr.core.buffer import Buffer, cpu, default_buffer_prototype
from zarr.testing.store import StoreTests

from lindi_dask import LindiStore, StoreFactory
from lindi_dask.refs import ColumnManifest, References, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.testing import EmbeddedArchive

CHUNK = re.compile(r"\d+(\.\d+)*")
EXTENT = 2000  # of the chunk grids below, along each dimension


class FillableStore(LindiStore):
    """A `LindiStore` whose `set` adds references, so that the suite can put in what it reads back.

    What looks like a chunk (`foo/0.3`) goes to an asset of the archive, and a reference to it into the manifest;
    the rest are documents. All reading is `LindiStore`'s own.
    """

    archive: EmbeddedArchive

    def __init__(self, factory: StoreFactory, *, read_only: bool = False) -> None:
        super().__init__(factory)
        self._read_only = read_only
        self._chunks: dict[str, dict[str, bytes]] = {}

    def put(self, key: str, value: bytes) -> None:
        references = self.references
        path, _, name = key.rpartition("/")
        documents, manifests = dict(references.metadata), dict(references.manifests)
        sources = references.sources
        if not CHUNK.fullmatch(name):
            documents[key] = value
        else:
            chunks = self._chunks.setdefault(path, {})
            chunks[name] = value
            url = self.archive.add(b"before" + b"".join(chunks.values()) + b"behind").url
            number = sources.add(Source(url))
            grid = (EXTENT,) * (name.count(".") + 1)
            empty = ColumnManifest.build(grid, [], [], [], [])
            places = [empty.place(one) or 0 for one in chunks]
            lengths = [len(one) for one in chunks.values()]
            offsets = np.cumsum([6, *lengths[:-1]]).tolist()
            manifests[path] = ColumnManifest.build(grid, places, [number] * len(places), offsets, lengths)
        self._references = References(
            fingerprint=references.fingerprint,
            metadata=documents,
            manifests=manifests,
            padded={},
            selections={},
            sources=sources,
            links={},
            unreadable={},
        )

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()
        self.put(key, value.to_bytes())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._factory,)


@pytest.mark.filterwarnings("ignore:.*not open:UserWarning")
class TestLindiStore(StoreTests[FillableStore, cpu.Buffer]):
    store_cls = FillableStore
    buffer_cls = cpu.Buffer

    @pytest.fixture
    def store_kwargs(
        self, embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]]
    ) -> dict[str, Any]:
        FillableStore.archive = embedded_archive
        return {"factory": StoreFactory({"refs": {}}, instances=own_key(embedded_archive))}

    @pytest.fixture
    async def store(self, open_kwargs: dict[str, Any]) -> FillableStore:
        return empty(await self.store_cls.open(**open_kwargs))

    @pytest.fixture
    async def store_not_open(self, store_kwargs: dict[str, Any]) -> FillableStore:
        return empty(self.store_cls(**store_kwargs))

    async def set(self, store: FillableStore, key: str, value: Buffer) -> None:
        store.put(key, value.to_bytes())

    async def get(self, store: FillableStore, key: str) -> Buffer:
        path, _, name = key.rpartition("/")
        document = store.references.metadata.get(key)
        return self.buffer_cls.from_bytes(store._chunks[path][name] if document is None else document)

    def test_store_repr(self, store: FillableStore) -> None:
        assert repr(store).startswith("LindiStore('dict:")

    def test_store_supports_writes(self, store: FillableStore) -> None:
        assert not store.supports_writes

    def test_store_supports_listing(self, store: FillableStore) -> None:
        assert store.supports_listing

    @pytest.mark.skip("a LindiStore never writes or deletes; the suite's class only adds what the tests read")
    async def test_clear(self, store: FillableStore) -> None: ...

    @pytest.mark.skip("likewise: deleting through a writer")
    async def test_with_read_only_store(self, open_kwargs: dict[str, Any]) -> None: ...


def empty(store: FillableStore) -> FillableStore:
    """Take away the root group that every set of references has: the suite counts keys from none."""
    references = store.references
    store._references = References(
        fingerprint=references.fingerprint,
        metadata={},
        manifests={},
        padded={},
        selections={},
        sources=references.sources,
        links={},
        unreadable={},
    )
    return store


async def test_a_real_store_can_be_neither_written_nor_emptied(session_refs: Callable[..., dict[str, Any]]) -> None:
    store = StoreFactory(session_refs("https://example.org/x"))()
    assert store.read_only
    assert not store.supports_writes
    assert not store.supports_deletes
    for change in (store.set("a", cpu.Buffer.from_bytes(b"")), store.delete("a")):
        with pytest.raises(ValueError, match="read-only"):
            await change
    with pytest.raises(NotImplementedError):
        await store.clear()


async def test_a_pickled_store_is_the_live_one_of_the_process(session_refs: Callable[..., dict[str, Any]]) -> None:
    store = StoreFactory(session_refs("https://example.org/x"))()
    assert pickle.loads(pickle.dumps(store)) is store
    document = await store.get("zarr.json", default_buffer_prototype())
    assert document is not None
