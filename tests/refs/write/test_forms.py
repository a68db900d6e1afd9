"""What is written reads as the same again: by us, and by fsspec with zarr-python."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from fsspec.implementations.reference import ReferenceFileSystem  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import FsspecStore

from lindi_dask.errors import InvalidReferences, UnsupportedArray
from lindi_dask.refs import MISSING, WHOLE, References, Source, SourceTable, parse_json, parse_kerchunk_parquet
from lindi_dask.refs.manifest import ColumnManifest
from lindi_dask.refs.write.forms import MARK, to_kerchunk, to_lindi, to_parquet
from lindi_dask.refs.write.v2 import JSON2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hypothesis.strategies import DrawFn

URL = "https://archive.example/file.nwb"
WRITERS = {"lindi": to_lindi, "kerchunk": to_kerchunk}

Json = dict[str, Any]


def parsed(document: Json | bytes) -> References:
    return parse_json(document if isinstance(document, bytes) else json.dumps(document).encode(), "f", name="test")


def written(references: References, form: str, **options: Any) -> bytes:
    return b"".join(WRITERS[form](references, **options))


def again(references: References, form: str) -> References:
    """Write, and read what was written."""
    if form == "parquet":
        files = dict(to_parquet(references, 4))
        return parse_kerchunk_parquet(files[".zmetadata"], "f", files.get)
    return parsed(written(references, form))


def documents(references: References) -> dict[str, Json]:
    found = {key: json.loads(value) for key, value in references.metadata.items()}
    del found["zarr.json"]["consolidated_metadata"]
    return found


def chunks(references: References, path: str) -> dict[str, Any]:
    """The chunks of an array by name: bytes, or URL, offset and length."""
    manifest = references.manifests[path]
    at = manifest.locate(manifest.present())
    found: dict[str, Any] = {}
    for name, i, offset, length in zip(
        manifest.names(), at.sources.tolist(), at.offsets.tolist(), at.lengths.tolist(), strict=True
    ):
        source = references.sources[i]
        held = source.data
        found[name] = (source.url, offset, length) if held is None else bytes(held[offset : offset + length])
    return found


def same(a: References, b: References, *, but: frozenset[str] = frozenset()) -> None:
    """Compare all but the chunks and codecs of some arrays."""
    for left, right in ((documents(a), documents(b)),):
        for path in but:
            for held in (left, right):
                del held[f"{path}/zarr.json"]["codecs"]
        assert json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    assert (a.links, a.unreadable, a.manifests.keys()) == (b.links, b.unreadable, b.manifests.keys())
    for path in a.manifests.keys() - but:
        assert a.manifests[path].grid == b.manifests[path].grid
        assert chunks(a, path) == chunks(b, path), path


def array(shape: list[int], dtype: Any, **members: Any) -> Json:
    return {
        "zarr_format": 2, "shape": shape, "chunks": shape, "dtype": dtype, "fill_value": 0, "order": "C",
        "compressor": None, "filters": None, **members,
    }  # fmt: skip


def one(zarray: Json, entry: Any = None, *, attributes: Json | None = None, key: str = "a/0") -> References:
    entries = {".zgroup": {"zarr_format": 2}, "a/.zarray": zarray, "a/.zattrs": attributes or {}}
    return parsed({"version": 1, "refs": entries if entry is None else {**entries, key: entry}})


# The sample session


@pytest.fixture
def session(session_refs: Callable[..., Json], data: Path) -> References:
    """The sample session's references, which point at the local file."""
    return parsed(session_refs((data / "session.nwb").as_uri()))


def test_lindi_json_of_the_session_reads_as_the_same(session: References) -> None:
    same(session, again(session, "lindi"))


REMADE = frozenset(
    (
        "file_create_date", "general/experimenter", "general/extracellular_ephys/electrodes/filtering",
        "general/extracellular_ephys/electrodes/group", "general/extracellular_ephys/electrodes/group_name",
        "general/extracellular_ephys/electrodes/location", "general/keywords", "intervals/trials/stimulus",
        "processing/ophys/ImageSegmentation/rois/pixel_mask", "units/quality",
    )
)  # fmt: skip
"""text and compounds as LINDI has them, which kerchunk's readers don't know"""
EXTENDED = frozenset(("acquisition/contiguous/data", "processing/ecephys/LFP/LFP/timestamps"))
"""contiguous datasets whose last chunk is short"""


