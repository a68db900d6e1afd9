from __future__ import annotations

import base64
import copy
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs import INLINE, References, parse_json

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://example.org/session.nwb"
GROUP = {"zarr_format": 2}
ARRAY = {
    "zarr_format": 2,
    "shape": [5],
    "chunks": [2],
    "dtype": "<i4",
    "fill_value": 0,
    "order": "C",
    "filters": None,
    "compressor": None,
}
ZLIB = {**ARRAY, "compressor": {"id": "zlib", "level": 4}}


def parsed(document: object) -> References:
    return parse_json(json.dumps(document).encode(), "fingerprint", name="x.json")


def parse(refs: dict[str, Any], **document: Any) -> References:
    return parsed({"refs": {".zgroup": GROUP, **refs}, **document})


def located(references: References, path: str, name: str) -> tuple[str, int, int]:
    manifest = references.manifests[path]
    place = manifest.place(name)
    assert place is not None
    found = manifest.locate(np.array([place], np.uint64))
    return references.sources[int(found.sources[0])].url, int(found.offsets[0]), int(found.lengths[0])


def inline(references: References) -> bytes:
    data = references.sources[INLINE].data
    assert data is not None
    return bytes(data)


# The sample session


@pytest.fixture
def session(data: Path) -> References:
    document = json.loads((data / "session.expanded.lindi.json").read_text("utf-8"))
    return parsed(document)


def test_all_54_arrays_of_the_sample_session_are_readable(session: References) -> None:
    assert len(session.manifests) == 54
    assert not session.unreadable


def test_every_chunk_of_the_sample_session_is_located_where_the_file_says(data: Path, session: References) -> None:
    document = json.loads((data / "session.expanded.lindi.json").read_text("utf-8"))
    url, checked = document["templates"]["u1"], 0
    for key, entry in document["refs"].items():
        path, _, name = key.rpartition("/")
        if path not in session.manifests or name.startswith("."):
            continue
        source, offset, length = located(session, path, name)
        if isinstance(entry, list):
            assert (source, offset, length) == (url, *entry[1:])
        else:
            held = inline(session)[offset : offset + length]
            coded = entry.startswith("base64:")
            assert held == (base64.b64decode(entry[7:]) if coded else entry.encode())
        checked += 1
    assert checked == sum(len(list(manifest.names())) for manifest in session.manifests.values()) > 54


def test_soft_links_are_links_of_the_groups_that_they_lie_in(session: References) -> None:
    path = "processing/ecephys/LFP/LFP/electrodes"
    assert len(session.links) == 5
    assert session.links[path] == "acquisition/ElectricalSeries/electrodes"
    assert f"{path}/zarr.json" not in session.metadata
    parent = json.loads(session.metadata["processing/ecephys/LFP/LFP/zarr.json"])
    link = {"name": "electrodes", "source": ".", "path": "/acquisition/ElectricalSeries/electrodes"}
    assert parent["attributes"]["_LINKS"] == [link]


def test_an_array_that_is_only_a_link_is_unreadable_and_never_fill_values(data: Path) -> None:
    document = json.loads((data / "session.lindi.json").read_text("utf-8"))
    references = parsed(document)
    path = "processing/ecephys/LFP/LFP/data"
    assert "expand=True" in references.unreadable[path]
    assert not list(references.manifests[path].names())


@pytest.mark.parametrize("link", [None, "a string", [], {}, 0])
def test_a_link_of_any_shape_makes_its_array_unreadable(link: object) -> None:
    references = parse({"a/.zarray": ARRAY, "a/.zattrs": {"_EXTERNAL_ARRAY_LINK": link}})
    assert "a" in references.unreadable


def test_the_roots_document_consolidates_all_others(session: References) -> None:
    below = json.loads(session.metadata["zarr.json"])["consolidated_metadata"]["metadata"]
    assert {f"{path}/zarr.json" for path in below} | {"zarr.json"} == set(session.metadata)
    assert all(json.loads(session.metadata[f"{path}/zarr.json"]) == document for path, document in below.items())


# Well-formed entries


def test_documents_may_be_objects_or_text_or_base64() -> None:
    text = json.dumps(ARRAY)
    coded = "base64:" + base64.b64encode(text.encode()).decode()
    documents = [parse({"a/.zarray": form}).metadata for form in (ARRAY, text, coded)]
    assert documents[0] == documents[1] == documents[2]


def test_inline_chunks_lie_one_after_the_other_in_the_first_source() -> None:
    references = parse({"a/.zarray": ARRAY, "a/0": "abcdefgh", "a/1": "base64:" + base64.b64encode(bytes(8)).decode()})
    assert len(references.sources) == 1
    assert INLINE == 0
    assert [located(references, "a", name) for name in ("0", "1")] == [("", 0, 8), ("", 8, 8)]
    assert inline(references) == b"abcdefgh" + bytes(8)


