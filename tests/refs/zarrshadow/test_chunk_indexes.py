from __future__ import annotations

import contextlib
import gzip
import json
import math
import time
import tracemalloc
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import blosc, zstd
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.manifest import MISSING
from lindi_dask.refs.zarrshadow.chunk_indexes import ChunkIndex, index_manifest, parse_indexes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lindi_dask.refs.manifest import ChunkManifest

NEVER = 2**64 - 1
INDEX = ChunkIndex("https://example.org/raw.bin", "index/a")
Files = dict[str, bytes]
quick = settings(max_examples=40, deadline=None, derandomize=True)

CODECS: dict[str, list[Any]] = {
    "none": [],
    "blosc": [BloscCodec(typesize=8, cname="zstd", clevel=5, shuffle="shuffle")],
    "blosc lz4, bitshuffle": [BloscCodec(typesize=8, cname="lz4", clevel=1, shuffle="bitshuffle")],
    "zstd": [ZstdCodec(level=3)],
    "zstd with a checksum": [ZstdCodec(level=1, checksum=True)],
    "gzip": [GzipCodec(level=1)],
    "crc32c": [Crc32cCodec()],
    "zstd, crc32c": [ZstdCodec(level=1), Crc32cCodec()],
    "crc32c, blosc": [Crc32cCodec(), BloscCodec(typesize=1, cname="lz4", clevel=1, shuffle="noshuffle")],
    "crc32c, gzip, crc32c": [Crc32cCodec(), GzipCodec(level=1), Crc32cCodec()],
}


def written(entries: NDArray[np.uint64], chunks: tuple[int, ...], codecs: list[Any], **options: Any) -> Files:
    """Write an index with zarr-python; return its files."""
    store = MemoryStore()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array: zarr.Array[Any] = zarr.create_array(
            store,
            name="index/a",
            shape=entries.shape,
            dtype="uint64",
            chunks=chunks,
            fill_value=NEVER,
            serializer=options.pop("serializer", BytesCodec(endian="little")),
            compressors=codecs or None,
            filters=None,
            **options,
        )
        array[...] = entries
    files = {}
    for key in list(store._store_dict):
        value = sync(store.get(key, default_buffer_prototype()))
        assert value is not None
        files[key] = value.to_bytes()
    return files


def manifest(files: Files, grid: tuple[int, ...], source: int = 3) -> ChunkManifest:
    return index_manifest(INDEX, grid, files.get, source)


def locations(built: ChunkManifest) -> dict[int, tuple[int, int, int]]:
    places = np.arange(math.prod(built.grid), dtype=np.uint64)
    found = built.locate(places)
    columns = zip(places.tolist(), found.sources.tolist(), found.offsets.tolist(), found.lengths.tolist(), strict=True)
    return {place: (source, offset, length) for place, source, offset, length in columns if source != MISSING}


@st.composite
def indexes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], NDArray[np.uint64]]:
    grid = tuple(draw(st.lists(st.integers(0, 7), min_size=1, max_size=3)))
    chunks = tuple(draw(st.integers(1, extent + 2)) for extent in grid)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    entries = np.stack([rng.integers(0, 2**62, grid), rng.integers(0, 2**32 - 2, grid)], axis=-1).astype(np.uint64)
    entries[rng.random(grid) < draw(st.sampled_from([0, 0.2, 0.9, 1]))] = NEVER
    return grid, (*chunks, draw(st.integers(2, 3))), entries


@pytest.mark.parametrize("name", CODECS)
@given(index=indexes(), data=st.data())
@quick
def test_what_zarr_writes_is_read_as_it_was(
    name: str, index: tuple[tuple[int, ...], tuple[int, ...], NDArray[np.uint64]], data: st.DataObject
) -> None:
    grid, chunks, entries = index
    encoding = {"name": data.draw(st.sampled_from(["default", "v2"])), "separator": data.draw(st.sampled_from("/."))}
    endian = data.draw(st.sampled_from(["little", "big"]))
    files = written(entries, chunks, CODECS[name], chunk_key_encoding=encoding, serializer=BytesCodec(endian=endian))
    built = manifest(files, grid)
    rows = entries.reshape(-1, 2).tolist()
    expected = {place: (3, offset, length) for place, (offset, length) in enumerate(rows) if offset != NEVER}
    assert locations(built) == expected
    assert built.present().tolist() == sorted(expected)


