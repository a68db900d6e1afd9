from __future__ import annotations

import base64
import copy
import json
import math
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

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.zarr3 import array_plan, attributes, parse_sources, shortest_nbytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from lindi_dask.refs.dialect import ArrayPlan

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
quick = settings(max_examples=100, deadline=None, derandomize=True)


@pytest.fixture(autouse=True)
def _unstable() -> Iterator[None]:
    """zarr says of half of what is tried here that it is not in the specification."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def regular(*chunks: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}


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


TEXT: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
    "string": (np.array(["", "a", "äöü", "b" * 100], np.dtypes.StringDType()), {"dtype": "string"}),
    "fixed_length_utf32": (np.array(["", "a", "äöü", "abcd"], "<U4"), {}),
    "null_terminated_bytes": (np.array([b"", b"a", b"abc", b"abcd"], "S4"), {}),
    "variable_length_bytes": (
        np.array([b"", b"a", b"abc\0", b"x"], object),
        {"dtype": "variable_length_bytes"},
    ),
}


@pytest.mark.parametrize("compressors", [None, [zc.ZstdCodec()], [zn.Zlib(level=1)]], ids=["plain", "zstd", "zlib"])
@pytest.mark.parametrize("name", TEXT)
def test_text_and_bytes_read_the_same(name: str, compressors: list[Any] | None) -> None:
    values, options = TEXT[name]
    entries, expected = written(values, chunks=(3,), compressors=compressors, **options)
    translated, found = reread(entries)
    assert found.tolist() == expected.tolist()
    fixed = name in {"fixed_length_utf32", "null_terminated_bytes"} and compressors is None
    assert translated.raw_nbytes == (3 * values.dtype.itemsize if fixed else None)


def test_big_endian_text_reads_the_same() -> None:
    values = np.array(["", "a", "äöü", "abcd"], "<U4")
    entries, expected = written(values, chunks=(3,), compressors=None, serializer=zc.BytesCodec(endian="big"))
    assert reread(entries)[1].tolist() == expected.tolist() == values.tolist()


RECORD = np.dtype([("x", "<i4"), ("y", "<f8"), ("flag", "?"), ("name", "<U3"), ("raw", "S2")])


@pytest.mark.parametrize("compressors", [None, [zc.ZstdCodec()]], ids=["plain", "zstd"])
@pytest.mark.parametrize("shape", [(3,), ()])
def test_compounds_read_the_same(shape: tuple[int, ...], compressors: list[Any] | None) -> None:
    values = np.array([(1, 2.5, True, "abc", b"xy"), (-1, math.inf, False, "", b""), (7, 0, True, "ä", b"z")], RECORD)
    values = values[0] if shape == () else values
    entries, expected = written(
        np.asarray(values), dtype=RECORD, chunks=tuple(2 for _ in shape), compressors=compressors
    )
    translated, found = reread(entries)
    assert found.tolist() == expected.tolist() == values.tolist()
    assert translated.document["data_type"]["name"] == "structured"
    assert translated.document["codecs"][0] == LITTLE


@pytest.mark.parametrize("inner", [[], [zc.GzipCodec(level=1)], [zc.BloscCodec(typesize=4), zc.Crc32cCodec()]])
def test_shards_read_the_same(inner: list[Any]) -> None:
    values = np.arange(60, dtype="int32").reshape(10, 6)
    entries, expected = written(values, shards=(4, 6), chunks=(2, 3), compressors=inner or None)
    translated, found = reread(entries)
    np.testing.assert_array_equal(found, expected)
    assert (translated.raw_nbytes, translated.deflated) == (None, None)


# What zarrshadow writes


def test_an_array_as_the_writer_has_it() -> None:
    document = {
        **BASE,
        "shape": [5000, 2],
        "data_type": "float64",
        "chunk_grid": regular(1000, 2),
        "fill_value": 0.0,
        "codecs": [
            LITTLE,
            {"name": "numcodecs.shuffle", "configuration": {"elementsize": 8}},
            {"name": "numcodecs.zlib", "configuration": {"level": 4}},
        ],
        "attributes": {"unit": "V", "_DTYPE": "float64", "gone": None},
        "dimension_names": ["time", None],
    }
    translated = array_plan(document)
    assert translated.document == {
        **{name: value for name, value in document.items() if name != "storage_transformers"},
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}},
        "attributes": {"unit": "V", "_DTYPE": "float64"},
    }
    assert (translated.grid, translated.prefix, translated.separator) == ((5, 1), "c", "/")
    assert (translated.raw_nbytes, translated.tail_nbytes, translated.deflated) == (None, None, 16_000)
    assert translated.unreadable is None
    opens(translated.document)


STRUCT = {
    "name": "struct",
    "configuration": {"fields": [{"name": "x", "data_type": "int32"}, {"name": "y", "data_type": "float64"}]},
}
PAIRS = {"name": "structured", "configuration": {"fields": [["x", "int32"], ["y", "float64"]]}}


@pytest.mark.parametrize("data_type", [STRUCT, PAIRS])
@pytest.mark.parametrize(
    ("fill_value", "expected"),
    [
        ({"x": 1, "y": -1.5}, (1, -1.5)),
        ({"x": 1, "y": "NaN"}, (1, "nan")),
        ({"y": "-Infinity"}, (0, -math.inf)),
        ({"y": "0x3ff8000000000000"}, (0, 1.5)),
        ({}, (0, 0)),
        (base64.b64encode(np.array((3, 4), "<i4,<f8").tobytes()).decode(), (3, 4)),
    ],
)
def test_both_forms_of_compounds_become_pairs_with_a_fill_value_of_bytes(
    data_type: Any, fill_value: Any, expected: tuple[Any, ...]
) -> None:
    translated = plan(data_type=data_type, fill_value=fill_value)
    assert translated.unreadable is None
    assert translated.document["data_type"] == PAIRS
    filled = opens(translated.document).fill_value
    assert [str(part) if math.isnan(part) else part for part in filled.tolist()] == list(expected)
    assert translated.raw_nbytes == 16 * 12


def test_every_kind_of_field_has_its_fill_value() -> None:
    utf32 = {"name": "fixed_length_utf32", "configuration": {"length_bytes": 12}}
    raw = {"name": "null_terminated_bytes", "configuration": {"length_bytes": 4}}
    fills: list[tuple[Any, Any, Any]] = [
        *((name, 1, 1) for name in NUMBERS if name != "bool" and "complex" not in name),
        ("bool", True, True),
        ("complex64", [1, "NaN"], "nan"),
        ("complex128", ["0x3ff0000000000000", 2], 1 + 2j),
        ("float16", "0x3c00", 1.0),
        ({"name": "int32"}, 7, 7),
        (utf32, "äb", "äb"),
        (raw, "YWI=", b"ab"),
    ]
    fields = [{"name": f"f{i}", "data_type": data_type} for i, (data_type, _, _) in enumerate(fills)]
    for given_fill in ({f"f{i}": fill for i, (_, fill, _) in enumerate(fills)}, {}):
        translated = plan(
            data_type={"name": "struct", "configuration": {"fields": fields}},
            fill_value=given_fill,
            shape=[2],
            chunk_grid=regular(2),
        )
        assert translated.unreadable is None
        values = opens(translated.document).fill_value.tolist()
        for value, (_, _, expected) in zip(values, fills, strict=True):
            assert (value == expected if expected != "nan" else math.isnan(value.imag)) if given_fill else not value


UNREADABLE_FIELDS: list[Any] = [
    [],
    None,
    {},
    ["x"],
    [["x"]],
    [["x", "int32", 1]],
    [["", "int32"]],
    [["x", "int32"], ["x", "int32"]],
    [["x", "string"]],
    [["x", STRUCT]],
    [["x", {"name": "fixed_length_utf32", "configuration": {"length_bytes": 2**20}}], ["y", "int8"]],
    [["x", "int3"]],
    [["x", None]],
    [["x", 4]],
    [["x", {}]],
]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fill_value": 0}, "fill value"),
        ({"fill_value": None}, "fill value"),
        ({"fill_value": ""}, "fill value"),
        ({"fill_value": {"z": 1}}, "fill value"),
        ({"fill_value": {"x": 1.5}}, "fill value"),
        ({"fill_value": "AAAA"}, "fill value"),
        ({"fill_value": "A"}, "fill value"),
        ({"codecs": [BIG]}, "big-endian"),
        ({"codecs": [{"name": "vlen-utf8"}]}, "does not suit"),
        *(
            ({"data_type": {"name": "struct", "configuration": {"fields": fields}}, "fill_value": {}}, "compound")
            for fields in UNREADABLE_FIELDS
        ),
    ],
)
def test_a_compound_that_can_not_be_read_is_listed_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    translated = plan(**{"data_type": STRUCT, "fill_value": {}, **changes})
    assert reason in str(translated.unreadable)
    opens(translated.document)


@pytest.mark.parametrize(
    ("encoding", "prefix", "separator"),
    [
        ("default", "c", "/"),
        ({"name": "default"}, "c", "/"),
        ({"name": "default", "configuration": {"separator": "."}}, "c", "."),
        ("v2", "", "."),
        ({"name": "v2"}, "", "."),
        ({"name": "v2", "configuration": {"separator": "/"}}, "", "/"),
    ],
)
def test_chunk_keys_are_told_by_prefix_and_separator(encoding: Any, prefix: str, separator: str) -> None:
    translated = plan(chunk_key_encoding=encoding)
    assert (translated.prefix, translated.separator, translated.unreadable) == (prefix, separator, None)
    assert translated.document["chunk_key_encoding"] == {"name": "v2", "configuration": {"separator": "."}}


def test_an_empty_array_with_empty_chunks_gets_chunks_of_one() -> None:
    translated = plan(shape=[0, 4], chunk_grid=regular(0, 4))
    assert translated.grid == (0, 1)
    assert translated.document["chunk_grid"] == regular(1, 4)
    assert opens(translated.document).shape == (0, 4)


def test_a_scalar_of_early_files_has_no_dimension() -> None:
    changes = {
        "shape": [1],
        "chunk_grid": regular(1),
        "attributes": {"_SCALAR": True, "x": 1},
        "dimension_names": ["a"],
    }
    translated = plan(**changes)
    assert (translated.document["shape"], translated.grid, translated.raw_nbytes) == ([], (), 2)
    assert translated.document["attributes"] == {"x": 1}
    assert opens(translated.document).shape == ()
    kept = plan(**changes, codecs=[{"name": "transpose", "configuration": {"order": [0]}}, LITTLE])
    assert (kept.document["shape"], kept.unreadable) == ([1], None)
    assert plan(**{**changes, "chunk_grid": regular(5)}).document["shape"] == [1]


def test_dimensions_are_named_by_the_document_or_the_attribute() -> None:
    assert plan(dimension_names=["a", None]).document["dimension_names"] == ["a", None]
    by_attribute = plan(attributes={"_ARRAY_DIMENSIONS": ["a", "b"]})
    assert by_attribute.document["dimension_names"] == ["a", "b"]
    assert by_attribute.document["attributes"] == {"_ARRAY_DIMENSIONS": ["a", "b"]}
    for wrong in (["a"], "ab", [1, 2], None):
        assert "dimension_names" not in plan(dimension_names=wrong).document


# Lengths of uncompressed chunks


@given(
    st.lists(st.tuples(st.integers(1, 7), st.integers(1, 8)), max_size=3), st.sampled_from(["int16", "bool", "float64"])
)
@quick
def test_a_chunk_may_lack_only_bytes_of_elements_outside_the_array(extents: list[tuple[int, int]], name: str) -> None:
    shape, chunks = [extent for extent, _ in extents], [chunk for _, chunk in extents]
    translated = plan(
        shape=shape, chunk_grid=regular(*chunks), data_type=name, fill_value=False if name == "bool" else 0
    )
    itemsize = np.dtype(name).itemsize
    assert translated.raw_nbytes == itemsize * math.prod(chunks)
    places = np.arange(math.prod(translated.grid), dtype=np.uint64)
    shortest = shortest_nbytes(translated, places)
    for place, coordinates in enumerate(np.ndindex(*translated.grid)):
        inside = np.zeros(chunks, bool)
        origin = [i * chunk for i, chunk in zip(coordinates, chunks, strict=True)]
        inside[tuple(slice(0, extent - first) for first, extent in zip(origin, shape, strict=True))] = True
        assert shortest[place] == itemsize * (np.flatnonzero(inside)[-1] + 1)
    if translated.tail_nbytes is not None:
        assert shortest[-1] == translated.tail_nbytes
    with_columns_side_by_side = shortest_nbytes(translated, places[::-1])
    assert with_columns_side_by_side.tolist() == shortest.tolist()[::-1]


def test_the_last_slab_of_a_contiguous_dataset_may_be_short() -> None:
    translated = plan(shape=[1009, 6], chunk_grid=regular(100, 6))
    assert (translated.raw_nbytes, translated.tail_nbytes) == (1200, 108)  # as in the project's own test
    side_by_side = plan(shape=[1009, 12], chunk_grid=regular(100, 6))
    assert side_by_side.tail_nbytes is None
    assert shortest_nbytes(side_by_side, np.array([0, 20, 21], np.uint64)).tolist() == [1200, 108, 108]


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
        ({"storage_transformers": [{"name": "x"}]}, "storage transformers"),
        ({"extra": 1}, "'extra'"),
        ({"extra": None}, "'extra'"),
        ({"extra": {"must_understand": True}}, "'extra'"),
        ({"chunk_grid": {"name": "rectilinear", "configuration": {}}}, "chunk grid"),
        ({"chunk_grid": "regular"}, "chunk grid"),
        ({"chunk_grid": None}, "chunk grid"),
        ({"chunk_key_encoding": None}, "chunk key encoding"),
        ({"chunk_key_encoding": "fanout"}, "chunk key encoding"),
        ({"chunk_key_encoding": {"name": "default", "configuration": {"separator": "-"}}}, "chunk key encoding"),
        ({"chunk_key_encoding": {"name": "default", "configuration": {"separator": []}}}, "chunk key encoding"),
        ({"chunk_key_encoding": {"name": "default", "configuration": {"x": 1}}}, "chunk key encoding"),
        *(
            ({"data_type": data_type}, "data type")
            for data_type in (
                None,
                4,
                "",
                "int4",
                "r16",
                "float128",
                "numpy.datetime64",
                "bfloat16",
                "<i2",
                [["x", "int32"]],
                {},
                {"name": "int32", "configuration": {"x": 1}},
                {"name": "int32", "configuration": []},
                {"name": "fixed_length_utf32", "configuration": {"length_bytes": 6}},
                {"name": "fixed_length_utf32", "configuration": {"length_bytes": 0}},
                {"name": "fixed_length_utf32", "configuration": {"length_bytes": 2**21}},
                {"name": "null_terminated_bytes", "configuration": {"length_bytes": True}},
                {"name": "null_terminated_bytes", "configuration": {}},
                "null_terminated_bytes",
                {"name": "numpy.datetime64", "configuration": {"unit": "ns", "scale_factor": 1}},
            )
        ),
        *(
            ({"data_type": name, "fill_value": fill}, "fill value")
            for name, fill in (
                ("int16", None),
                ("int16", "0"),
                ("int16", 1.5),
                ("int16", 2**15),
                ("int16", True),
                ("int16", []),
                ("int16", math.nan),
                ("int16", math.inf),
                ("uint8", -1),
                ("bool", 0),
                ("bool", "false"),
                ("float32", None),
                ("float32", "nan"),
                ("float32", "0x00"),
                ("float32", "0xzzzzzzzz"),
                ("float32", 1e39),
                ("float32", True),
                ("float16", 70000),
                ("float64", 2**1024),
                ("complex64", 0),
                ("complex64", [0]),
                ("complex64", [0, None]),
                ("complex64", ["NaN", 1e39]),
                ("string", None),
                ("string", 0),
                ("string", "\ud800"),
                ("variable_length_bytes", None),
                ("variable_length_bytes", "a"),
                ({"name": "null_terminated_bytes", "configuration": {"length_bytes": 1}}, "YWI="),
                ({"name": "fixed_length_utf32", "configuration": {"length_bytes": 4}}, "ab"),
            )
        ),
        ({"chunk_grid": regular(2**15, 2**15)}, "larger than 2 GiB"),
        *(({"codecs": codecs}, "") for codecs in UNREADABLE_CODECS),
        ({"codecs": ["vlen-utf8", "numcodecs.shuffle"], "data_type": "string", "fill_value": ""}, "shuffle"),
    ],
)
def test_what_can_not_be_read_is_listed_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    translated = plan(**changes)
    assert translated.unreadable is not None
    assert reason in translated.unreadable
    assert (translated.raw_nbytes, translated.tail_nbytes, translated.deflated) == (None, None, None)
    assert translated.document["shape"] == [6, 4]
    opens(translated.document)


def test_members_that_need_not_be_understood_are_left_out() -> None:
    translated = plan(extra={"must_understand": False, "x": 1})
    assert translated.unreadable is None
    assert "extra" not in translated.document


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
    translated = plan(data_type=STRUCT, fill_value={}, codecs=[{"name": "sharding_indexed", "configuration": SHARDS}])
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


@pytest.mark.parametrize(
    "changes",
    [
        {"zarr_format": 2},
        {"node_type": "group"},
        {"shape": None},
        {"shape": [6, -4]},
        {"shape": [6, 4.0]},
        {"shape": [6, True]},
        {"shape": [6, 2**63]},
        {"shape": 6},
        {"chunk_grid": regular(4)},
        {"chunk_grid": regular(4, 0)},
        {"chunk_grid": regular(4, -1)},
        {"chunk_grid": {"name": "regular"}},
        {"chunk_grid": {"name": "regular", "configuration": {}}},
        {"shape": [2**32, 2**32], "chunk_grid": regular(1, 1)},
        {"attributes": []},
    ],
)
def test_what_can_not_even_be_listed_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        plan(**changes)


def test_any_key_of_a_chunk_of_another_grid_has_a_place() -> None:
    assert plan(chunk_grid={"name": "rectilinear", "configuration": {}}).grid == (6, 4)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | st.sampled_from(
        ["", "NaN", "bytes", "little", "zstd", "blosc", "default", "struct", "\ud800", "numcodecs.zlib", "int8"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "configuration", "level", "endian", "fields", "x"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)
START: list[dict[str, Any]] = [
    BASE,
    {**BASE, "codecs": [{"name": "sharding_indexed", "configuration": SHARDS}]},
    {**BASE, "data_type": STRUCT, "fill_value": {"x": 1, "y": "NaN"}},
    {**BASE, "data_type": "string", "fill_value": "", "codecs": [{"name": "vlen-utf8", "configuration": {}}, "zstd"]},
    {
        **BASE,
        "data_type": "float32",
        "dimension_names": ["a", None],
        "codecs": [
            {"name": "numcodecs.fixedscaleoffset", "configuration": {"scale": 1, "offset": 0, "dtype": "<f4"}},
            LITTLE,
            {"name": "numcodecs.shuffle", "configuration": {"elementsize": 4}},
            {
                "name": "blosc",
                "configuration": {"typesize": 4, "cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0},
            },
        ],
    },
    {**BASE, "data_type": {"name": "fixed_length_utf32", "configuration": {"length_bytes": 8}}, "fill_value": "a"},
]


def places_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        found += places_in(child, (*path, key))
    return found


@given(st.sampled_from(START), st.data())
@settings(max_examples=600, deadline=None, derandomize=True)
def test_whatever_a_document_has_zarr_opens_what_leaves(start: dict[str, Any], data: st.DataObject) -> None:
    document = copy.deepcopy(start)
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(places_in(document)))
        parent: Any = document
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = data.draw(json_values)
    try:
        translated = array_plan(document)
    except ValueError:
        return
    written_out = json.loads(json.dumps(translated.document))
    opened = opens(written_out)
    assert opened.shape == tuple(translated.document["shape"])
    if translated.unreadable is None and document["shape"] == start["shape"]:
        assert all(codec["name"] != "numcodecs.pickle" for codec in translated.document["codecs"])


# Attributes

REGISTERED = {"uuid": "2adc9aac-d676-4e93-8feb-903b6ae9e08a", "name": "non-finite-attributes"}
OTHER = {"uuid": "00000000-0000-0000-0000-000000000000"}


def test_non_finite_attributes_are_decoded_where_the_node_registers_them() -> None:
    stored = {
        "a": "NaN",
        "b": ["Infinity", "-Infinity", 1.5, "x"],
        "c": {"NaN": "_str_NaN", "d": "_str__str_-Infinity"},
        "e": "_str_x",
        "f": "NaN ",
        "gone": None,
    }
    found = attributes({"attributes": {**stored, "zarr_conventions": [OTHER, REGISTERED]}})
    assert math.isnan(found.pop("a"))
    assert found == {
        "b": [math.inf, -math.inf, 1.5, "x"],
        "c": {"NaN": "NaN", "d": "_str_-Infinity"},
        "e": "_str_x",
        "f": "NaN ",
        "zarr_conventions": [OTHER],
    }
    assert "zarr_conventions" not in attributes({"attributes": {"zarr_conventions": [REGISTERED]}})


@pytest.mark.parametrize(
    "conventions", [None, [], "x", [OTHER], [None], [{"name": "non-finite-attributes"}], REGISTERED]
)
def test_other_attributes_stay_as_they_are(conventions: Any) -> None:
    stored: dict[str, Any] = {"a": "NaN", "b": "_str_NaN", "c": math.inf, "_LINKS": [1]}
    registered = {} if conventions is None else {"zarr_conventions": conventions}
    assert attributes({"attributes": {**stored, **registered, "gone": None}}) == {**stored, **registered}


def test_attributes_may_be_missing() -> None:
    assert attributes({}) == attributes({"attributes": None}) == {}


# Sources


def test_sources_have_sizes_and_etags_without_quotes() -> None:
    found = parse_sources(
        {
            "https://example.org/a": {"size": 102986180753, "etag": '"b885aa8ec05afd33-1535"'},
            "{{u0}}/b": {"size": 0},
            "c": {"etag": "bare", "more": 1},
            "d": {"etag": 'W/"weak"', "size": 1},
            "e": {},
            "f": {"size": None, "etag": None},
            "x/b": {"size": 0, "etag": None},
        },
        templates={"u0": "x"},
    )
    assert found == {
        "https://example.org/a": (102986180753, "b885aa8ec05afd33-1535"),
        "x/b": (0, None),
        "c": (None, "bare"),
        "d": (1, None),
        "e": (None, None),
        "f": (None, None),
    }


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "x",
        {"a": None},
        {"a": []},
        {"a": {"size": -1}},
        {"a": {"size": True}},
        {"a": {"size": 1.0}},
        {"a": {"size": "1"}},
        {"a": {"size": 2**63}},
        {"a": {"etag": 1}},
        {"a": {"etag": ""}},
        {"a": {"etag": '""'}},
        {"a": {"etag": '"a'}},
        {"a": {"etag": '"a"b"'}},
        {"a": {"etag": '"a b"'}},
        {"a": {"etag": '"a\r\nX: y"'}},
        {"a": {"etag": '"\u20ac"'}},
        {"a": {"etag": "x" * 2000}},
        {"a": {"size": 1}, "{{t}}": {"size": 2}},
        {"{{unknown}}": {}},
    ],
)
def test_malformed_sources_are_refused(value: Any) -> None:
    with pytest.raises(InvalidReferences, match="sources") as caught:
        parse_sources(value, templates={"t": "a"})
    assert str(caught.value.key).startswith("sources")
    assert caught.value.__context__ is None


def test_the_query_of_a_url_stays_out_of_messages() -> None:
    with pytest.raises(InvalidReferences) as caught:
        parse_sources({"https://example.org/a?X-Amz-Signature=secret": {"size": "x"}}, templates={})
    assert "secret" not in f"{caught.value} {caught.value.__dict__}"
