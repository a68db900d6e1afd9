from __future__ import annotations

import copy
import json
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.core.metadata import ArrayV3Metadata

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.dialect.v3 import array_plan, attributes, parse_sources, shortest_nbytes
from lindi_dask.refs.references import Source

if TYPE_CHECKING:
    from lindi_dask.refs.dialect.v2 import ArrayPlan

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
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


def regular(*chunks: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}


def plan(**changes: Any) -> ArrayPlan:
    return array_plan({**BASE, **changes})


def opens(document: dict[str, Any]) -> ArrayV3Metadata:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ArrayV3Metadata.from_dict(copy.deepcopy(document))


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
    assert (translated.raw_nbytes, translated.deflated, translated.may_end_early) == (None, 16_000, True)
    assert translated.unreadable is None
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
@settings(max_examples=100, deadline=None, derandomize=True)
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
    with_columns_side_by_side = shortest_nbytes(translated, places[::-1])
    assert with_columns_side_by_side.tolist() == shortest.tolist()[::-1]


def test_the_last_slab_of_a_contiguous_dataset_may_be_short() -> None:
    translated = plan(shape=[1009, 6], chunk_grid=regular(100, 6))
    assert (translated.raw_nbytes, translated.may_end_early) == (1200, True)
    ends = shortest_nbytes(translated, np.array([0, 9, 10], np.uint64))
    assert ends.tolist() == [1200, 1200, 108]  # as in the project's own test
    side_by_side = plan(shape=[1009, 12], chunk_grid=regular(100, 6))
    assert shortest_nbytes(side_by_side, np.array([0, 20, 21], np.uint64)).tolist() == [1200, 108, 108]


# What can't be read


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
        ({"chunk_grid": regular(2**15, 2**15)}, "larger than 2 GiB"),
    ],
)
def test_what_can_not_be_read_is_listed_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    translated = plan(**changes)
    assert translated.unreadable is not None
    assert reason in translated.unreadable
    assert (translated.raw_nbytes, translated.deflated) == (None, None)
    assert translated.document["shape"] == [6, 4]
    opens(translated.document)


def test_members_that_need_not_be_understood_are_left_out() -> None:
    translated = plan(extra={"must_understand": False, "x": 1})
    assert translated.unreadable is None
    assert "extra" not in translated.document


@pytest.mark.parametrize(
    "changes",
    [
        {"zarr_format": 2},
        {"node_type": "group"},
        *({"shape": shape} for shape in (None, [6, -4], [6, 4.0], [6, True], [6, 2**63], 6)),
        *({"chunk_grid": regular(*chunks)} for chunks in ((4,), (4, 0), (4, -1))),
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


SHARDS: dict[str, Any] = {
    "chunk_shape": [2, 4],
    "codecs": [LITTLE, "crc32c"],
    "index_codecs": [LITTLE, {"name": "crc32c"}],
    "index_location": "start",
}
STRUCT = {
    "name": "struct",
    "configuration": {"fields": [{"name": "x", "data_type": "int32"}, {"name": "y", "data_type": "float64"}]},
}
PAIRS = {"name": "structured", "configuration": {"fields": [["x", "int32"], ["y", "float64"]]}}
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
            "g": {"size": 1, "address": "dandi://dandi/000123@draft/a b.nwb"},
            "h": {"address": "Musterweg 1"},  # of somebody else's, whatever it means
        },
        templates={"u0": "x"},
    )
    assert found == {
        "https://example.org/a": Source("https://example.org/a", 102986180753, "b885aa8ec05afd33-1535"),
        "x/b": Source("x/b", 0),
        "c": Source("c", etag="bare"),
        "d": Source("d", 1),
        "e": Source("e"),
        "f": Source("f"),
        "g": Source("g", 1, address="dandi://dandi/000123@draft/a b.nwb"),
        "h": Source("h"),
    }


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "x",
        {"a": None},
        {"a": []},
        *({"a": {"size": size}} for size in (-1, True, 1.0, "1", 2**63)),
        *(
            {"a": {"etag": etag}}
            for etag in (1, "", '""', '"a', '"a"b"', '"a b"', '"a\r\nX: y"', '"\u20ac"', "x" * 2000)
        ),
        {"a": {"size": 1}, "{{t}}": {"size": 2}},
        {"{{unknown}}": {}},
    ],
)
def test_malformed_sources_are_refused(value: Any) -> None:
    with pytest.raises(InvalidReferences, match="sources") as caught:
        parse_sources(value, templates={"t": "a"})
    assert str(caught.value.key).startswith("sources")
    assert caught.value.__context__ is None


@pytest.mark.parametrize("address", ["dandi://x/\x1b[2J", "dandi://x/\n", "dandi://" + "a" * 4096, 1, None])
def test_an_address_that_is_none_is_left_out(address: Any) -> None:
    assert parse_sources({"a": {"size": 1, "address": address}}, templates={}) == {"a": Source("a", 1)}


def test_without_templates_a_url_is_as_it_is() -> None:
    assert parse_sources({"{{u}}": {"size": 1}}, templates=None) == {"{{u}}": Source("{{u}}", 1)}


def test_the_query_of_a_url_stays_out_of_messages() -> None:
    with pytest.raises(InvalidReferences) as caught:
        parse_sources({"https://example.org/a?X-Amz-Signature=secret": {"size": "x"}}, templates={})
    assert "secret" not in f"{caught.value} {caught.value.__dict__}"
