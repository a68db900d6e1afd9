"""TOML files of jobs: what is wrong with one is said in a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from index_dandiset import TABLES
from pipeline_runs import PIPELINES
from settings import nbytes_of, read_settings, seconds_of

from lindi_dask.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

KEYS: dict[str, dict[str, Any]] = {"job": {"name": str, "times": 3, "file": (str,), "more": {}}}


def read(tmp_path: Path, text: str, keys: dict[str, dict[str, Any]] = KEYS) -> dict[str, dict[str, Any]]:
    path = tmp_path / "job.toml"
    path.write_text(text, "utf-8")
    return read_settings(path, keys)


def test_what_is_not_there_has_its_default(tmp_path: Path) -> None:
    assert read(tmp_path, '[job]\nname = "x"') == {"job": {"name": "x", "times": 3, "file": None, "more": {}}}
    given = read(tmp_path, '[job]\nname = "x"\nfile = "y"\ntimes = 1\nmore = { a = 1 }')
    assert given == {"job": {"name": "x", "times": 1, "file": "y", "more": {"a": 1}}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[jobs]", r"there is no table \[jobs\]. Is it \[job\]\?"),
        ("[zzz]", r"there is no table \[zzz\]. There are \[job\]"),
        ('[job]\nname = "x"\ntime = 1', r"\[job\] has no key time. Is it times\?"),
        ('[job]\nname = "x"\nq = 1', r"has no key q. There are name, times, file, more"),
        ("[job]", r"\[job\] needs the key name"),
        ("[job]\nname = 1", r"\[job\] name must be text, not 1"),
        ('[job]\nname = "x"\ntimes = true', r"times must be a whole number, not True"),
        ('[job]\nname = "x"\nmore = "y"', r"more must be a table"),
        ("job = 1", r"\[job\] is not a table"),
        ("[job", "can't be read: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml can't be read: No such file"):
        read_settings(tmp_path / "nowhere.toml", KEYS)


def test_sizes_and_times_are_texts() -> None:
    assert (nbytes_of("100 GB", "x"), seconds_of("10 minutes", "x")) == (10**11, 600.0)
    for wrong in ("ten", "10 apples"):
        with pytest.raises(ConfigurationError, match=f'here must be like "100 GB", not {wrong!r}'):
            nbytes_of(wrong, "here")
        with pytest.raises(ConfigurationError, match=f'here must be like "10 minutes", not {wrong!r}'):
            seconds_of(wrong, "here")


def test_the_file_that_comes_with_the_script_is_one_and_shows_all_keys() -> None:
    path = PIPELINES / "index_dandiset.toml"
    assert read_settings(path, TABLES)["cluster"]["kind"] == "local"
    text = path.read_text("utf-8")
    missing = [name for keys in TABLES.values() for name in keys if name not in text]
    assert not missing
