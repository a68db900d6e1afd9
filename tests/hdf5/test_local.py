"""References made of HDF5 files, read through the store and compared with what h5py reads."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask
import h5py
import numpy as np
import pytest
import xarray as xr
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from fsspec.implementations.reference import ReferenceFileSystem  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from zarr.storage import FsspecStore

import lindi_dask as ld
from lindi_dask.errors import RefsUnreachable, SourceMismatch, UnsupportedArray
from lindi_dask.hdf5 import datasets, index_hdf5

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import zarr

    from lindi_dask.testing import EmbeddedArchive

URL = "https://example.org/session.nwb"

LEFT_OUT = {
    "not/opaque": "opaque",
    "not/lists": "lists of any length",
    "not/regions": "regions",
    "not/external": "other files",
    "not/virtual": "other files",
    "links/broken": "nothing",
}
"""what docs/indexing.md lists, and a link that leads nowhere"""


def opened(references: Any, folder: Path) -> Any:
    return ld.open_group(references, allow=[f"{folder}/"])


def truths(file: h5py.File) -> list[tuple[str, h5py.Dataset]]:
    names: list[str] = []
    file.visit(names.append)
    return [(name, file[name]) for name in names if isinstance(file[name], h5py.Dataset)]


def text(value: bytes | str) -> str:
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def plain(value: Any, file: h5py.File) -> Any:
    """Return what h5py read as lists of Python's values."""
    match value:
        case h5py.Empty():
            return []
        case h5py.Reference():
            return file[value].name if value else ""
        case np.ndarray() if value.shape:
            return [plain(item, file) for item in value]
        case np.ndarray() | np.void() if value.dtype.names:
            return [plain(value[name], file) for name in value.dtype.names]
        case np.ndarray():
            return plain(value[()], file)
        case np.void():
            return [plain(item, file) for item in value.item()]
        case np.generic():
            return plain(value.item(), file)
        case bytes() | str():
            return text(value)
        case float() if math.isnan(value):
            return "NaN"
        case _:
            return value


def of_zarr(value: Any) -> Any:
    """Return what zarr read as lists; arrays in records, which have a field an element there, are lists as well."""
    match value:
        case np.ndarray() if value.shape:
            return [of_zarr(item) for item in value]
        case np.ndarray() | np.void() if value.dtype.names:
            return [of_zarr(value[name]) for name in value.dtype.names]
        case np.ndarray():
            return of_zarr(value[()])
        case np.generic():
            return of_zarr(value.item())
        case bytes() | str():
            return text(value)
        case float() if math.isnan(value):
            return "NaN"
        case _:
            return value


def assert_equal(array: zarr.Array[Any], truth: h5py.Dataset) -> None:
    values = np.asarray(array[...])
    if truth.shape is None:
        assert array.shape == (0,)
        return
    expected = truth[()]
    if isinstance(expected, np.ndarray | np.generic) and expected.dtype.kind in "biufc":
        assert values.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(values, expected)
        return
    assert array.shape == truth.shape
    assert of_zarr(values) == plain(expected, truth.file)


def same_attributes(found: dict[str, Any], node: h5py.HLObject) -> None:
    for name, value in node.attrs.items():
        if isinstance(value, h5py.Empty):
            assert name not in found
            continue
        if isinstance(value, np.complexfloating):
            assert found[name] == [value.real, value.imag]
            continue
        assert attribute(found[name]) == plain(value, node.file), name


def attribute(value: Any) -> Any:
    match value:
        case {"_REFERENCE": {"path": path}}:
            return path
        case dict():
            return [attribute(item) for item in value.values()]
        case list():
            return [attribute(item) for item in value]
        case float() if math.isnan(value):
            return "NaN"
        case _:
            return value


COMPOUNDS = ("arrays", "chunked", "contiguous", "nested", "nested-arrays", "scalar", "small")
TO_LINDI = {f"compounds/{name}" for name in COMPOUNDS} | {"attributes"}
"""what LINDI has no form for: compounds that can't be JSON, and an attribute that is the text NaN"""


