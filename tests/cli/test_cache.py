from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from lindi_dask.cli.cache import cache
from lindi_dask.errors import ConfigurationError
from lindi_dask.index_cache import IndexCache
from lindi_dask.private_files import TEMPORARY
from lindi_dask.transport import RangeCache
from lindi_dask.types import Asset, DiskCache, Instance, Target

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

OFF = {"folder": None, "files": 0, "nbytes": 0}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With two files of the cache and one of the user."""
    folder = tmp_path / "index"
    index_cache = IndexCache(folder, now=lambda: 4e9)
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
        index_cache.remember(tmp_path / name, (tmp_path / name).stat(), "f" * 32)
    (folder / "notes.txt").write_text("mine")
    configure(str(folder), monkeypatch)
    return folder


def configure(value: object, monkeypatch: pytest.MonkeyPatch, ranges: object = None, limit: object = "1 GiB") -> None:
    options = {"index-cache": value, "cache": ranges, "cache-limit": limit}
    monkeypatch.setattr("lindi_dask.cli.cache.configured", options.__getitem__)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cache, arguments)


def test_it_says_where_the_cache_is_and_how_large(folder: Path) -> None:
    done = run()
    assert done.exit_code == 0
    assert done.output == f"{folder}: 2 files, 0.0 MB\n"


def test_other_programs_read_its_json(folder: Path) -> None:
    nbytes = sum(path.stat().st_size for path in folder.glob("*.lindi-fingerprint"))
    held = {"folder": str(folder), "files": 2, "nbytes": nbytes, "ranges": OFF}
    assert json.loads(run("--json").output) == held
    assert json.loads(run("--json", "--clear").output) == held
    assert json.loads(run("--json").output) == {"folder": str(folder), "files": 0, "nbytes": 0, "ranges": OFF}


def test_it_clears_what_is_the_caches(folder: Path) -> None:
    done = run("--clear")
    assert done.exit_code == 0
    assert done.output == f"Removed 2 files, 0.0 MB from {folder}\n"
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_files_that_stay_are_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", fail)
    done = run("--clear")
    assert done.exit_code == 1
    assert f"Removed 0 files, 0.0 MB from {folder}" in done.output
    assert "can't be removed" in done.output


@pytest.mark.parametrize("value", [None, False])
def test_a_cache_that_is_off_is_said_to_be(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(value, monkeypatch)
    assert run("--clear").output == "The index cache is off (lindi-dask.index-cache).\n"
    assert json.loads(run("--json").output) == {**OFF, "ranges": OFF}


def test_a_configuration_that_makes_no_sense_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(5, monkeypatch)
    assert isinstance(run().exception, ConfigurationError)


# The range cache


@pytest.fixture
def ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A range cache with two files, one of which is of two blocks; one of the user; one that is being written."""
    folder = tmp_path / "ranges"
    range_cache = RangeCache(DiskCache(str(folder), 2**30))
    target = Target(Asset(Instance("local", "http://127.0.0.1:1/api", ()), "one"))
    range_cache.put(target, 0, memoryview(b"x" * 100))
    range_cache.put(target, 500, memoryview(b"x" * 5000))
    (source,) = (path for path in folder.iterdir() if path.is_dir())
    (source / f"0-7.{'0' * 16}{TEMPORARY}").touch()
    (folder / "notes.txt").write_text("mine")
    configure(None, monkeypatch, str(folder))
    return folder


def test_it_says_where_the_range_cache_is_and_how_large(ranges: Path) -> None:
    assert run().output == (
        f"The index cache is off (lindi-dask.index-cache).\n{ranges}: 2 files, 0.0 MB of at most 1073.7 MB (ranges)\n"
    )
    found = {"folder": str(ranges), "files": 2, "nbytes": 3 * 4096, "limit": 2**30}
    assert json.loads(run("--json").output) == {**OFF, "ranges": found}


def test_it_clears_both_caches_but_what_is_being_written(
    folder: Path, ranges: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(str(folder), monkeypatch, str(ranges))
    done = run("--clear")
    assert done.exit_code == 0
    assert done.output == (f"Removed 2 files, 0.0 MB from {folder}\nRemoved 2 files, 0.0 MB from {ranges} (ranges)\n")
    assert (ranges / "notes.txt").read_text() == "mine"
    assert [path.suffix for path in ranges.glob("*/*")] == [TEMPORARY]
    assert json.loads(run("--json").output)["ranges"]["files"] == 0


def test_a_range_cache_that_is_not_there_yet_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(None, monkeypatch, str(tmp_path / "nowhere"))
    for arguments in ((), ("--clear",)):
        done = run(*arguments)
        assert done.exit_code == 0
        assert "0 files, 0.0 MB" in done.output
    assert not (tmp_path / "nowhere").exists()


def test_a_range_cache_that_others_may_write_is_not_cleared(ranges: Path) -> None:
    ranges.chmod(0o777)
    done = run("--clear")
    assert done.exit_code == 1
    assert f"{ranges} can't be looked into: others may write it" in done.output
    assert len(list(ranges.glob("*/*.range"))) == 2


@pytest.mark.parametrize(("value", "limit"), [(5, "1 GiB"), ("", "1 GiB"), ("/scratch", "much")])
def test_a_range_cache_that_makes_no_sense_is_named(
    value: object, limit: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(None, monkeypatch, value, limit)
    assert isinstance(run().exception, ConfigurationError)
