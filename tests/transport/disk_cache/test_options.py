from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lindi_dask.errors import ConfigurationError
from lindi_dask.transport.disk_cache.options import cache_of, source_name
from lindi_dask.types import Asset, DiskCache, Instance, LocalFile, Target

LOCAL = Instance("local", "http://127.0.0.1:8901/api", ("LOCAL_API_KEY",))
OTHER = Instance("other", "https://example.org/api", ("OTHER_API_KEY",))
URL = "https://example.org/session.nwb"


@pytest.mark.parametrize(
    ("limit", "nbytes"), [("50 GiB", 50 * 2**30), ("1e9", 10**9), ("1 MiB", 2**20), (2**20, 2**20), ("2GB", 2 * 10**9)]
)
def test_a_limit_is_a_number_of_bytes_or_a_text(limit: object, nbytes: int) -> None:
    assert cache_of("/scratch/lindi", limit) == DiskCache("/scratch/lindi", nbytes)


@pytest.mark.parametrize("folder", [None, False])
def test_there_is_no_cache_without_a_folder(folder: object) -> None:
    assert cache_of(folder, "50 GiB") is None


def test_a_path_may_be_relative_or_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    found = [cache_of(folder, 2**30) for folder in ("a/b", Path("a"), "~/cache", tmp_path)]
    folders = [str(tmp_path / "a" / "b"), str(tmp_path / "a"), "/home/someone/cache", str(tmp_path)]
    assert found == [DiskCache(folder, 2**30) for folder in folders]


@pytest.mark.parametrize("folder", [True, 5, "", " ", "s3://bucket/cache", "/a\0b", b"/scratch", ["/scratch"]])
def test_a_folder_that_makes_no_sense_says_what_does(folder: object) -> None:
    with pytest.raises(ConfigurationError, match=r"cache \(lindi-dask.cache\) must be the path of a local folder"):
        cache_of(folder, "50 GiB")


@pytest.mark.parametrize(
    "limit", [0, -1, 2**20 - 1, True, 1e9, None, "", " ", "GiB", "much", "5 parsecs", "-5 GiB", "nan", "1e400", "5"]
)
@pytest.mark.parametrize("folder", ["/scratch", None])
def test_a_limit_that_makes_no_sense_says_what_does(folder: object, limit: object) -> None:
    with pytest.raises(ConfigurationError, match=r"cache_limit \(lindi-dask.cache-limit\) must be .*'50 GiB'"):
        cache_of(folder, limit)


def asset(id_: str = "one", instance: Instance | None = LOCAL, **claims: Any) -> Target:
    return Target(Asset(instance, id_), **claims)


KEPT = [
    asset(),
    asset("two"),
    asset(instance=OTHER),
    asset(etag="a"),
    asset(etag="b"),
    asset(size=5),
    asset(size=6),
    asset(etag="a", size=5),
    asset(URL, None, etag="a"),
    asset(URL, None, etag="b"),
    asset(f"{URL}?download=1", None, etag="a"),
    asset(f"{URL}?versionId=5", None, etag="a"),
]


def test_each_source_and_what_is_claimed_of_it_has_a_name_of_its_own() -> None:
    names = [source_name(target) for target in KEPT]
    assert None not in names
    assert len(set(names)) == len(names)
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in names if name is not None)


def test_an_archive_is_told_by_its_address_and_not_by_its_name() -> None:
    renamed = Instance("mine", LOCAL.api_url, ("MINE_API_KEY",))
    assert source_name(asset(instance=renamed)) == source_name(asset())


def test_a_tag_is_the_same_with_and_without_quotes() -> None:
    assert source_name(asset(URL, None, etag='"a"')) == source_name(asset(URL, None, etag="a"))


@pytest.mark.parametrize(
    "target",
    [
        asset(URL, None),
        asset(URL, None, size=5),
        asset(URL, None, etag='W/"a"'),
        asset(URL, None, etag=""),
        asset(f"{URL}?X-Amz-Signature=abc", None, etag="a"),
        asset(f"{URL}?token=abc", None, etag="a"),
        asset("https://me:secret@example.org/session.nwb", None, etag="a"),
        Target(LocalFile("/data/session.nwb"), etag="a", size=5),
    ],
    ids=str,
)
def test_what_may_change_or_is_a_secret_has_none(target: Target) -> None:
    assert source_name(target) is None