def compare(group: Any, path: Path, left_out: set[str]) -> int:
    compared = 0
    with h5py.File(path) as file:
        for name, truth in truths(file):
            if name not in left_out:
                assert_equal(group[name], truth)
                same_attributes(group[name].attrs.asdict(), truth)
                compared += 1
        same_attributes(group.attrs.asdict(), file)
        if "attributes" in file and "attributes" not in left_out:
            same_attributes(group["attributes"].attrs.asdict(), file["attributes"])
    return compared


def test_the_whole_of_it_reads_as_h5py_reads_it_or_is_listed_with_the_reason(torture: Path) -> None:
    references = ld.index(torture)
    assert set(references.unreadable) == set(LEFT_OUT)
    group = opened(references, torture.parent)
    assert compare(group, torture, set(LEFT_OUT)) == 115
    for path, reason in LEFT_OUT.items():
        assert reason in references.unreadable[path]
        if path != "links/broken":
            with pytest.raises(UnsupportedArray, match=reason):
                group[path][...]


@pytest.mark.parametrize(
    ("name", "options", "lost"),
    [("x.lindi.json", {}, TO_LINDI), ("x.json", {"form": "kerchunk"}, set()), ("x.parquet", {}, set())],
)
def test_the_whole_of_it_reads_the_same_from_all_forms_that_it_is_saved_to(
    torture: Path, tmp_path: Path, name: str, options: dict[str, Any], lost: set[str]
) -> None:
    references = ld.index(torture)
    references.save(tmp_path / name, skip_unreadable=True, **options)
    group = opened(tmp_path / name, torture.parent)
    assert set(references.manifests) - {path for path, _ in group_arrays(group)} == {
        path for path in (set(LEFT_OUT) | lost) if path in references.manifests
    }
    assert compare(group, torture, set(LEFT_OUT) | lost | {"attributes"}) == 115 - len(lost - {"attributes"})


def group_arrays(group: Any) -> list[tuple[str, Any]]:
    return [(path, node) for path, node in group.members(max_depth=None) if hasattr(node, "shape")]


def test_links_of_all_kinds_lead_where_they_lead_in_hdf5(torture: Path) -> None:
    references = ld.index(torture)
    assert {path: references.links[path] for path in references.links if path.startswith("links/")} == {
        "links/data": "links/also",  # of two paths to the same, the first by name is the object's own
        "links/soft": "links/also",
        "links/relative": "links/also",
        "links/up": "",
        "links/inner/back": "links",
    }
    group = opened(references, torture.parent)
    np.testing.assert_array_equal(group["links/soft"][...], group["links/data"][...])
    np.testing.assert_array_equal(group["links/also"][...], group["links/data"][...])
    away = [link for link in group["links"].attrs["_LINKS"] if link["source"] != "."]
    assert away == [{"source": "other.h5", "path": "/x", "name": "away"}]


def test_scales_name_the_dimensions(torture: Path) -> None:
    group = opened(ld.index(torture), torture.parent)
    assert group["scales/data"].metadata.dimension_names == ("time", "channel")
    assert group["scales/time"].metadata.dimension_names == ("time",)
    assert group["links/data"].metadata.dimension_names is None


@pytest.mark.parametrize("kind", ["text", "a field"])
def test_text_that_is_too_long_is_listed_before_all_of_it_is_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "_MAX_HELD", 100_000)
    text = h5py.string_dtype()
    with h5py.File(tmp_path / "file.h5", "w") as file:
        values: Any = ["x" * 1000] * 2000
        if kind == "a field":
            values = np.array([(1, one) for one in values], [("n", "i4"), ("t", text)])
        file.create_dataset("long", data=values, dtype=text if kind == "text" else None, chunks=(10,), maxshape=(None,))
        file["short"] = ["a", "b"]
    read: list[int] = []
    pieces = datasets._text_nbytes

    def noted(piece: Any) -> int:
        read.append(len(piece))
        return pieces(piece)

    monkeypatch.setattr(datasets, "_text_nbytes", noted)
    references = ld.index(tmp_path / "file.h5")
    assert "too long" in references.unreadable["long"]
    assert sum(read) < 1000
    assert list(ld.open_group(references)["short"][...]) == ["a", "b"]  # type: ignore[index,arg-type]


