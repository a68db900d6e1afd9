from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.core.metadata import ArrayV3Metadata

from lindi_dask.refs.dialect.v2 import ArrayPlan, array_document, group_document, link_target

BASE: dict[str, Any] = {"zarr_format": 2, "shape": [6, 4], "chunks": [4, 4], "dtype": "<i2", "fill_value": 0}


def plan(attributes: dict[str, Any] | None = None, **changes: Any) -> ArrayPlan:
    return array_document({**BASE, **changes}, attributes or {})


def codecs(**changes: Any) -> list[dict[str, Any]]:
    translated = plan(**changes)
    assert translated.unreadable is None
    found: list[dict[str, Any]] = translated.document["codecs"]
    return found


NAMES = {
    "|b1": "bool",
    "|i1": "int8",
    "|u1": "uint8",
    "<i1": "int8",
    **{f"{o}{k}{n}": f"{v}{8 * n}" for o in "<>" for k, v in (("i", "int"), ("u", "uint")) for n in (2, 4, 8)},
    **{f"{o}f{n}": f"float{8 * n}" for o in "<>" for n in (2, 4, 8)},
    **{f"{o}c{n}": f"complex{8 * n}" for o in "<>" for n in (8, 16)},
}


@pytest.mark.parametrize("dtype", NAMES)
def test_a_numeric_type_gets_its_v3_name_and_the_byte_order_goes_to_the_bytes_codec(dtype: str) -> None:
    translated = plan(dtype=dtype, fill_value=None)
    assert translated.document["data_type"] == NAMES[dtype]
    endian = {"configuration": {"endian": "big" if dtype[0] == ">" else "little"}}
    single = np.dtype(dtype).itemsize == 1
    assert translated.document["codecs"] == [{"name": "bytes", **({} if single else endian)}]


@pytest.mark.parametrize(
    "dtype",
    ["<U0", "|S0", "|V8", "<M8[ns]", "<m8", "<f16", "<i3", "i4", "", "<", 4, None, "f", ">b16"],
)
def test_any_other_type_is_listed_with_the_reason(dtype: object) -> None:
    translated = plan(dtype=dtype)
    assert translated.unreadable is not None
    assert repr(dtype) in translated.unreadable
    assert translated.document["shape"] == [6, 4]


@pytest.mark.parametrize(
    "filters", [None, [], [{"id": "zlib"}], [{"id": "zlib"}, {"id": "json2"}], [{"id": "msgpack2"}]]
)
def test_objects_need_a_filter_that_is_known_for_them(filters: Any) -> None:
    assert "its objects have the filters" in str(plan(dtype="|O", filters=filters).unreadable)


COMPOUNDS: list[dict[str, Any]] = [
    {"dtype": [["x", ">i4"]]},
    {"dtype": [["x", "<i4"], ["x", "<i4"]]},
    {"dtype": [["x", "<i4", [2]]]},
    {"dtype": [["x", [["y", ">i4"]]]]},
    {"dtype": []},
    {"dtype": [["x", "<i4"]], "fill_value": "AAA="},
    {"attributes": {"_COMPOUND_DTYPE": []}},
    {"attributes": {"_COMPOUND_DTYPE": "int32"}},
    {"attributes": {"_COMPOUND_DTYPE": [["x", "int33"]]}},
    {"attributes": {"_COMPOUND_DTYPE": [["", "int32"]]}},
    {"attributes": {"_COMPOUND_DTYPE": [["x", "int32"], ["x", "int32"]]}},
]


@pytest.mark.parametrize("changes", COMPOUNDS)
def test_compounds_that_cannot_be_read_are_listed_with_the_reason(changes: dict[str, Any]) -> None:
    found = plan(**{"fill_value": None, **changes}).unreadable
    assert found is not None
    assert "compound" in found or "record" in found


FILL_VALUES: list[tuple[str, object, object]] = [
    ("<f8", "NaN", "NaN"),
    ("<f8", "Infinity", "Infinity"),
    ("<f8", "-Infinity", "-Infinity"),
    ("<f4", float("nan"), "NaN"),
    ("<f4", float("inf"), "Infinity"),
    ("<f4", float("-inf"), "-Infinity"),
    ("<f8", None, 0.0),
    ("<f8", 3, 3.0),
    ("<f8", -1.5, -1.5),
    ("<i4", None, 0),
    ("<i4", 0.0, 0),
    ("<i4", -(2**31), -(2**31)),
    ("<u8", 2**64 - 1, 2**64 - 1),
    ("|b1", None, False),
    ("|b1", True, True),
    ("|b1", 1, True),
    ("<i2", True, 1),
    ("<c8", None, [0.0, 0.0]),
    ("<c16", ["NaN", 1], ["NaN", 1.0]),
]


@pytest.mark.parametrize(("dtype", "value", "expected"), FILL_VALUES)
def test_a_fill_value_is_kept(dtype: str, value: object, expected: object) -> None:
    translated = plan(dtype=dtype, fill_value=value)
    assert translated.unreadable is None
    assert translated.document["fill_value"] == expected
    assert type(translated.document["fill_value"]) is type(expected)