@pytest.mark.parametrize("form", ["kerchunk", "parquet"])
def test_kerchunk_of_the_session_differs_only_in_what_its_readers_could_not_read(
    session: References, form: str
) -> None:
    found = again(session, form)
    same(session, found, but=REMADE | EXTENDED)
    for path in EXTENDED:
        before, after = chunks(session, path), chunks(found, path)
        (*others, last), (*same_others, longer) = before.values(), after.values()
        assert others == same_others
        assert last[:2] == longer[:2]
        assert last[2] < longer[2] == others[0][2]
    same(found, again(found, form))


def test_lindi_json_of_what_came_from_kerchunk_has_its_references_to_objects_whole(session: References) -> None:
    before = session
    found = again(again(session, "kerchunk"), "lindi")
    same(before, found, but=REMADE | EXTENDED)
    [held] = chunks(found, "general/extracellular_ephys/electrodes/group").values()
    first, *_ = json.loads(held)
    assert first == {
        "_REFERENCE": {
            "object_id": "6612d131-a76b-4d20-9b34-95ca1a2809ae",
            "path": "/general/extracellular_ephys/shank0",
            "source": ".",
            "source_object_id": "83b6081d-6bd7-4a43-b6a1-2315b8eb3619",
        }
    }


def by_fsspec(references: Any, **options: Any) -> zarr.Group:
    local = AsyncFileSystemWrapper(LocalFileSystem(), asynchronous=True)
    files = ReferenceFileSystem(references, asynchronous=True, fs={"file": local}, **options)
    return zarr.open_group(FsspecStore(files, read_only=True, path=""), mode="r", zarr_format=2, use_consolidated=False)


def h5_values(dataset: h5py.Dataset) -> Any:
    values = dataset[()]
    if h5py.check_ref_dtype(dataset.dtype) is not None:
        return np.array([dataset.file[item].name for item in values], dtype=object)
    return dataset.asstr()[()] if h5py.check_string_dtype(dataset.dtype) else values


def compare_all(group: zarr.Group, truth: h5py.File) -> int:
    paths: list[str] = []
    truth.visititems(lambda path, node: paths.append(path) if isinstance(node, h5py.Dataset) else None)
    for path in paths:
        node = group[path]
        assert isinstance(node, zarr.Array)
        expected = h5_values(truth[path])
        found = np.asarray(node[...])
        assert found.shape == np.shape(expected), path
        assert found.astype(np.asarray(expected).dtype).tolist() == np.asarray(expected).tolist(), path
    return len(paths)


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_fsspec_and_zarr_read_our_kerchunk_json_as_h5py_reads_the_file(
    session: References, session_h5: h5py.File
) -> None:
    group = by_fsspec(json.loads(written(session, "kerchunk")))
    assert compare_all(group, session_h5) == 54
    assert len(dict(group.members())) == 12  # which raises if zarr does not know one of them


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_fsspec_and_zarr_read_our_parquet_as_h5py_reads_the_file(
    session: References, session_h5: h5py.File, tmp_path: Path
) -> None:
    for name, content in to_parquet(session, 1000):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert compare_all(by_fsspec(str(tmp_path)), session_h5) == 54


# Small trees