@pytest.mark.parametrize(("rows", "last"), [(1000, 6000), (1500, 3000), (999, 5994)])
def test_contiguous_data_are_split_and_the_last_chunk_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, last: int
) -> None:
    monkeypatch.setattr(datasets, "SPLIT_NBYTES", 6005)  # 1,000 rows of 6 bytes, and a bit
    data = np.arange(3 * rows, dtype="<i2").reshape(rows, 3)
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["x"] = data
    references = index_hdf5(tmp_path / "file.h5", str(tmp_path / "file.h5"))
    manifest = references.manifests["x"]
    assert manifest.grid == (-(-rows // min(rows, 1000)), 1)
    assert int(manifest.locate(manifest.present()).lengths[-1]) == last
    np.testing.assert_array_equal(opened(references, tmp_path)["x"][...], data)


def test_the_fingerprint_is_that_of_the_content_and_of_the_url(tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3000)
    first = index_hdf5(path, URL).fingerprint
    assert index_hdf5(path, URL).fingerprint == first
    assert index_hdf5(path, f"{URL}?other").fingerprint != first
    with h5py.File(path, "r+") as file:
        file["x"].attrs["unit"] = "V"
    assert index_hdf5(path, URL).fingerprint != first


def test_names_that_mean_something_else_in_zarr_do_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        file.create_group("zarr.json")["0"] = np.arange(2000)
        file.attrs["_LINKS"] = "not a link"
        file["x"] = np.arange(1)
        file["x"].attrs.update({"_SCALAR": True, "_DTYPE": "object_reference"})
        file["x"].attrs["_EXTERNAL_ARRAY_LINK"] = "nor this"
    group = opened(ld.index(path), tmp_path)
    np.testing.assert_array_equal(group["zarr.json/0"][...], np.arange(2000))
    assert group["x"].shape == (1,)
    assert group["x"].attrs.asdict() == {"_DTYPE": "int64", "_EXTERNAL_ARRAY_LINK": "nor this"}
    assert caplog.text.count("NWB-Zarr uses that name itself") == 3


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_what_is_no_hdf5_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.h5"
    path.write_bytes(content)
    with pytest.raises(SourceMismatch, match=r"file\.h5 can't be read as an HDF5 file: "):
        ld.index(path)
    with pytest.raises(RefsUnreachable, match=r"other\.h5 can't be read here"):
        ld.index(tmp_path / "other.h5")


def test_a_file_that_was_cut_short_gives_no_data(tmp_path: Path) -> None:
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(100_000)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceMismatch, match="truncated"):
        ld.index(path)


def test_an_embargoed_asset_is_indexed_as_the_local_file(
    torture: Path, embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]]
) -> None:
    instances = own_key(embedded_archive)
    url = embedded_archive.add(torture).url
    there = ld.index(url, instances=instances)
    here = ld.index(torture, url=url)
    assert there.metadata == here.metadata
    assert there.unreadable == here.unreadable
    assert there.sources[1].etag is not None
    assert replace(there.sources[1], etag=None) == here.sources[1]
    array = ld.open_array(there, "types/little-i2-chunked", instances=instances)
    with h5py.File(torture) as file:
        np.testing.assert_array_equal(array.compute(), file["types/little-i2-chunked"][...])


dtypes = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes(sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(sizes=(64, 128)), hnp.byte_string_dtypes(min_len=1, max_len=5),
    hnp.array_dtypes(hnp.integer_dtypes(endianness="<") | hnp.floating_dtypes(endianness="<", sizes=(32, 64))),
)  # fmt: skip


