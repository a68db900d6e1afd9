"""The files of a cache: within the limit, least recently used first, whoever dies meanwhile."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lindi_dask.private_files import TEMPORARY
from lindi_dask.transport.disk_cache.folder import CacheFolder
from lindi_dask.transport.disk_cache.range_file import file_nbytes, laid_out
from lindi_dask.transport.disk_cache.usage import locked, on_disk
from lindi_dask.types import CacheUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NBYTES = 10_000
TAKEN = on_disk(file_nbytes(NBYTES))  # 12 KiB
LIMIT = 10 * TAKEN
SOURCE, OTHER = "a" * 32, "b" * 32
NOW = 2e9


def folder_of(path: Path, *, limit: int = LIMIT, now: float = NOW) -> CacheFolder:
    return CacheFolder(path, limit, now=lambda: now)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "below" / "cache"


def add(folder: CacheFolder, number: int, *, source: str = SOURCE, used_at: float | None = None) -> bool:
    start = number * NBYTES
    is_held = folder.add(source, start, start + NBYTES, laid_out(memoryview(bytes(NBYTES)), b""))
    if used_at is not None:
        os.utime(folder.file(source, start, start + NBYTES), (used_at, used_at))
    return is_held


def numbers(folder: CacheFolder, source: str = SOURCE) -> list[int]:
    return sorted(start // NBYTES for start, _ in folder.ranges(source))


def counted(path: Path) -> int | None:
    with locked(path / "usage.lindi-cache") as usage:
        return usage.nbytes


def really(path: Path) -> int:
    """Bytes that the files have, those that are being written included."""
    return sum(on_disk(file.stat().st_size) for file in path.glob("*/*"))


def test_files_are_this_users_only_in_a_folder_a_source(path: Path) -> None:
    before = os.umask(0)
    try:
        assert add(folder_of(path), 3)
    finally:
        os.umask(before)
    assert sorted(str(file.relative_to(path)) for file in path.rglob("*")) == [
        SOURCE, f"{SOURCE}/30000-40000.range", "usage.lindi-cache",
    ]  # fmt: skip
    modes = [stat.S_IMODE(file.stat().st_mode) for file in (path, path / SOURCE, path / SOURCE / "30000-40000.range")]
    assert modes == [0o700, 0o700, 0o600]
    assert stat.S_IMODE((path / "usage.lindi-cache").stat().st_mode) == 0o600


def test_one_that_is_there_is_not_written_again(path: Path) -> None:
    folder = folder_of(path)
    assert add(folder, 1)
    before = folder.file(SOURCE, NBYTES, 2 * NBYTES).stat()
    assert add(folder, 1)
    assert os.path.samestat(folder.file(SOURCE, NBYTES, 2 * NBYTES).stat(), before)
    assert counted(path) == TAKEN


def test_the_least_recently_used_make_way_and_some_more(path: Path) -> None:
    folder = folder_of(path)
    order = random.Random(5).sample(range(10), 10)
    for number, used in enumerate(order):
        assert add(folder, number, source=(SOURCE, OTHER)[number % 2], used_at=NOW - 1000 + used)
    assert counted(path) == LIMIT
    assert add(folder, 10)
    oldest = {order.index(0), order.index(1)}
    assert {*numbers(folder), *numbers(folder, OTHER)} == {*range(11)} - oldest
    assert counted(path) == really(path) == 9 * TAKEN  # nine tenths, the new one included


def test_a_folder_that_was_emptied_goes_and_comes_again(path: Path) -> None:
    folder = folder_of(path)
    add(folder, 0, source=OTHER, used_at=NOW - 5000)
    for number in range(10):
        add(folder, number, used_at=NOW)
    assert not (path / OTHER).exists()
    assert folder.changed_ns(OTHER) is None
    assert add(folder, 0, source=OTHER)
    assert numbers(folder, OTHER) == [0]


def test_a_range_of_more_than_a_quarter_of_the_limit_is_not_taken(path: Path) -> None:
    folder = folder_of(path, limit=4 * TAKEN)
    assert folder.takes(5, 5 + NBYTES)
    assert not folder.takes(5, 5 + 2 * NBYTES)
    assert not folder.takes(5, 5)
    assert not folder.takes(10**18, 10**18 + 5)


# What is left of those that died


def test_a_count_that_is_too_high_is_put_right_when_it_matters(path: Path) -> None:
    folder = folder_of(path)
    add(folder, 0)
    with locked(path / "usage.lindi-cache") as usage:
        usage.set(LIMIT)
    assert add(folder, 1)
    assert numbers(folder) == [0, 1]
    assert counted(path) == 2 * TAKEN


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"damaged")])
def test_a_count_that_is_lost_or_damaged_is_taken_anew(path: Path, damage: Callable[[Path], object]) -> None:
    folder = folder_of(path)
    for number in range(10):
        add(folder, number, used_at=NOW - 100 + number)
    damage(path / "usage.lindi-cache")
    assert add(folder, 10)
    assert numbers(folder) == list(range(2, 11))
    assert counted(path) == really(path) == 9 * TAKEN


WRITING = """
import sys
from pathlib import Path
from lindi_dask.transport.disk_cache.folder import CacheFolder

