from __future__ import annotations

import copy
import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
import zarr.codecs as zc
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import numcodecs as zn
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.metadata import ArrayV3Metadata
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from lindi_dask.refs.dialect.v3 import array_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from lindi_dask.refs.dialect.v2 import ArrayPlan

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
BASE: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [6, 4],
    "data_type": "int16",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 4]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [LITTLE],
    "attributes": {},
    "storage_transformers": [],
}


@pytest.fixture(autouse=True)
def _unstable() -> Iterator[None]:
    """zarr says of half of what is tried here that it is not in the specification."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def plan(**changes: Any) -> ArrayPlan:
    return array_plan({**BASE, **changes})


def opens(document: dict[str, Any]) -> ArrayV3Metadata:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ArrayV3Metadata.from_dict(copy.deepcopy(document))


# What zarr writes


def contents(store: MemoryStore) -> dict[str, bytes]:
    found = {}
    for key in list(store._store_dict):
        value = sync(store.get(key, default_buffer_prototype()))
        assert value is not None
        found[key] = value.to_bytes()
    return found


def reread(entries: dict[str, bytes]) -> tuple[ArrayPlan, NDArray[Any]]:
    """Plan an array from what zarr wrote, and read it by the plan."""
    translated = array_plan(json.loads(entries.pop("zarr.json")))
    assert translated.unreadable is None
    chunks = {}
    for key, content in entries.items():
        name = key.removeprefix("c").removeprefix(translated.separator) if translated.prefix else key
        chunks[name.replace(translated.separator, ".") or "0"] = content
    documents = {"zarr.json": json.dumps(translated.document).encode()}
    store = MemoryStore({key: cpu.Buffer.from_bytes(content) for key, content in {**documents, **chunks}.items()})
    array = zarr.open_array(store, mode="r", zarr_format=3)
    return translated, np.asarray(array[...])


def written(values: NDArray[Any], **options: Any) -> tuple[dict[str, bytes], NDArray[Any]]:
    store = MemoryStore()
    array: zarr.Array[Any] = zarr.create_array(
        store, shape=values.shape, dtype=options.pop("dtype", values.dtype), zarr_format=3, **options
    )
    array[...] = values
    return contents(store), np.asarray(array[...])


NUMBERS = ["bool", "int8", "uint8"] + [
    f"{kind}{bits}"
    for kind, sizes in (("int", (16, 32, 64)), ("uint", (16, 32, 64)), ("float", (16, 32, 64)), ("complex", (64, 128)))
    for bits in sizes
]
BYTES_CODECS: dict[str, Callable[[int], list[Any]]] = {
    "none": lambda _: [],
    "gzip": lambda _: [zc.GzipCodec(level=1)],
    "zstd": lambda _: [zc.ZstdCodec(level=3)],
    "blosc": lambda size: [zc.BloscCodec(typesize=size, cname="lz4", clevel=5, shuffle="bitshuffle")],
    "crc32c": lambda _: [zc.Crc32cCodec()],
    "zstd, crc32c": lambda _: [zc.ZstdCodec(level=0, checksum=True), zc.Crc32cCodec()],
    "HDF5's": lambda size: [zn.Shuffle(elementsize=size), zn.Zlib(level=1), zn.Fletcher32()],
    "shuffle of its own size": lambda _: [zn.Shuffle(), zn.GZip(level=1)],
    "numcodecs' zstd": lambda _: [zn.Zstd(level=3)],
    "numcodecs' blosc": lambda _: [zn.Blosc(cname="zstd", clevel=5, shuffle=1, blocksize=0)],
    "bz2": lambda _: [zn.BZ2(level=1)],
    "lzma": lambda _: [zn.LZMA(preset=1)],
    "lz4": lambda _: [zn.LZ4(acceleration=1)],
    "crc32": lambda _: [zn.CRC32()],
    "adler32": lambda _: [zn.Adler32()],
}


@pytest.mark.parametrize("name", BYTES_CODECS)
@given(data=st.data())
@settings(max_examples=12, deadline=None, derandomize=True)
def test_every_array_of_numbers_reads_the_same(name: str, data: st.DataObject) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dtype = np.dtype(data.draw(st.sampled_from(NUMBERS)))
        shape = tuple(data.draw(st.lists(st.integers(1, 7), max_size=3)))
        chunks = tuple(data.draw(st.integers(1, extent + 1)) for extent in shape)
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        values = np.where(rng.random(shape) < 0.4, 0, rng.normal(0, 100, shape).round()).astype(dtype)
        if dtype.kind in "iub":
            values = rng.integers(0, 2 if dtype.kind == "b" else 100, shape).astype(dtype)
        order = data.draw(st.permutations(range(len(shape))))
        filters = [zc.TransposeCodec(order=order)] if data.draw(st.booleans()) else None
        entries, expected = written(
            values,
            chunks=chunks,
            filters=filters,
            serializer=zc.BytesCodec(endian=data.draw(st.sampled_from(["little", "big"]))),
            compressors=BYTES_CODECS[name](dtype.itemsize) or None,
            fill_value=data.draw(st.sampled_from([0, 1])),
            chunk_key_encoding={
                "name": data.draw(st.sampled_from(["default", "v2"])),
                "separator": data.draw(st.sampled_from("/.")),
            },
        )
        _, found = reread(entries)
        assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected)


FILTERS: dict[str, tuple[str, list[Any]]] = {
    "delta": ("int32", [zn.Delta(dtype="<i4")]),
    "delta by numpy's long name": ("int32", [zn.Delta(dtype="int32", astype="int32")]),
    "scale": ("float64", [zn.FixedScaleOffset(offset=0, scale=1, dtype="<f8", astype="<i2")]),
    "scale, of the array's type": ("float64", [zn.FixedScaleOffset(offset=0, scale=1, astype="int16")]),
    "quantize": ("float64", [zn.Quantize(digits=3, dtype="<f8")]),
    "bitround": ("float32", [zn.BitRound(keepbits=10)]),
    "astype": ("float64", [zn.AsType(encode_dtype="float32", decode_dtype="float64")]),
    "scale, delta": (
        "float64",
        [zn.FixedScaleOffset(offset=0, scale=1, dtype="<f8", astype="<i4"), zn.Delta(dtype="<i4")],
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_numcodecs_filters_of_numbers_read_the_same(name: str) -> None:
    dtype, filters = FILTERS[name]
    values = np.arange(24).reshape(6, 4).astype(dtype)
    entries, expected = written(values, chunks=(4, 4), filters=filters, compressors=zc.ZstdCodec(), fill_value=0)
    _, found = reread(entries)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("inner", [[], [zc.GzipCodec(level=1)], [zc.BloscCodec(typesize=4), zc.Crc32cCodec()]])
def test_shards_read_the_same(inner: list[Any]) -> None:
    values = np.arange(60, dtype="int32").reshape(10, 6)
    entries, expected = written(values, shards=(4, 6), chunks=(2, 3), compressors=inner or None)
    translated, found = reread(entries)
    np.testing.assert_array_equal(found, expected)
    assert (translated.raw_nbytes, translated.deflated) == (None, None)


# Sizes of chunks


@pytest.mark.parametrize(
    ("changes", "raw", "deflated"),
    [
        ({}, 32, None),
        ({"codecs": [BIG]}, 32, None),
        ({"codecs": [{"name": "transpose", "configuration": {"order": [1, 0]}}, LITTLE]}, None, None),
        ({"codecs": [{"name": "transpose", "configuration": {"order": [0, 1]}}, LITTLE]}, 32, None),
        ({"codecs": [LITTLE, {"name": "crc32c"}]}, None, None),
        ({"codecs": [LITTLE, {"name": "gzip", "configuration": {"level": 1}}]}, None, 32),
        ({"codecs": [LITTLE, {"name": "numcodecs.shuffle"}, {"name": "numcodecs.zlib"}]}, None, 32),
        ({"codecs": [LITTLE, {"name": "numcodecs.zlib"}, {"name": "numcodecs.fletcher32"}]}, None, None),
        ({"codecs": [LITTLE, {"name": "numcodecs.zlib"}, {"name": "numcodecs.zlib"}]}, None, None),
        ({"codecs": ["vlen-utf8", "numcodecs.zlib"], "data_type": "string", "fill_value": ""}, None, None),
    ],
)
def test_sizes_are_known_where_nothing_or_deflate_alone_compresses(
    changes: dict[str, Any], raw: int | None, deflated: int | None
) -> None:
    translated = plan(**changes)
    assert (translated.raw_nbytes, translated.deflated, translated.unreadable) == (raw, deflated, None)


# What can't be read


UNREADABLE_CODECS: list[Any] = [
    None,
    {},
    "bytes",
    [],
    [None],
    [4],
    [{}],
    [{"name": "bytes"}],
    [{"name": "bytes", "configuration": []}],
    [{"name": "bytes", "configuration": {"endian": "middle"}}],
    [{"name": "bytes", "configuration": {"endian": "little", "x": 1}}],
    [LITTLE, LITTLE],
    ["vlen-utf8"],
    ["vlen-bytes"],
    [{"name": "endian", "configuration": {"endian": "little"}}],
    [LITTLE, "unknown"],
    ["unknown", LITTLE],
    [LITTLE, "numcodecs.unknown"],
    ["numcodecs.unknown", LITTLE],
    [LITTLE, {"name": "unknown", "must_understand": False}],
    [LITTLE, {"name": "imagecodecs_jpeg2k"}],
    [LITTLE, "numcodecs.zfpy"],
    [LITTLE, "numcodecs.pcodec"],
    [LITTLE, {"name": "transpose", "configuration": {"order": [1, 0]}}],
    [{"name": "transpose", "configuration": {"order": [1, 1]}}, LITTLE],
    [{"name": "transpose", "configuration": {"order": [0]}}, LITTLE],
    [{"name": "transpose", "configuration": {"order": "F"}}, LITTLE],
    [{"name": "transpose", "configuration": {"order": [False, True]}}, LITTLE],
    [{"name": "transpose"}, LITTLE],
    ["numcodecs.zlib", LITTLE],
    [LITTLE, "numcodecs.delta"],
    ["gzip", LITTLE],
    [LITTLE, {"name": "gzip", "configuration": {"level": 10}}],
    [LITTLE, {"name": "gzip", "configuration": {"level": "1"}}],
    [LITTLE, {"name": "gzip", "configuration": {"x": 1}}],
    [LITTLE, {"name": "zstd", "configuration": {"level": 1.5}}],
    [LITTLE, {"name": "zstd", "configuration": {"dictionary": "x"}}],
    [LITTLE, {"name": "crc32c", "configuration": {"location": "start"}}],
    [LITTLE, {"name": "blosc", "configuration": {"shuffle": 1}}],
    [LITTLE, {"name": "blosc", "configuration": {"cname": "lzma"}}],
    [LITTLE, {"name": "blosc", "configuration": {"clevel": None}}],
    [LITTLE, {"name": "blosc", "configuration": {"x": 1}}],
    [LITTLE, {"name": "numcodecs.zlib", "configuration": {"id": "bz2"}}],
    [
        {"name": "transpose", "configuration": {"order": [1, 0]}},
        {"name": "numcodecs.delta", "configuration": {"dtype": "<i2"}},
        LITTLE,
    ],
    [{"name": "numcodecs.delta", "configuration": {"dtype": "<i4"}}, LITTLE],
    [{"name": "numcodecs.delta", "configuration": {"dtype": "<i2"}}, BIG],
    [{"name": "numcodecs.astype", "configuration": {}}, LITTLE],
    [
        {"name": "numcodecs.fixedscaleoffset", "configuration": {"scale": 1, "offset": 0, "astype": "<i4"}},
        LITTLE,
        "numcodecs.shuffle",
    ],
]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *(({"codecs": codecs}, "") for codecs in UNREADABLE_CODECS),
        ({"codecs": ["vlen-utf8", "numcodecs.shuffle"], "data_type": "string", "fill_value": ""}, "shuffle"),
    ],
)
def test_what_can_not_be_read_is_listed_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    translated = plan(**changes)
    assert translated.unreadable is not None
    assert reason in translated.unreadable
    assert (translated.raw_nbytes, translated.deflated) == (None, None)
    assert translated.document["shape"] == [6, 4]
    opens(translated.document)


SHARDS: dict[str, Any] = {
    "chunk_shape": [2, 4],
    "codecs": [LITTLE, "crc32c"],
    "index_codecs": [LITTLE, {"name": "crc32c"}],
    "index_location": "start",
}


@pytest.mark.parametrize(
    ("changes", "beside"),
    [
        ({"chunk_shape": [3, 4]}, []),
        ({"chunk_shape": [2]}, []),
        ({"chunk_shape": [0, 4]}, []),
        ({"chunk_shape": None}, []),
        ({"codecs": None}, []),
        ({"codecs": [LITTLE, "unknown"]}, []),
        ({"codecs": [{"name": "bytes"}]}, []),
        ({"index_codecs": None}, []),
        ({"index_codecs": [LITTLE, "zstd"]}, []),
        ({"index_codecs": ["vlen-utf8"]}, []),
        ({"index_codecs": [{"name": "sharding_indexed", "configuration": SHARDS}]}, []),
        ({"index_location": "middle"}, []),
        ({"index_location": {}}, []),
        ({"extra": 1}, []),
        ({}, ["zstd"]),
    ],
)
def test_shards_that_can_not_be_read_are_listed_with_the_reason(changes: dict[str, Any], beside: list[Any]) -> None:
    assert plan(codecs=[{"name": "sharding_indexed", "configuration": SHARDS}]).unreadable is None
    translated = plan(codecs=[{"name": "sharding_indexed", "configuration": {**SHARDS, **changes}}, *beside])
    assert translated.unreadable
    opens(translated.document)


def test_compounds_in_shards_are_listed_with_the_reason() -> None:
    pairs = {"name": "structured", "configuration": {"fields": [["x", "int32"], ["y", "float64"]]}}
    translated = plan(data_type=pairs, fill_value={}, codecs=[{"name": "sharding_indexed", "configuration": SHARDS}])
    assert "compounds in shards" in str(translated.unreadable)


def test_shards_in_shards_are_read() -> None:
    inner = {"name": "sharding_indexed", "configuration": {**SHARDS, "chunk_shape": [1, 2]}}
    translated = plan(codecs=[{"name": "sharding_indexed", "configuration": {**SHARDS, "codecs": [inner]}}])
    assert translated.unreadable is None
    opens(translated.document)


@pytest.mark.parametrize(
    "codecs",
    [
        ["numcodecs.pickle"],
        [{"name": "numcodecs.pickle"}],
        [LITTLE, {"name": "numcodecs.pickle", "configuration": {"protocol": 5}}],
        [LITTLE, {"name": "numcodecs.zlib", "configuration": {"id": "pickle"}}],
        [{"name": "sharding_indexed", "configuration": {**SHARDS, "codecs": [LITTLE, {"name": "numcodecs.pickle"}]}}],
        {"name": "numcodecs.pickle"},
        "pickle",
    ],
)
def test_pickles_are_refused(codecs: Any) -> None:
    with pytest.raises(ValueError, match="runs whatever code the file holds"):
        plan(codecs=codecs)