def named(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a type whose fields have names that HDF5 takes."""
    return dtype if dtype.names is None else np.dtype([(f"f{i}µ", dtype[i]) for i in range(len(dtype.names))])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.data())
def test_any_file_reads_as_h5py_reads_it(tmp_path_factory: pytest.TempPathFactory, content: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("any")
    draw = content.draw
    with h5py.File(folder / "file.h5", "w", libver=draw(st.sampled_from(["earliest", "latest"]))) as file:
        for number in range(draw(st.integers(1, 4))):
            shape = draw(hnp.array_shapes(max_dims=3, max_side=40))
            data = draw(hnp.arrays(named(draw(dtypes)), shape, fill=st.nothing() if math.prod(shape) < 20 else None))
            options: dict[str, Any] = {}
            if draw(st.booleans()):
                options["chunks"] = tuple(draw(st.integers(1, extent)) for extent in shape)
                options["shuffle"], options["fletcher32"] = draw(st.booleans()), draw(st.booleans())
                options["compression"] = draw(st.sampled_from([None, "gzip", "lzf"]))
            file.create_dataset(f"group{number % 2}/x{number}", data=data, **options)
    with dask.config.set({"lindi-dask.index-cache": False}):
        assert compare(opened(ld.index(folder / "file.h5"), folder), folder / "file.h5", {"attributes"}) > 0


def as_asset(references: ld.References) -> ld.References:
    """References with all that can be said of the file that they are of."""
    told = replace(references.sources[1], etag=f"{'0' * 32}-2", address="dandi://dandi/000123@draft/sub-1/session.nwb")
    references.sources.replace(1, told)
    return references


def test_lindi_reads_our_references_of_the_session_as_h5py_reads_the_file(
    tmp_path: Path,
    data: Path,
    lindi: Callable[[Path, Path], dict[str, Any]],
    lindi_truth: dict[str, Any],
) -> None:
    as_asset(ld.index(data / "session.nwb", url=URL)).save(tmp_path / "session.lindi.json")
    assert lindi(tmp_path / "session.lindi.json", data / "session.nwb") == lindi_truth


@pytest.fixture
def along_time(tmp_path: Path) -> Path:
    """A file that xarray can open by kerchunk's Zarr v2: its arrays have names for their dimensions."""
    path = tmp_path / "file.h5"
    values = np.random.default_rng(3).integers(-9, 9, 2000).astype("<i2")
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=values, chunks=(64,), fletcher32=True, shuffle=True)
        file["plain"] = values[::-1]
        file["time"] = np.arange(2000.0)
        file["time"].make_scale("time")
        for name in ("data", "plain"):
            file[name].dims[0].attach_scale(file["time"])
    return path


def test_fsspec_and_xarray_open_our_kerchunk_json(along_time: Path, tmp_path: Path) -> None:
    as_asset(ld.index(along_time, url=f"file://{along_time}")).save(tmp_path / "refs.json", form="kerchunk")
    local = AsyncFileSystemWrapper(LocalFileSystem(), asynchronous=True)
    document = json.loads((tmp_path / "refs.json").read_text())
    store = FsspecStore(ReferenceFileSystem(document, asynchronous=True, fs={"file": local}), read_only=True, path="")
    options: dict[str, Any] = {
        "engine": "zarr",
        "consolidated": False,
        "zarr_format": 2,
        "chunks": None,
        "decode_cf": False,
    }
    found = xr.open_dataset(store, **options)  # type: ignore[arg-type]
    with h5py.File(along_time) as file:
        assert set(found.variables) == set(file) == {"data", "plain", "time"}
        for name, truth in file.items():
            assert found[name].dims == ("time",)
            np.testing.assert_array_equal(found[name].values, truth[...])


PARQUET = """
import hashlib, json, os, sys
import numpy as np
import xarray as xr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from virtualizarr.parsers import KerchunkParquetParser

path, name = sys.argv[1:]
registry = ObjectStoreRegistry({"file://": LocalStore()})
store = KerchunkParquetParser(group=None, skip_variables=None)(url="file://" + path, registry=registry)
found = xr.open_zarr(store, consolidated=False, zarr_format=3, decode_cf=False, chunks=None)[name].values
json.dump([found.shape, found.dtype.str, hashlib.sha256(found).hexdigest()], sys.stdout)
sys.stdout.flush()
os._exit(0)  # obstore's threads may abort a process that ends in the usual way
"""


def test_virtualizarr_opens_our_parquet(along_time: Path, tmp_path: Path) -> None:
    """Of a file with its arrays in the root, none inline and none with a v2 compressor: it takes no others."""
    as_asset(ld.index(along_time, url=f"file://{along_time}")).save(tmp_path / "refs.parquet")
    with h5py.File(along_time) as file:
        for name, truth in file.items():
            command = [sys.executable, "-W", "ignore", "-c", PARQUET, str(tmp_path / "refs.parquet"), name]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout) == [[2000], truth.dtype.str, hashlib.sha256(truth[...]).hexdigest()]
