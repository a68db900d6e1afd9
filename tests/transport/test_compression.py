from __future__ import annotations

import gzip
import io
import random
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.errors import InvalidReferences
from lindi_dask.transport import decompressed

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = b'{"refs": {}}' * 20_000
NOISE = random.Random(5).randbytes(200_000)
LIMIT = 10**6
SKIPPABLE = b"\x5a\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"


def streamed(content: bytes) -> bytes:
    """zstd that does not say how much comes out."""
    target = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(target, closefd=False) as writer:
        writer.write(content)
    return target.getvalue()


def checked(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "gzip, stored": lambda content: gzip.compress(content, compresslevel=0),
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd, streamed": streamed,
    "zstd, with a checksum": checked,
}


@pytest.mark.parametrize("content", [TEXT, NOISE, b"", b"x", bytes(LIMIT)], ids=["text", "noise", "none", "x", "zeros"])
@pytest.mark.parametrize("way", WAYS)
def test_what_was_compressed_comes_back(way: str, content: bytes) -> None:
    assert decompressed(WAYS[way](content), LIMIT) == content


@pytest.mark.parametrize("way", WAYS)
def test_several_members_in_a_row_are_one_content(way: str) -> None:
    parts = [NOISE[:100], b"", TEXT, NOISE[100:70_000], b"y"]
    assert decompressed(b"".join(map(WAYS[way], parts)), LIMIT) == b"".join(parts)


@given(
    st.sampled_from(list(WAYS)), st.lists(st.binary(max_size=300), max_size=5), st.sampled_from([1, 1000]), st.data()
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_whatever_was_compressed_comes_back_and_never_from_less(
    way: str, parts: list[bytes], times: int, data: st.DataObject
) -> None:
    content = [part * times for part in parts]
    whole = b"".join(map(WAYS[way], content))
    assert decompressed(whole, LIMIT) == b"".join(content)
    if not whole:
        return
    cut = data.draw(st.integers(4, len(whole) - 1))
    boundaries = {sum(len(WAYS[way](part)) for part in content[:n]) for n in range(len(content))}
    if cut not in boundaries:
        with pytest.raises(InvalidReferences, match="not sound"):
            decompressed(whole[:cut], LIMIT)


PLAIN = [b"", b"{", b'{"refs": {}}', b"PAR1", b"\x1f", b"\x28\xb5", b"\x5a\x2a", b"ustar", b"\x89HDF\r\n\x1a\n"]


@pytest.mark.parametrize("content", PLAIN)
def test_any_other_content_comes_back_as_it_is(content: bytes) -> None:
    assert decompressed(content, LIMIT) is content


def test_skippable_frames_are_skipped() -> None:
    frame = zstandard.compress(b"x")
    assert decompressed(SKIPPABLE + frame + SKIPPABLE + frame + SKIPPABLE, LIMIT) == b"xx"


def test_zeros_may_follow_gzip_and_nothing_else() -> None:
    whole = gzip.compress(b"x")
    assert decompressed(whole + bytes(700), LIMIT) == b"x"
    for rest in (b"y", bytes(700) + b"y", b"\x1f", bytes(3) + whole):
        with pytest.raises(InvalidReferences, match="something else follows"):
            decompressed(whole + rest, LIMIT)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGED = {
    "gzip, its method": flipped(gzip.compress(TEXT), 2),
    "gzip, its checksum": flipped(gzip.compress(NOISE), -6 + len(gzip.compress(NOISE))),
    "gzip, its header alone": gzip.compress(TEXT)[:10],
    "zstd, its checksum": flipped(checked(NOISE), len(checked(NOISE)) - 2),
    "zstd, its magic alone": b"\x28\xb5\x2f\xfd",
    "zstd, something behind it": zstandard.compress(TEXT) + b"garbage",
    "a skippable frame that is cut off": SKIPPABLE[:-1],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_an_error(name: str) -> None:
    with pytest.raises(InvalidReferences, match="not sound") as caught:
        decompressed(DAMAGED[name], LIMIT)
    assert caught.value.__context__ is None


def gzip_bomb(nbytes: int) -> bytes:
    compressor = zlib.compressobj(9, wbits=31)
    return b"".join(compressor.compress(bytes(2**20)) for _ in range(nbytes >> 20)) + compressor.flush()


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: gzip_bomb(2**28),
    "gzip in many members": lambda: gzip_bomb(2**20) * 256,
    "zstd": lambda: zstandard.compress(bytes(2**28)),
    "zstd, streamed": lambda: streamed(bytes(2**28)),
    "zstd in many frames": lambda: zstandard.compress(bytes(2**20)) * 256,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_given_up_when_it_passes_the_limit(name: str) -> None:
    bomb = BOMBS[name]()
    assert len(bomb) < LIMIT
    with pytest.raises(InvalidReferences, match=f"larger than {LIMIT} bytes when it is decompressed"):
        decompressed(bomb, LIMIT)


def test_the_limit_itself_may_be_reached() -> None:
    for way in WAYS.values():
        assert len(decompressed(way(bytes(1000)), 1000)) == 1000
        with pytest.raises(InvalidReferences, match="larger than 999 bytes"):
            decompressed(way(bytes(1000)), 999)
    assert decompressed(b"x" * 1000, 1000) == b"x" * 1000
    with pytest.raises(InvalidReferences, match="larger than 999 bytes"):
        decompressed(b"x" * 1000, 999)


@pytest.mark.parametrize("member", [gzip.compress(b""), SKIPPABLE], ids=["gzip", "zstd"])
def test_members_of_nothing_come_to_an_end(member: bytes) -> None:
    with pytest.raises(InvalidReferences, match="more than 262144"):
        decompressed(member * 300_000, LIMIT)


def test_zstd_with_a_window_that_takes_a_gigabyte_is_refused() -> None:
    """One raw block of one byte; the second byte after the magic has the window's size (RFC 8878, 3.1.1.1.2)."""
    frames = {log: b"\x28\xb5\x2f\xfd\x00" + bytes([(log - 10) << 3]) + b"\x09\x00\x00x" for log in (20, 27, 28, 30)}
    assert decompressed(frames[20], LIMIT) == decompressed(frames[27], LIMIT) == b"x"
    for log in (28, 30):
        with pytest.raises(InvalidReferences, match="not sound zstd"):
            decompressed(frames[log], LIMIT)