@st.composite
def trees(draw: DrawFn) -> Json:
    """A LINDI document with a few arrays, whose chunks are anywhere or nowhere, groups and links."""
    entries: Json = {".zgroup": {"zarr_format": 2}}
    names = draw(st.lists(st.sampled_from(["a", "b c", "d/e", 'q"\\é', "%s", "u/v/w"]), unique=True, max_size=4))
    for path in names:
        shape = draw(st.lists(st.integers(0, 5), max_size=3))
        tiles = [draw(st.integers(1, max(extent, 1))) for extent in shape]
        dtype = draw(st.sampled_from(["<i2", ">f4", "|u1", "<c8", "|S3", "<U2"]))
        steps: Json = draw(
            st.sampled_from(
                [
                    {"filters": [{"id": "shuffle", "elementsize": 2}, {"id": "zlib", "level": 3}]},
                    {"compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0}},
                    {"compressor": {"id": "zstd", "level": 3}, "filters": [{"id": "fletcher32"}]},
                    {"compressor": {"id": "lzma"}, "order": "F"},
                ]
            )
        )
        scalar = shape == [1] and draw(st.booleans())
        entries[f"{path}/.zarray"] = array(shape, dtype, **{"chunks": tiles, "fill_value": None, **steps})
        number = st.one_of(st.integers(-5, 5), st.sampled_from(["NaN", "-Infinity", 0.5, True, "text"]))
        entries[f"{path}/.zattrs"] = {
            **draw(st.dictionaries(st.sampled_from(["x", "é", "_DTYPE"]), st.one_of(number, st.lists(number)))),
            **({"_SCALAR": True} if scalar else {}),
            **({"_ARRAY_DIMENSIONS": [f"d{i}" for i in range(len(shape))]} if draw(st.booleans()) else {}),
        }
        grid = [-(-extent // tile) for extent, tile in zip(shape, tiles, strict=True)]
        for place in np.ndindex(*grid):
            key = f"{path}/{'.'.join(map(str, place)) or '0'}"
            start = 100 * draw(st.integers(0, 99))
            entry = st.sampled_from(
                [None, [URL, start, 99], [f"{URL}2", start, 99], "text 0123456789", "base64:AAEC/w=="]
            )
            if (value := draw(entry)) is not None:
                entries[key] = value
    for link in draw(st.lists(st.sampled_from(["l", "d/l", "m/n"]), unique=True)):
        if names:
            entries[f"{link}/.zgroup"] = {"zarr_format": 2}
            entries[f"{link}/.zattrs"] = {"_SOFT_LINK": {"path": f"/{names[0]}"}}
    return {"version": 1, "refs": entries}


@pytest.mark.parametrize("form", ["lindi", "kerchunk", "parquet"])
@settings(max_examples=60, deadline=None)
@given(document=trees())
def test_any_tree_reads_as_the_same(form: str, document: Json) -> None:
    references = parsed(document)
    same(references, again(references, form))


# The documents


@pytest.mark.parametrize(
    ("zarray", "attributes", "entry"),
    [
        (array([2], "<f4", fill_value="NaN"), {}, [URL, 0, 8]),
        (array([2], "<f4", fill_value="-Infinity"), {}, [URL, 0, 8]),
        (array([2], "<c16", fill_value=["NaN", 1.0]), {}, [URL, 0, 32]),
        (array([2], "|b1", fill_value=True), {}, [URL, 0, 2]),
        (array([2], "|S3", fill_value="YWI="), {}, [URL, 0, 6]),
        (array([2], "<U3", fill_value="n"), {}, [URL, 0, 24]),
        (array([2], "|O", filters=[{"id": "vlen-utf8"}]), {}, [URL, 0, 24]),
        (array([2], "|O", filters=[{"id": "vlen-bytes"}], compressor={"id": "zlib", "level": 1}), {}, [URL, 0, 24]),
        (array([2], "<i4", filters=[{"id": "delta", "dtype": "<i4", "astype": "<i4"}]), {}, [URL, 0, 8]),
        (array([1], "<i4"), {"_SCALAR": True}, [URL, 0, 4]),
        (array([2], "<i4"), {"a": {"_REFERENCE": {"path": "/a", "source": "."}}, "_LINKS": [1]}, [URL, 0, 8]),
    ],
)
@pytest.mark.parametrize("form", ["lindi", "kerchunk"])
def test_each_kind_of_array_reads_as_the_same(zarray: Json, attributes: Json, entry: Any, form: str) -> None:
    references = one(zarray, entry, attributes=attributes)
    assert not references.unreadable
    same(references, again(references, form))


def test_packed_compounds_stay_packed_for_kerchunk_and_become_json_for_lindi() -> None:
    zarray = array([2], [["x", "<u2"], ["y", "<f4"]], fill_value=None)
    references = one(zarray, "base64:AQAAAIA/AgAAAABA")
    same(references, again(references, "kerchunk"))
    document = json.loads(written(references, "lindi"))["refs"]
    assert document["a/.zattrs"]["_COMPOUND_DTYPE"] == [["x", "uint16"], ["y", "float32"]]
    assert json.loads(document["a/0"]) == [[1, 1.0], [2, 2.0], "|O", [2]]
    assert document["a/.zarray"]["filters"][0]["id"] == "json2"


@pytest.mark.parametrize("form", ["kerchunk", "parquet"])
@pytest.mark.parametrize("chunk", ['["a","|O",[1]]', '["a",1,"|O",[2]]', "no JSON", '[["a","b"],"|O",[1,2]]'])
def test_text_that_cannot_be_made_anew_stays_what_it_is(form: str, chunk: str) -> None:
    references = one(array([2], "|O", filters=[JSON2]), chunk)
    found = again(references, form)
    same(references, found, but=frozenset() if chunk[:2] != "[[" else frozenset(("a",)))
    assert (chunks(found, "a") == {"0": chunk.encode()}) == (chunk[:2] != "[[")


@pytest.mark.parametrize("count", [1, 2**31])
def test_references_to_objects_that_are_not_what_they_say_are_refused(count: int) -> None:
    data = count.to_bytes(4, "little") + b"\1\0\0\0a"
    zarray = array([2], "|O", filters=[{"id": "vlen-utf8"}])
    entry = f"base64:{base64.b64encode(data).decode()}"
    references = one(zarray, entry, attributes={"_DTYPE": "object_reference"})
    with pytest.raises(UnsupportedArray, match="references to objects as JSON only"):
        written(references, "lindi")


def test_zarr3_references_are_written_as_v2() -> None:
    node = {
        "zarr_format": 3, "node_type": "array", "shape": [4, 6], "data_type": "float32", "fill_value": "0x7fc00000",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 6]}},
        "chunk_key_encoding": {"name": "default"}, "dimension_names": ["t", "x"], "attributes": {"unit": "V"},
        "codecs": [
            {"name": "transpose", "configuration": {"order": [1, 0]}},
            {"name": "bytes", "configuration": {"endian": "big"}},
            {"name": "zstd", "configuration": {"level": 3, "checksum": True}},
        ],
    }  # fmt: skip
    references = parsed({"refs": {"zarr.json": {"zarr_format": 3, "node_type": "group"}, "a/zarr.json": node,
                                  "a/c/1/0": [URL, 5, 9]}})  # fmt: skip
    assert json.loads(written(references, "lindi"))["refs"] == {
        ".zgroup": {"zarr_format": 2},
        "a/.zarray": {
            "zarr_format": 2, "shape": [4, 6], "chunks": [2, 6], "dtype": ">f4", "fill_value": "NaN", "order": "F",
            "compressor": {"id": "zstd", "level": 3, "checksum": True}, "filters": None,
        },
        "a/.zattrs": {"unit": "V", "_ARRAY_DIMENSIONS": ["t", "x"]},
        "a/1.0": [URL, 5, 9],
    }  # fmt: skip


