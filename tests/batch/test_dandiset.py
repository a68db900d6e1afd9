"""`ld.index_dandiset` on threads: what is done again, what fails, and what is made anew."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pyarrow.parquet
import pytest
from pipeline_runs import write_session

import lindi_dask as ld
from lindi_dask.errors import AuthenticationError, ConfigurationError, JobConflict, LindiError
from lindi_dask.jobs.lock import JobLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lindi_dask.batch import DandisetIndex, Progress
    from lindi_dask.testing import Asset, EmbeddedArchive

ADDRESS = "dandi://local/000123@draft/"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    paths = [tmp_path_factory.mktemp("files") / f"{number}.nwb" for number in range(4)]
    for number, path in enumerate(paths):
        write_session(path, number)
    return paths


@pytest.fixture
def assets(embedded_archive: EmbeddedArchive, files: list[Path]) -> list[Asset]:
    return [embedded_archive.add(path, path=f"sub-{n}/{n}.nwb") for n, path in enumerate(files[:3])]


@pytest.fixture
def run(
    embedded_archive: EmbeddedArchive, own_key: Callable[[EmbeddedArchive], dict[str, str]], tmp_path: Path
) -> Callable[..., DandisetIndex]:
    instances = own_key(embedded_archive)

    def run(**options: Any) -> DandisetIndex:
        options = {"instances": instances, "threads": 2, **options}
        return ld.index_dandiset(ADDRESS, tmp_path / "out", **options)

    return run


def references_of(index: DandisetIndex, path: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((index.folder / f"{path}.lindi.json").read_bytes())
    return document


def asked(archive: EmbeddedArchive, first: int = 0) -> set[str | None]:
    """Which assets were asked for, from some request on."""
    return {one.asset_id for one in archive.requests[first:] if one.is_download or one.plane == "s3"}


def test_each_asset_has_references_as_of_its_address_and_is_not_asked_for_again(
    embedded_archive: EmbeddedArchive, assets: list[Asset], run: Callable[..., DandisetIndex], tmp_path: Path
) -> None:
    embedded_archive.add_zarr("sub-1/x.nwb.zarr")
    seen: list[Progress] = []
    index = run(progress=seen.append)
    assert (index.total, index.done, index.skipped, index.failures) == (3, 3, 0, {})
    assert index.left_out == ("sub-1/x.nwb.zarr",)
    assert [(one.done, one.total) for one in seen] == [(1, 3), (2, 3), (3, 3)]
    for asset in assets:
        ld.index(f"{ADDRESS}{asset.path}", instances={"local": embedded_archive.api_url}).save(tmp_path / "one.json")
        assert references_of(index, asset.path) == json.loads((tmp_path / "one.json").read_bytes())
    before = len(embedded_archive.requests)
    again = run(progress=seen.append)
    assert (again.done, again.skipped, len(seen)) == (3, 3, 3)
    assert not asked(embedded_archive, before)


def test_what_was_replaced_or_lost_is_indexed_again_and_nothing_else(
    embedded_archive: EmbeddedArchive, assets: list[Asset], files: list[Path], run: Callable[..., DandisetIndex]
) -> None:
    first = run()
    uploaded = embedded_archive.replace(assets[1].id, files[3])
    (first.folder / f"{assets[2].path}.lindi.json").unlink()
    before = len(embedded_archive.requests)
    index = run()
    assert (index.done, index.skipped) == (3, 1)
    assert asked(embedded_archive, before) == {uploaded.id, assets[2].id}
    for asset in (assets[0], uploaded, assets[2]):
        assert asset.url in references_of(index, asset.path)["templates"].values()
    assert run(ending=".json").skipped == 0


@pytest.mark.parametrize("ending", [".lindi.json", ".json", ".parquet", ".lindi.d"])
def test_an_edit_of_the_metadata_changes_the_url_in_the_references_and_nothing_is_read(
    embedded_archive: EmbeddedArchive,
    assets: list[Asset],
    files: list[Path],
    run: Callable[..., DandisetIndex],
    ending: str,
) -> None:
    run(ending=ending)
    edited = embedded_archive.replace(assets[1].id)
    before = len(embedded_archive.requests)
    index = run(ending=ending)
    assert (index.done, index.skipped) == (3, 3)
    assert not asked(embedded_archive, before)
    references = index.folder / f"{edited.path}{ending}"
    voltage = ld.open_array(references, "acquisition/voltage/data", instances={"local": embedded_archive.api_url})
    with h5py.File(files[1]) as file:
        np.testing.assert_array_equal(voltage.compute(), file["acquisition/voltage/data"][...])
    assert asked(embedded_archive, before) == {edited.id}
    table = pyarrow.parquet.read_table(index.catalogue[0])
    assert edited.id in set(table["asset_id"].to_pylist())
    assert run(ending=ending).skipped == 3


def test_a_broken_file_stops_nothing_and_is_done_when_it_was_mended(
    embedded_archive: EmbeddedArchive, assets: list[Asset], files: list[Path], run: Callable[..., DandisetIndex]
) -> None:
    broken = embedded_archive.add(b"no HDF5 file" * 1000, path="sub-9/9.nwb")
    outside = embedded_archive.add(files[3], path="../evil.nwb")
    seen: list[Progress] = []
    index = run(attempts=2, progress=seen.append)
    assert (index.total, index.done) == (len(assets) + 2, len(assets))
    assert [one.path for one in seen].count(broken.path) == 2
    assert {one.path for one in seen[-2:]} == {broken.path, outside.path}  # again, when all others were done
    assert seen[-1].failed == 2
    failure = index.failures[broken.path]
    assert (failure.kind, failure.attempts) == ("SourceMismatch", 2)
    assert "can't be read as an HDF5 file" in failure.reason
    assert "can't be that of a file here" in index.failures[outside.path].reason
    assert not (index.folder.parent / "evil.nwb.lindi.json").exists()
    assert "can&#39;t be read as an HDF5 file" in index.catalogue[1].read_text("utf-8")
    embedded_archive.replace(broken.id, files[3])
    embedded_archive.remove(outside.id)
    index = run()
    assert (index.total, index.done, index.skipped, index.failures) == (4, 4, 3, {})


def test_an_asset_that_is_replaced_meanwhile_is_looked_up_anew(
    embedded_archive: EmbeddedArchive, assets: list[Asset], run: Callable[..., DandisetIndex]
) -> None:
    last = max(assets, key=lambda asset: (-asset.nbytes, asset.path))  # the largest are begun first
    now: list[Asset] = []
    reasons: list[str] = []

    def progress(one: Progress) -> None:
        if not now:
            now.append(embedded_archive.replace(last.id))
        reasons.extend([one.reason] if one.reason else [])

    index = run(threads=1, progress=progress)
    assert index.failures == {}
    assert [reason.partition(":")[0] for reason in reasons] == ["PermissionDenied"]
    assert now[0].url in references_of(index, last.path)["templates"].values()


def test_two_runs_in_one_folder_at_a_time_are_refused(
    assets: list[Asset], run: Callable[..., DandisetIndex], tmp_path: Path
) -> None:
    lock = tmp_path / "out" / ".job" / "lock"
    lock.parent.mkdir(parents=True)
    with JobLock(lock, str(tmp_path / "out")), pytest.raises(JobConflict, match="is being written by process"):
        run()
    assert run().done == len(assets)


def test_a_folder_that_can_not_be_written_is_named(
    assets: list[Asset], run: Callable[..., DandisetIndex], tmp_path: Path
) -> None:
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(ConfigurationError, match=r"out can't be written \(Not a directory\)"):
        run()
    (tmp_path / "out").unlink()
    (tmp_path / "out" / "sub-1").mkdir(parents=True)
    (tmp_path / "out" / "sub-2").write_bytes(b"in the way of one asset")
    index = run(attempts=1)
    assert index.done == len(assets) - 1
    assert "can't be written" in index.failures[assets[2].path].reason


def test_what_a_run_that_died_was_writing_is_removed(
    assets: list[Asset], run: Callable[..., DandisetIndex], tmp_path: Path
) -> None:
    folder = tmp_path / "out" / "sub-1"
    (folder / ".x.lindi.d.0123456789ab.part").mkdir(parents=True)
    (folder / ".x.lindi.json.0123456789ab.part").write_bytes(b"half")
    (folder / ".notes.part").write_bytes(b"somebody's")
    assert run().done == len(assets)
    assert [path.name for path in folder.glob(".*")] == [".notes.part"]


@pytest.mark.parametrize(
    "options", [{"ending": ".zip"}, {"attempts": 0}, {"split": 0.5}, {"threads": 0}, {"concurrency": 0}]
)
def test_options_that_make_no_sense_are_errors_before_anything_is_asked_for(
    embedded_archive: EmbeddedArchive, assets: list[Asset], run: Callable[..., DandisetIndex], options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        run(**options)
    assert not embedded_archive.requests
    assert assets


def test_without_a_key_that_fits_nothing_is_begun(
    embedded_archive: EmbeddedArchive,
    assets: list[Asset],
    run: Callable[..., DandisetIndex],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LOCAL_API_KEY")
    with pytest.raises(AuthenticationError, match="LOCAL_API_KEY"):
        run()
    assert not asked(embedded_archive)
    assert assets


def test_errors_of_others_are_told_by_their_kind_alone(
    assets: list[Asset],
    run: Callable[..., DandisetIndex],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("https://host/?X-Amz-Signature=secret")

    monkeypatch.setattr("lindi_dask.batch.executors.index_one", fail)
    with caplog.at_level(logging.DEBUG):
        index = run(attempts=1)
    assert {failure.kind for failure in index.failures.values()} == {"MemoryError"}
    assert len(index.failures) == len(assets)
    written = "".join(
        path.read_text("utf-8") for path in (*index.catalogue[1:], index.folder / ".job" / "ledger.jsonl")
    )
    assert "secret" not in written + caplog.text
    assert not issubclass(MemoryError, LindiError)