def test_templates_are_replaced_once_and_each_url_is_kept_once() -> None:
    references = parse(
        {
            "a/.zarray": ZLIB,
            "a/0": ["{{u}}/x", 1, 2],
            "a/1": ["{{ u }}/x", 3, 4],
            "a/2": ["https://h/x", 7, 6],
            "b/.zarray": ZLIB,
            "b/0": ["{{odd}}", 0, 1],
        },
        templates={"u": "https://h", "odd": "{{u}}/y"},
    )
    assert [references.sources[i].url for i in range(len(references.sources))] == ["", "https://h/x", "https://h/y"]


def test_a_chunk_name_may_have_slashes_where_the_array_says_so() -> None:
    array = {**ZLIB, "shape": [5, 5], "chunks": [2, 2], "dimension_separator": "/"}
    references = parse({"a/.zarray": array, "a/2/1": [URL, 7, 8]})
    assert list(references.manifests["a"].names()) == ["2.1"]


def test_a_scalar_loses_its_dimension() -> None:
    references = parse(
        {"a/.zarray": {**ARRAY, "shape": [1], "chunks": [1]}, "a/.zattrs": {"_SCALAR": True}, "a/0": "abcd"}
    )
    assert json.loads(references.metadata["a/zarr.json"])["shape"] == []
    assert list(references.manifests["a"].names()) == ["0"]


def test_groups_that_only_paths_imply_exist() -> None:
    references = parse({"x/y/a/.zarray": ARRAY})
    assert {"zarr.json", "x/zarr.json", "x/y/zarr.json", "x/y/a/zarr.json"} == set(references.metadata)


def test_an_entry_that_belongs_to_no_array_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    references = parse({"nothing/0": [URL, 0, 1]})
    assert not references.manifests
    assert "nothing/0" in caplog.text


# Malformed entries

