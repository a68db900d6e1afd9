"""Files of ranges: what is read is what was written, or damage."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lindi_dask.private_files import TEMPORARY
from lindi_dask.transport.disk_cache.range_file import (
    PAGE,
    DamagedRangeError,
    file_nbytes,
    laid_out,
    name_of,
    pages_of,
    range_of,
    read_parts,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEED = b"source/7-200007"
CONTENT = np.random.default_rng(11).bytes(3 * PAGE + 77)
TABLE = 8  # bytes of the file before its table
BEGIN = TABLE + 4 * 4


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "0-196685.range"
    path.write_bytes(b"".join(laid_out(memoryview(CONTENT), SEED)))
    path.chmod(0o600)
    return path


def read(path: Path, *parts: tuple[int, int], nbytes: int = len(CONTENT), seed: bytes = SEED) -> list[bytes]:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return [bytes(view) for view in read_parts(handle, nbytes, parts, seed)]
    finally:
        os.close(handle)


@pytest.mark.parametrize("nbytes", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
def test_its_size_is_told_beforehand(nbytes: int) -> None:
    assert sum(map(len, laid_out(memoryview(bytes(nbytes)), SEED))) == file_nbytes(nbytes)


def test_any_parts_are_read(path: Path) -> None:
    rng = random.Random(3)
    edges = [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, len(CONTENT) - 1, len(CONTENT)]
    edges += [rng.randrange(len(CONTENT)) for _ in range(8)]
    parts = [(start, stop) for start in edges for stop in edges if start < stop]
    assert read(path, *parts) == [CONTENT[start:stop] for start, stop in parts]


@given(st.integers(1, 400_000), st.data())
def test_the_pages_of_a_part_are_whole_and_no_more_than_it_takes(nbytes: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, nbytes - 1))
    stop = data.draw(st.integers(start + 1, nbytes))
    first, last = pages_of(start, stop, nbytes)
    assert first <= start < first + PAGE
    assert stop <= last < stop + PAGE
    assert first % PAGE == 0
    assert last % PAGE == 0 or last == nbytes


@pytest.mark.parametrize("at", [0, 7, TABLE, TABLE + 4, BEGIN, BEGIN + PAGE - 1, BEGIN + PAGE, -1])
def test_a_flipped_bit_is_damage_to_all_and_only_that_need_it(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.write_bytes(content)
    at %= len(content)
    page = (at - BEGIN) // PAGE if at >= BEGIN else (at - TABLE) // 4
    for number in range(4):
        part = number * PAGE, min(number * PAGE + PAGE, len(CONTENT))
        if page == number or at < TABLE:  # the magic is for all
            with pytest.raises(DamagedRangeError):
                read(path, part)
        else:
            assert read(path, part) == [CONTENT[slice(*part)]]


def _swap_pages(content: bytes) -> bytes:
    """Pages and their checksums."""
    table, pages = content[TABLE:BEGIN], content[BEGIN:]
    return (
        content[:TABLE] + table[4:8] + table[:4] + table[8:] + pages[PAGE : 2 * PAGE] + pages[:PAGE] + pages[2 * PAGE :]
    )


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "empty": lambda content: content[:0],
    "zeros, as after a crash": lambda content: bytes(len(content)),
    "its end zeros": lambda content: content[: BEGIN + 100] + bytes(len(content) - BEGIN - 100),
    "pages in each other's place": _swap_pages,
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_not_whole_is_damage(path: Path, what: str) -> None:
    path.write_bytes(DAMAGE[what](path.read_bytes()))
    with pytest.raises(DamagedRangeError):
        read(path, (0, len(CONTENT)))


def test_a_file_under_anothers_name_is_damage(path: Path) -> None:
    with pytest.raises(DamagedRangeError):
        read(path, (0, 5), seed=b"source/8-200008")


def test_what_others_may_have_written_or_is_no_file_is_damage(path: Path) -> None:
    path.chmod(0o620)
    with pytest.raises(DamagedRangeError, match="others may write it"):
        read(path, (0, 5))
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(DamagedRangeError, match="not a file"):
        read(path, (0, 5))


@given(st.integers(0, 10**17), st.integers(1, 10**17))
def test_names_say_the_range(start: int, length: int) -> None:
    assert range_of(name_of(start, start + length)) == (start, start + length)


def test_names_of_files_that_are_being_written_say_it_too() -> None:
    assert range_of(f"5-70.0123456789abcdef{TEMPORARY}") == (5, 70)


@pytest.mark.parametrize(
    "name",
    [
        "usage.lindi-cache", "5-70", "5-70.range.txt", "05-70.range", "5-070.range", "70-5.range", "5-5.range",
        "-5-70.range", f"5-70{TEMPORARY}", f"5-70.xyz{TEMPORARY}", "5-9999999999999999999.range", "\u0665-70.range",
    ],
)  # fmt: skip
def test_other_names_are_nobodys(name: str) -> None:
    assert range_of(name) is None
