from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lindi_dask as ld
from lindi_dask.errors import ConfigurationError, RefsError
from lindi_dask.listing import ArrayRow, GroupRow, LinkRow, as_json, list_rows, near
from lindi_dask.refs import ChunkManifest, Locations, References, parse_json
from lindi_dask.refs.manifest import LazyManifest

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from numpy.typing import NDArray

FORMS = ("session.lindi.json", "session.expanded.lindi.json", "session.amended.lindi.d", "session.amended.lindi.tar")
URL = "https://host.example/data.bin"


def parsed(refs: dict[str, Any], **members: Any) -> References:
    content = json.dumps({"version": 1, "refs": {".zgroup": {"zarr_format": 2}, **refs}, **members}).encode()
    return parse_json(content, "f" * 32, name="This file")


def zarray(shape: list[int], chunks: list[int], dtype: Any = "<i8", **members: Any) -> dict[str, Any]:
    layout = {"shape": shape, "chunks": chunks, "dtype": dtype, "fill_value": 0, "order": "C", "zarr_format": 2}
    return {**layout, "compressor": None, "filters": None, **members}


def v3_array(data_type: Any, codecs: list[dict[str, Any]], fill_value: Any = 0, **members: Any) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [8],
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [8]}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": fill_value,
        "codecs": codecs,
        "attributes": {},
        **members,
    }


def only_array(references: References) -> ArrayRow:
    (row,) = [row for row in list_rows(references) if isinstance(row, ArrayRow)]
    return row


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, data: Path) -> References:
    references: References = ld.StoreFactory(data / request.param).load()[0]
    return references


def test_a_session_is_listed_as_h5py_has_it(form: References, session_h5: h5py.File) -> None:
    rows = list_rows(form)
    assert rows[0] == GroupRow("", "NWBFile")
    assert [row.path.split("/") for row in rows[1:]] == sorted(row.path.split("/") for row in rows[1:])
    assert {row.path for row in rows[1:] if "scratch" not in row.path} == _paths_of(session_h5)
    for row in rows[1:]:
        if row.path.startswith("scratch"):
            continue
        if isinstance(row, LinkRow):
            assert session_h5.get(row.path, getlink=True).path == f"/{row.target}"
            continue
        truth = session_h5[row.path]
        assert row.neurodata_type == truth.attrs.get("neurodata_type")
        if isinstance(row, ArrayRow):
            assert row.shape == truth.shape
            assert row.unit == truth.attrs.get("unit")
            assert row.conversion == truth.attrs.get("conversion", 1.0)
            assert row.rate == truth.attrs.get("rate")
            assert (row.stored is None) == (row.unreadable is not None)
            if row.dtype in {"int16", "float32", "float64", "uint16"}:
                assert row.dtype == truth.dtype
                assert row.nbytes == truth.nbytes


def _paths_of(file: h5py.File) -> set[str]:
    paths: set[str] = set()
    file.visititems_links(lambda path, _: paths.add(path))
    return {path for path in paths if not path.startswith("specifications")}


def test_what_chunks_take_up_is_what_hdf5_says(data: Path, session_h5: h5py.File) -> None:
    rows = list_rows(ld.StoreFactory(data / "session.expanded.lindi.json").load()[0])
    compared = 0
    for row in rows:
        if isinstance(row, ArrayRow) and row.stored is not None and math.prod(row.grid) > 1:
            truth = session_h5[row.path]
            assert row.stored.nbytes == truth.id.get_storage_size()
            assert row.stored.logical_nbytes == truth.nbytes
            assert row.stored.chunks == math.prod(row.grid)
            assert row.stored.inline == 0
            compared += 1
    assert compared == 6


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("acquisition/ElectricalSeries/data", ("int16", ("shuffle", "gzip"))),
        ("acquisition/TwoPhotonSeries/data", ("uint16", ("gzip",))),
        ("acquisition/contiguous/data", ("float32", ())),
        ("processing/behavior/Position/position/data", ("float64", ("fletcher32",))),
        ("general/extracellular_ephys/electrodes/group", ("reference", ("blosc",))),
        ("general/extracellular_ephys/electrodes/location", ("text", ("blosc",))),
        ("processing/ophys/ImageSegmentation/rois/pixel_mask", ("compound", ("blosc",))),
    ],
)
def test_types_and_codecs_are_called_as_hdf5_calls_them(
    path: str, expected: tuple[str, tuple[str, ...]], form: References
) -> None:
    (row,) = list_rows(form, path)
    assert isinstance(row, ArrayRow)
    assert (row.dtype, row.codecs) == expected
    assert bool(row.fields) == (row.dtype == "compound")


