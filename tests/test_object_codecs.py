"""Text, object references and compounds as LINDI keeps them, beside what numcodecs and numpy make of them."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numcodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs.vlen import VLenUTF8

import lindi_dask as ld
from lindi_dask.errors import CorruptChunk
from lindi_dask.object_codecs import RecordsCodec, TextCodec

many = settings(max_examples=200, deadline=None, derandomize=True)

shapes = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
JSON = TextCodec("json2")
OBJECT = np.dtype(object)


def written(items: list[Any], shape: tuple[int, ...]) -> bytes:
    """As numcodecs' JSON filter writes them."""
    held = np.empty(len(items), object)
    held[:] = items
    return bytes(numcodecs.JSON().encode(held.reshape(shape)))


def read(plain: bytes) -> list[str]:
    found: list[str] = VLenUTF8().decode(plain).tolist()
    return found


def some(data: st.DataObject, of: st.SearchStrategy[Any], shape: tuple[int, ...]) -> list[Any]:
    count = math.prod(shape)
    return data.draw(st.lists(of, min_size=count, max_size=count))


@given(shape=shapes, data=st.data())
@many
def test_text_in_json_is_the_same_text(shape: tuple[int, ...], data: st.DataObject) -> None:
    items = some(data, texts, shape)
    assert read(JSON.decoded(written(items, shape), shape, OBJECT)) == items


@given(shape=shapes, data=st.data())
@many
def test_an_object_reference_is_the_path_that_it_points_at(shape: tuple[int, ...], data: st.DataObject) -> None:
    paths = some(data, texts, shape)
    items = [{"_REFERENCE": {"source": ".", "path": path, "object_id": "x"}} for path in paths]
    assert read(JSON.decoded(written(items, shape), shape, OBJECT)) == paths


@given(order=st.sampled_from("<>"), width=st.integers(1, 8), shape=shapes, data=st.data())
@many
def test_text_of_fixed_width_is_what_numpy_has(
    order: str, width: int, shape: tuple[int, ...], data: st.DataObject
) -> None:
    held = np.array(some(data, texts, shape), f"{order}U{width}").reshape(shape)
    assert read(TextCodec(held.dtype.str).decoded(held.tobytes(), shape, OBJECT)) == held.ravel().tolist()


FIELDS = np.dtype([("n", "<i4"), ("u", "<u8"), ("x", "<f4"), ("b", "?"), ("t", "<U5")])
rows = st.tuples(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 2**64 - 1),
    st.floats(width=32).map(lambda x: math.nan if math.isnan(x) else x),  # JSON has no sign of it
    st.booleans(),
    st.one_of(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5), st.none()),
)


@given(shape=shapes, data=st.data())
@many
def test_records_are_those_of_the_rows(shape: tuple[int, ...], data: st.DataObject) -> None:
    held = some(data, rows, shape)
    special = {math.inf: "Infinity", -math.inf: "-Infinity"}
    spelled = data.draw(st.booleans())  # LINDI writes words, json itself writes names, for what JSON has not
    items = [[n, u, ("NaN" if math.isnan(x) else special.get(x, x)) if spelled else x, b, t] for n, u, x, b, t in held]
    expected = np.array([(n, u, x, b, t or "") for n, u, x, b, t in held], FIELDS)
    found = np.frombuffer(RecordsCodec().decoded(written(items, shape), shape, FIELDS), FIELDS)
    assert found.tobytes() == expected.tobytes()


ONE = np.dtype([("n", "<i2"), ("x", "<f4"), ("t", "<U2")])
GOOD = [1, 0.5, "ab"]
WRONG_ROWS: dict[str, tuple[Any, str]] = {
    "too few values": ([1, 0.5], "not lists of 3 values"),
    "too many values": ([1, 0.5, "ab", 1], "not lists of 3 values"),
    "no list": ("abc", "not lists of 3 values"),
    "a fraction": ([1.5, 0.5, "ab"], "a number of its field 'n' does not fit int16"),
    "a number that is too large": ([2**15, 0.5, "ab"], "int16|out of bounds"),
    "a number far too large": ([10**400, 0.5, "ab"], "too large|int16|out of bounds"),
    "a float that is too large": ([1, 1e39, "ab"], "a number of its field 'x' does not fit float32"),
    "not a number": (["NaN", 0.5, "ab"], "NaN|fit int16"),
    "a word": (["one", 0.5, "ab"], "its field 'n' holds what are not numbers"),
    "nothing": ([None, 0.5, "ab"], "its field 'n' holds what are not numbers"),
    "a longer text": ([1, 0.5, "abc"], "a text of its field 't' has more than 2 characters"),
    "a number for a text": ([1, 0.5, 7], "it holds int where text was expected"),
}