WRONG_FILL_VALUES: list[tuple[str, object]] = [
    ("<i4", "0"),
    ("<i4", 0.5),
    ("<i4", 2**31),
    ("<i4", float("nan")),
    ("<i4", float("inf")),
    ("<i4", []),
    ("<i4", {}),
    ("<u1", -1),
    ("<u8", 2**64),
    ("|b1", 2),
    ("|b1", "true"),
    ("<f8", "nan"),
    ("<f8", "1.0"),
    ("<f8", True),
    ("<f8", 10**400),
    ("<f8", [0]),
    ("<c16", 0),
    ("<c16", [0]),
    ("<c16", [0, "x"]),
    ("<c16", "NaN"),
]


@pytest.mark.parametrize(("dtype", "value"), WRONG_FILL_VALUES)
def test_a_fill_value_of_another_type_makes_the_array_unreadable(dtype: str, value: object) -> None:
    assert "fill value" in str(plan(dtype=dtype, fill_value=value).unreadable)


SHUFFLE, ZLIB = {"id": "shuffle", "elementsize": 2}, {"id": "zlib", "level": 4}
V3_SHUFFLE = {"name": "numcodecs.shuffle", "configuration": {"elementsize": 2}}
V3_ZLIB = {"name": "numcodecs.zlib", "configuration": {"level": 4}}
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
BLOSC = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 2, "blocksize": 0}


def test_filters_come_before_the_compressor() -> None:
    assert codecs(filters=[SHUFFLE], compressor=ZLIB) == [BYTES, V3_SHUFFLE, V3_ZLIB]
    assert codecs(filters=[SHUFFLE, ZLIB], compressor=None) == [BYTES, V3_SHUFFLE, V3_ZLIB]


@pytest.mark.parametrize("filters", [None, []])
def test_no_filters_are_no_codecs(filters: object) -> None:
    assert codecs(filters=filters, compressor=None) == [BYTES]


@pytest.mark.parametrize(
    ("shuffle", "itemsize", "expected"),
    [(0, 2, "noshuffle"), (1, 2, "shuffle"), (2, 2, "bitshuffle"), (-1, 2, "shuffle"), (-1, 1, "bitshuffle")],
)
def test_blosc_gets_the_size_of_an_item(shuffle: int, itemsize: int, expected: str) -> None:
    compressor = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": shuffle, "blocksize": 0}
    found = codecs(dtype=f"<i{itemsize}", compressor=compressor)
    assert found[1] == {"name": "blosc", "configuration": {**BLOSC, "shuffle": expected, "typesize": itemsize}}


def test_what_a_codec_leaves_out_is_numcodecs_default() -> None:
    assert codecs(compressor={"id": "blosc"})[1]["configuration"] == BLOSC
    assert codecs(filters=[{"id": "shuffle"}])[1]["configuration"] == {"elementsize": 4}
    assert codecs(compressor={"id": "zstd"})[1]["configuration"] == {"level": 0, "checksum": False}


def test_filters_of_values_come_before_the_bytes() -> None:
    delta = {"id": "delta", "dtype": "<i2", "astype": "<i2"}
    configuration = {"dtype": "<i2", "astype": "<i2"}
    assert codecs(filters=[delta], compressor=ZLIB) == [
        {"name": "numcodecs.delta", "configuration": configuration},
        BYTES,
        V3_ZLIB,
    ]


def test_order_f_is_a_transpose() -> None:
    transpose = {"name": "transpose", "configuration": {"order": [1, 0]}}
    assert codecs(order="F", compressor=ZLIB) == [transpose, BYTES, V3_ZLIB]
    assert codecs(order="F", shape=[6], chunks=[4]) == [BYTES]


UNTRANSLATABLE: dict[str, dict[str, Any]] = {
    "json2": {"filters": [{"id": "json2"}]},
    "vlen-utf8": {"filters": [{"id": "vlen-utf8"}]},
    "an unknown filter": {"filters": [{"id": "unheard-of"}]},
    "a filter without an id": {"filters": [{"level": 1}]},
    "a filter with a number for an id": {"filters": [{"id": 1}]},
    "a filter that is a name": {"filters": ["zlib"]},
    "filters that are a number": {"filters": 5},
    "filters that are an object": {"filters": {"id": "zlib"}},
    "a compressor that is a name": {"compressor": "zlib"},
    "a compressor that is a number": {"compressor": 1},
    "a filter of values behind one of bytes": {"filters": [ZLIB, {"id": "delta", "dtype": "<i2"}]},
    "order F with a filter of values": {"filters": [{"id": "delta", "dtype": "<i2"}], "order": "F"},
    "another order": {"order": "A"},
    "no order": {"order": None},
    "an unknown compressor in Blosc": {"compressor": {"id": "blosc", "cname": "unheard-of"}},
    "a list for Blosc's compressor": {"compressor": {"id": "blosc", "cname": []}},
    "a list for Blosc's shuffle": {"compressor": {"id": "blosc", "shuffle": []}},
    "text for Blosc's level": {"compressor": {"id": "blosc", "clevel": "5"}},
    "text for Blosc's block size": {"compressor": {"id": "blosc", "blocksize": "0"}},
    "text for shuffle's item": {"filters": [{"id": "shuffle", "elementsize": "2"}]},
    "null for shuffle's item": {"filters": [{"id": "shuffle", "elementsize": None}]},
    "text for zstd's level": {"compressor": {"id": "zstd", "level": "5"}},
    "a delta of another type": {"filters": [{"id": "delta", "dtype": "<i4"}]},
    "a delta without types": {"filters": [{"id": "delta"}]},
    "packed bits of numbers": {"filters": [{"id": "packbits"}]},
    "a delta of no type at all": {"filters": [{"id": "delta", "dtype": "unheard-of"}]},
    "a delta of big-endian numbers": {"filters": [{"id": "delta", "dtype": ">i2"}], "dtype": ">i2"},
}


