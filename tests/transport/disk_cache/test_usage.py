"""The number of bytes that processes agree on."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from lindi_dask.transport.disk_cache import usage as cache_usage
from lindi_dask.transport.disk_cache.usage import locked, on_disk

if TYPE_CHECKING:
    from pathlib import Path

HOLDING = """
import sys
from pathlib import Path
from lindi_dask.transport.disk_cache.usage import locked
with locked(Path(sys.argv[1])) as usage:
    print("held", flush=True)
    sys.stdin.read()
"""
COUNTING = """
import sys
from pathlib import Path
from lindi_dask.transport.disk_cache.usage import locked
for _ in range(300):
    with locked(Path(sys.argv[1]), patience_s=60) as usage:
        usage.set(usage.nbytes + 1)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "usage"
    with locked(path) as usage:
        usage.set(100)
    return path


def known(path: Path) -> int | None:
    with locked(path) as usage:
        return usage.nbytes


def test_a_new_file_says_nothing(tmp_path: Path) -> None:
    assert known(tmp_path / "usage") is None
    assert (tmp_path / "usage").stat().st_mode & 0o777 == 0o600


def test_bytes_are_counted_and_never_fewer_than_none(path: Path) -> None:
    with locked(path) as usage:
        usage.add(50)
        usage.add(-20)
    assert known(path) == 130
    with locked(path) as usage:
        usage.add(-1000)
    assert known(path) == 0


def test_what_is_damaged_is_not_known_until_it_is_set(path: Path) -> None:
    sound = path.read_bytes()
    damaged = [sound[:-1], sound + b"\0", b"", b"x" * len(sound), b"\1" + sound[1:], bytes(500)]
    for content in damaged:
        path.write_bytes(content)
        with locked(path) as usage:
            assert usage.nbytes is None
            usage.add(5)
            assert usage.nbytes is None
            usage.set(7)
            assert usage.nbytes == 7


def test_threads_and_processes_count_each_byte(path: Path) -> None:
    def count(_: int) -> None:
        for _ in range(50):
            with locked(path, patience_s=60) as usage:
                usage.add(1)

    command = [sys.executable, "-c", COUNTING, str(path)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert [process.wait(60) for process in processes] == [0, 0]
    assert known(path) == 100 + 4 * 50 + 2 * 300


def test_a_process_that_keeps_it_is_not_waited_for_without_end_and_its_death_frees_it(path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TimeoutError, match="keeps it locked"), locked(path, patience_s=0):
            pass
        holder.kill()
        holder.wait(20)
    assert known(path) == 100


def test_a_file_that_was_removed_is_not_held_in_place_of_the_new_one(path: Path) -> None:
    with locked(path):
        path.unlink()
        assert known(path) is None  # another one, which nobody holds
    assert path.exists()


def test_one_that_waited_for_a_file_that_was_removed_meanwhile_holds_the_new_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, calls = cache_usage._lock, 0

    def lock_late(handle: int, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        lock(handle, *arguments)
        if calls < 3:
            path.unlink()
        if calls == 1:
            path.touch()

    monkeypatch.setattr(cache_usage, "_lock", lock_late)
    with locked(path) as usage:
        assert os.path.samestat(os.fstat(usage._handle), path.stat())
    assert calls == 3


def test_a_link_is_not_followed(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to(path.with_name("other"))
    with pytest.raises(OSError, match="symbolic links"), locked(path):
        pass


def test_files_take_up_whole_blocks() -> None:
    assert [on_disk(n) for n in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]