def one_chunk(**changes: Any) -> Files:
    """The files of an index of a grid of 2 x 3 chunks, uncompressed; `changes` to its `zarr.json`."""
    files = written(np.arange(12, dtype=np.uint64).reshape(2, 3, 2), (2, 3, 2), [])
    document = json.loads(files["index/a/zarr.json"])
    files["index/a/zarr.json"] = json.dumps({**document, **changes}).encode()
    return files


def test_nothing_is_read_before_a_chunk_is_asked_for_and_then_only_once() -> None:
    files, asked = one_chunk(), []

    def read(name: str) -> bytes | None:
        asked.append(name)
        return files.get(name)

    built = index_manifest(INDEX, (2, 3), read, 1)
    assert built.place("1.2") == 5
    assert asked == []
    assert built.locate(np.array([5], np.uint64)).offsets.tolist() == [10]
    assert built.present().tolist() == [0, 1, 2, 3, 4, 5]
    assert asked == ["index/a/zarr.json", "index/a/c/0/0/0"]


def test_a_chunk_of_the_index_that_is_not_there_holds_no_locations() -> None:
    entries = np.full((5, 2), NEVER, np.uint64)
    entries[4] = (100, 7)
    files = written(entries, (2, 2), CODECS["blosc"])
    assert [key for key in files if "/c/" in key] == ["index/a/c/2/0"]
    assert locations(manifest(files, (5,))) == {4: (3, 100, 7)}


def test_an_index_without_its_metadata_is_an_error_at_each_use() -> None:
    built = manifest({}, (2, 3))
    for _ in range(2):
        with pytest.raises(InvalidReferences, match=r"index/a/zarr\.json' can't be used: it is not there"):
            built.present()


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ((2**63, 1), f"offset {2**63} and the length 1"),
        ((2**63 - 1, 2**31), "the length"),
        ((NEVER, 1), "the length 1"),
        ((1, NEVER), "the offset 1"),
        ((0, 2**32 - 1), f"the length {2**32 - 1}"),
        ((0, 2**32), f"the length {2**32}"),
        ((NEVER - 1, NEVER - 1), "the offset"),
    ],
)
def test_what_can_not_be_a_location_is_an_error_that_names_the_chunk(entry: tuple[int, int], shown: str) -> None:
    entries = np.zeros((2, 3, 2), np.uint64)
    entries[1, 0] = entry
    with pytest.raises(InvalidReferences, match=r"chunk \[1, 0\]") as caught:
        manifest(written(entries, (1, 3, 2), []), (2, 3)).present()
    assert caught.value.key == "index/a/c/1/0/0"
    assert shown in caught.value.reason


def test_the_largest_locations_are_read() -> None:
    entries = np.array([[2**63 - 2**32, 2**32 - 2], [0, 0]], np.uint64)
    expected = {0: (3, 2**63 - 2**32, 2**32 - 2), 1: (3, 0, 0)}
    assert locations(manifest(written(entries, (2, 2), []), (2,))) == expected


BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"zarr_format": 2}, "Zarr v3 array"),
        ({"node_type": "group"}, "Zarr v3 array"),
        ({"shape": [2, 3]}, "its shape"),
        ({"shape": [3, 2, 2]}, "its shape"),
        ({"shape": [2, 3, 3]}, "its shape"),
        ({"shape": [2.0, 3, 2]}, "its shape"),
        ({"shape": None}, "its shape"),
        ({"data_type": "int64"}, "uint64"),
        ({"data_type": {"name": "uint64"}}, "uint64"),
        ({"fill_value": 0}, "fill value"),
        ({"fill_value": None}, "fill value"),
        ({"storage_transformers": [{"name": "x"}]}, "transformers"),
        ({"chunk_grid": {"name": "rectilinear"}}, "regular"),
        ({"chunk_grid": None}, "regular"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 3, 1]}}}, "together"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 0, 2]}}}, "together"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2]}}}, "together"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**22, 3, 2]}}}, "larger than 64 MiB"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [-2, 3, 2]}}}, "regular"),
        ({"chunk_key_encoding": {"name": "fanout"}}, "encoding"),
        ({"chunk_key_encoding": {"name": "default", "configuration": {"separator": "../"}}}, "encoding"),
        ({"chunk_key_encoding": None}, "encoding"),
        ({"codecs": []}, "first codec"),
        ({"codecs": None}, "first codec"),
        ({"codecs": [{"name": "bytes"}]}, "first codec"),
        ({"codecs": [{"name": "bytes", "configuration": {"endian": "middle"}}]}, "first codec"),
        ({"codecs": [{"name": "transpose", "configuration": {"order": [0, 1, 2]}}, BYTES]}, "first codec"),
        ({"codecs": [BYTES, {"name": "numcodecs.pickle"}]}, "its codecs"),
        ({"codecs": [BYTES, {"name": "zstd"}, {"name": "zstd"}]}, "its codecs"),
        ({"codecs": [BYTES, *["crc32c"] * 9]}, "its codecs"),
        ({"codecs": [BYTES, None]}, "its codecs"),
    ],
)
def test_metadata_that_is_not_that_of_an_index_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidReferences, match=r"index/a/zarr\.json") as caught:
        manifest(one_chunk(**changes), (2, 3)).present()
    assert reason in caught.value.reason
    assert caught.value.__context__ is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b" " * 2**21])
