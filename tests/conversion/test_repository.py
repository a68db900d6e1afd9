"""Conversions to an Icechunk repository: one commit at the end, or none."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import h5py
import icechunk
import numpy as np
import pytest
import zarr

import lindi_dask as ld
from lindi_dask.cli import main as cli
from lindi_dask.conversion import job_of, repository
from lindi_dask.errors import ConfigurationError, JobConflict, VerificationFailed

if TYPE_CHECKING:
    from pathlib import Path

    from lindi_dask.conversion import Progress


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
def out(folder: Path) -> str:
    return f"icechunk:{folder}"


def opened(folder: Path) -> Any:
    return icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder)))


def commits(folder: Path) -> list[str]:
    """The messages of the main branch's commits, the oldest first."""
    messages = [commit.message for commit in opened(folder).ancestry(branch="main")][::-1]
    assert messages[0] == "Repository initialized"
    return messages[1:]


def equal_to(source: Path, folder: Path) -> None:
    group = zarr.open_group(opened(folder).readonly_session("main").store, mode="r")
    with h5py.File(source) as file:
        for path in ("a/data", "a/times"):
            np.testing.assert_array_equal(np.asarray(group[path]), file[path][...])
    assert np.asarray(group["words"]).tolist() == ["one", "zwei", "três"]
    assert group["a/data"].attrs["unit"] == "volts"
    assert "empty" in group


def interrupt(progress: Progress) -> None:
    if progress.done >= 5:
        raise KeyboardInterrupt


def test_all_of_a_file_is_one_commit_that_can_be_verified(
    factory: ld.StoreFactory, source: Path, folder: Path, out: str, options: dict[str, Any]
) -> None:
    done = ld.convert(factory, out, **options)
    assert (done.out, done.made) == (out, 14)
    assert commits(folder) == ["Convert 14 objects of 3 arrays"]
    equal_to(source, folder)
    assert ld.verify(out, threads=2).objects == 14
    assert ld.verify(out, factory, level="full", threads=2).objects == 14
    assert ld.verify(out, factory, level="full", hdf5=source, threads=2).objects == 14
    assert not job_of(out).data.exists()
    with pytest.raises(JobConflict, match="is there already"):
        ld.convert(factory, out, **options)
    assert ld.convert(factory, out, resume=True, **options).made == 0
    assert commits(folder) == ["Convert 14 objects of 3 arrays"]  # nothing was to be mended


def test_a_job_that_is_not_done_leaves_the_main_branch_as_it_was(
    factory: ld.StoreFactory, source: Path, folder: Path, out: str, options: dict[str, Any]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        ld.convert(factory, out, progress=interrupt, **options)
    assert not folder.exists()
    before = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder))).lookup_branch("main")
    with pytest.raises(KeyboardInterrupt):
        ld.convert(factory, out, progress=interrupt, resume=True, **options)
    assert opened(folder).lookup_branch("main") == before
    done = ld.convert(factory, out, resume=True, **options)
    assert done.kept >= 5
    assert done.kept + done.made == 14
    assert len(commits(folder)) == 1
    equal_to(source, folder)


