"""The bulk pipeline reads what zarr's own pipeline reads, from the same store."""

from __future__ import annotations

import base64
import json
import math
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.core.buffer import default_buffer_prototype
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.core.sync import sync
from zarr.registry import register_pipeline
from zarr.storage import MemoryStore, WrapperStore

import lindi_dask as ld
from lindi_dask import codecs
from lindi_dask.codecs import BulkCodecPipeline, PipelineDispatcher
from lindi_dask.errors import CorruptChunk, InvalidReferences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypothesis.strategies import DrawFn, SearchStrategy
    from numpy.typing import NDArray

    Read = Callable[[zarr.Array[Any]], Any]


def references(values: NDArray[Any], **options: Any) -> dict[str, Any]:
    """A v2 array as zarr-python writes it, as a LINDI document with inline chunks."""
    store = MemoryStore()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about writing: not what is tried here
        zarr.create_group(store, zarr_format=2)
        shape, dtype = values.shape, values.dtype
        array: zarr.Array[Any] = zarr.create_array(store, name="a", shape=shape, dtype=dtype, zarr_format=2, **options)
        array[...] = values
    entries = {}
    for key in store._store_dict:
        value = sync(store.get(key, default_buffer_prototype()))
        assert value is not None
        is_document = key.rpartition("/")[2].startswith(".")
        content = value.to_bytes()
        entries[key] = json.loads(content) if is_document else "base64:" + base64.b64encode(content).decode()
    return {"refs": entries}


def pair(document: dict[str, Any]) -> tuple[zarr.Array[Any], zarr.Array[Any]]:
    """The array as our pipeline reads it, and as zarr's does."""
    store = ld.open_store(document)
    ours = zarr.open_array(store, path="a", mode="r", zarr_format=3)
    theirs: zarr.Array[Any] = zarr.open_array(WrapperStore(store), path="a", mode="r", zarr_format=3)
    assert type(ours.async_array.codec_pipeline) is BulkCodecPipeline
    assert type(theirs.async_array.codec_pipeline) is BatchedCodecPipeline
    return ours, theirs


def outcome(array: zarr.Array[Any], read: Read) -> object:
    """What comes of a read, bit by bit, or the kind of error."""
    try:
        values = np.asarray(read(array))
    except Exception as error:  # noqa: BLE001 - that both raise the same is the property
        return type(error).__name__
    return values.shape, values.dtype.str, values.tobytes()