def parts():
    yield bytes(5000)
    print("half", flush=True)
    sys.stdin.read()

CacheFolder(Path(sys.argv[1]), int(sys.argv[2])).add("c" * 32, 0, 10_000, parts())
"""


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is in the midst of a file."""
    command = [sys.executable, "-c", WRITING, str(path), str(LIMIT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        try:
            yield process
        finally:
            process.kill()


def test_what_is_being_written_counts_in_full_and_is_left_alone(path: Path) -> None:
    folder = folder_of(path, now=0)
    with writing(path) as process:
        assert counted(path) == TAKEN
        for number in range(30):
            assert add(folder, number)
            assert counted(path) == TAKEN * (1 + len(numbers(folder)))
        assert [file.suffix for file in (path / ("c" * 32)).iterdir()] == [TEMPORARY]
        held = numbers(folder)
        assert held
        assert folder.clear().files == len(held)
        assert not (path / SOURCE).exists()
        assert counted(path) == TAKEN
        process.kill()


def test_what_a_killed_process_left_is_removed_when_it_is_an_hour_old(path: Path) -> None:
    with writing(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    (temporary,) = (path / ("c" * 32)).iterdir()
    written_at = temporary.stat().st_mtime
    young, old = (folder_of(path, now=written_at + age) for age in (3500, 3700))
    for number in range(10):
        assert add(young, number, used_at=written_at + number)
    assert temporary.exists()
    assert counted(path) == TAKEN * (1 + len(numbers(young)))
    assert (young.usage().files, old.usage().files) == (len(numbers(young)), len(numbers(young)) + 1)
    for number in range(10, 12):
        assert add(old, number)
    assert not temporary.exists()
    assert counted(path) == TAKEN * len(numbers(old)) == really(path)


# What can't be written


def test_where_nothing_can_make_way_nothing_is_written(path: Path) -> None:
    folder = folder_of(path, now=0)
    add(folder, 0)
    for number in range(10):
        (path / SOURCE / f"0-{NBYTES}.{number:016x}{TEMPORARY}").touch()  # others are about to write that much
    (path / "usage.lindi-cache").unlink()
    assert not add(folder, 1)
    assert numbers(folder) == []
    assert len(list((path / SOURCE).iterdir())) == 10
    assert counted(path) == LIMIT


def test_a_disk_that_takes_no_more_leaves_nothing_behind(path: Path) -> None:
    folder = folder_of(path, limit=2**30)
    add(folder, 0)
    data = memoryview(bytes(3 * 2**20))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * 2**20, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            folder.add(SOURCE, 0, len(data), laid_out(data, b""))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert numbers(folder) == [0]
    assert len(list((path / SOURCE).iterdir())) == 1
    assert counted(path) == TAKEN


def test_a_file_that_can_not_be_made_is_not_counted(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(path)
    add(folder, 0)
    opened = os.open

    def fail(name: Path, flags: int, mode: int = 0o777) -> int:
        if str(name).endswith(TEMPORARY):
            raise OSError(errno.EDQUOT, "Disk quota exceeded", str(name))
        return opened(name, flags, mode)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match="quota"):
        add(folder, 1)
    monkeypatch.undo()
    assert counted(path) == TAKEN


def test_a_writer_whose_file_was_taken_away_gives_up(path: Path) -> None:
    folder = folder_of(path)

    def parts() -> Iterator[bytes]:
        yield bytes(100)
        for file in (path / SOURCE).iterdir():
            file.unlink()

    with pytest.raises(FileNotFoundError):
        folder.add(SOURCE, 0, NBYTES, parts())  # type: ignore[arg-type]
    assert numbers(folder) == []
    assert counted(path) == TAKEN  # too high until the next look
    folder.clear()
    assert counted(path) == 0


@pytest.mark.parametrize("which", ["", SOURCE])
def test_folders_that_others_may_write_or_that_are_links_are_not_used(path: Path, which: str) -> None:
    folder = folder_of(path)
    add(folder, 0)
    (path / which).chmod(0o770)
    with pytest.raises(PermissionError, match="others may write it"):
        add(folder, 1)
    with pytest.raises(PermissionError, match="others may write it"):
        folder.changed_ns(SOURCE)
    (path / which).chmod(0o700)
    if which:
        (path / which).rename(path / "elsewhere")
        (path / which).symlink_to(path / "elsewhere")
        with pytest.raises(NotADirectoryError, match="not a folder"):
            add(folder, 1)
    assert [file.name for file in path.glob("*/*.range")] == ["0-10000.range"] * (1 + bool(which))


# Files that are not whole, or not the cache's


def test_what_is_not_the_caches_is_neither_counted_nor_removed(path: Path) -> None:
    folder = folder_of(path)
    add(folder, 0)
    foreign = [path / "notes.txt", path / SOURCE / "notes.txt", path / "photos" / "0-10000.range", path / "0-5.range"]
    for file in foreign:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"mine" * 10_000)
    for number in range(1, 15):
        add(folder, number)
    assert folder.usage() == CacheUsage(path, len(numbers(folder)), TAKEN * len(numbers(folder)))
    assert folder.clear().files > 0
    assert counted(path) == 0
    assert all(file.read_bytes() == b"mine" * 10_000 for file in foreign)


def test_files_of_another_size_than_their_name_says_are_removed_at_a_look(path: Path) -> None:
    folder = folder_of(path)
    for number in range(10):
        add(folder, number)
    cut = folder.file(SOURCE, 3 * NBYTES, 4 * NBYTES)
    cut.write_bytes(b"cut")
    os.utime(cut, (NOW, NOW))
    add(folder, 10)
    assert numbers(folder) == [0, 1, 2, *range(4, 11)]
    assert counted(path) == LIMIT


def test_only_the_file_that_was_seen_is_discarded(path: Path) -> None:
    folder = folder_of(path)
    add(folder, 0)
    file = folder.file(SOURCE, 0, NBYTES)
    seen = file.stat()
    os.replace(file, path / "kept")  # noqa: PTH105 - so that its number is not given out again
    add(folder, 0)
    folder.discard(file, seen)
    assert numbers(folder) == [0]
    folder.discard(file, file.stat())
    assert numbers(folder) == []
    folder.discard(file, seen)


def test_a_folder_that_is_not_there_is_empty(path: Path) -> None:
    folder = folder_of(path)
    assert folder.usage() == folder.clear() == CacheUsage(path, 0, 0)
    assert folder.changed_ns(SOURCE) is None
    assert not path.exists()


# Many at once

HAMMERING = """
import random, sys
from pathlib import Path
from lindi_dask.transport.disk_cache.folder import CacheFolder
from lindi_dask.transport.disk_cache.range_file import laid_out

rng = random.Random(int(sys.argv[3]))
folder = CacheFolder(Path(sys.argv[1]), int(sys.argv[2]))
print("begun", flush=True)
while True:
    start, nbytes = rng.randrange(10**6), rng.randrange(1, 20_000)
    folder.add(rng.choice(["a", "b", "c"]) * 32, start, start + nbytes, laid_out(memoryview(bytes(nbytes)), b""))
"""


def test_processes_stay_within_the_limit_at_every_moment_and_so_does_what_they_leave(path: Path) -> None:
    limit = 20 * on_disk(file_nbytes(20_000))
    commands = [[sys.executable, "-c", HAMMERING, str(path), str(limit), str(seed)] for seed in range(3)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        fullest = looks = 0
        while looks < 200 or fullest < limit * 0.9:
            with locked(path / "usage.lindi-cache", patience_s=60) as usage:  # nobody adds or removes meanwhile
                used = really(path)
                assert usage.nbytes is None or used <= usage.nbytes <= limit
            assert used <= limit
            fullest, looks = max(fullest, used), looks + 1
        assert all(process.poll() is None for process in processes)
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait(20)
            assert process.stdout is not None
            process.stdout.close()
    left = list(path.glob(f"*/*{TEMPORARY}"))
    later = max((file.stat().st_mtime for file in path.glob("*/*")), default=0) + 4000
    folder = folder_of(path, limit=limit, now=later)
    (path / "usage.lindi-cache").unlink()
    assert folder.add(SOURCE, 0, 1, laid_out(memoryview(b"x"), b""))
    assert not any(file.exists() for file in left)
    assert counted(path) == really(path) <= limit


def test_of_two_that_write_one_range_the_first_one_to_end_counts(path: Path) -> None:
    folder = folder_of(path)

    def parts() -> Iterator[bytes | memoryview]:
        add(folder, 0)
        yield from laid_out(memoryview(bytes(NBYTES)), b"")

    assert folder.add(SOURCE, 0, NBYTES, parts())  # type: ignore[arg-type]
    assert [file.name for file in (path / SOURCE).iterdir()] == ["0-10000.range"]
    assert counted(path) == TAKEN


def test_threads_that_write_one_range_leave_one_file(path: Path) -> None:
    folder = folder_of(path)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: add(folder, 0), range(40)))
    assert [file.name for file in (path / SOURCE).iterdir()] == ["0-10000.range"]
    assert counted(path) == TAKEN