def test_a_compound_is_listed_with_its_fields() -> None:
    compound = [["start", "int32"], ["series", "<REFERENCE>"]]
    references = parsed(
        {
            "a/.zarray": zarray([1], [1], "|O", filters=[{"id": "json2"}]),
            "a/.zattrs": {"_COMPOUND_DTYPE": compound},
            "a/0": json.dumps([[1, {"_REFERENCE": {"path": "/b"}}], "|O", [1]]),
        }
    )
    row = only_array(references)
    assert (row.dtype, row.fields, row.nbytes) == ("compound", (("start", "int32"), ("series", "reference")), None)


V3_TYPES: list[tuple[Any, Any, list[dict[str, Any]], str, int | None]] = [
    ("bool", False, [{"name": "bytes"}], "bool", 8),
    ("complex64", [0, 0], [{"name": "bytes", "configuration": {"endian": "little"}}], "complex64", 64),
    ("string", "", [{"name": "vlen-utf8"}], "text", None),
    (
        {"name": "null_terminated_bytes", "configuration": {"length_bytes": 5}},
        "",
        [{"name": "bytes"}],
        "bytes[5]",
        40,
    ),
]


@pytest.mark.parametrize(("data_type", "fill_value", "codecs", "dtype", "nbytes"), V3_TYPES)
def test_types_of_zarr_v3(
    data_type: Any, fill_value: Any, codecs: list[dict[str, Any]], dtype: str, nbytes: int | None
) -> None:
    row = only_array(parsed({"a/zarr.json": v3_array(data_type, codecs, fill_value)}))
    assert row.unreadable is None
    assert (row.dtype, row.nbytes) == (dtype, nbytes)


def test_shards_are_listed_with_what_is_in_them() -> None:
    inner = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "zstd", "configuration": {"level": 1}}]
    shards = {
        "name": "sharding_indexed",
        "configuration": {"chunk_shape": [2], "codecs": inner, "index_codecs": inner[:1], "index_location": "end"},
    }
    row = only_array(parsed({"a/zarr.json": v3_array("int16", [shards])}))
    assert row.codecs == ("shards", "zstd")


@given(data=st.data())
def test_sizes_are_those_that_counting_each_chunk_gives(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=3))
    chunks = [data.draw(st.integers(1, 4)) for _ in shape]
    grid = [-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True)]
    listed = {at: data.draw(st.integers(0, 2)) for at in np.ndindex(*grid) if data.draw(st.booleans())}
    refs: dict[str, Any] = {"a/.zarray": zarray(shape, chunks, compressor={"id": "bz2", "level": 1})}
    expected, elements, at_byte = 0, 0, 0
    for at, length in listed.items():
        key = f"a/{'.'.join(map(str, at))}"
        refs[key] = "x" * length if length == 2 else [URL, at_byte, length]
        at_byte += length
        expected += length
        elements += math.prod(
            min((i + 1) * chunk, extent) - i * chunk for i, chunk, extent in zip(at, chunks, shape, strict=True)
        )
    stored = only_array(parsed(refs)).stored
    assert stored is not None
    assert (stored.chunks, stored.nbytes, stored.logical_nbytes) == (len(listed), expected, 8 * elements)
    assert stored.inline == sum(length == 2 for length in listed.values())
    assert stored.ratio == (8 * elements / expected if expected else None)


