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
from zarr.codecs import numcodecs as zn
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.metadata import ArrayV3Metadata
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from lindi_dask.refs.dialect.v3 import array_plan

if TYPE_CHECKING:
    from collections.abc import Iterator

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
NUMBERS = ["bool", "int8", "uint8"] + [
    f"{kind}{bits}"
    for kind, sizes in (("int", (16, 32, 64)), ("uint", (16, 32, 64)), ("float", (16, 32, 64)), ("complex", (64, 128)))
    for bits in sizes
]


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


# What zarrshadow writes


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


def test_compounds_in_compounds_are_read() -> None:
    fields = {"fields": [["in", STRUCT], ["n", "uint8"]]}
    translated = plan(data_type={"name": "struct", "configuration": fields}, fill_value={"in": {"y": 2.5}, "n": 7})
    assert translated.unreadable is None
    assert opens(translated.document).fill_value.tolist() == ((0, 2.5), 7)
    deep: Any = STRUCT
    for _ in range(40):
        deep = {"name": "struct", "configuration": {"fields": [["x", deep]]}}
    assert "too deeply" in str(plan(data_type=deep, fill_value={}).unreadable)


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
    [["x", {"name": "struct", "configuration": {}}]],
    [["x", {"name": "struct", "configuration": {"fields": []}}]],
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


# What can't be read


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
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
    ],
)
def test_what_can_not_be_read_is_listed_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    translated = plan(**changes)
    assert translated.unreadable is not None
    assert reason in translated.unreadable
    assert (translated.raw_nbytes, translated.deflated) == (None, None)
    assert translated.document["shape"] == [6, 4]
    opens(translated.document)