def numbers(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    made: NDArray[Any] = (np.random.default_rng(7).integers(-99, 99, shape) * 1.5).astype(dtype)
    made[..., : max(shape[-1] // 3, 1)] = 0
    return made


ARRAYS: dict[str, dict[str, Any]] = {
    "raw": {"values": numbers("<i4", (7, 9)), "chunks": (3, 4), "compressors": None},
    "raw, one chunk": {"values": numbers("<i2", (5,)), "chunks": (8,), "compressors": None},
    "raw, big-endian": {"values": numbers(">f8", (7, 9)), "chunks": (3, 9), "compressors": None},
    "raw, column order": {"values": numbers("<f4", (5, 4, 3)), "chunks": (2, 3, 2), "order": "F", "compressors": None},
    "zlib": {"values": numbers("|u1", (10, 6)), "chunks": (4, 4), "filters": [numcodecs.Zlib(1)]},
    "shuffle, zlib": {
        "values": numbers("<i2", (11, 5)),
        "chunks": (3, 5),
        "filters": [numcodecs.Shuffle(2), numcodecs.Zlib(1)],
        "fill_value": -7,
    },
    "shuffle, zlib, fletcher32, column order": {
        "values": numbers("<f8", (6, 7)),
        "chunks": (4, 3),
        "filters": [numcodecs.Shuffle(8), numcodecs.Zlib(1), numcodecs.Fletcher32()],
        "order": "F",
        "fill_value": math.nan,
    },
    "blosc": {"values": numbers("<i8", (20,)), "chunks": (6,), "compressors": numcodecs.Blosc("lz4")},
    "blosc, big-endian complex": {
        "values": numbers(">c8", (5, 6)),
        "chunks": (2, 4),
        "compressors": numcodecs.Blosc("zstd", shuffle=2),
        "fill_value": complex(1, -1),
    },
    "bool": {"values": numbers("|b1", (9, 4)), "chunks": (2, 2), "filters": [numcodecs.Zlib(1)], "fill_value": True},
    "gzip": {"values": numbers("<u2", (7, 9)), "chunks": (3, 4), "compressors": numcodecs.GZip(1)},
    "zstd, column order": {
        "values": numbers("<f2", (7, 9)),
        "chunks": (3, 4),
        "compressors": numcodecs.Zstd(1),
        "order": "F",
    },
    "lz4": {"values": numbers(">i4", (4, 3, 5)), "chunks": (2, 2, 2), "compressors": numcodecs.LZ4()},
    "delta, zlib": {
        "values": numbers("<i4", (7, 9)),
        "chunks": (3, 4),
        "filters": [numcodecs.Delta("<i4")],
        "compressors": numcodecs.Zlib(1),
        "fill_value": 5,
    },
    **{
        f"shuffle, zlib of {dtype}": {
            "values": numbers(dtype, (5, 4, 6)),
            "chunks": (2, 4, 3),
            "order": order,
            "filters": [numcodecs.Shuffle(np.dtype(dtype).itemsize), numcodecs.Zlib(1)],
            "fill_value": 3,
        }
        for dtype, order in [
            ("<u2", "F"),
            (">i2", "C"),
            ("<f4", "C"),
            (">u4", "F"),
            ("<f8", "C"),
            (">i8", "C"),
            ("<c8", "F"),
            (">c8", "C"),
            (">c16", "C"),
            ("|u1", "C"),
        ]
    },
    "shuffle of other items": {
        "values": numbers("<i4", (7, 9)),
        "chunks": (3, 4),
        "filters": [numcodecs.Shuffle(3), numcodecs.Zlib(1)],
    },
    "shuffle, no dimensions": {
        "values": np.array(-2.5, ">f8"),
        "chunks": (),
        "filters": [numcodecs.Shuffle(8), numcodecs.Zlib(1)],
    },
    "shuffle, zstd, fletcher32": {
        "values": numbers("<i4", (11, 5)),
        "chunks": (3, 5),
        "filters": [numcodecs.Shuffle(4), numcodecs.Zstd(1), numcodecs.Fletcher32()],
    },
    "scale and offset": {
        "values": np.round(numbers("<f8", (7, 9))),
        "chunks": (3, 4),
        "filters": [numcodecs.FixedScaleOffset(offset=-5, scale=2, dtype="<f8", astype="<i4"), numcodecs.Zlib(1)],
    },
    "quantised, shuffled": {
        "values": np.round(numbers("<f8", (7, 9))),
        "chunks": (3, 4),
        "filters": [numcodecs.Quantize(digits=2, dtype="<f8"), numcodecs.Shuffle(8), numcodecs.Zlib(1)],
    },
    "crc32": {"values": numbers("<i4", (7, 9)), "chunks": (3, 4), "filters": [numcodecs.CRC32()]},
    "bz2": {"values": numbers("<i4", (7, 9)), "chunks": (3, 4), "filters": [numcodecs.BZ2(1)]},
    "lzma": {"values": numbers("<i4", (7, 9)), "chunks": (3, 4), "filters": [numcodecs.LZMA(preset=0)]},
    "packed bits": {"values": numbers("|b1", (9, 4)), "chunks": (2, 4), "filters": [numcodecs.PackBits()]},
    "no dimensions": {"values": np.array(3.5), "chunks": (), "compressors": None},
}


@pytest.fixture(scope="module")
def pairs() -> dict[tuple[str, bool], tuple[zarr.Array[Any], zarr.Array[Any]]]:
    """Each array with all that zarr wrote of it, and with every third chunk missing."""
    made = {}
    for name, options in ARRAYS.items():
        document = references(**{"compressors": None, **options})
        chunks = [key for key in document["refs"] if not key.rpartition("/")[2].startswith(".")]
        made[name, False] = pair(document)
        holes = {key: entry for key, entry in document["refs"].items() if key not in chunks[::3]}
        made[name, True] = pair({"refs": holes})
    return made


def basic(extent: int) -> SearchStrategy[Any]:
    index = st.integers(-extent - 1, extent)
    bound = st.none() | st.integers(-extent - 2, extent + 2)
    step = st.none() | st.integers(1, extent + 1) | st.sampled_from([-1, -2, 0])
    return index | st.builds(slice, bound, bound) | st.builds(slice, bound, bound, step)


def orthogonal(extent: int) -> SearchStrategy[Any]:
    lists = st.lists(st.integers(-extent, extent - 1), min_size=1, max_size=6).map(np.array)
    masks = st.lists(st.booleans(), min_size=extent, max_size=extent).map(lambda mask: np.array(mask, dtype=bool))
    return lists | masks | st.integers(-extent, extent - 1) | st.builds(slice, st.integers(0, extent))


@st.composite
def reads(draw: DrawFn, shape: tuple[int, ...]) -> Read:
    kinds = ["basic", "all"] + (["oindex", "vindex", "mask", "block"] if shape else [])
    match draw(st.sampled_from(kinds)):
        case "basic":
            chosen = tuple(draw(basic(extent)) for extent in shape)[: draw(st.integers(0, len(shape)))]
            selection = (*chosen, ...) if draw(st.booleans()) else chosen
            return lambda array: array[selection]
        case "oindex":
            selection = tuple(draw(orthogonal(extent)) for extent in shape)
            return lambda array: array.oindex[selection]
        case "vindex":
            count = draw(st.integers(1, 8))
            lists = (st.lists(st.integers(-n, n - 1), min_size=count, max_size=count) for n in shape)
            selection = tuple(np.array(draw(one)) for one in lists)
            return lambda array: array.vindex[selection]
        case "mask":
            seed, share = draw(st.integers(0, 99)), draw(st.sampled_from([0.0, 0.1, 0.7, 1.0]))
            mask = np.random.default_rng(seed).random(shape) < share
            return lambda array: array.vindex[mask]
        case "block":
            selection = tuple(draw(st.integers(0, 2) | st.just(slice(None))) for _ in shape)
            return lambda array: array.blocks[selection]
        case _:
            return lambda array: array[...]


@pytest.mark.parametrize("holes", [False, True], ids=["whole", "with holes"])
@pytest.mark.parametrize("name", ARRAYS)
@given(data=st.data())
@settings(max_examples=15, deadline=None, derandomize=True)
def test_every_selection_reads_the_same_by_both_pipelines(
    pairs: dict[tuple[str, bool], tuple[zarr.Array[Any], zarr.Array[Any]]], name: str, holes: bool, data: st.DataObject
) -> None:
    ours, theirs = pairs[name, holes]
    read = data.draw(reads(ours.shape))
    assert outcome(ours, read) == outcome(theirs, read)


@pytest.mark.parametrize("name", ARRAYS)
def test_all_of_an_array_is_what_was_written(
    pairs: dict[tuple[str, bool], tuple[zarr.Array[Any], zarr.Array[Any]]], name: str
) -> None:
    ours, _ = pairs[name, False]
    assert np.array_equal(np.asarray(ours[...]), ARRAYS[name]["values"])


def test_fields_out_and_order_are_zarrs_affair(
    pairs: dict[tuple[str, bool], tuple[zarr.Array[Any], zarr.Array[Any]]],
) -> None:
    ours, _ = pairs["shuffle, zlib", True]
    buffer = default_buffer_prototype().nd_buffer.create(shape=ours.shape, dtype=ours.dtype, fill_value=1)
    ours.get_basic_selection(out=buffer)
    assert np.array_equal(buffer.as_numpy_array(), np.asarray(ours[...]))


@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f8", "<i4"])
def test_an_output_of_the_users_own_is_filled_whatever_its_strides(
    pairs: dict[tuple[str, bool], tuple[zarr.Array[Any], zarr.Array[Any]]], dtype: str
) -> None:
    ours, _ = pairs["shuffle, zlib", True]
    memory = np.zeros((2 * ours.shape[0], 3 * ours.shape[1]), dtype)
    out = memory[::2, ::-3]
    ours.get_basic_selection(out=default_buffer_prototype().nd_buffer.from_numpy_array(out))
    assert np.array_equal(out, np.asarray(ours[...]))
    assert np.count_nonzero(memory) == np.count_nonzero(out)


def test_a_chunk_that_both_pipelines_find_corrupt_is_our_error_in_ours_only() -> None:
    document = references(numbers("<i4", (6,)), chunks=(3,), compressors=numcodecs.Zlib(1))
    document["refs"]["a/1"] = "base64:" + base64.b64encode(b"no zlib").decode()
    ours, theirs = pair(document)
    with pytest.raises(CorruptChunk, match="a/1"):
        ours[...]
    assert np.array_equal(np.asarray(ours[:3]), np.asarray(theirs[:3]))


def test_a_corrupt_chunk_of_a_codec_of_zarrs_is_our_error_too() -> None:
    document = references(numbers("<i4", (6,)), chunks=(3,), filters=[numcodecs.CRC32()], compressors=None)
    document["refs"]["a/1"] = "base64:" + base64.b64encode(b"no checksum").decode()
    ours, _ = pair(document)
    with pytest.raises(CorruptChunk, match=r"a/0 \.\.\. a/1"):
        ours[...]


def test_an_error_in_a_chunk_has_no_library_error_behind_it() -> None:
    document = references(numbers("<i4", (6,)), chunks=(3,), compressors=numcodecs.Zlib(1))
    document["refs"]["a/1"] = "base64:" + base64.b64encode(b"no zlib").decode()
    with pytest.raises(CorruptChunk) as caught:
        pair(document)[0][...]
    assert caught.value.__cause__ is None


# Which pipeline an array gets


@contextmanager
def configured(path: str) -> Iterator[None]:
    """As if a user had set zarr's pipeline before our first store was made."""
    before = zarr.config.get("codec_pipeline.path")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codecs, "_users", codecs._users)
        zarr.config.set({"codec_pipeline.path": path})
        try:
            yield
        finally:
            zarr.config.set({"codec_pipeline.path": before})


class UsersPipeline(BatchedCodecPipeline):
    """One that a user registered."""


DEFAULT = "zarr.core.codec_pipeline.BatchedCodecPipeline"
USERS = f"{UsersPipeline.__module__}.{UsersPipeline.__qualname__}"
ONE = {"refs": {".zgroup": {"zarr_format": 2}}}


def memory_array(zarr_format: Literal[2, 3] = 3) -> zarr.Array[Any]:
    array: zarr.Array[Any] = zarr.create_array(
        MemoryStore(),
        shape=(4,),
        dtype="i4",
        chunks=(2,),
        zarr_format=zarr_format,
    )
    array[...] = np.arange(4)
    return array


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_other_stores_keep_zarrs_pipeline(zarr_format: Literal[2, 3]) -> None:
    with configured(DEFAULT):
        ld.open_store(ONE)
        codecs.install()
        array = memory_array(zarr_format)
        assert type(array.async_array.codec_pipeline) is BatchedCodecPipeline
        assert np.asarray(array[...]).tolist() == [0, 1, 2, 3]


def test_other_stores_keep_the_pipeline_that_the_user_had_set() -> None:
    register_pipeline(UsersPipeline)
    with configured(USERS):
        codecs.install()
        array = memory_array()
        assert type(array.async_array.codec_pipeline) is UsersPipeline
        assert np.asarray(array[...]).tolist() == [0, 1, 2, 3]
        ours = zarr.open_array(ld.open_store(references(np.arange(4), chunks=(2,))), path="a", mode="r")
        assert type(ours.async_array.codec_pipeline) is BulkCodecPipeline


def test_a_pipeline_that_the_user_sets_later_stays_until_the_next_store_and_is_kept_by_it() -> None:
    register_pipeline(UsersPipeline)
    with configured(DEFAULT):
        codecs.install()
        zarr.config.set({"codec_pipeline.path": USERS})
        assert type(memory_array().async_array.codec_pipeline) is UsersPipeline
        codecs.install()
        assert zarr.config.get("codec_pipeline.path").endswith("PipelineDispatcher")
        assert type(memory_array().async_array.codec_pipeline) is UsersPipeline


def test_to_install_twice_is_to_install_once() -> None:
    with configured(DEFAULT):
        codecs.install()
        codecs.install()
        assert codecs._users is BatchedCodecPipeline


def test_arrays_of_a_group_of_a_group_are_read_in_bulk_too() -> None:
    refs = references(np.arange(4), chunks=(2,))["refs"]
    nested = {f"x/y/{key}": entry for key, entry in refs.items() if key.startswith("a/")}
    group = ld.open_group({"refs": {".zgroup": {"zarr_format": 2}, **nested}})
    inner = group["x"]
    assert isinstance(inner, zarr.Group)
    array = inner["y/a"]
    assert isinstance(array, zarr.Array)
    assert type(array.async_array.codec_pipeline) is BulkCodecPipeline
    assert np.asarray(array[...]).tolist() == [0, 1, 2, 3]


def test_the_dispatcher_leaves_codecs_without_a_store_to_the_users_pipeline() -> None:
    with configured(DEFAULT):
        codecs.install()
        assert type(PipelineDispatcher.from_codecs([zarr.codecs.BytesCodec()])) is BatchedCodecPipeline


async def test_our_pipeline_reads_from_no_other_store() -> None:
    array = memory_array()
    pipeline = BulkCodecPipeline.from_codecs([zarr.codecs.BytesCodec()])
    spec: Any = None  # it does not come to that
    out = default_buffer_prototype().nd_buffer.create(shape=(2,), dtype=np.dtype("i4"))
    request = (array.store_path / "c/0", spec, (slice(0, 2),), (slice(0, 2),), True)
    with pytest.raises(TypeError, match="LindiStore"):
        await pipeline.read([request], out)


def test_nothing_to_read_is_nothing() -> None:
    ours, theirs = pair(references(np.zeros((0, 3)), chunks=(1, 3)))
    assert np.asarray(ours[...]).shape == np.asarray(theirs[...]).shape == (0, 3)


def test_a_chunk_that_lies_in_no_array_is_no_missing_chunk() -> None:
    store = ld.open_store(references(np.arange(4), chunks=(2,)))
    with pytest.raises(InvalidReferences, match="no chunk '2'"):
        sync(store.locate("a", ["2"]))


@pytest.mark.skipif(
    "read_missing_chunks" not in zarr.config.get("array"), reason="zarr 3.4 brought the option read_missing_chunks"
)
def test_missing_chunks_are_an_error_where_the_user_asks_for_one() -> None:
    document = references(np.arange(1, 5), chunks=(2,))
    del document["refs"]["a/1"]
    errors: Any = zarr.errors
    with zarr.config.set({"array.read_missing_chunks": False}):
        for array in pair(document):
            assert np.asarray(array[:2]).tolist() == [1, 2]
            with pytest.raises(errors.ChunkNotFoundError):
                array[...]
    ours, _ = pair(document)
    assert np.asarray(ours[...]).tolist() == [1, 2, 0, 0]
