"""The chunks of an array beside brute force: each in its place, and none that contradicts the array or another."""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs import MISSING, References, parse_json
from lindi_dask.types import ByteRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn

many = settings(max_examples=200, deadline=None, derandomize=True)

ZLIB = {
    "zarr_format": 2,
    "shape": [6],
    "chunks": [2],
    "dtype": "|u1",
    "fill_value": 0,
    "order": "C",
    "filters": None,
    "compressor": {"id": "zlib", "level": 1},
}
RAW = {**ZLIB, "compressor": None}
ARRAY_3 = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [6],
    "data_type": "uint8",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
    "chunk_key_encoding": {"name": "default"},
    "fill_value": 0,
    "codecs": [{"name": "bytes"}],
}


def parse(refs: dict[str, Any], relocate: Any = None, **members: Any) -> References:
    content = json.dumps({"refs": {".zgroup": {"zarr_format": 2}, **refs}, **members}).encode()
    return parse_json(content, "f", name="x.json", relocate=relocate)


def listed(references: References, path: str = "a") -> dict[str, tuple[str, int, int]]:
    """Where each chunk lies, by name."""
    manifest = references.manifests[path]
    found = manifest.locate(np.arange(math.prod(manifest.grid), dtype=np.uint64))
    names = [".".join(map(str, index)) or "0" for index in np.ndindex(manifest.grid)]
    rows = zip(names, found.sources.tolist(), found.offsets.tolist(), found.lengths.tolist(), strict=True)
    return {n: (references.sources[s].url, offset, length) for n, s, offset, length in rows if s != MISSING}


# In their places