def test_metadata_that_is_no_object_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidReferences, match="JSON object") as caught:
        manifest({"index/a/zarr.json": content}, (2, 3)).present()
    assert caught.value.__context__ is None


def test_an_index_in_too_many_pieces_is_refused_before_they_are_read() -> None:
    grid = (300, 300)
    document = json.loads(written(np.zeros((1, 1, 2), np.uint64), (1, 1, 2), [])["index/a/zarr.json"])
    asked = []

    def read(name: str) -> bytes:
        asked.append(name)
        return json.dumps({**document, "shape": [*grid, 2]}).encode()

    with pytest.raises(InvalidReferences, match="90,000 chunks"):
        index_manifest(INDEX, grid, read, 1).present()
    assert len(asked) == 1


def test_an_index_of_more_dimensions_than_numpy_has_is_refused() -> None:
    document = json.loads(one_chunk()["index/a/zarr.json"])
    content = json.dumps({**document, "shape": [1] * 64 + [2]}).encode()
    with pytest.raises(InvalidReferences, match="more than 64 dimensions"):
        manifest({"index/a/zarr.json": content}, (1,) * 64).present()


def test_an_index_that_holds_nothing_much_in_too_many_bytes_is_refused() -> None:
    grid = (300, 2**10)
    nothing: bytes = zstd.compress(b"\xff" * 2**25, 1)
    document = json.loads(
        written(np.zeros((1, 1, 2), np.uint64), (1, 2**10, 4096), CODECS["zstd"])["index/a/zarr.json"]
    )
    asked = []

    def read(name: str) -> bytes:
        asked.append(name)
        if name.endswith("zarr.json"):
            return json.dumps({**document, "shape": [*grid, 2]}).encode()
        return nothing

    with pytest.raises(InvalidReferences, match="larger than 2 GiB"):
        index_manifest(INDEX, grid, read, 1).present()
    assert len(asked) == 1 + 64 + 1  # chunks of 32 MiB


