"""What users call, without a cluster: blocks, options, near names, xarray."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

import lindi_dask as ld
from lindi_dask import errors, process
from lindi_dask.types import DiskCache

if TYPE_CHECKING:
    from collections.abc import Callable

    import h5py

    from lindi_dask.testing import EmbeddedArchive

LFP = "processing/ecephys/LFP/LFP/data"  # (40000, 16) float32, chunks (32, 16)


@pytest.fixture
def options(embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]]) -> dict[str, Any]:
    return {"instances": own_key(embedded_archive)}


@pytest.fixture
def session(embedded_archive: EmbeddedArchive, session_refs: Callable[..., Any], data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "session.lindi.json"
    path.write_text(json.dumps(session_refs(embedded_archive.add(data / "session.nwb").url)))
    return path


def test_all_54_arrays_equal_h5py(
    session: Path, options: dict[str, Any], session_h5: h5py.File, assert_equal_to_h5py: Callable[..., None]
) -> None:
    group = ld.open_group(session, **options)
    arrays = {path: node for path, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}
    assert len(arrays) == 54
    for path, array in arrays.items():
        assert_equal_to_h5py(array, session_h5[path])


def test_a_soft_link_opens_as_what_it_points_at(session: Path, options: dict[str, Any], session_h5: h5py.File) -> None:
    group = ld.open_group(session, **options)
    links = 0
    for path, target in ld.open_store(session, **options).references.links.items():
        assert session_h5.get(path, getlink=True).path == f"/{target}"
        assert group[path].attrs.asdict() == group[target].attrs.asdict()
        links += 1
    assert links == 5
    array = ld.open_array(session, "processing/ecephys/LFP/LFP/electrodes", **options)
    assert array.name == ld.open_array(session, "acquisition/ElectricalSeries/electrodes", **options).name
    np.testing.assert_array_equal(array.compute(), session_h5["processing/ecephys/LFP/LFP/electrodes"][...])


def test_an_external_array_link_is_an_error_and_never_zeros(data: Path, options: dict[str, Any]) -> None:
    with pytest.raises(errors.UnsupportedArray, match="expand=True"):
        ld.open_array(data / "session.lindi.json", LFP, **options)
    group: Any = ld.open_group(data / "session.lindi.json", **options)
    with pytest.raises(errors.UnsupportedArray, match="expand=True"):
        group[LFP][...]


@pytest.mark.parametrize(
    ("chunks", "blocks"),
    [
        ({0: "64 KiB"}, (1024, 16)),  # whole chunks of 32 rows: 64 KiB are 1,024 rows of 64 bytes
        ({0: "65 KiB"}, (1024, 16)),
        ({0: "1 B"}, (32, 16)),
        ({-2: "64 KiB"}, (1024, 16)),
        ({"time": "64 KiB"}, (1024, 16)),
        ({"time": 320, 1: -1}, (320, 16)),
        ("auto", (40_000, 16)),
        ((4_992, -1), (4_992, 16)),
        (-1, (40_000, 16)),
    ],
)
def test_blocks_are_whole_chunks_of_the_size_asked_for(
    session: Path, options: dict[str, Any], session_h5: h5py.File, chunks: Any, blocks: tuple[int, int]
) -> None:
    array = ld.open_array(session, LFP, chunks=chunks, **options)
    assert array.chunksize == blocks
    np.testing.assert_array_equal(array[990:1100, 3].compute(), session_h5[LFP][990:1100, 3])


def test_a_scalar_is_an_array_without_dimensions(session: Path, options: dict[str, Any]) -> None:
    array = ld.open_array(session, "acquisition/ElectricalSeries/starting_time", **options)
    assert array.shape == ()
    assert array.compute() == 1.5


def test_a_path_that_is_not_there_names_those_near_it(session: Path, options: dict[str, Any]) -> None:
    with pytest.raises(errors.RefsError, match=r"Near it: .*/processing/ecephys/LFP/LFP/data"):
        ld.open_array(session, "processing/ecephys/LFP/data", **options)
    with pytest.raises(errors.RefsError, match="is a group, not an array"):
        ld.open_array(session, "acquisition", **options)
    with pytest.raises(errors.RefsError, match="is an array, not a group"):
        ld.open_group(session, LFP, **options)
    with pytest.raises(errors.RefsError, match="there is no group /nowhere"):
        ld.open_group(session, "nowhere", **options)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b'{"refs": "\xff"}', "not UTF-8"),
        (b"[]", "no object called 'refs'"),
        (b'{"version": 1}', "no object called 'refs'"),
        (b'{"refs": {"a": "b", "a": "c"}}', "the key 'a' stands there twice"),
        (b'{"refs": {"a/0": ["https://x.org/y", -1, 2]}}', "'a/0'.*out of bounds"),
        (b'{"refs": {"a/0": ["https://x.org/y", 1]}}', "'a/0'.*\\[url, offset, length\\]"),
        (b'{"refs": {"a/0": ["https://x.org/y", 1.0, 2]}}', "'a/0'.*whole numbers"),
        (b"[" * 100_000 + b"]" * 100_000, "no object called 'refs'"),
        (b'{"refs": {"a/.zattrs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "nested too deeply"),
        (b'{"refs": {"a/.zattrs": {"x": ' + b"[" * 33 + b"]" * 33 + b"}}}", "nested too deeply"),
    ],
)
def test_a_broken_file_is_invalid_references_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "broken.lindi.json"
    path.write_bytes(content)
    with pytest.raises(errors.InvalidReferences, match=reason):
        ld.open_store(path)


def test_a_file_that_is_not_there_is_unreachable_not_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(errors.RefsUnreachable, match="No such file") as caught:
        ld.open_store(tmp_path / "nowhere.lindi.json")
    assert not isinstance(caught.value, OSError)


@pytest.mark.parametrize(
    ("chunks", "blocks", "more", "instead"),
    [
        ((5_000, -1), (5_000, 16), "0.48 %", (4_992, 16)),
        ((100, -1), (100, 16), "28 %", (96, 16)),
        ((32, 8), (32, 8), "100 %", (32, 16)),
        ({0: 33}, (33, 16), "94 %", (32, 16)),
    ],
)
def test_blocks_that_cut_chunks_are_warned_of(
    session: Path,
    options: dict[str, Any],
    session_h5: h5py.File,
    chunks: Any,
    blocks: tuple[int, int],
    more: str,
    instead: tuple[int, int],
) -> None:
    with pytest.warns(da.PerformanceWarning, match=re.escape(more)) as warned:
        array = ld.open_array(session, LFP, chunks=chunks, **options)
    (ours,) = (one for one in warned if one.category is da.PerformanceWarning)
    assert Path(ours.filename).name == "test_arrays.py"  # where the user's line is
    assert f"chunks={instead}" in str(ours.message)
    assert array.chunksize == blocks
    np.testing.assert_array_equal(array[95:105].compute(), session_h5[LFP][95:105])
    with warnings.catch_warnings():
        warnings.simplefilter("error", da.PerformanceWarning)
        ld.open_array(session, LFP, chunks=instead, **options)


def test_cut_chunks_are_warned_of_once(session: Path, options: dict[str, Any]) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default", da.PerformanceWarning)
        for _ in range(3):
            ld.open_array(session, LFP, chunks=(100, 16), **options)
    assert [one.category for one in warned].count(da.PerformanceWarning) == 1


def test_a_dimension_that_is_none_is_a_configuration_error(session: Path, options: dict[str, Any]) -> None:
    with pytest.raises(
        errors.ConfigurationError, match=r"'tome' is not a dimension of /.*, which has 2, called 'time'"
    ):
        ld.open_array(session, LFP, chunks={"tome": 100}, **options)
    with pytest.raises(errors.ConfigurationError, match="which has 1, without names"):
        ld.open_array(session, "general/extracellular_ephys/electrodes/id", chunks={"time": 100}, **options)


def test_dimensions_are_called_as_the_array_calls_them() -> None:
    document = {"zarr_format": 2, "shape": [4, 6], "chunks": [2, 3], "dtype": "|u1", "compressor": None}
    document |= {"filters": None, "fill_value": 0, "order": "C"}
    refs = {
        ".zgroup": '{"zarr_format": 2}',
        "data/.zarray": json.dumps(document),
        "data/.zattrs": '{"_ARRAY_DIMENSIONS": ["y", "x"]}',
        **{f"data/{i}.{j}": f"{i}{j}{i}{j}{i}{j}" for i in range(2) for j in range(2)},
    }
    array = ld.open_array({"refs": refs}, "data", chunks={"x": 3})
    assert array.chunks == ((4,), (3, 3))
    with pytest.raises(errors.ConfigurationError, match="called 'y', 'x'"):
        ld.open_array({"refs": refs}, "data", chunks={"time": 3})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"concurrency": 0}, "concurrency must be a whole number"),
        ({"concurrency": True}, "concurrency must be a whole number"),
        ({"allow": "https://x.org/"}, "must be a list"),
        ({"allow": ["ftp://x.org/"]}, "is neither a URL prefix nor a folder"),
        ({"instances": {"dandi": "https://evil.org/api"}}, "built in and can't be redefined"),
        ({"instances": {"mine": "http://192.0.2.1/api"}}, "only sent over https"),
        ({"cache": True}, "must be the path of a local folder"),
        ({"cache": "s3://bucket/cache"}, "must be the path of a local folder"),
        ({"cache_limit": "much"}, "must be a number of bytes"),
        ({"cache": "/scratch/lindi", "cache_limit": 5}, "must be a number of bytes, 1 MiB or more"),
    ],
)
def test_options_that_make_no_sense_are_configuration_errors(data: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=message):
        ld.StoreFactory(data / "session.lindi.json", **wrong)


def test_options_come_from_dasks_configuration(data: Path) -> None:
    import dask  # noqa: PLC0415

    config = {
        "lindi-dask.instances.local.api-url": "http://127.0.0.1:8901/api",
        "lindi-dask.concurrency": 7,
        "lindi-dask.allow": ["http://127.0.0.1:1/"],
        "lindi-dask.cache": "/scratch/lindi",
        "lindi-dask.cache-limit": "5 GiB",
    }
    with dask.config.set(config):
        factory = ld.StoreFactory(data / "session.lindi.json")
        other = ld.StoreFactory(data / "session.lindi.json", cache_limit="7 GiB")
        without = ld.StoreFactory(data / "session.lindi.json", cache=False)
    assert factory.concurrency == 7
    assert factory.cache == DiskCache("/scratch/lindi", 5 * 2**30)
    assert other.cache == DiskCache("/scratch/lindi", 7 * 2**30)
    assert without.cache is ld.StoreFactory(data / "session.lindi.json").cache is None
    assert factory.policy.instances[-1].key_variables == ("LOCAL_API_KEY",)
    assert factory.policy.allow == ("http://127.0.0.1:1/",)


def test_a_factory_pickles_with_its_cache_small_and_without_a_look_at_the_disk(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 50) / "cache"
    factory = ld.StoreFactory(data / "session.lindi.json", cache=folder, cache_limit="5 GiB")
    pickled = pickle.dumps(factory)
    assert len(pickled) <= 2048
    other = pickle.loads(pickled)
    assert other == factory
    assert other() is factory()
    assert other.cache == DiskCache(str(folder), 5 * 2**30)
    assert other != ld.StoreFactory(data / "session.lindi.json", cache=folder)
    assert other != ld.StoreFactory(data / "session.lindi.json")
    assert list(tmp_path.rglob("cache")) in ([], [tmp_path / "cache"])  # the latter has the index


def test_what_was_read_once_is_read_again_without_the_archive(
    session: Path, options: dict[str, Any], session_h5: h5py.File, embedded_archive: EmbeddedArchive, tmp_path: Path
) -> None:
    options |= {"cache": tmp_path / "ranges", "cache_limit": "1 GiB"}
    np.testing.assert_array_equal(ld.open_array(session, LFP, **options).compute(), session_h5[LFP][...])
    before = process.counters().counts()
    embedded_archive.stop()
    np.testing.assert_array_equal(ld.open_array(session, LFP, **options).compute(), session_h5[LFP][...])
    group: Any = ld.open_group(session, **options)
    np.testing.assert_array_equal(group[LFP][100:105], session_h5[LFP][100:105])
    store = ld.open_store(session, **options)
    np.testing.assert_array_equal(zarr.open_array(store, path=LFP)[7:9], session_h5[LFP][7:9])
    done = process.counters().counts() - before
    assert (done.requests, done.bytes_fetched) == (0, 0)
    assert done.cache_hits == done.chunks > 1250
    with pytest.raises(errors.ConfigurationError, match="options belong to the StoreFactory"):
        ld.open_store(ld.StoreFactory(session), cache=tmp_path)


def test_a_url_that_may_not_be_read_is_an_error_of_that_array_alone(session_refs: Any) -> None:
    group: Any = ld.open_group(session_refs("http://127.0.0.1:9/x"))
    assert group["units/id"][...].tolist() == list(range(8))  # inline
    with pytest.raises(errors.UrlRefused, match="plain http"):
        group["acquisition/ElectricalSeries/data"][...]


def test_xarray_opens_what_has_dimension_names(
    embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]], session_refs: Any
) -> None:
    refs = session_refs("https://x.org/")
    entries: dict[str, Any] = {".zgroup": {"zarr_format": 2}}
    for name, dimension in (("spike_times", "spike"), ("spike_times_index", "unit")):
        entries |= {f"{name}/{kind}": refs["refs"][f"units/{name}/{kind}"] for kind in (".zarray", "0")}
        entries[f"{name}/.zattrs"] = {"_ARRAY_DIMENSIONS": [dimension]}
    store = ld.open_store({"refs": entries}, instances=own_key(embedded_archive))
    dataset = xr.open_zarr(store)
    assert dataset.sizes == {"spike": 680, "unit": 8}
    assert int(dataset["spike_times_index"][-1]) == 680


@pytest.mark.parametrize("nbytes", [0, 3, 5, 8])
def test_a_whole_file_of_another_length_than_its_chunk_is_corrupt_and_never_padded(tmp_path: Path, nbytes: int) -> None:
    zarray = {"zarr_format": 2, "shape": [4], "chunks": [4], "dtype": "|u1", "fill_value": 0, "order": "C"}
    refs = {".zgroup": {"zarr_format": 2}, "a/.zarray": {**zarray, "filters": None, "compressor": None}, "a/0": ["./x"]}
    (tmp_path / "refs.json").write_text(json.dumps({"refs": refs}))
    (tmp_path / "x").write_bytes(b"a" * nbytes)
    with pytest.raises(errors.CorruptChunk, match=f"gave {nbytes} bytes, but the chunk has 4"):
        ld.open_array(tmp_path / "refs.json", "a").compute()
    group: Any = ld.open_group(tmp_path / "refs.json")
    with pytest.raises(errors.CorruptChunk, match=f"gave {nbytes} bytes"):
        group["a"][1:3]
    (tmp_path / "x").write_bytes(b"abcd")
    assert ld.open_array(tmp_path / "refs.json", "a").compute().tobytes() == b"abcd"