def test_a_client_that_is_killed_while_it_puts_objects_in_leaves_nothing_and_goes_on(
    factory: ld.StoreFactory, source: Path, folder: Path, out: str, options: dict[str, Any], tmp_path: Path
) -> None:
    refs = tmp_path / "source.lindi.json"
    ld.index(source, url=str(source)).save(refs)
    factory = ld.StoreFactory(refs, allow=[f"{source.parent}/"])
    script = f"""
import os, signal
import lindi_dask as ld
from lindi_dask.conversion import repository
put, left = repository._put, iter(range(12))
def dying(*arguments):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return put(*arguments)
repository._put = dying
ld.convert({str(refs)!r}, {out!r}, allow=[{str(source.parent) + "/"!r}], layout={options["layout"]!r}, threads=2)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == -9
    assert commits(folder) == []
    done = ld.convert(factory, out, resume=True, **options)
    assert (done.made, done.kept) == (0, 14)
    assert len(commits(folder)) == 1
    equal_to(source, folder)


def test_what_is_damaged_is_named_and_mended_by_another_commit(
    factory: ld.StoreFactory, source: Path, folder: Path, out: str, options: dict[str, Any]
) -> None:
    ld.convert(factory, out, **options)
    flipped, lost, *_ = sorted((folder / "chunks").iterdir(), key=lambda path: -path.stat().st_size)
    damaged = bytearray(flipped.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    flipped.write_bytes(damaged)
    lost.unlink()
    session = opened(folder).writable_session("main")  # somebody changes what was converted
    group = zarr.open_group(session.store, mode="r+")
    data = group["a/data"]
    assert isinstance(data, zarr.Array)
    data[5000:6000] = 1  # of which all was the fill value
    data.attrs["unit"] = "tonne"
    session.commit("Change it")
    with pytest.raises(VerificationFailed) as failed:
        ld.verify(out, threads=2)
    problems = dict(failed.value.problems)
    assert problems.pop("a/data/zarr.json") == "it is not as it was written"
    assert problems.pop("a/data/c/5/0") == "it is there, but all of its block held the fill value"
    assert len(problems) == 2
    assert sum("can't be read from the repository" in reason for reason in problems.values()) == 1
    done = ld.convert(factory, out, resume=True, **options)
    assert done.made == 3
    assert commits(folder)[1:] == ["Change it", "Convert 14 objects of 3 arrays"]
    equal_to(source, folder)
    assert ld.verify(out, threads=2).objects == 14


def test_what_is_there_is_left_alone(
    factory: ld.StoreFactory, folder: Path, out: str, options: dict[str, Any], tmp_path: Path
) -> None:
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(JobConflict, match="is no Icechunk repository"):
        ld.convert(factory, out, **options)
    assert [path.name for path in folder.rglob("*")] == ["mine.txt"]
    other = tmp_path / "other"
    session = icechunk.Repository.create(icechunk.local_filesystem_storage(str(other))).writable_session("main")
    zarr.create_group(session.store)
    session.commit("Mine")
    with pytest.raises(JobConflict, match="is there already"):
        ld.convert(factory, f"icechunk:{other}", **options)
    with pytest.raises(JobConflict, match="can't be mended: it has no manifest"):
        ld.convert(factory, f"icechunk:{other}", resume=True, **options)
    assert commits(other) == ["Mine"]


def test_commits_of_others_meanwhile_are_not_written_over(
    factory: ld.StoreFactory, folder: Path, out: str, options: dict[str, Any]
) -> None:
    def commit(progress: Progress) -> None:
        if progress.is_ended:
            created = icechunk.Repository.create(icechunk.local_filesystem_storage(str(folder)))
            session = created.writable_session("main")
            zarr.create_group(session.store)
            session.commit("Theirs")

    with pytest.raises(JobConflict, match="has got other commits while the job ran"):
        ld.convert(factory, out, progress=commit, **options)
    assert commits(folder) == ["Theirs"]


def test_what_is_read_back_has_to_be_what_was_written(
    factory: ld.StoreFactory, folder: Path, out: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = repository._object
    monkeypatch.setattr(repository, "_object", lambda store, key: (read(store, key) or b"")[:-1])
    with pytest.raises(ld.errors.JobIncomplete, match="is not what was written, as it is read back"):
        ld.convert(factory, out, **options)
    assert commits(folder) == []


def test_without_icechunk_it_says_how_to_get_it(
    factory: ld.StoreFactory, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository._icechunk.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"lindi-dask\[icechunk\]"):
        ld.convert(factory, out)


def test_a_shell_converts_verifies_and_reports(
    source: Path, folder: Path, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    refs, report = tmp_path / "source.lindi.json", tmp_path / "report.html"
    ld.index(source, url=str(source)).save(refs)
    allow = ["--allow", f"{source.parent}/"]
    for command in (["convert", refs, out, *allow], ["verify", out], ["report", out, report]):
        monkeypatch.setattr(sys, "argv", ["lindi-dask", *map(str, command)])
        cli()
    converted, verified, reported = capfd.readouterr().out.splitlines()
    assert converted.startswith("Converted 3 arrays: 3 objects made")
    assert verified.startswith(f"{out}: all is as it should be")
    assert reported == f"The report is {report}"
    assert "rows 4,000 to 8,000 of 12,000" in report.read_text()
    assert len(commits(folder)) == 1