FULL = bytes(12 * 8)
HOSTILE: dict[str, tuple[list[Any], bytes]] = {
    "too short": ([], FULL[:-8]),
    "too long": ([], FULL + bytes(8)),
    "empty": ([], b""),
    "blosc of another size": (["blosc"], blosc.compress(FULL + FULL, b"lz4", 1)),
    "blosc cut short": (["blosc"], blosc.compress(np.random.default_rng(0).bytes(96), b"lz4", 1)[:-20]),
    "blosc, longer than it says": (["blosc"], blosc.compress(FULL, b"lz4", 1) + b"x"),
    "blosc, a header alone": (["blosc"], blosc.compress(FULL, b"lz4", 1)[:16]),
    "blosc, nothing": (["blosc"], b""),
    "zstd of more": (["zstd"], zstd.compress(FULL + b"x", 1)),
    "zstd of less": (["zstd"], zstd.compress(FULL[:-1], 1)),
    "zstd, two frames": (["zstd"], zstd.compress(FULL, 1) * 2),
    "zstd, a bomb": (["zstd"], zstd.compress(bytes(2**26), 1)),
    "zstd that does not say its size, of less": (["zstd"], b"\x28\xb5\x2f\xfd\x00\x58\x01\x00\x00"),
    "zstd cut short": (["zstd"], zstd.compress(FULL, 1)[:-3]),
    "zstd, nothing": (["zstd"], b""),
    "gzip of more": (["gzip"], gzip.compress(FULL + b"x")),
    "gzip of less": (["gzip"], gzip.compress(FULL[:-1])),
    "gzip, two streams": (["gzip"], gzip.compress(FULL) * 2),
    "gzip, a bomb": (["gzip"], gzip.compress(bytes(2**26), 1)),
    "gzip without its checksum": (["gzip"], gzip.compress(FULL)[:-8]),
    "gzip, a wrong checksum": (["gzip"], gzip.compress(FULL)[:-8] + bytes(8)),
    "no gzip": (["gzip"], FULL),
    "crc32c, too short": (["crc32c"], b"abc"),
    "crc32c that is wrong": (["crc32c"], FULL + b"abcd"),
    "crc32c around nothing": (["zstd", "crc32c"], bytes(4)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_chunk_of_the_index_that_does_not_hold_what_it_must_is_an_error(name: str) -> None:
    steps, content = HOSTILE[name]
    files = one_chunk(codecs=[BYTES, *({"name": step} for step in steps)])
    files["index/a/c/0/0/0"] = content
    tracemalloc.start()
    try:
        with pytest.raises(InvalidReferences, match="can't be decoded") as caught:
            manifest(files, (2, 3)).present()
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert caught.value.key == "index/a/c/0/0/0"
    assert caught.value.__context__ is None


@given(st.sampled_from(["blosc", "zstd", "zstd with a checksum", "gzip", "zstd, crc32c"]), st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_damage_is_an_error_of_ours_or_gives_other_numbers(name: str, data: st.DataObject) -> None:
    entries = np.random.default_rng(1).integers(0, 2**31, (40, 2)).astype(np.uint64)
    files = written(entries, (40, 2), CODECS[name])
    content = bytearray(files["index/a/c/0/0"])
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    files["index/a/c/0/0"] = bytes(content)
    built = manifest(files, (40,))
    if name.endswith("crc32c"):
        with pytest.raises(InvalidReferences, match="index/a/c/0/0"):
            built.present()
    else:
        with contextlib.suppress(InvalidReferences):  # nothing else, and no crash
            built.present()


def test_a_million_chunks_are_read_in_well_under_a_second() -> None:
    rng = np.random.default_rng(0)
    entries = np.stack([rng.integers(0, 2**40, (1000, 1000)), rng.integers(1, 2**20, (1000, 1000))], axis=-1)
    files = written(entries.astype(np.uint64), (65, 1000, 2), CODECS["blosc"])
    taken = []
    for _ in range(3):
        built = manifest(files, (1000, 1000))
        start = time.perf_counter()
        found = built.locate(np.array([0, 999_999], np.uint64))
        taken.append(time.perf_counter() - start)
    assert found.offsets.tolist() == entries[[0, -1], [0, -1], 0].tolist()
    print(f"{min(taken):.3f} s")
    assert min(taken) < 1  # 0.1 s alone


def test_a_huge_grid_costs_what_it_holds() -> None:
    grid = (2**20, 2**10)
    entries = np.full((4, 4, 2), NEVER, np.uint64)
    entries[1, 1] = (5, 6)
    files = written(entries, (2**12, 2**10, 2), CODECS["zstd"])
    document = json.loads(files["index/a/zarr.json"])
    files["index/a/zarr.json"] = json.dumps({**document, "shape": [*grid, 2]}).encode()
    built = manifest(files, grid)
    assert built.present().tolist() == [2**10 + 1]
    assert built.locate(np.array([2**10 + 1], np.uint64)).lengths.tolist() == [6]


def test_indexes_are_parsed_by_the_path_of_their_array() -> None:
    name = "index/acquisition/Video: Rat08-02-run/data"
    found = parse_indexes({"a/b": {"url": "{{u0}}", "index": name, "more": 1}, "c": {"url": "x", "index": "./i"}})
    assert found == {"a/b": ChunkIndex("{{u0}}", name), "c": ChunkIndex("x", "i")}
    assert parse_indexes({}) == {}


FOLDERS = [
    "/etc",
    "../a",
    "index/../../a",
    "a/..",
    "https://example.org/index",
    "file:///etc",
    "c:\\index",
    "c:/index",
    "a\\b",
    "",
    ".",
    "a//b",
    "a/",
    "~/a",
    "a%2e%2e/b",
    "a\nb",
    "a\0b",
    "a" * 2000,
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_index_outside_the_reference_files_folder_is_refused(folder: str) -> None:
    with pytest.raises(InvalidReferences, match="'a/b'") as caught:
        parse_indexes({"a/b": {"url": "x", "index": folder}})
    assert caught.value.key == "indexes of 'a/b'"
    assert caught.value.__context__ is None
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"a": None},
        {"a": []},
        {"a": {"url": "x"}},
        {"a": {"index": "x"}},
        {"a": {"url": 1, "index": "x"}},
        {"a": {"url": "x", "index": [1, 2]}},
        {"/a": {"url": "x", "index": "i"}},
        {"a/": {"url": "x", "index": "i"}},
    ],
)
def test_a_malformed_member_is_refused(value: Any) -> None:
    with pytest.raises(InvalidReferences, match="indexes"):
        parse_indexes(value)
