"""`LindiStore` under zarr's own conformance suite, its chunks behind real presigned URLs of an embargoed asset."""

from __future__ import annotations

import asyncio
import pickle
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.core.buffer import Buffer, cpu, default_buffer_prototype
from zarr.storage import WrapperStore
from zarr.testing.store import StoreTests

from lindi_dask import LindiStore, StoreFactory
from lindi_dask.errors import AssetNotFound, SourceMismatch
from lindi_dask.refs import ColumnManifest, References, Source
from lindi_dask.store.gets import places_of

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


# Chunks that are asked for one by one, as zarr's own pipeline does


CHUNKS = 60


def chunk(i: int) -> bytes:
    return np.full(1000, i, "<i4").tobytes()


def reference_document(urls: list[str], rows: dict[int, list[object]] | None = None) -> dict[str, Any]:
    """An array of 60 chunks side by side, all in the first URL, but for some rows of their own."""
    array = {"zarr_format": 2, "shape": [1000 * CHUNKS], "chunks": [1000], "dtype": "<i4", "fill_value": 0}
    array |= {"order": "C", "filters": None, "compressor": None}
    refs: dict[str, Any] = {".zgroup": {"zarr_format": 2}, "a/.zarray": array}
    refs |= {f"a/{i}": [urls[0], 4000 * i, 4000] for i in range(CHUNKS)}
    return {"refs": refs | {f"a/{i}": row for i, row in (rows or {}).items()}}


@pytest.fixture
def opened(
    embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]]
) -> Callable[..., LindiStore]:
    def open_(rows: Callable[[list[str]], dict[int, list[object]]] = lambda _: {}) -> LindiStore:
        urls = [embedded_archive.add(b"".join(map(chunk, range(CHUNKS)))).url, embedded_archive.add(chunk(7)).url]
        return StoreFactory(reference_document(urls, rows(urls)), instances=own_key(embedded_archive))()

    return open_


async def get(store: LindiStore, i: int) -> bytes:
    found = await store.get(f"a/{i}", default_buffer_prototype())
    assert found is not None
    return found.to_bytes()


async def test_chunks_that_are_asked_for_together_are_one_request(
    embedded_archive: EmbeddedArchive, opened: Callable[..., LindiStore]
) -> None:
    store = opened()
    assert await asyncio.gather(*(get(store, i) for i in range(CHUNKS))) == [chunk(i) for i in range(CHUNKS)]
    assert embedded_archive.counts()["reads"] == 1


def test_zarrs_own_pipeline_makes_one_request_for_six_chunks_or_more(
    embedded_archive: EmbeddedArchive, opened: Callable[..., LindiStore]
) -> None:
    embedded_archive.latency_s = 0.02
    array: zarr.Array[Any] = zarr.open_array(WrapperStore(opened()), path="a", mode="r")
    assert np.array_equal(np.asarray(array[...]), np.repeat(np.arange(CHUNKS), 1000))
    assert embedded_archive.counts()["reads"] <= CHUNKS // 6


async def test_each_chunk_has_its_own_error_and_the_others_their_bytes(opened: Callable[..., LindiStore]) -> None:
    def rows(urls: list[str]) -> dict[int, list[object]]:
        gone = urls[1].replace(urls[1].split("/assets/")[1].split("/")[0], "00000000-0000-4000-8000-000000000000")
        return {3: [urls[0], 4000 * CHUNKS, 4000], 5: [gone, 0, 4000], 7: [urls[1], 0, 4000]}

    store = opened(rows)
    outcomes = await asyncio.gather(*(get(store, i) for i in range(CHUNKS)), return_exceptions=True)
    assert isinstance(outcomes[3], SourceMismatch)
    assert isinstance(outcomes[5], AssetNotFound)
    assert [outcomes[i] for i in range(CHUNKS) if i not in (3, 5)] == [
        chunk(i) for i in range(CHUNKS) if i not in (3, 5)
    ]


async def test_a_chunk_that_is_given_up_takes_no_other_with_it(opened: Callable[..., LindiStore]) -> None:
    store = opened()
    tasks = [asyncio.ensure_future(get(store, i)) for i in range(10)]
    for _ in range(4):
        await asyncio.sleep(0)
    tasks[4].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcomes[i] for i in range(10) if i != 4] == [chunk(i) for i in range(10) if i != 4]
    assert isinstance(outcomes[4], asyncio.CancelledError)


# Names of chunks


@given(
    grid=st.lists(st.integers(0, 12), max_size=3).map(tuple),
    names=st.lists(
        st.lists(st.integers(0, 14), min_size=0, max_size=4).map(lambda numbers: ".".join(map(str, numbers)))
        | st.sampled_from(
            ["", "0", "00", "01", "-1", "1_0", " 1", "\u0663", "1.", ".1", "1..2", "c/0", "9" * 30, "0.0"]
        ),
        min_size=1,
        max_size=5,
    ),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_names_are_read_at_once_as_one_by_one(grid: tuple[int, ...], names: list[str]) -> None:
    manifest = ColumnManifest.build(grid, [], [], [], [])
    each = [manifest.place(name) for name in names]
    found = places_of(manifest, names)
    assert (None if found is None else found.tolist()) == (None if None in each else each)