def test_a_chunk_that_is_a_whole_file_has_the_size_that_is_known() -> None:
    refs = {"a/.zarray": zarray([4], [2]), "a/0": [URL], "a/1": "x" * 16}
    unknown = only_array(parsed(refs)).stored
    assert unknown is not None
    assert (unknown.chunks, unknown.nbytes, unknown.ratio) == (2, None, None)
    known = only_array(parsed(refs, sources={URL: {"size": 16}})).stored
    assert known is not None
    assert known.nbytes == 32


def test_of_records_only_what_is_kept_is_counted() -> None:
    layout = v3_array("int16", [{"name": "bytes", "configuration": {"endian": "little"}}])
    refs = {"a/zarr.json": layout, "a/c/0": [URL, 0, 8 * 6]}
    stored = only_array(parsed(refs, selections={"a": {"record_size": 6, "keep": [[0, 2]]}})).stored
    assert stored is not None
    assert (stored.nbytes, stored.ratio) == (16, 1.0)


def test_an_absurd_shape_costs_nothing() -> None:
    row = only_array(parsed({"a/.zarray": zarray([2**60, 8], [1, 8]), f"a/{2**60 - 1}.0": [URL, 0, 64]}))
    assert row.stored is not None
    assert (row.stored.chunks, row.stored.logical_nbytes, row.nbytes) == (1, 64, 2**66)


def test_a_million_chunks_are_added_up_at_once() -> None:
    n = 2**21 + 5
    gen = {"key": "a/{{i}}", "url": URL, "offset": "{{i * 8}}", "length": "8", "dimensions": {"i": {"stop": n}}}
    row = only_array(parsed({"a/.zarray": zarray([n], [1])}, gen=[gen]))
    assert row.stored is not None
    assert (row.stored.chunks, row.stored.nbytes, row.stored.ratio) == (n, 8 * n, 1.0)


class _Untouched(ChunkManifest):
    grid = (1,)

    def locate(self, places: NDArray[np.uint64]) -> Locations:
        raise AssertionError("read")

    def present(self) -> NDArray[np.uint64]:
        raise AssertionError("read")


def with_manifest(manifest: ChunkManifest) -> References:
    made = parsed({"a/.zarray": zarray([1], [1]), "b/.zarray": zarray([1], [1]), "b/0": [URL, 0, 8]})
    return References(
        fingerprint=made.fingerprint,
        metadata=made.metadata,
        manifests={**made.manifests, "a": manifest},
        padded=made.padded,
        selections=made.selections,
        sources=made.sources,
        links=made.links,
        unreadable=made.unreadable,
    )


def test_a_manifest_that_is_not_to_be_measured_is_not_read() -> None:
    references = with_manifest(_Untouched())
    rows = list_rows(references, measured=lambda manifest: not isinstance(manifest, _Untouched))
    stored = {row.path: row.stored for row in rows if isinstance(row, ArrayRow)}
    assert stored["a"] is None
    assert stored["b"] is not None


@pytest.mark.parametrize("error", [RefsError("broken."), ConfigurationError("pyarrow is not installed.")])
def test_a_manifest_that_turns_out_broken_is_its_array_s_trouble_only(error: Exception) -> None:
    def make() -> ChunkManifest:
        raise error

    a, b = list_rows(with_manifest(LazyManifest((1,), make)))[1:]
    assert isinstance(a, ArrayRow)
    assert (a.stored, a.unreadable, a.dtype) == (None, str(error).rstrip("."), "int64")
    assert isinstance(b, ArrayRow)
    assert b.unreadable is None


def test_attributes_of_other_kinds_than_nwbs_are_left_aside() -> None:
    attributes = {"unit": ["volts"], "conversion": "NaN", "rate": True, "neurodata_type": 5}
    row = only_array(parsed({"a/.zarray": zarray([1], [1]), "a/.zattrs": attributes}))
    assert (row.unit, row.conversion, row.rate, row.neurodata_type) == (None, 1.0, None, None)


