"""Conversions that go well, and those that are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import zarr

import lindi_dask as ld
from lindi_dask.conversion import Status, job_of
from lindi_dask.errors import ConfigurationError, JobConflict, UnsupportedArray
from lindi_dask.jobs.ledger import events_of
from lindi_dask.lazy import LazyArray

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lindi_dask.conversion import Progress

BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
GZIP = {"name": "gzip", "configuration": {"level": 1}}


def test_all_of_a_file_is_converted(
    factory: ld.StoreFactory, source: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    told: list[Progress] = []
    done = ld.convert(factory, tmp_path / "out.zarr", progress=told.append, **options)
    assert (done.made, done.kept, done.failures) == (14, 0, 0)
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    with h5py.File(source) as file:
        data = group["a/data"]
        assert isinstance(data, zarr.Array)
        assert (data.chunks, data.shards) == ((250, 8), (1000, 8))
        np.testing.assert_array_equal(data[...], file["a/data"][...])
        np.testing.assert_array_equal(np.asarray(group["a/times"]), file["a/times"][...])
        assert np.asarray(group["words"]).tolist() == ["one", "zwei", "três"]
        assert data.attrs["unit"] == "volts"
    assert group.attrs["made_by"] == "a test"
    assert "empty" in group
    assert (told[-1].done, told[-1].total, told[-1].is_ended) == (14, 14, True)
    assert told[-1].nbytes == told[-1].total_nbytes == done.plan.nbytes


def test_a_shard_that_was_never_written_has_no_object_and_is_known_to(
    factory: ld.StoreFactory, tmp_path: Path, options: dict[str, Any]
) -> None:
    ld.convert(factory, tmp_path / "out.zarr", **options)
    rows = sorted(int(path.parent.name) for path in (tmp_path / "out.zarr/a/data/c").rglob("0") if path.is_file())
    assert rows == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    job = job_of(tmp_path / "out.zarr")
    done = {(event["array"], event["place"]): event for event in events_of(job.ledger) if event["event"] == "done"}
    number = [array.path for array in job.plan().arrays].index("a/data")  # type: ignore[union-attr] # it is there
    assert [place for (array, place), event in done.items() if array == number and event["nbytes"] is None] == [5]
    assert ld.verify(tmp_path / "out.zarr").objects == 14


@pytest.mark.parametrize(
    ("asked", "way"),
    [
        ({}, "native"),
        ({"chunks": (1000, 4), "shards": False}, "native"),
        ({"codecs": "source", "shards": (3000, 8)}, "copy"),
        ({"codecs": "source", "shards": False}, "copy"),
        ({"codecs": [BYTES, GZIP], "chunks": (500, 8), "shards": (2000, 8)}, "zarr"),
        ({"codecs": [BYTES], "chunks": (700, 3), "shards": (1400, 9)}, "native"),
    ],
)
def test_each_way_gives_the_same_values(
    factory: ld.StoreFactory, source: Path, tmp_path: Path, asked: dict[str, Any], way: str
) -> None:
    layout = {"a/data": {"chunks": (300, 4), **asked} if "codecs" not in asked else asked}
    done = ld.convert(factory, tmp_path / "out.zarr", include="a/data", layout=layout, threads=2)
    assert [array.way for array in done.plan.arrays] == [way]
    found = zarr.open_array(tmp_path / "out.zarr", path="a/data", mode="r")[...]
    with h5py.File(source) as file:
        np.testing.assert_array_equal(found, file["a/data"][...])
    ld.verify(tmp_path / "out.zarr", factory, level="full", threads=2)
    ld.verify(tmp_path / "out.zarr", factory, level="full", hdf5=source, threads=2)


def test_copied_chunks_are_never_decoded(
    factory: ld.StoreFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LazyArray, "begin", lambda *_: pytest.fail("a block was read"))
    layout = {"a/data": {"codecs": "source"}}
    assert ld.convert(factory, tmp_path / "out.zarr", include="a/data", layout=layout, threads=1).made == 1


def test_each_chunk_of_the_source_is_read_once(
    factory: ld.StoreFactory, tmp_path: Path, options: dict[str, Any]
) -> None:
    before = ld.stats()
    ld.convert(factory, tmp_path / "out.zarr", include="a/data", **options)
    assert (ld.stats() - before).chunks == 11


def test_what_is_selected(factory: ld.StoreFactory, tmp_path: Path) -> None:
    ld.convert(factory, tmp_path / "out.zarr", include=["a", "/words"], exclude="*/data")
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    assert sorted(path for path, _ in group.members(max_depth=None)) == ["a", "a/times", "words"]
    assert group.attrs["made_by"] == "a test"


def test_nothing_is_selected(factory: ld.StoreFactory, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Near it: /a/data"):
        ld.convert(factory, tmp_path / "out.zarr", include="b/data")


def test_an_output_that_is_there_is_left_alone(
    factory: ld.StoreFactory, tmp_path: Path, tree: Callable[[Path], dict[str, bytes]]
) -> None:
    (tmp_path / "out.zarr").mkdir()
    (tmp_path / "out.zarr" / "mine.txt").write_text("mine")
    with pytest.raises(JobConflict, match="is there already"):
        ld.convert(factory, tmp_path / "out.zarr")
    with pytest.raises(JobConflict, match="can't be mended: it has no manifest"):
        ld.convert(factory, tmp_path / "out.zarr", resume=True)
    assert tree(tmp_path / "out.zarr") == {"mine.txt": b"mine"}


def test_the_same_job_in_another_way_is_refused_with_the_difference(
    factory: ld.StoreFactory, tmp_path: Path, options: dict[str, Any]
) -> None:
    ld.convert(factory, tmp_path / "out.zarr", **options)
    other = {"a/data": {"chunks": (500, 8), "shards": (1000, 8)}}
    with pytest.raises(JobConflict, match=r"layout: .*250.*, now .*500.*; another layout of /a/data\.") as refused:
        ld.convert(factory, tmp_path / "out.zarr", layout=other, resume=True)
    assert len(refused.value.differences) == 2
    with pytest.raises(JobConflict, match="other arrays: /a/times, /words"):
        ld.convert(factory, tmp_path / "out.zarr", include="a/data", layout=options["layout"], resume=True)


def test_workers_that_are_too_small_get_smaller_shards_or_a_clear_refusal(factory: ld.StoreFactory) -> None:
    from lindi_dask.conversion.planning import make_plan, request_of  # noqa: PLC0415 - with a memory of our own

    references = factory.load()[0]
    request = request_of("a/data", None, {"a/data": {"chunks": (250, 8)}})
    assert make_plan(references, request).arrays[0].unit == (12_000, 8)
    small = make_plan(references, request, task_memory=200_000).arrays[0]
    assert small.unit == (3000, 8)
    assert small.task_nbytes <= 200_000
    with pytest.raises(ConfigurationError, match=r"One task of /a/data would take .* MiB of memory"):
        make_plan(references, request, task_memory=1000)
    asked = request_of("a/data", None, {"a/data": {"chunks": (250, 8), "shards": (12_000, 8)}})
    with pytest.raises(ConfigurationError, match="ask for smaller shards"):
        make_plan(references, asked, task_memory=200_000)


def test_a_layout_that_reads_the_source_many_times_is_refused(factory: ld.StoreFactory) -> None:
    with pytest.raises(ConfigurationError, match=r"would be read 8\.0 times"):
        ld.plan(factory, layout={"a/data": {"chunks": (1000, 1), "shards": False}})


@pytest.mark.parametrize(
    ("layout", "what"),
    [
        ({"a/data": {"chunk": (1, 2)}}, "has no option 'chunk'"),
        ({"a/data": {"chunks": (1,)}}, "layout of /a/data: chunks of"),
        ({"a/data": {"codecs": "zstd"}}, "codecs are a list"),
        ({"a/data": {"codecs": [BYTES, {"name": "no_such"}]}}, "not ones that zarr takes"),
    ],
)
def test_layouts_that_make_no_sense(factory: ld.StoreFactory, layout: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigurationError, match=what):
        ld.plan(factory, layout=layout)


def test_what_cannot_be_read_is_refused_by_name_and_can_be_left_out(
    session_refs: Callable[..., dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    refs = session_refs(str(data / "session.nwb"), "session.lindi.json")
    allow = [f"{data}/"]
    with pytest.raises(UnsupportedArray, match=r"/processing/ecephys/LFP/LFP/data can't be converted.*exclude it"):
        ld.convert(refs, tmp_path / "out.zarr", allow=allow)
    assert not (tmp_path / "out.zarr").exists()
    ld.convert(refs, tmp_path / "other.zarr", allow=allow, exclude="processing/ecephys/LFP/LFP/data")


def test_a_job_that_was_begun_is_not_begun_again(
    factory: ld.StoreFactory, tmp_path: Path, options: dict[str, Any]
) -> None:
    job = job_of(tmp_path / "out.zarr")
    ld.convert(factory, tmp_path / "out.zarr", **options)
    (tmp_path / "out.zarr").rename(job.data)
    with pytest.raises(JobConflict, match=r"14 of 14 objects are done\. Resume it, or remove"):
        ld.convert(factory, tmp_path / "out.zarr", **options)
    status = Status(job)
    assert (status.done, status.is_published, status.holder, status.set_aside) == (14, False, None, {})
    assert ld.convert(factory, tmp_path / "out.zarr", resume=True, **options).made == 0
    assert Status(job).is_published


def test_a_plan_that_was_edited_is_refused(factory: ld.StoreFactory, tmp_path: Path, options: dict[str, Any]) -> None:
    ld.convert(factory, tmp_path / "out.zarr", **options)
    file = job_of(tmp_path / "out.zarr").folder / "plan.json"
    document = json.loads(file.read_bytes())
    document["arrays"][0]["way"] = "zarr"
    file.write_text(json.dumps(document))
    with pytest.raises(ld.errors.JobError, match="fingerprint does not fit"):
        ld.convert(factory, tmp_path / "out.zarr", resume=True, **options)


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_a_session_is_added_to_a_collection(factory: ld.StoreFactory, tmp_path: Path, options: dict[str, Any]) -> None:
    collection = tmp_path / "collection.zarr"
    root = zarr.create_group(collection)
    root.create_group("mice").create_array("weights", data=np.arange(3))
    zarr.consolidate_metadata(collection)
    for name in ("mice/one", "mice/two"):
        ld.convert(factory, collection / name, **options)
    below = ("", "/a", "/a/data", "/a/times", "/words", "/empty")
    expected = {"mice", "mice/weights"} | {f"mice/{name}{path}" for name in ("one", "two") for path in below}
    for consolidated in (True, False):
        group = zarr.open_group(collection, mode="r", use_consolidated=consolidated)
        assert {path for path, _ in group.members(max_depth=None)} == expected
    assert (tmp_path / ".collection.zarr-mice-two.lindi-job").is_dir()
    found = zarr.open_array(collection, path="mice/two/a/data", mode="r")[...]
    np.testing.assert_array_equal(found, zarr.open_array(collection / "mice/one", path="a/data", mode="r")[...])
    ld.verify(collection / "mice/two", threads=2)
    document = collection / "zarr.json"
    before = document.read_bytes()
    document.write_bytes(before.replace(b'"mice/two/words"', b'"mice/two/other"'))
    ld.convert(factory, collection / "mice/two", resume=True, **options)
    assert b'"mice/two/words"' in document.read_bytes()
    with pytest.raises(JobConflict, match="is there already"):
        ld.convert(factory, collection / "mice/two", **options)
