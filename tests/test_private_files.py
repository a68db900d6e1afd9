from __future__ import annotations

import errno
import logging
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lindi_dask.private_files import TEMPORARY, open_private, read_private, removed, write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "file"
    write_private(path, [b"one ", memoryview(b"two")])
    return path


def test_a_file_is_written_whole_for_this_user_only(path: Path) -> None:
    assert read_private(path) == b"one two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert names(path.parent) == ["file"]


def test_a_wide_umask_makes_no_difference(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "folder" / "file", [b"x"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "folder" / "file").stat().st_mode) == 0o600


def test_a_file_is_replaced_as_a_whole(path: Path) -> None:
    with path.open("rb") as reading:
        write_private(path, [b"three"])
        assert reading.read() == b"one two"
    assert read_private(path) == b"three"


def test_what_fails_leaves_the_file_as_it_was_and_nothing_beside_it(path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_private(path, parts())
    assert read_private(path) == b"one two"
    assert names(path.parent) == ["file"]


def test_what_is_being_written_is_told_by_its_name(path: Path) -> None:
    seen: list[str] = []

    def parts() -> Iterator[bytes]:
        seen.extend(names(path.parent))
        yield b""

    write_private(path, parts())
    (temporary,) = set(seen) - {"file"}
    assert temporary.startswith("file.")
    assert temporary.endswith(TEMPORARY)


def test_many_may_write_at_once(path: Path) -> None:
    contents = [bytes([i]) * 100_000 for i in range(16)]

    def write_and_read(content: bytes) -> bool:
        write_private(path, [content])
        return read_private(path) in contents

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write_and_read, contents))
    assert names(path.parent) == ["file"]


def test_a_folder_that_others_may_write_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with pytest.raises(PermissionError, match="others may write it") as raised:
        write_private(tmp_path / "shared" / "file", [b"x"])
    assert raised.value.errno == errno.EPERM
    assert names(tmp_path / "shared") == []


def _link(path: Path) -> None:
    path.rename(path.with_name("other"))
    path.symlink_to(path.with_name("other"))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DISTRUSTED: dict[str, tuple[Callable[[Path], object], str]] = {
    "others may write it": (lambda path: path.chmod(0o602), "others may write it"),
    "its group may write it": (lambda path: path.chmod(0o620), "others may write it"),
    "others may write its folder": (lambda path: path.parent.chmod(0o707), "others may write it"),
    "a link": (_link, "can't be opened"),
    "a pipe": (_pipe, "it is not a file"),
    "a folder": (_folder, "it is not a file"),
}


@pytest.mark.parametrize("what", DISTRUSTED)
def test_what_others_may_have_written_is_not_read_and_said_once(
    what: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "lindi_dask.private_files")
    change, message = DISTRUSTED[what]
    change(path)
    for _ in range(3):
        assert read_private(path) is None
    assert [message in record.getMessage() for record in caplog.records] == [True]


def test_a_file_or_folder_of_another_user_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:  # root is trusted by all: have the file belong to somebody else
        os.chown(path, 4321, 4321)
    assert read_private(path) is None
    assert "it belongs to another user" in caplog.text


@pytest.mark.parametrize("name", ["none", "file/none", "none/none"])
def test_what_is_not_there_is_none_without_a_word(name: str, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_private(path.parent / name) is None
    assert open_private(path.parent / name) is None
    assert caplog.records == []


def test_handles_are_not_left_open(path: Path) -> None:
    def opened() -> int:
        return len(names(Path("/proc/self/fd")))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc")
    before = opened()
    for mode in (0o600, 0o622):
        path.chmod(mode)
        for _ in range(20):
            read_private(path)
    assert opened() == before


def test_removing_says_whether_it_was_done(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert removed(path)
    assert not removed(path)
    assert caplog.records == []
    path.mkdir()
    assert not removed(path)
    assert "can't be removed" in caplog.text
