from __future__ import annotations

import os
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lindi_dask.errors import DataError, InvalidReferences, LindiError, SourceMismatch, UrlRefused
from lindi_dask.transport.local import LocalFiles
from lindi_dask.types import LocalFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONTENT = random.Random(1).randbytes(10_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a reference file, with `secret` beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "references"
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / "x").write_bytes(CONTENT)
    return folder


def inside(folder: Path, name: str, *others: Path) -> LocalFile:
    return LocalFile(f"{folder}/{name}", (str(folder), *map(str, others)))


def open_files(folder: Path) -> int:
    held = 0
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names, not paths
        try:
            held += os.readlink(f"/proc/self/fd/{number}").startswith(str(folder))  # noqa: PTH115
        except OSError:
            continue
    return held


@pytest.mark.parametrize(("start", "stop"), [(0, 10_000), (0, 1), (5, 50), (9_999, 10_000), (0, None), (9_000, None)])
def test_a_range_is_exactly_those_bytes(folder: Path, start: int, stop: int | None) -> None:
    assert LocalFiles().read(inside(folder, "blobs/x"), start, stop) == CONTENT[start:stop]


def test_the_end_of_a_file_is_nothing_and_what_lies_behind_it_an_error(folder: Path) -> None:
    file = inside(folder, "blobs/x")
    assert bytes(LocalFiles().read(file, 10_000, None)) == b""
    for start, stop in ((9_990, 10_001), (10_001, None), (2**62, 2**62 + 10), (2**64, None), (0, 2**32)):
        with pytest.raises(SourceMismatch, match="ends at byte 10000"):
            LocalFiles().read(file, start, stop)


def test_another_size_than_the_references_say_is_an_error(folder: Path) -> None:
    files, file = LocalFiles(), inside(folder, "blobs/x")
    assert files.read(file, 0, 5, size=10_000) == CONTENT[:5]
    for size in (9_999, 10_001, 0):
        with pytest.raises(SourceMismatch, match=f"had {size} when"):
            files.read(file, 0, 5, size=size)


def test_a_chunk_that_is_a_file_of_2_gib_is_too_large(folder: Path) -> None:
    os.truncate(folder / "blobs" / "x", 2**31)
    with pytest.raises(InvalidReferences, match="2147483647"):
        LocalFiles().read(inside(folder, "blobs/x"), 0, None)
    assert len(LocalFiles().read(inside(folder, "blobs/x"), 2**31 - 5, None)) == 5


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def link_to_fifo(path: Path) -> None:
    make_fifo(path.with_name("fifo"))
    path.symlink_to("fifo")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            bound.bind(f"/proc/self/fd/{here}/{path.name}")  # its own path may be longer than a socket's may be
        finally:
            os.close(here)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a FIFO": make_fifo,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a terminal": lambda path: path.symlink_to("/dev/tty"),
    "a link to a FIFO": link_to_fifo,
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_no_regular_file_is_refused_at_once(folder: Path, name: str) -> None:
    SPECIAL[name](folder / "special")
    for within in ((), ("/",)):
        with pytest.raises(UrlRefused, match="not a regular file"):
            LocalFiles().read(LocalFile(f"{folder}/special", within), 0, 5)


def test_a_file_that_is_gone_or_closed_to_us_is_a_named_error(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    for name in ("none", "none/x", "blobs/x/y", "loop", "x" * 300, "x\0y", "\ud800"):
        with pytest.raises(DataError, match="can't be read here") as caught:
            LocalFiles().read(inside(folder, name), 0, 5)
        assert type(caught.value) is DataError
        assert caught.value.__context__ is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
def test_a_file_without_the_right_to_read_it_is_a_named_error(folder: Path) -> None:
    (folder / "blobs" / "x").chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        LocalFiles().read(inside(folder, "blobs/x"), 0, 5)


def link(at: str, to: str) -> Callable[[Path], object]:
    return lambda folder: (folder / at).symlink_to(to.format(folder=folder))


INSIDE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a link to a file beside it": ("a", link("a", "blobs/x")),
    "an absolute link": ("a", link("a", "{folder}/blobs/x")),
    "a link to a folder": ("a/x", link("a", "blobs")),
    "up and down again": ("blobs/../blobs/x", link("a", "b")),
    "out and in again": ("../references/blobs/x", link("a", "b")),
    "links of links": ("a", lambda folder: (link("a", "b")(folder), link("b", "blobs/x")(folder))),
}


@pytest.mark.parametrize("name", INSIDE)
def test_links_may_lead_wherever_they_stay_inside(folder: Path, name: str) -> None:
    path, make = INSIDE[name]
    make(folder)
    assert LocalFiles().read(inside(folder, path), 0, 5) == CONTENT[:5]


