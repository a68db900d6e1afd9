"""Values that a reference file holds itself."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs import inline
from lindi_dask.refs.inline import inline_bytes, json_items, json_text

if TYPE_CHECKING:
    from collections.abc import Callable

many = settings(max_examples=200, deadline=None, derandomize=True)
LIMIT = 2**20


@given(data=st.binary(max_size=100))
@many
def test_base64_is_undone(data: bytes) -> None:
    assert inline_bytes("a/0", "base64:" + base64.b64encode(data).decode(), limit=LIMIT) == data


@given(text=st.text(max_size=50).filter(lambda text: not text.startswith("base64:")))
@many
def test_text_stands_for_its_utf_8(text: str) -> None:
    assert inline_bytes("a/0", text, limit=LIMIT) == text.encode()


def test_an_object_stands_for_its_json() -> None:
    assert json.loads(inline_bytes("a/0", {"é": [1, None]}, limit=LIMIT)) == {"é": [1, None]}


BROKEN = {
    "base64 cut short": ("base64:AAA", "what follows 'base64:' is not base64"),
    "base64 with a blank": ("base64:AA A", "what follows 'base64:' is not base64"),
    "base64 of the other alphabet": ("base64:--__", "what follows 'base64:' is not base64"),
    "base64 behind its end": ("base64:AA==AA==", "what follows 'base64:' is not base64"),
    "half a character": ("\ud800", "it is not text: it holds half a character"),
    "text beyond the limit": ("x" * 101, "it is larger than"),
    "text whose bytes are beyond the limit": ("é" * 51, "it is larger than"),
    "base64 beyond the limit": ("base64:" + "A" * 300, "it is larger than"),
    "base64 whose bytes are beyond the limit": ("base64:" + "A" * 136, "it is larger than"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_value_that_is_broken_or_too_large_is_refused_with_its_key(name: str) -> None:
    value, reason = BROKEN[name]
    with pytest.raises(InvalidReferences) as caught:
        inline_bytes("a/0", value, limit=100)
    assert caught.value.key == "a/0"
    assert caught.value.reason.startswith(reason)


# The elements of numcodecs' JSON

COMPRESSORS: dict[str, tuple[dict[str, Any], Callable[[bytes], bytes]]] = {
    "none": ({}, bytes),
    "blosc": ({"id": "blosc"}, numcodecs.Blosc().encode),
    "zlib": ({"id": "zlib"}, zlib.compress),
    "gzip": ({"id": "gzip"}, gzip.compress),
}
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def written(items: list[Any], shape: tuple[int, ...]) -> bytes:
    held = np.empty(len(items), object)
    held[:] = items
    return bytes(numcodecs.JSON().encode(held.reshape(shape)))


@pytest.mark.parametrize("compressor", COMPRESSORS)
@given(shape=st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple), data=st.data())
@many
def test_the_elements_are_those_that_numcodecs_wrote(
    compressor: str, shape: tuple[int, ...], data: st.DataObject
) -> None:
    count = int(np.prod(shape))
    items = data.draw(st.lists(texts, min_size=count, max_size=count))
    configuration, compress = COMPRESSORS[compressor]
    assert json_items(compress(written(items, shape)), configuration, limit=LIMIT) == items


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_what_is_larger_than_the_limit_is_not_inflated(compressor: str) -> None:
    configuration, compress = COMPRESSORS[compressor]
    text = written(["x" * 1000], (1,))
    assert json_text(compress(text), configuration, limit=len(text)) == text
    for limit in (len(text) - 1, 1, 0, -5):
        with pytest.raises(ValueError, match="not within the limit"):
            json_text(compress(text), configuration, limit=limit)


def test_a_bomb_of_values_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline, "_MAX_ITEMS", 50)
    assert len(json_items(written(["x"] * 20, (20,)), {}, limit=LIMIT)) == 20
    with pytest.raises(ValueError, match="more than 50 values"):
        json_items(b"[" + b"[]," * 60 + b'"|O", [60]]', {}, limit=LIMIT)


OTHERS = {
    "nothing": (b"", {}),
    "no JSON": (b"x", {}),
    "a number": (b"5", {}),
    "a list that is too short": (b"[1]", {}),
    "no shape": (b'["x", "|O", 1]', {}),
    "nested too deeply": (b"[" * 100_000, {}),
    "no zlib": (b"[]", {"id": "zlib"}),
    "zlib cut off": (zlib.compress(b"x" * 100)[:-3], {"id": "zlib"}),
    "no Blosc": (b"[]", {"id": "blosc"}),
    "Blosc cut off": (bytes(numcodecs.Blosc().encode(b"x" * 100))[:-1], {"id": "blosc"}),
    "Blosc damaged": (bytes(numcodecs.Blosc().encode(bytes(100)))[:16] + b"\xff" * 30, {"id": "blosc"}),
    "another compressor": (b"[]", {"id": "lzma"}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_chunk_of_json_is_a_value_error(name: str) -> None:
    data, compressor = OTHERS[name]
    with pytest.raises(ValueError, match=r"its compression|numcodecs|Expecting|unpack"):
        json_items(data, compressor, limit=LIMIT)
