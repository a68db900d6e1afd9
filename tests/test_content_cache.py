from __future__ import annotations

import logging
import random
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lindi_dask.content_cache import ContentCache
from lindi_dask.transport import Downloaded
from lindi_dask.types import Asset, Instance

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = Instance("local", "http://127.0.0.1:8901/api", ("LOCAL_API_KEY",))
ASSET = Asset(LOCAL, "11f512ba-5bcf-4230-a8cb-dc8d36db38cb")
CONTENT = random.Random(8).randbytes(10_000)


@pytest.fixture
def cache(tmp_path: Path) -> ContentCache:
    return ContentCache(tmp_path / "folder")


@pytest.fixture
def kept(tmp_path: Path, cache: ContentCache) -> Path:
    """The one file of a cache."""
    cache.put(ASSET, Downloaded(CONTENT, '"tag"'))
    (path,) = (tmp_path / "folder").iterdir()
    return path


@pytest.mark.parametrize("content", [b"", b"{}", CONTENT])
@pytest.mark.parametrize("etag", ['"tag"', 'W/"tag"', "tag", "", '"\xfctag"', '"' + "a" * 1000 + '"'])
def test_what_is_kept_comes_back_with_its_tag(cache: ContentCache, content: bytes, etag: str) -> None:
    assert cache.get(ASSET) is None
    cache.put(ASSET, Downloaded(content, etag))
    assert cache.get(ASSET) == Downloaded(content, etag)
    cache.put(ASSET, Downloaded(content + b" ", '"next"'))
    assert cache.get(ASSET) == Downloaded(content + b" ", '"next"')


@pytest.mark.parametrize("etag", [None, "a" * 1025, "a" * 70_000])
def test_what_could_not_be_asked_about_is_not_kept(cache: ContentCache, tmp_path: Path, etag: str | None) -> None:
    cache.put(ASSET, Downloaded(CONTENT, etag))
    assert cache.get(ASSET) is None
    assert not (tmp_path / "folder").exists()


def test_assets_are_told_apart_by_archive_and_id(cache: ContentCache) -> None:
    other = Instance("local", "http://127.0.0.1:8902/api", ("LOCAL_API_KEY",))
    assets = [
        ASSET,
        Asset(other, ASSET.id),
        Asset(LOCAL, "0" + ASSET.id[1:]),
        Asset(None, "https://host.example/refs.json"),
        Asset(None, "https://host.example/refs.json?versionId=2"),
    ]
    for i, asset in enumerate(assets):
        cache.put(asset, Downloaded(bytes([i]), f'"{i}"'))
    assert [cache.get(asset) for asset in assets] == [Downloaded(bytes([i]), f'"{i}"') for i in range(5)]


def test_files_are_for_this_user_only_and_their_names_say_nothing(kept: Path) -> None:
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert ASSET.id not in kept.name
    assert b"127.0.0.1" not in kept.read_bytes()


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_file_is_as_if_it_were_not_there(cache: ContentCache, kept: Path, seed: int) -> None:
    chance = random.Random(seed)
    content = bytearray(kept.read_bytes())
    if seed % 2:
        del content[chance.randrange(len(content)) :]
    else:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    kept.write_bytes(content)
    assert cache.get(ASSET) is None
    cache.put(ASSET, Downloaded(CONTENT, '"tag"'))
    assert cache.get(ASSET) == Downloaded(CONTENT, '"tag"')


def test_a_file_that_others_may_write_is_not_trusted(cache: ContentCache, kept: Path) -> None:
    kept.chmod(0o622)
    assert cache.get(ASSET) is None
    kept.chmod(0o600)
    kept.parent.chmod(0o777)
    assert cache.get(ASSET) is None
    kept.parent.chmod(0o700)
    assert cache.get(ASSET) is not None


def test_a_folder_that_cannot_be_written_costs_a_word_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lindi_dask.content_cache")
    (tmp_path / "file").write_bytes(b"")
    cache = ContentCache(tmp_path / "file" / "below")
    cache.put(ASSET, Downloaded(CONTENT, '"tag"'))
    assert cache.get(ASSET) is None
    assert "can't be kept" in caplog.text


def test_many_may_keep_the_same_file_at_once(cache: ContentCache, tmp_path: Path) -> None:
    def keep(i: int) -> bool:
        cache.put(ASSET, Downloaded(bytes([i]) * 50_000, f'"{i}"'))
        found = cache.get(ASSET)
        return found is not None and found.content == bytes([int((found.etag or "").strip('"'))]) * 50_000

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(keep, range(64)))
    assert len(list((tmp_path / "folder").iterdir())) == 1