def test_attributes_that_json_has_no_numbers_for_are_text_for_lindi_and_bare_for_kerchunk() -> None:
    references = one(array([1], "|u1"), [URL, 0, 1], attributes={"a": "NaN", "b": ["-Infinity", 1]})
    lindi = json.loads(written(references, "lindi"))["refs"]["a/.zattrs"]
    assert lindi == {"a": "NaN", "b": ["-Infinity", 1]}
    assert json.loads(written(references, "kerchunk"))["refs"]["a/.zattrs"] == '{"a": NaN, "b": [-Infinity, 1]}'


# Chunks


def test_urls_of_many_chunks_become_templates_and_others_stand_as_they_are() -> None:
    entries = {f"a/{i}": [URL if i < 5 else f"{URL}2", i, 1] for i in range(9)}
    document = {"refs": {"a/.zarray": array([9], "|u1", chunks=[1]), **entries}}
    found = json.loads(written(parsed(document), "lindi"))
    assert found["templates"] == {"u1": URL}
    assert [found["refs"][f"a/{i}"][0] for i in range(9)] == ["{{u1}}"] * 5 + [f"{URL}2"] * 4


def test_what_is_known_of_the_sources_is_kept_in_a_member_that_others_look_past() -> None:
    document = {
        "sources": {URL: {"size": 50, "etag": '"abc"'}, "https://unused.example": {"size": 1}},
        "refs": {"a/.zarray": array([2], "|u1", chunks=[1]), "a/0": [URL, 0, 1], "a/1": [f"{URL}2", 0, 1]},
    }
    found = written(parsed(document), "kerchunk")
    assert json.loads(found)["sources"] == {URL: {"size": 50, "etag": '"abc"'}}
    assert {source.url: (source.size, source.etag) for source in map(parsed(found).sources.__getitem__, (1, 2))} == {
        URL: (50, "abc"), f"{URL}2": (None, None),
    }  # fmt: skip


