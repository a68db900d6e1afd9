from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from lindi_dask.cli.cache import cache
from lindi_dask.errors import ConfigurationError
from lindi_dask.index_cache import IndexCache

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


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


def configure(value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lindi_dask.cli.cache.configured", {"index-cache": value}.__getitem__)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cache, arguments)


def test_it_says_where_the_cache_is_and_how_large(folder: Path) -> None:
    done = run()
    assert done.exit_code == 0
    assert done.output == f"{folder}: 2 files, 0.0 MB\n"


def test_other_programs_read_its_json(folder: Path) -> None:
    nbytes = sum(path.stat().st_size for path in folder.glob("*.lindi-fingerprint"))
    assert json.loads(run("--json").output) == {"folder": str(folder), "files": 2, "nbytes": nbytes}
    assert json.loads(run("--json", "--clear").output) == {"folder": str(folder), "files": 2, "nbytes": nbytes}
    assert json.loads(run("--json").output) == {"folder": str(folder), "files": 0, "nbytes": 0}


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
    assert json.loads(run("--json").output) == {"folder": None, "files": 0, "nbytes": 0}


def test_a_configuration_that_makes_no_sense_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(5, monkeypatch)
    assert isinstance(run().exception, ConfigurationError)