def test_links_that_lead_nowhere_are_listed_with_the_reason() -> None:
    links: dict[str, Any] = {f"{name}/.zgroup": {"zarr_format": 2} for name in ("good", "lost", "round")}
    links |= {f"{name}/.zattrs": {"_SOFT_LINK": {"path": to}} for name, to in [("lost", "/x"), ("round", "/round")]}
    links["good/.zattrs"] = {"_SOFT_LINK": {"path": "/a"}}
    rows = list_rows(parsed({"a/.zarray": zarray([1], [1]), **links}))
    found = {row.path: row for row in rows if isinstance(row, LinkRow)}
    assert found["good"] == LinkRow("good", "a", None)
    assert "where there is nothing" in (found["lost"].unreadable or "")
    assert "in a circle" in (found["round"].unreadable or "")
    assert list_rows(parsed({"a/.zarray": zarray([1], [1]), **links}), "lost") == [found["lost"]]


# Paths


@pytest.mark.parametrize(
    ("path", "first", "n"),
    [
        ("", "", 93),
        ("/", "", 93),
        ("acquisition/ElectricalSeries", "acquisition/ElectricalSeries", 5),
        ("/acquisition/ElectricalSeries/", "acquisition/ElectricalSeries", 5),
        ("units/id", "units/id", 1),
        ("acquisition/TwoPhotonSeries/imaging_plane", "general/optophysiology/plane", 10),
        ("acquisition/TwoPhotonSeries/imaging_plane/green", "general/optophysiology/plane/green", 3),
        ("processing/ecephys/LFP/LFP/data", "processing/ecephys/LFP/LFP/data", 1),
    ],
)
def test_a_path_narrows_the_listing(path: str, first: str, n: int, data: Path) -> None:
    rows = list_rows(ld.StoreFactory(data / "session.lindi.json").load()[0], path)
    assert (rows[0].path, len(rows)) == (first, n)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("acquisition/ElectricalSerie", "Near it: /acquisition/ElectricalSeries,"),
        ("spike_times", "Near it: /units/spike_times."),
        ("lfp", "Near it: /processing/ecephys/LFP, /processing/ecephys/LFP/LFP."),
        ("waveform", "Near it: /units/waveform_mean."),
        ("qqqq", r"There are \d+ other paths."),
    ],
)
def test_a_wrong_path_says_what_is_near_it(path: str, hint: str, data: Path) -> None:
    with pytest.raises(RefsError, match=hint):
        list_rows(ld.StoreFactory(data / "session.lindi.json").load()[0], path)


def test_what_is_near_is_found_among_many_in_no_time() -> None:
    many = [f"group/array_{i}" for i in range(200_000)]
    assert near("array_77777", many) == "Near it: /group/array_77777."
    assert near("grp/aray", many) == "There are 200000 other paths."


def test_rows_as_json_are_json_and_keep_all(form: References) -> None:
    rows = list_rows(form)
    nodes = json.loads(json.dumps([as_json(row) for row in rows], allow_nan=False))
    assert [node["path"] for node in nodes] == [f"/{row.path}" for row in rows]
    by_path = {node["path"]: node for node in nodes}
    node = by_path["/acquisition/ElectricalSeries/data"]
    assert node == {
        "path": "/acquisition/ElectricalSeries/data",
        "kind": "array",
        "neurodata_type": None,
        "shape": [60000, 16],
        "dtype": "int16",
        "fields": None,
        "unit": "volts",
        "conversion": 1.95e-07,
        "rate": None,
        "chunk_shape": [4096, 16],
        "chunk_nbytes": 131_072,
        "chunks": 15,
        "codecs": ["shuffle", "gzip"],
        "nbytes": 1920000,
        "chunks_listed": 15,
        "chunks_inline": 0,
        "stored_nbytes": 973049,
        "ratio": 1.973,
        "unreadable": None,
    }
    assert by_path["/"] == {"path": "/", "kind": "group", "neurodata_type": "NWBFile"}
    assert by_path["/general/extracellular_ephys/shank0/device"]["target"] == "/general/devices/probe"
