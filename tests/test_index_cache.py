from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import runpy
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lindi_dask.errors import ConfigurationError, RefsUnreachable
from lindi_dask.index_cache import (
    WORTH_FROM,
    IndexCache,
    configured_folder,
    default_folder,
    is_cacheable,
    open_index,
    write_index,
)
from lindi_dask.refs.manifest import ColumnManifest, LazyManifest
from lindi_dask.refs.references import INLINE, References, Source, SourceTable
from lindi_dask.types import CacheUsage

if TYPE_CHECKING:
    from collections.abc import Callable

FINGERPRINT = "0123456789abcdef" * 2
URL = "https://api.dandiarchive.org/api/assets/11f512ba-5bcf-4230-a8cb-dc8d36db38cb/download/"
SIGNED = f"https://bucket.s3.amazonaws.com/blobs/a?X-Amz-Expires=60&X-Amz-Signature={'5ec4e7' * 10}"


def references(
    n: int = WORTH_FROM,
    *,
    url: str = URL,
    metadata: dict[str, bytes] | None = None,
    links: dict[str, str] | None = None,
    unreadable: dict[str, str] | None = None,
    inline: bytes = b"0123456789",
) -> References:
    at = np.arange(n)
    manifest = ColumnManifest.build((n,), at, 1 - (at == 3), 100 * (at % 100) * (at != 3), 4 + at % 5)
    return References(
        fingerprint=FINGERPRINT,
        metadata={"a/zarr.json": b"{}", "zarr.json": b"{}"} if metadata is None else metadata,
        manifests={"a": manifest},
        padded={},
        selections={},
        sources=SourceTable((Source("", data=memoryview(inline)), Source(url))),
        links=links or {},
        unreadable=unreadable or {},
    )


def same(found: References, expected: References) -> bool:
    places = np.arange(expected.manifests["a"].grid[0], dtype=np.uint64)
    one, other = found.manifests["a"].locate(places), expected.manifests["a"].locate(places)
    return (
        found.metadata == expected.metadata
        and np.array_equal(one.sources, other.sources)
        and np.array_equal(one.offsets, other.offsets)
        and np.array_equal(one.lengths, other.lengths)
    )


class Loader:
    """Counts how often references are parsed."""

    def __init__(self, made: Callable[[], References] = references) -> None:
        self.count = 0
        self._made = made

    def __call__(self) -> References:
        self.count += 1
        return self._made()


def refuse() -> References:
    raise AssertionError("parsed again")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "index"


@pytest.fixture
def cache(folder: Path) -> IndexCache:
    return IndexCache(folder)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "lindi_dask.index_cache")
    return lambda: [record.getMessage() for record in caplog.records]


def names(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir()) if folder.is_dir() else []


# References


def test_references_are_parsed_once(cache: IndexCache, folder: Path) -> None:
    load = Loader()
    for _ in range(3):
        found = cache.get(FINGERPRINT, load)
        assert isinstance(found.manifests["a"], LazyManifest)
        assert same(found, references())
    assert load.count == 1
    assert names(folder) == [".lindi-index"]


def test_the_first_who_loads_them_has_them_mapped_too(cache: IndexCache) -> None:
    assert isinstance(cache.get(FINGERPRINT, references).manifests["a"], LazyManifest)


def test_files_are_for_this_user_only(cache: IndexCache, folder: Path) -> None:
    cache.get(FINGERPRINT, references)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


def test_small_references_are_not_written(cache: IndexCache, folder: Path) -> None:
    made = references(WORTH_FROM - 1)
    assert cache.get(FINGERPRINT, lambda: made) is made
    assert names(folder) == []


def test_other_references_than_were_asked_for_are_not_written(cache: IndexCache, folder: Path) -> None:
    made = references()
    assert cache.get("f" * 32, lambda: made) is made
    assert names(folder) == []


def test_errors_of_loading_are_passed_on(cache: IndexCache, folder: Path) -> None:
    def load() -> References:
        raise RefsUnreachable("gone", fingerprint=FINGERPRINT)

    with pytest.raises(RefsUnreachable, match="gone"):
        cache.get(FINGERPRINT, load)
    assert names(folder) == []