def test_whole_files_are_urls_for_kerchunk_and_ranges_for_lindi_which_knows_no_others() -> None:
    zarray = array([1], "|u1", compressor={"id": "zlib", "level": 1})
    unknown = one(zarray, [URL])
    assert json.loads(written(unknown, "kerchunk"))["refs"]["a/0"] == [URL]
    with pytest.raises(UnsupportedArray, match="/a can't be written: one of its chunks is a whole file"):
        written(unknown, "lindi")
    known = parsed({"sources": {URL: {"size": 50}}, "refs": {"a/.zarray": zarray, "a/0": [URL]}})
    assert json.loads(written(known, "lindi"))["refs"]["a/0"] == [URL, 0, 50]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"plain", "plain"),
        (b'q"\\\n', 'q"\\\n'),
        (b"base64:x", "base64:YmFzZTY0Ong="),
        (b"{{u1}}", "base64:e3t1MX19"),
        (b"\0\1", "base64:AAE="),
        ("é".encode(), "base64:w6k="),
        (b"", ""),
    ],
)
def test_bytes_held_here_are_text_only_where_nobody_takes_that_for_something_else(data: bytes, expected: str) -> None:
    zarray = array([1], "|u1", compressor={"id": "lz4"})
    references = one(zarray, f"base64:{base64.b64encode(data).decode()}")
    entry = json.loads(written(references, "kerchunk"))["refs"]["a/0"]
    assert entry == expected
    assert chunks(again(references, "kerchunk"), "a") == {"0": data}


@pytest.mark.parametrize(("size", "length"), [(100, 40), (79, 12), (None, 12)])
def test_a_short_last_chunk_is_made_as_long_as_others_only_where_the_file_surely_goes_on(
    size: int | None, length: int
) -> None:
    entries = {"a/.zarray": array([13], "<f4", chunks=[10]), "a/0": [URL, 0, 40], "a/1": [URL, 40, 12]}
    document = {"refs": entries, **({"sources": {URL: {"size": size}}} if size else {})}
    assert json.loads(written(parsed(document), "kerchunk"))["refs"]["a/1"] == [URL, 40, length]
    assert json.loads(written(parsed(document), "lindi"))["refs"]["a/1"] == [URL, 40, 12]


def test_a_short_last_chunk_that_is_held_here_is_padded() -> None:
    entries = {"a/.zarray": array([3], "|u1", chunks=[2]), "a/0": "ab", "a/1": "c"}
    assert json.loads(written(parsed({"refs": entries}), "kerchunk"))["refs"]["a/1"] == "base64:YwA="


def test_missing_chunks_and_records_without_any_stay_missing_in_parquet() -> None:
    zarray = array([20], "|u1", chunks=[1], compressor={"id": "lz4"})
    references = one(zarray, [URL, 3, 9], key="a/17")
    files = dict(to_parquet(references, 4))
    assert sorted(files) == [".zmetadata", *(f"a/refs.{i}.parq" for i in range(5))]
    found = again(references, "parquet").manifests["a"]
    at = found.locate(np.arange(20, dtype=np.uint64))
    assert np.flatnonzero(at.sources != MISSING).tolist() == [17]


# What can't be written


def test_text_that_lindi_would_take_for_a_number_is_refused_by_name() -> None:
    attributes = json.dumps({"a": "NaN"})  # as kerchunk has them: text is text
    document = {"refs": {"a/.zarray": json.dumps(array([1], "|u1")), "a/.zattrs": attributes, "a/0": [URL, 0, 1]}}
    references = parsed(document)
    same(references, again(references, "kerchunk"))
    with pytest.raises(UnsupportedArray, match="of its attribute 'a': it is the text 'NaN'") as caught:
        written(references, "lindi")
    assert caught.value.path == "a"


def test_what_cannot_be_read_is_refused_by_name_or_left_out_and_logged(
    session_refs: Callable[..., Json], caplog: pytest.LogCaptureFixture
) -> None:
    document = session_refs(URL, "session.lindi.json")
    document["refs"]["link/.zgroup"] = {"zarr_format": 2}
    document["refs"]["link/.zattrs"] = {"_SOFT_LINK": {"path": "/processing/ecephys/LFP/LFP/data"}}
    references = parsed(document)
    with pytest.raises(
        UnsupportedArray, match=r"/processing/ecephys/LFP/LFP/data .* save with skip_unreadable"
    ) as caught:
        written(references, "lindi")
    assert caught.value.path == "processing/ecephys/LFP/LFP/data"
    found = parsed(written(references, "lindi", skip_unreadable=True))
    assert set(references.manifests) - set(found.manifests) == {"processing/ecephys/LFP/LFP/data"}
    assert set(references.links) - set(found.links) == {"link"}
    assert not found.unreadable
    assert [record.getMessage()[:48] for record in caplog.records] == [
        "/processing/ecephys/LFP/LFP/data is left out: it"
    ]