def test_the_folder_itself_may_be_a_link(folder: Path) -> None:
    (folder.parent / "link").symlink_to("references")
    assert LocalFiles().read(inside(folder.parent / "link", "blobs/x"), 0, 5) == CONTENT[:5]


def make_other(folder: Path) -> Path:
    (folder.parent / "other").mkdir()
    (folder.parent / "references2").mkdir()
    (folder.parent / "references2" / "x").write_bytes(b"secret")
    return folder


OUTSIDE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "up": ("../secret", link("a", "b")),
    "down and up": ("blobs/../../secret", link("a", "b")),
    "a link up": ("a", link("a", "../secret")),
    "an absolute link": ("a", link("a", "/etc/passwd")),
    "a folder's link": ("a/secret", link("a", "..")),
    "a link of links": ("a", lambda folder: (link("a", "b")(folder), link("b", "../secret")(folder))),
    "through a link and up": ("a/../secret", lambda folder: link("a", f"{folder}/../other")(make_other(folder))),
    "a folder whose name begins alike": ("../references2/x", make_other),
    "what is not there": ("../none", link("a", "b")),
    "the folder above": ("..", link("a", "b")),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_leads_out_of_the_folder(folder: Path, name: str) -> None:
    path, make = OUTSIDE[name]
    make(folder)
    with pytest.raises(UrlRefused, match="lies outside") as caught:
        LocalFiles().read(inside(folder, path), 0, 5)
    assert "allow=['" in caught.value.reason


def test_the_remedy_that_is_named_helps(folder: Path) -> None:
    with pytest.raises(UrlRefused) as caught:
        LocalFiles().read(inside(folder, "../secret"), 0, 5)
    remedy = caught.value.reason.partition("allow=['")[2].partition("']")[0]
    file = LocalFile(f"{folder}/../secret", (str(folder), remedy))
    assert bytes(LocalFiles().read(file, 0, 5)) == b"secre"


def test_a_file_that_may_be_read_itself_is_one_that_may(folder: Path) -> None:
    secret = str(folder.parent / "secret")
    assert bytes(LocalFiles().read(LocalFile(secret, (secret,)), 0, 5)) == b"secre"
    assert bytes(LocalFiles().read(LocalFile(secret, ("/",)), 0, 5)) == b"secre"
    assert bytes(LocalFiles().read(LocalFile(secret), 0, 5)) == b"secre"


def test_a_file_that_was_put_in_anothers_place_is_the_one_that_is_read(folder: Path) -> None:
    files, file = LocalFiles(), inside(folder, "blobs/x")
    assert files.read(file, 0, 5) == CONTENT[:5]
    (folder / "new").write_bytes(b"other bytes")
    (folder / "new").replace(folder / "blobs" / "x")
    assert bytes(files.read(file, 0, 5)) == b"other"
    (folder / "blobs" / "x").unlink()
    with pytest.raises(DataError, match="No such file"):
        files.read(file, 0, 5)
    (folder / "blobs" / "x").symlink_to("../../secret")
    with pytest.raises(UrlRefused, match="outside"):
        files.read(file, 0, 5)


def test_a_file_that_is_cut_off_in_mid_run_is_an_error(folder: Path) -> None:
    files, file = LocalFiles(), inside(folder, "blobs/x")
    assert files.read(file, 5_000, 6_000) == CONTENT[5_000:6_000]
    os.truncate(folder / "blobs" / "x", 5_500)
    with pytest.raises(SourceMismatch, match="ends at byte 5500"):
        files.read(file, 5_000, 6_000)


def test_a_file_that_is_cut_off_while_it_is_read_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def pread(_descriptor: int, length: int, offset: int) -> bytes:
        calls.append(length)
        return CONTENT[offset : min(offset + length, 700)][:500]

    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(SourceMismatch, match="ends at byte 700"):
        LocalFiles().read(inside(folder, "blobs/x"), 0, 1_000)
    assert calls == [1_000, 500, 300]
    assert LocalFiles().read(inside(folder, "blobs/x"), 0, 700) == CONTENT[:700]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files as Linux shows them")  # noqa: PTH112
def test_many_files_in_many_threads_are_read_right_and_few_stay_open(folder: Path) -> None:
    for i in range(200):
        (folder / f"{i}").write_bytes(f"content of {i}".encode())
    files = [LocalFiles()]

    def read(i: int) -> bool:
        return files[0].read(inside(folder, f"{i % 200}"), 0, None) == f"content of {i % 200}".encode()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(2_000)))
    assert open_files(folder) == 64
    files.clear()
    assert open_files(folder) == 0


def test_every_error_is_one_of_ours(folder: Path) -> None:
    for name in ("none", "../secret", "blobs"):
        with pytest.raises(LindiError) as caught:
            LocalFiles().read(inside(folder, name), 0, 5)
        assert not isinstance(caught.value, OSError)