@pytest.mark.parametrize("name", UNTRANSLATABLE)
def test_what_cannot_be_translated_is_listed_with_the_reason(name: str) -> None:
    translated = plan(**UNTRANSLATABLE[name])
    assert translated.unreadable
    assert translated.document["shape"] == [6, 4]
    assert translated.raw_nbytes is None


@pytest.mark.parametrize(("dtype", "name"), [("<f4", "float32"), ("|O", "str"), ("<q9", "str")])
def test_an_array_that_cannot_be_read_says_what_its_type_would_be(dtype: str, name: str) -> None:
    translated = plan({"_EXTERNAL_ARRAY_LINK": {}}, dtype=dtype)
    assert translated.unreadable
    assert translated.document["attributes"]["_DTYPE"] == name


def test_dimension_names_are_kept_where_they_fit() -> None:
    assert plan({"_ARRAY_DIMENSIONS": ["t", "x"]}).document["dimension_names"] == ["t", "x"]
    for wrong in (["t"], ["t", "x", "y"], [1, 2], ["t", None], "tx", None):
        assert "dimension_names" not in plan({"_ARRAY_DIMENSIONS": wrong}).document


def test_attributes_are_kept_but_for_those_that_became_metadata() -> None:
    attributes = {"unit": "volts", "_ARRAY_DIMENSIONS": ["t", "x"], "neurodata_type": "VectorData"}
    assert plan(attributes).document["attributes"] == {
        "unit": "volts",
        "neurodata_type": "VectorData",
        "_DTYPE": "int16",
    }


@pytest.mark.parametrize("value", [False, 1, "true", None])
def test_only_true_makes_a_scalar(value: object) -> None:
    assert plan({"_SCALAR": value}, shape=[1], chunks=[1]).document["shape"] == [1]


def test_only_an_array_of_one_element_becomes_a_scalar() -> None:
    scalar = plan({"_SCALAR": True}, shape=[1], chunks=[1])
    assert (scalar.document["shape"], scalar.grid) == ([], ())
    assert plan({"_SCALAR": True}, shape=[2], chunks=[1]).grid == (2,)


def test_the_grid_counts_chunks_that_are_only_begun() -> None:
    assert plan(shape=[9, 8], chunks=[4, 4]).grid == (3, 2)
    assert plan(shape=[0, 8], chunks=[4, 4]).grid == (0, 2)


def test_a_soft_link_is_known_by_its_attribute() -> None:
    assert link_target({"_SOFT_LINK": {"path": "/a/b"}}) == "/a/b"
    assert link_target({"unit": "volts"}) is None


def test_a_group_keeps_its_attributes() -> None:
    assert group_document({"x": 1}) == {"zarr_format": 3, "node_type": "group", "attributes": {"x": 1}}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "F", "<i4", "blosc", "zlib", "NaN"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "shuffle", "level", "cname", "dtype", "astype"]), inner, max_size=3)
    ),
    max_leaves=6,
)
filters = st.lists(
    st.fixed_dictionaries(
        {"id": st.sampled_from(["zlib", "shuffle", "delta", "astype", "blosc", "zstd", "packbits", "quantize"])},
        optional=dict.fromkeys(("level", "elementsize", "dtype", "astype", "shuffle", "cname", "clevel"), json_values),
    ),
    max_size=2,
)
changes = st.dictionaries(
    st.sampled_from(["shape", "chunks", "dtype", "fill_value", "order", "compressor"]), json_values, max_size=2
)
attributes = st.dictionaries(st.sampled_from(["_SCALAR", "_ARRAY_DIMENSIONS", "_SOFT_LINK"]), json_values, max_size=2)


@given(changes, filters, attributes)
@settings(max_examples=200, deadline=None, derandomize=True)
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3:UserWarning")
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_zarr_takes_every_document_whatever_it_was_made_of(
    changes: dict[str, Any], filters: list[dict[str, Any]], attributes: dict[str, Any]
) -> None:
    """One array that zarr can't parse would take the group that lists it, and so the file, down with it."""
    try:
        translated = array_document({**BASE, "filters": filters, **changes}, attributes)
    except ValueError:
        return
    ArrayV3Metadata.from_dict(json.loads(json.dumps(translated.document)))