def test_a_link_that_leads_nowhere_is_refused_by_name_or_left_out() -> None:
    document = {"refs": {".zgroup": {"zarr_format": 2}, "l/.zgroup": {"zarr_format": 2},
                         "l/.zattrs": {"_SOFT_LINK": {"path": "/nowhere"}}}}  # fmt: skip
    with pytest.raises(UnsupportedArray, match=r"/l can't be written: .*where there is nothing"):
        written(parsed(document), "lindi")
    found = json.loads(written(parsed(document), "lindi", skip_unreadable=True))
    assert found["refs"] == {".zgroup": {"zarr_format": 2}}


V3 = {
    "zarr_format": 3, "node_type": "array", "shape": [4], "data_type": "uint8", "fill_value": 0,
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4]}},
    "chunk_key_encoding": {"name": "default"}, "codecs": [{"name": "bytes"}],
}  # fmt: skip
SHARDS = {
    "chunk_shape": [2], "codecs": [{"name": "bytes"}],
    "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "more", "reason"),
    [
        ({"codecs": [{"name": "sharding_indexed", "configuration": SHARDS}]}, {}, "'sharding_indexed'"),
        ({"codecs": [{"name": "bytes"}, {"name": "crc32c"}]}, {}, "'crc32c'"),
        ({}, {"selections": {"a": {"record_size": 8, "keep": [[0, 4]]}}}, "part of each record"),
        (
            {"data_type": {"name": "structured", "configuration": {"fields": [["x", "int16"]]}}, "fill_value": "AAA=",
             "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]},
            {}, "compounds as JSON only",
        ),
        (
            {"data_type": "string", "fill_value": "", "codecs": [{"name": "vlen-utf8"}],
             "attributes": {"_DTYPE": "object_reference"}},
            {}, "references to objects as JSON only",
        ),
    ],
    ids=["shards", "crc32c", "selections", "compounds in files", "references in files"],
)  # fmt: skip
def test_what_only_zarr3_can_say_is_refused_with_the_reason(change: Json, more: Json, reason: str) -> None:
    references = parsed({"refs": {"a/zarr.json": {**V3, **change}, "a/c/0": [URL, 0, 8]}, **more})
    assert not references.unreadable
    with pytest.raises(UnsupportedArray, match=f"/a can't be written: .*{reason}"):
        written(references, "lindi")
    assert "a/.zarray" not in json.loads(written(references, "lindi", skip_unreadable=True))["refs"]


@pytest.mark.parametrize(("url", "reason"), [("", "in the bundle"), ("https://a.example/{{x}}", "double braces")])
def test_urls_that_would_be_read_as_something_else_are_refused(url: str, reason: str) -> None:
    known = one(array([1], "|u1"), [URL, 0, 1])
    sources = SourceTable()
    number = sources.add(Source(url))
    manifest = ColumnManifest.build((1,), [0], [number], [0], [1])
    references = References("f", known.metadata, {"a": manifest}, {}, {}, sources, {}, {})
    with pytest.raises(InvalidReferences, match=reason):
        written(references, "lindi")


def test_a_grid_of_too_many_records_is_refused_for_parquet() -> None:
    zarray = array([10**9], "|u1", chunks=[1])
    with pytest.raises(UnsupportedArray, match="too many records: save it as JSON"):
        list(to_parquet(one(zarray, [URL, 0, 1]), 100))


def test_what_parquet_cannot_say_names_the_record() -> None:
    references = one(array([1], "|u1", compressor={"id": "lz4"}), [URL, 0, 0])
    with pytest.raises(InvalidReferences, match=r"a/refs\.0\.parq can't be written: row 0") as caught:
        list(to_parquet(references))
    assert caught.value.key == "a/refs.0.parq"


# Size


def test_pieces_are_small_however_many_chunks_there_are_and_the_mark_stands_in_front() -> None:
    n = 200_000
    known = one(array([n], "|u1", chunks=[1]))
    sources = SourceTable()
    number = sources.add(Source(URL))
    manifest = ColumnManifest.build((n,), np.arange(n), np.full(n, number), np.arange(n), np.ones(n))
    references = References("f", known.metadata, {"a": manifest}, {}, {}, sources, {}, {})
    pieces = list(to_lindi(references))
    assert max(map(len, pieces)) < 4 * 2**20
    document = b"".join(pieces)
    assert MARK in document[:100]
    found = parsed(document).manifests["a"].locate(np.arange(n, dtype=np.uint64))
    assert all(a < b for a, b in pairwise(found.offsets[::1000].tolist()))
    assert found.lengths.tolist() == [1] * n
    assert WHOLE not in found.lengths