def test_a_damaged_index_is_made_anew(cache: IndexCache, folder: Path, warnings: Callable[[], list[str]]) -> None:
    cache.get(FINGERPRINT, references)
    (path,) = folder.iterdir()
    good = path.read_bytes()
    for at in (20, len(good) - 64):  # in the header; in a column
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        load = Loader()
        assert same(cache.get(FINGERPRINT, load), references())
        assert load.count == 1
        assert same(cache.get(FINGERPRINT, load), references())
        cache.get(FINGERPRINT, refuse)
    assert len(warnings()) == 2
    assert "damaged" in warnings()[0]


def test_another_release_of_this_package_has_indexes_of_its_own(
    cache: IndexCache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.get(FINGERPRINT, references)
    (path,) = folder.iterdir()
    for module in ("index_file", "index_cache"):
        monkeypatch.setattr(f"lindi_dask.{module}.release", lambda: "99.0")
    assert open_index(path, FINGERPRINT, refuse) is None
    load = Loader()
    cache.get(FINGERPRINT, load)
    assert load.count == 1
    assert path.exists()
    assert len(list(folder.iterdir())) == 2


# Trust


def make_foreign(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(path, 54321, -1)
    else:
        monkeypatch.setattr("lindi_dask.index_cache.os.geteuid", lambda: 54321)


@pytest.mark.parametrize("what", ["file", "folder"])
@pytest.mark.parametrize("mode", [None, 0o620, 0o602, 0o722], ids=["owner", "group", "others", "both"])
def test_what_others_may_have_written_is_not_trusted(
    cache: IndexCache,
    folder: Path,
    what: str,
    mode: int | None,
    monkeypatch: pytest.MonkeyPatch,
    warnings: Callable[[], list[str]],
) -> None:
    cache.get(FINGERPRINT, references)
    (path,) = folder.iterdir()
    written = path.read_bytes()
    target = path if what == "file" else folder
    if mode is None:
        make_foreign(target, monkeypatch)
    else:
        target.chmod(mode | 0o100)
    for _ in range(3):
        assert open_index(path, FINGERPRINT, refuse) is None
    assert path.read_bytes() == written
    assert len(warnings()) == 1
    assert str(target) in warnings()[0]
    load = Loader()
    assert same(cache.get(FINGERPRINT, load), references())
    assert load.count == 1


def test_nothing_is_written_where_others_may_write(cache: IndexCache, folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    made = references()
    assert cache.get(FINGERPRINT, lambda: made) is made
    assert names(folder) == []


def test_a_damaged_index_of_another_user_is_left(
    cache: IndexCache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.get(FINGERPRINT, references)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr("lindi_dask.index_cache.os.geteuid", lambda: path.stat().st_uid + 1)
    assert open_index(path, FINGERPRINT, refuse) is None
    assert path.exists()


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "nothing"])
def test_what_is_not_a_plain_file_is_not_an_index(cache: IndexCache, folder: Path, tmp_path: Path, what: str) -> None:
    cache.get(FINGERPRINT, references)
    (path,) = folder.iterdir()
    path.rename(tmp_path / "elsewhere")
    if what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    assert open_index(path, FINGERPRINT, refuse) is None
    assert same(cache.get(FINGERPRINT, references), references())


# Secrets


@pytest.mark.parametrize(
    ("url", "cacheable"),
    [
        (URL, True),
        ("https://bucket.s3.amazonaws.com/blobs/a", True),
        ("https://bucket.s3.amazonaws.com/a?versionId=5", True),
        ("blobs/a@b.nwb", True),
        ("", True),
        (SIGNED, False),
        (SIGNED.lower(), False),
        ("https://e.org/a?AWSAccessKeyId=A&Expires=5&Signature=abc", False),
        ("https://e.org/a?sv=2020&sig=abc", False),
        ("https://e.org/a?versionId=5&token=abc", False),
        ("https://e.org/a?versionId=5;token=abc", False),
        ("https://e.org/a?%74oken=abc", False),
        ("https://e.org/a#access_token=abc", False),
        ("https://e.org/a?abc", False),
        ("https://user:password@e.org/a", False),
        ("https://token@e.org/a", False),
        ("//user:password@e.org/a", False),
        (r"https://user\@e.org/a", False),
    ],
)
def test_urls_that_may_grant_access_are_never_written(
    cache: IndexCache, folder: Path, url: str, cacheable: bool
) -> None:
    made = references(url=url)
    assert is_cacheable(made) is cacheable
    assert (cache.get(FINGERPRINT, lambda: made) is made) is not cacheable
    assert bool(names(folder)) is cacheable
    if not cacheable:
        with pytest.raises(ValueError, match="presigned"):
            write_index(made, folder / "x.lindi-index")
        assert names(folder) == []


@pytest.mark.parametrize(
    "options",
    [
        {"metadata": {"zarr.json": json.dumps({"_EXTERNAL_ARRAY_LINK": {"url": SIGNED}}).encode()}},
        {"links": {"a": SIGNED}},
        {"unreadable": {"a": f"it lies at {SIGNED}"}},
        {"inline": SIGNED.encode()},
        {"metadata": {"zarr.json": b'{"from": "https://user:word@e.org/"}'}},
    ],
    ids=["attribute", "link", "reason", "inline", "password"],
)
def test_presigned_urls_elsewhere_in_the_references_are_never_written(
    cache: IndexCache, folder: Path, options: dict[str, Any]
) -> None:
    cache.get(FINGERPRINT, lambda: references(**options))
    assert names(folder) == []


def test_attributes_with_odd_punctuation_are_no_secrets() -> None:
    text = b'{"text": "see http://e.org/?q=1&x=2, mail a@b.org; time: 5; signature = none; x:y@z"}'
    assert is_cacheable(references(metadata={"zarr.json": text}))


# Failures of the folder


def test_a_folder_that_cannot_be_made_costs_time_only(tmp_path: Path, warnings: Callable[[], list[str]]) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = IndexCache(tmp_path / "file" / "index")
    load = Loader()
    for _ in range(3):
        assert same(cache.get(FINGERPRINT, load), references())
    assert load.count == 3
    assert len(warnings()) == 1
    assert "Not a directory" in warnings()[0]
    assert cache.usage() == cache.clear() == CacheUsage(tmp_path / "file" / "index", 0, 0)
    path = tmp_path / "file"
    cache.remember(path, path.stat(), FINGERPRINT)
    assert cache.remembered_fingerprint(path, path.stat()) is None


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EROFS])
def test_a_write_that_fails_leaves_nothing(
    cache: IndexCache, folder: Path, call: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    made = references()
    with monkeypatch.context() as patch:
        patch.setattr(f"lindi_dask.index_cache.os.{call}", fail)
        assert cache.get(FINGERPRINT, lambda: made) is made
    assert names(folder) == []


def test_an_index_that_cannot_be_mapped_costs_time_only(cache: IndexCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    cache.get(FINGERPRINT, references)
    monkeypatch.setattr("lindi_dask.index_cache.mmap.mmap", fail)
    made = references()
    assert cache.get(FINGERPRINT, lambda: made) is made


def test_names_that_json_cannot_have_cost_time_only(cache: IndexCache, folder: Path) -> None:
    made = references(links={"half a character \ud800": "a"})
    assert cache.get(FINGERPRINT, lambda: made) is made
    assert names(folder) == []


def test_temporary_files_of_killed_writers_are_removed_after_an_hour(folder: Path) -> None:
    now = 1e9
    cache = IndexCache(folder, now=lambda: now)
    cache.get(FINGERPRINT, references)
    (path,) = folder.iterdir()
    for name, content, age in [
        ("old", path.read_bytes()[:5000], 3700),
        ("empty", b"", 3700),
        ("young", b"", 3500),
        ("foreign", b"not ours", 1e6),
    ]:
        left = folder / f"{path.name}.{name}.lindi-temporary"
        left.write_bytes(content)
        os.utime(left, (now - age, now - age))
    path.unlink()
    cache.get(FINGERPRINT, references)
    assert {left.name.split(".")[-2] for left in folder.glob("*.lindi-temporary")} == {"young", "foreign"}


def test_files_that_nobody_used_for_a_month_are_removed_when_another_is_written(folder: Path) -> None:
    now = time.time()
    cache = IndexCache(folder, now=lambda: now)
    cache.get(FINGERPRINT, references)
    (unused,) = folder.iterdir()
    used = folder / unused.name.replace(FINGERPRINT, "used")
    used.write_bytes(unused.read_bytes())
    for path, days in ((unused, 31), (used, 29)):
        os.utime(path, (now - days * 86400, now - days * 86400))
    other = references()
    cache.get("other", lambda: replace(other, fingerprint="other"))
    assert sorted(path.name.partition("-")[0] for path in folder.iterdir()) == ["other", "used"]


def test_an_index_that_is_opened_counts_as_used(folder: Path) -> None:
    now = time.time()
    cache = IndexCache(folder, now=lambda: now)
    cache.get(FINGERPRINT, references)
    (path,) = folder.iterdir()
    os.utime(path, (now - 20 * 86400, now - 20 * 86400))
    cache.get(FINGERPRINT, references)
    assert now - path.stat().st_mtime < 60


# Many processes


def racer(folder: str) -> None:
    """Run in a process of its own: opens when told to, and says whether it was right."""
    print("ready", flush=True)
    sys.stdin.readline()
    found = IndexCache(Path(folder)).get(FINGERPRINT, lambda: references(100_000))
    print(same(found, references(100_000)), isinstance(found.manifests["a"], LazyManifest), flush=True)


def sharer(folder: str) -> None:
    """Run in a process of its own: reads all locations, and says how much memory of its own that took."""
    before = private_kb()
    found = IndexCache(Path(folder)).get(FINGERPRINT, refuse)
    for first in range(0, 1_000_000, 1000):
        found.manifests["a"].locate(np.arange(first, first + 1000, dtype=np.uint64))
    print(private_kb() - before, flush=True)
    sys.stdin.readline()


def private_kb() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private"))


def start(task: str, folder: Path) -> subprocess.Popen[str]:
    code = "import runpy, sys; runpy.run_path(sys.argv[1])[sys.argv[2]](sys.argv[3])"
    return subprocess.Popen(
        [sys.executable, "-c", code, __file__, task, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_eight_processes_may_write_the_same_index_at_once(folder: Path) -> None:
    processes = [start("racer", folder) for _ in range(8)]
    assert [line_of(process) for process in processes] == ["ready"] * 8
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [line_of(process) for process in processes] == ["True True"] * 8
    for process in processes:
        process.communicate(timeout=30)
    assert names(folder) == [".lindi-index"]
    assert same(IndexCache(folder).get(FINGERPRINT, refuse), references(100_000))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the figures are Linux's")
def test_processes_share_the_pages_of_an_index(cache: IndexCache, folder: Path) -> None:
    cache.get(FINGERPRINT, lambda: references(1_000_000))
    assert cache.usage().nbytes > 12_000_000
    first = start("sharer", folder)
    line_of(first)
    second = start("sharer", folder)
    private = int(line_of(second))
    for process in (first, second):
        process.communicate(timeout=30)
    assert private < 10_000


def test_the_children_of_these_tests_start_from_this_file() -> None:
    assert {"racer", "sharer"} <= runpy.run_path(__file__).keys()


# Fingerprints


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "session.lindi.json"
    path.write_bytes(b"{}")
    return path


def later(folder: Path) -> IndexCache:
    """A cache whose clock is far ahead: nothing was changed just now."""
    return IndexCache(folder, now=lambda: 4e9)


def test_a_fingerprint_is_remembered_while_the_file_stays_as_it_is(file: Path, folder: Path) -> None:
    cache = later(folder)
    assert cache.remembered_fingerprint(file, file.stat()) is None
    cache.remember(file, file.stat(), FINGERPRINT)
    assert cache.remembered_fingerprint(file, file.stat()) == FINGERPRINT
    assert cache.remembered_fingerprint(file.with_name("other"), file.stat()) is None
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


@pytest.mark.parametrize("change", ["content", "longer", "older", "replaced", "set back"])
def test_a_changed_file_is_not_known(file: Path, folder: Path, change: str) -> None:
    cache = later(folder)
    before = file.stat()
    cache.remember(file, before, FINGERPRINT)
    if change == "replaced":
        copy = file.with_name("copy")
        copy.write_bytes(b"[]")
        os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))
        copy.replace(file)
    elif change == "older":
        os.utime(file, (1, 1))
    else:
        file.write_bytes(b"[]" if change != "longer" else b"{ }")
    if change == "set back":  # as `cp -p` and `touch -r` do
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "content":
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert cache.remembered_fingerprint(file, file.stat()) is None
    cache.remember(file, before, FINGERPRINT)  # its content was read before the change
    assert cache.remembered_fingerprint(file, file.stat()) is None


@pytest.mark.parametrize(("age_s", "known"), [(-5, False), (0, False), (1.9, False), (2.1, True)])
def test_a_file_that_was_changed_just_now_is_not_remembered(
    file: Path, folder: Path, age_s: float, known: bool
) -> None:
    changed = file.stat()
    cache = IndexCache(folder, now=lambda: max(changed.st_mtime, changed.st_ctime) + age_s)
    cache.remember(file, changed, FINGERPRINT)
    assert (cache.remembered_fingerprint(file, changed) is not None) is known


def test_a_damaged_memory_is_no_memory(file: Path, folder: Path) -> None:
    cache = later(folder)
    cache.remember(file, file.stat(), FINGERPRINT)
    (memory,) = folder.iterdir()
    good = memory.read_bytes()
    for at, bit in itertools.product(range(len(good)), range(8)):
        memory.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
        assert cache.remembered_fingerprint(file, file.stat()) is None
    for length in range(len(good)):
        memory.write_bytes(good[:length])
        assert cache.remembered_fingerprint(file, file.stat()) is None
    memory.write_bytes(good)
    memory.chmod(0o666)
    assert cache.remembered_fingerprint(file, file.stat()) is None


# The folder


def test_usage_and_clearing_are_of_its_own_files_only(cache: IndexCache, folder: Path, file: Path) -> None:
    assert cache.usage() == CacheUsage(folder, 0, 0)
    cache.get(FINGERPRINT, references)
    later(folder).remember(file, file.stat(), FINGERPRINT)
    own = list(folder.iterdir())
    usage = CacheUsage(folder, 2, sum(path.stat().st_size for path in own))
    (folder / "notes.txt").write_text("mine")
    (folder / "mine.lindi-index").write_text("mine")
    (folder / "folder.lindi-index").mkdir()
    (folder / "link.lindi-index").symlink_to(own[0])
    assert cache.usage() == usage
    assert cache.clear() == usage
    assert cache.usage() == cache.clear() == CacheUsage(folder, 0, 0)
    assert len(list(folder.iterdir())) == 4


def test_references_that_are_open_survive_clearing(cache: IndexCache) -> None:
    found = cache.get(FINGERPRINT, references)
    cache.clear()
    assert same(found, references())
    data = found.sources[INLINE].data
    assert data is not None
    assert bytes(data) == b"0123456789"


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"XDG_CACHE_HOME": "/x", "HOME": "/home/a"}, "/x/lindi-dask/index"),
        ({"XDG_CACHE_HOME": "x", "HOME": "/home/a"}, "/home/a/.cache/lindi-dask/index"),
        ({"XDG_CACHE_HOME": "", "HOME": "/home/a"}, "/home/a/.cache/lindi-dask/index"),
        ({"HOME": "/home/a"}, "/home/a/.cache/lindi-dask/index"),
    ],
)
def test_the_default_folder_is_in_the_users_cache(environ: dict[str, str], folder: str) -> None:
    assert default_folder(environ) == configured_folder(True, environ) == Path(folder)


def test_the_configured_folder_is_a_path_or_none() -> None:
    environ = {"HOME": "/home/a"}
    assert configured_folder(None, environ) is None
    assert configured_folder(False, environ) is None
    assert configured_folder("/scratch/index", environ) == Path("/scratch/index")
    assert configured_folder("~/index", environ) == Path.home() / "index"
    for value in (5, "", ["/a"]):
        with pytest.raises(ConfigurationError, match="index-cache"):
            configured_folder(value, environ)