@pytest.mark.parametrize("name", WRONG_ROWS)
def test_a_row_that_does_not_fit_is_an_error_and_never_another_value(name: str) -> None:
    row, reason = WRONG_ROWS[name]
    with pytest.raises((ValueError, OverflowError), match=reason):
        RecordsCodec().decoded(written([GOOD, row], (2,)), (2,), ONE)


WRONG_JSON: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "it is not JSON"),
    "no JSON": (b'["a", ', "it is not JSON"),
    "a number": (b"5", "it is not JSON"),
    "a word": (b'"ab"', "not what numcodecs' JSON filter writes"),
    "deep": (b"[" * 100_000, "it is not JSON"),
    "no type and shape": (b'["a", "b"]', "not what numcodecs' JSON filter writes"),
    "another type": (b'["a", "b", "<U1", [2]]', "not what numcodecs' JSON filter writes"),
    "a shape of words": (b'["a", "b", "|O", ["2"]]', "not what numcodecs' JSON filter writes"),
    "another shape than it has": (b'["a", "b", "|O", [3]]', "it has 2 elements where 3 were expected"),
    "another shape than the chunk": (b'["a", "|O", [1]]', "it has 1 elements where 2 were expected"),
    "rows of other lengths": (b'[["a"], ["b", "c"], "|O", [2, 1]]', "its rows are not lists of 1"),
    "a negative shape": (b'["a", "b", "|O", [-2]]', "it has 2 elements where -2 were expected"),
    "numbers": (b'[1, 2, "|O", [2]]', "it holds int where text was expected"),
    "a reference without a path": (b'[{"_REFERENCE": {}}, "a", "|O", [2]]', "it holds dict where text was expected"),
    "half a character": (rb'["\ud800", "a", "|O", [2]]', "surrogates not allowed"),
    "millions of values": (b"[" + b"[]," * 2**22 + b'"|O", [2]]', "far more values than its elements need"),
}


@pytest.mark.parametrize("name", WRONG_JSON)
def test_json_that_is_no_chunk_of_text_is_an_error(name: str) -> None:
    data, reason = WRONG_JSON[name]
    with pytest.raises(ValueError, match=reason):
        JSON.decoded(data, (2,), OBJECT)


WRONG_WIDTH = {
    "too short": (b"a\0\0\0", "it has 1 elements where 2 were expected"),
    "too long": (b"a\0\0\0" * 3, "it has 3 elements where 2 were expected"),
    "half an element": (b"a\0\0\0b\0", "multiple of element size"),
}


@pytest.mark.parametrize("name", WRONG_WIDTH)
def test_text_of_fixed_width_of_another_length_is_an_error(name: str) -> None:
    data, reason = WRONG_WIDTH[name]
    with pytest.raises(ValueError, match=reason):
        TextCodec("<U1").decoded(data, (2,), OBJECT)


@pytest.mark.parametrize("form", ["", "json", "<U0", "<i4", "<U1000000", "U5"])
def test_only_known_forms_are_taken(form: str) -> None:
    with pytest.raises(ValueError, match="has no form"):
        TextCodec(form)


def test_codecs_are_the_same_from_their_documents() -> None:
    for codec in (JSON, TextCodec(">U12")):
        assert TextCodec.from_dict(codec.to_dict()) == codec
    records = RecordsCodec(("t",))
    assert RecordsCodec.from_dict(records.to_dict()) == records


# Through a store

ARRAY = {
    "zarr_format": 2,
    "shape": [3],
    "chunks": [2],
    "dtype": "|O",
    "fill_value": "",
    "order": "C",
    "compressor": None,
}
TEXT = {**ARRAY, "filters": [{"id": "json2"}]}
COMPOUND = {"_COMPOUND_DTYPE": [["n", "int16"], ["t", "<REFERENCE>"]]}


def opened(array: dict[str, Any], attributes: dict[str, Any], *chunks: bytes) -> Any:
    coded = {f"a/{i}": "base64:" + base64.b64encode(chunk).decode() for i, chunk in enumerate(chunks)}
    refs = {".zgroup": {"zarr_format": 2}, "a/.zarray": array, "a/.zattrs": attributes, **coded}
    return ld.open_group({"refs": refs})["a"]


def test_a_chunk_that_is_not_listed_holds_the_fill_value() -> None:
    assert opened(TEXT, {}, written(["é", "b"], (2,)))[...].tolist() == ["é", "b", ""]
    found = opened(TEXT, COMPOUND, written([[1, {"_REFERENCE": {"path": "/x"}}], [2, None]], (2,)))[...]
    assert found.tolist() == [(1, "/x"), (2, ""), (0, "")]


def test_a_chunk_that_does_not_fit_is_corrupt_and_named() -> None:
    array = opened(TEXT, {}, written(["a", "b"], (2,)), json.dumps(["c", "|O", [1]]).encode())
    assert array[:2].tolist() == ["a", "b"]
    with pytest.raises(CorruptChunk, match="it has 1 elements where 2 were expected") as caught:
        array[2:]
    assert caught.value.key == "a/1"