LAST = 2**63 - 1
MALFORMED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a negative offset": ({"a/0": [URL, -1, 8]}, "a/0", "out of bounds"),
    "a negative length": ({"a/0": [URL, 0, -8]}, "a/0", "out of bounds"),
    "an offset of 2**63": ({"a/0": [URL, 2**63, 8]}, "a/0", "out of bounds"),
    "an end beyond 2**63": ({"a/0": [URL, LAST - 7, 8]}, "a/0", "out of bounds"),
    "a length of 2**32": ({"z/0": [URL, 0, 2**32]}, "z/0", "out of bounds"),
    "two elements": ({"a/0": [URL, 0]}, "a/0", "[url, offset, length]"),
    "four elements": ({"a/0": [URL, 0, 8, 0]}, "a/0", "[url, offset, length]"),
    "no elements": ({"a/0": []}, "a/0", "[url, offset, length]"),
    "an offset with a fraction": ({"a/0": [URL, 0.0, 8]}, "a/0", "whole numbers"),
    "a length with a fraction": ({"a/0": [URL, 0, 8.0]}, "a/0", "whole numbers"),
    "a bool for an offset": ({"a/0": [URL, False, 8]}, "a/0", "whole numbers"),
    "a bool for a length": ({"z/0": [URL, 0, True]}, "z/0", "whole numbers"),
    "a string for an offset": ({"a/0": [URL, "0", 8]}, "a/0", "whole numbers"),
    "null for a URL": ({"a/0": [None, 0, 8]}, "a/0", "whole numbers"),
    "null": ({"a/0": None}, "a/0", "[url, offset, length]"),
    "a number": ({"a/0": 8}, "a/0", "[url, offset, length]"),
    "an unknown template": ({"a/0": ["{{u2}}", 0, 8]}, "a/0", "'u2' is not defined"),
    "a template with an attribute": ({"a/0": ["{{u1.__class__}}", 0, 8]}, "a/0", "can't stand where"),
    "a template with a call": ({"a/0": ["{{f(c=1)}}", 0, 8]}, "a/0", "'f' is not defined"),
    "a template that is not closed": ({"a/0": ["{{u1", 0, 8]}, "a/0", "not closed"),
    "a template made of the leftovers of another": ({"a/0": ["{{{u1}}{u1}}", 0, 8]}, "a/0", "can't stand where"),
    "wrong base64": ({"a/0": "base64:AAAA*AAA"}, "a/0", "not base64"),
    "base64 cut short": ({"a/0": "base64:AAAAAAAAAAA"}, "a/0", "not base64"),
    "base64 that is not ASCII": ({"a/0": "base64:é"}, "a/0", "not base64"),
    "text with half a character": ({"a/0": "\ud800bcdefg"}, "a/0", "not text"),
    "a chunk outside the grid": ({"a/3": [URL, 0, 8]}, "a/3", "no such chunk"),
    "a chunk with a leading zero": ({"a/01": [URL, 0, 8]}, "a/01", "no such chunk"),
    "a chunk like 01.0": ({"m/01.0": [URL, 0, 8]}, "m/01.0", "no such chunk"),
    "a chunk with too few numbers": ({"m/1": [URL, 0, 8]}, "m/1", "no such chunk"),
    "a chunk with too many numbers": ({"a/0.0": [URL, 0, 8]}, "a/0.0", "no such chunk"),
    "a chunk with a negative number": ({"a/-1": [URL, 0, 8]}, "a/-1", "no such chunk"),
    "a chunk with a sign": ({"a/+1": [URL, 0, 8]}, "a/+1", "no such chunk"),
    "a chunk in Arabic digits": ({"a/\u0661": [URL, 0, 8]}, "a/\u0661", "no such chunk"),
    "a chunk with an underscore": ({"a/1_0": [URL, 0, 8]}, "a/1_0", "no such chunk"),
    "a chunk of 5,000 digits": ({f"a/{'1' * 5000}": [URL, 0, 8]}, f"a/{'1' * 5000}", "no such chunk"),
    "a chunk with another separator": ({"m/1/0": [URL, 0, 8]}, "m/1/0", "no such chunk"),
    "a chunk with a point instead of a slash": ({"s/1.0": [URL, 0, 8]}, "s/1.0", "separated by '/'"),
    "a chunk without a name": ({"a/": [URL, 0, 8]}, "a/", "no such chunk"),
    "a word": ({"a/c": [URL, 0, 8]}, "a/c", "no such chunk"),
    "an uncompressed chunk that is too short": ({"a/0": [URL, 0, 7]}, "a/0", "has 7 bytes, but"),
    "an uncompressed chunk that is too long": ({"a/0": [URL, 0, 9]}, "a/0", "has 9 bytes, but"),
    "an uncompressed inline chunk that is too short": ({"a/0": "abc"}, "a/0", "has 3 bytes, but"),
    "a .zarray that is no object": ({"a/.zarray": []}, "a/.zarray", "not a JSON object"),
    "a .zarray that is null": ({"a/.zarray": None}, "a/.zarray", "not a JSON object"),
    "a .zarray that is no JSON": ({"a/.zarray": "{"}, "a/.zarray", "not a JSON object"),
    "a .zarray that is a JSON list": ({"a/.zarray": "[]"}, "a/.zarray", "not a JSON object"),
    "a .zarray nested beyond reason": ({"a/.zarray": "[" * 100_000}, "a/.zarray", "not a JSON object"),
    "a .zarray in a blob": ({"a/.zarray": [URL, 0, 8]}, "a/.zarray", "not a JSON object"),
    "a .zattrs that is no object": ({"a/.zattrs": "7"}, "a/.zattrs", "not a JSON object"),
    "no shape": ({"b/.zarray": {"chunks": [1]}}, "b/.zarray", "shape None"),
    "a negative extent": ({"b/.zarray": {**ARRAY, "shape": [-1]}}, "b/.zarray", "shape [-1]"),
    "a bool for an extent": ({"b/.zarray": {**ARRAY, "shape": [True]}}, "b/.zarray", "shape [True]"),
    "a fraction for an extent": ({"b/.zarray": {**ARRAY, "shape": [5.0]}}, "b/.zarray", "shape [5.0]"),
    "an extent of 2**63": ({"b/.zarray": {**ARRAY, "shape": [2**63]}}, "b/.zarray", "shape"),
    "chunks of another rank": ({"b/.zarray": {**ARRAY, "chunks": [2, 2]}}, "b/.zarray", "do not fit together"),
    "chunks of nothing": ({"b/.zarray": {**ARRAY, "chunks": [0]}}, "b/.zarray", "do not fit together"),
    "pickle": ({"b/.zarray": {**ARRAY, "filters": [{"id": "pickle"}]}}, "b/.zarray", "runs whatever code"),
    "pickle as the compressor": (
        {"b/.zarray": {**ARRAY, "compressor": {"id": "pickle"}}},
        "b/.zarray",
        "runs whatever",
    ),
    "chunks that overlap": ({"z/0": [URL, 0, 9], "z/1": [URL, 8, 9]}, "z/1", "overlap those of 'z/0'"),
    "a chunk of a million elements in two bytes": (
        {"b/.zarray": {**ZLIB, "chunks": [10**6]}, "b/0": [URL, 0, 2]},
        "b/0",
        "can't hold a chunk of 4000000",
    ),
    "the same chunk twice, by other names": (
        {"b/.zarray": {**ZLIB, "shape": [], "chunks": []}, "b/0": [URL, 0, 9], "b/": [URL, 9, 9]},
        "b/0",
        "twice",
    ),
    "a grid of 2**124 chunks": (
        {"b/.zarray": {**ARRAY, "shape": [2**62, 2**62], "chunks": [1, 1]}, f"b/{2**61}.0": [URL, 0, 4]},
        "b/.zarray",
        "too large",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_entry_is_named_with_what_is_wrong(name: str) -> None:
    entries, key, reason = MALFORMED[name]
    matrix = {**ZLIB, "shape": [5, 5], "chunks": [2, 2]}
    arrays = {
        "a/.zarray": ARRAY,
        "z/.zarray": ZLIB,
        "m/.zarray": matrix,
        "s/.zarray": {**matrix, "dimension_separator": "/"},
    }
    with pytest.raises(InvalidReferences) as caught:
        parse({**arrays, **entries}, templates={"u1": URL})
    assert caught.value.key == key
    assert reason in caught.value.reason
    assert repr(key) in str(caught.value)


DOCUMENTS: dict[str, tuple[object, str | None, str]] = {
    "no refs": ({"version": 1}, None, "no object called 'refs'"),
    "refs that are a list": ({"refs": []}, None, "no object called 'refs'"),
    "refs that are null": ({"refs": None}, None, "no object called 'refs'"),
    "a list": ([], None, "no object called 'refs'"),
    "null": (None, None, "no object called 'refs'"),
    "a string": ("refs", None, "no object called 'refs'"),
    "templates that are a list": ({"refs": {}, "templates": [URL]}, "templates", "names and strings"),
    "a template that is no string": ({"refs": {}, "templates": {"u": 1}}, "templates", "names and strings"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_is_no_reference_file_is_refused(name: str) -> None:
    document, key, reason = DOCUMENTS[name]
    with pytest.raises(InvalidReferences) as caught:
        parsed(document)
    assert caught.value.key == key
    assert reason in caught.value.reason


def test_parsing_leaves_the_document_as_it_was() -> None:
    document = {
        "refs": {".zgroup": GROUP, "a/.zarray": ARRAY, "a/.zattrs": {"_ARRAY_DIMENSIONS": ["t"]}, "a/0": "abcdefgh"}
    }
    before = copy.deepcopy(document)
    parsed(document)
    assert document == before


# The short last chunk of a contiguous dataset: 5 rows of 3, in chunks of 2 rows; 24 bytes a chunk, 12 the last

ROWS = {**ARRAY, "shape": [5, 3], "chunks": [2, 3]}


@pytest.mark.parametrize("length", [12, 24])
def test_the_last_chunk_of_a_contiguous_dataset_may_be_short_or_padded(length: int) -> None:
    references = parse({"a/.zarray": ROWS, "a/2.0": [URL, 48, length]})
    assert located(references, "a", "2.0") == (URL, 48, length)
    assert references.padded == {"a": 24}


@pytest.mark.parametrize("length", [0, 11, 13, 23, 25, 36])
def test_the_last_chunk_of_a_contiguous_dataset_has_no_other_length(length: int) -> None:
    with pytest.raises(InvalidReferences, match=f"has {length} bytes"):
        parse({"a/.zarray": ROWS, "a/2.0": [URL, 48, length]})


@pytest.mark.parametrize("name", ["0.0", "1.0"])
def test_only_the_last_chunk_may_be_short(name: str) -> None:
    with pytest.raises(InvalidReferences, match="has 12 bytes"):
        parse({"a/.zarray": ROWS, f"a/{name}": [URL, 0, 12]})


SPLIT_OTHERWISE: dict[str, dict[str, Any]] = {
    "along two dimensions": {"shape": [5, 3], "chunks": [2, 2]},
    "in column order": {"order": "F"},
    "without a remainder": {"shape": [6, 3]},
}


@pytest.mark.parametrize("name", SPLIT_OTHERWISE)
def test_no_chunk_may_be_short_where_the_data_are_split(name: str) -> None:
    with pytest.raises(InvalidReferences, match="has 12 bytes"):
        parse({"a/.zarray": {**ROWS, **SPLIT_OTHERWISE[name]}, "a/2.0": [URL, 48, 12]})


def test_the_length_of_a_compressed_chunk_is_the_codecs_affair() -> None:
    references = parse({"z/.zarray": ZLIB, "z/0": [URL, 0, 1]})
    assert located(references, "z", "0") == (URL, 0, 1)
    assert not references.padded