@st.composite
def arrays(draw: DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A grid, its keys in any order and form, and where their chunks lie."""
    grid = draw(st.lists(st.integers(1, 5), max_size=3))
    separator = draw(st.sampled_from([".", "/"]))
    array = {**ZLIB, "shape": grid, "chunks": [1] * len(grid), "dimension_separator": separator}
    indices = draw(st.permutations(list(itertools.product(*map(range, grid)))))
    kept = indices[: draw(st.integers(0, len(indices)))]
    chunks = {}
    for i, index in enumerate(kept):
        url = draw(st.sampled_from(["https://h/x", "https://h/y"]))
        chunks[separator.join(map(str, index)) or "0"] = [url, 10 * i, draw(st.integers(1, 10))]
    return array, chunks


@given(made=arrays(), path=st.sampled_from(["a", "g/a", "0", "g/1", "é"]), inlined=st.booleans())
@many
def test_every_chunk_lies_where_its_entry_says(
    made: tuple[dict[str, Any], dict[str, Any]], path: str, inlined: bool
) -> None:
    array, chunks = made
    entries = {f"{path}/{name}": value for name, value in chunks.items()}
    if inlined and entries:
        entries[next(iter(entries))] = "x"
    found = listed(parse({f"{path}/.zarray": array, **entries}), path)
    expected = {name.replace("/", "."): tuple(value) for name, value in chunks.items()}
    if inlined and expected:
        expected[next(iter(expected))] = ("", 0, 1)
    assert found == expected


@given(grid=st.lists(st.integers(1, 4), max_size=3), data=st.data())
@many
def test_every_chunk_of_zarr_v3_lies_where_its_entry_says(grid: list[int], data: st.DataObject) -> None:
    regular = {"name": "regular", "configuration": {"chunk_shape": [1] * len(grid)}}
    indices = list(itertools.product(*map(range, grid)))
    kept = data.draw(st.lists(st.sampled_from(indices), unique=True))
    keys = {"/".join(["a/c", *map(str, index)]): ["u", 5 * i, 1] for i, index in enumerate(kept)}
    nulls = {"/".join(["a/c", *map(str, index)]): None for index in indices if index not in kept}
    found = parse({"a/zarr.json": {**ARRAY_3, "shape": grid, "chunk_grid": regular}, **keys, **nulls})
    assert listed(found) == {".".join(map(str, index)) or "0": ("u", 5 * i, 1) for i, index in enumerate(kept)}


def test_a_thousand_rows_of_chunks_with_slashes_become_columns() -> None:
    array = {**ARRAY_3, "shape": [2, 3000], "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 1]}}}
    entries = {f"a/c/{i}/{j}": ["u", 3000 * i + j, 1] for i in range(2) for j in range(3000)}
    found = listed(parse({"a/zarr.json": array, **entries}))
    assert found == {f"{i}.{j}": ("u", 3000 * i + j, 1) for i in range(2) for j in range(3000)}


# Twice


@pytest.mark.parametrize("separate", [1, 40_000])
def test_a_chunk_that_stands_there_twice_is_refused_however_far_apart(separate: int) -> None:
    chunks = {f"a/{i}": ["u", i, 1] for i in range(separate)}
    text = json.dumps({"refs": {"a/.zarray": {**ZLIB, "shape": [100_000], "chunks": [1]}, **chunks}})
    text = text[:-2] + ', "a/0": ["u", 0, 1]}}'
    with pytest.raises(InvalidReferences, match="it stands there twice") as caught:
        parse_json(text.encode(), "f", name="x.json")
    assert caught.value.key == "a/0"


@pytest.mark.parametrize("values", list(itertools.product(["null", '["u", 0, 2]', '"xx"'], repeat=2)), ids=" and ".join)
def test_a_chunk_of_zarr_v3_that_stands_there_twice_is_refused_also_as_null(values: tuple[str, str]) -> None:
    text = f'{{"refs": {{"a/zarr.json": {json.dumps(ARRAY_3)}, "a/c/1": {values[0]}, "a/c/1": {values[1]}}}}}'
    with pytest.raises(InvalidReferences, match="twice") as caught:
        parse_json(text.encode(), "f", name="x.json")
    assert caught.value.key == "a/c/1"


# Overlaps


@given(
    chunks=st.lists(st.tuples(st.sampled_from("uv"), st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=6),
    data=st.data(),
)
@many
def test_chunks_overlap_if_they_share_some_bytes_but_not_all(
    chunks: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    array = {**ZLIB, "shape": [len(chunks)], "chunks": [1]}
    places = data.draw(st.permutations(range(len(chunks))))
    entries = {f"a/{place}": [*chunk] for place, chunk in zip(places, chunks, strict=True)}
    overlaps = any(
        first != second and first[0] == second[0] and set(bytes_of(first)) & set(bytes_of(second))
        for first, second in itertools.combinations(chunks, 2)
    )
    if not overlaps:
        assert len(listed(parse({"a/.zarray": array, **entries}))) == len(chunks)
        return
    with pytest.raises(InvalidReferences, match="its bytes overlap those of") as caught:
        parse({"a/.zarray": array, **entries})
    named = [caught.value.key, re.findall(r"of '(a/\d)'", caught.value.reason)[0]]
    first, second = (entries[str(key)] for key in named)
    assert set(bytes_of(first)) & set(bytes_of(second))


def bytes_of(chunk: Sequence[Any]) -> range:
    return range(chunk[1], chunk[1] + chunk[2])


# Lengths

LENGTHS: dict[str, tuple[dict[str, Any], list[int], str | None]] = {
    "raw chunks": (RAW, [2, 2, 2], None),
    "a raw chunk too short": (RAW, [2, 1, 2], "a/1: it has 1 bytes, but an uncompressed chunk here has 2"),
    "a raw chunk too long": (RAW, [2, 3, 2], "a/1: it has 3 bytes, but an uncompressed chunk here has 2"),
    "a last raw chunk cut at the end": ({**RAW, "shape": [5]}, [2, 2, 1], None),
    "a first raw chunk cut short": ({**RAW, "shape": [5]}, [1, 2, 2], "a/0: it has 1 bytes, but"),
    "compressed chunks of any length": (ZLIB, [1, 1000, 7], None),
    "too little for what it inflates to": (
        {**ZLIB, "shape": [3 * 10**6], "chunks": [10**6]},
        [10**4, 10, 10**4],
        "a/1: its 10 bytes can't hold a chunk of 1000000, however well they are compressed",
    ),
}


@pytest.mark.parametrize("columns", [True, False])
@pytest.mark.parametrize("name", LENGTHS)
def test_lengths_have_to_fit(name: str, columns: bool) -> None:
    array, lengths, reason = LENGTHS[name]
    entries: dict[str, Any] = {f"a/{i}": ["u", 10**5 * i, length] for i, length in enumerate(lengths)}
    if not columns:  # beside a key that is not in numbers, few entries are taken one by one
        entries["odd/x"] = ["u", 0, 1]
    if reason is None:
        assert len(listed(parse({"a/.zarray": array, **entries}))) == 3
        return
    with pytest.raises(InvalidReferences) as caught:
        parse({"a/.zarray": array, **entries})
    assert f"{caught.value.key}: {caught.value.reason}".startswith(reason)


# What sources and bundles say


def test_a_reference_past_the_end_of_its_source_is_named_also_in_columns() -> None:
    array = {**ZLIB, "shape": [50], "chunks": [1]}
    entries = {f"a/{i}": ["{{u}}/x", 10 * i, 10] for i in range(50)}
    sources = {"{{u}}/x": {"size": 495}}
    with pytest.raises(InvalidReferences, match=re.escape("it reaches up to byte 500, but {{u}}/x has 495")) as caught:
        parse({"a/.zarray": array, **entries}, templates={"u": "https://h"}, sources=sources)
    assert caught.value.key == "a/49"


MEMBERS = {"x": ByteRange(1000, 20), "y": ByteRange(5000, 30)}


def relocate(url: str) -> ByteRange | None:
    return MEMBERS.get(url.removeprefix("./"))


def test_references_into_a_bundle_are_moved_to_where_its_members_lie() -> None:
    entries = {"a/0": ["./x", 5, 10], "a/1": ["y"], "a/2": ["https://h/z", 5, 10]}
    found = listed(parse({"a/.zarray": ZLIB, **entries}, relocate))
    assert found == {"0": ("", 1005, 10), "1": ("", 5000, 30), "2": ("https://h/z", 5, 10)}


LEFT = {
    "past the end of a member": (["x", 15, 10], "it reaches up to byte 25, but x has 20"),
    "no member": (["z", 0, 10], "the bundle has no 'z'"),
    "no URL": (["", 0, 10], "its URL is empty"),
}


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("name", LEFT)
def test_references_that_a_bundle_has_not_are_refused(name: str, count: int) -> None:
    value, reason = LEFT[name]
    array = {**ZLIB, "shape": [count], "chunks": [1]}
    with pytest.raises(InvalidReferences, match=re.escape(reason)) as caught:
        parse({"a/.zarray": array, **{f"a/{i}": value for i in range(count)}}, relocate)
    assert caught.value.key == "a/0"


def test_entries_that_belong_to_nothing_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    parse({f"nothing/{i}": ["u", i, 1] for i in range(5000)})
    assert [record.getMessage() for record in caplog.records] == [
        "references that belong to no array are left out: 5000, the first is 'nothing/0'"
    ]


def test_an_empty_array_takes_no_chunk_whatever_its_entries_say() -> None:
    found = parse({"a/.zarray": {**ZLIB, "shape": [0]}, "a/0": ["u", 0, 5]})
    assert listed(found) == {}


@pytest.mark.parametrize("path", ["a/b", "a/b/c"])
@pytest.mark.parametrize("document", [".zgroup", ".zarray"])
def test_nothing_but_chunks_lies_below_an_array(path: str, document: str) -> None:
    with pytest.raises(
        InvalidReferences, match="it lies below an array, where nothing but its chunks may lie"
    ) as caught:
        parse({"a/.zarray": ZLIB, f"{path}/{document}": ZLIB})
    assert caught.value.key == path
