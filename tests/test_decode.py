from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import struct
import tracemalloc
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import pytest
import zarr
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import lindi_dask as ld
from lindi_dask.codecs import BulkCodecPipeline
from lindi_dask.decode import chunk_decoder
from lindi_dask.decode.steps import blosc_frame_nbytes
from lindi_dask.errors import CorruptChunk, InvalidReferences, UnsupportedArray

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from zarr.core.array_spec import ArraySpec

    Chunk = tuple[bytes, list[Any]]

VALUES = np.arange(600, dtype="<i4") % 97
PLAIN = VALUES.tobytes()
ZLIB, SHUFFLE, SUM, BLOSC = numcodecs.Zlib(4), numcodecs.Shuffle(4), numcodecs.Fletcher32(), numcodecs.Blosc("lz4")


def document(chunk: bytes, codecs: list[Any], **changes: Any) -> dict[str, Any]:
    array = {
        "zarr_format": 2,
        "shape": [len(VALUES)],
        "chunks": [len(VALUES)],
        "dtype": "<i4",
        "fill_value": 0,
        "order": "C",
        "filters": [codec.get_config() for codec in codecs],
        "compressor": None,
        **changes,
    }
    entry = "base64:" + base64.b64encode(chunk).decode()
    return {"refs": {".zgroup": {"zarr_format": 2}, "a/.zarray": array, "a/0": entry}}


def opened(chunk: bytes, codecs: list[Any], **changes: Any) -> zarr.Array[Any]:
    array = ld.open_group(document(chunk, codecs, **changes))["a"]
    assert isinstance(array, zarr.Array)
    return array


def encoded(codecs: list[Any], content: bytes = PLAIN) -> bytes:
    data: Any = content
    for codec in codecs:
        data = codec.encode(data if codec is not DELTA else np.frombuffer(data, "<i4"))
    return bytes(data)


def decoder(array: zarr.Array[Any]) -> Callable[[memoryview], NDArray[Any]] | None:
    """The native decoder of an array's chunks, if there is one."""
    seen: list[ArraySpec] = []
    pipeline = array.async_array.codec_pipeline
    assert isinstance(pipeline, BulkCodecPipeline)
    read = BulkCodecPipeline.read

    async def spy(self: BulkCodecPipeline, batch_info: Any, *arguments: Any, **options: Any) -> Any:
        batch = list(batch_info)
        seen.append(batch[0][1])
        return await read(self, batch, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BulkCodecPipeline, "read", spy)
        array[...]
    return chunk_decoder(pipeline, seen[0])


DELTA = numcodecs.Delta("<i4")
NATIVE: dict[str, list[Any]] = {
    "raw": [],
    "zlib": [ZLIB],
    "shuffle": [SHUFFLE],
    "shuffle, zlib": [SHUFFLE, ZLIB],
    "zlib, fletcher32": [ZLIB, SUM],
    "fletcher32, zlib": [SUM, ZLIB],
    "shuffle, zlib, fletcher32": [SHUFFLE, ZLIB, SUM],
    "fletcher32": [SUM],
    "blosc": [BLOSC],
    "blosc, fletcher32": [BLOSC, SUM],
    "gzip": [numcodecs.GZip(1)],
    "zstd": [numcodecs.Zstd(1)],
    "zstd, summed": [numcodecs.Zstd(1, checksum=True)],
    "shuffle, zstd": [SHUFFLE, numcodecs.Zstd(1)],
    "lz4": [numcodecs.LZ4()],
    "bz2": [numcodecs.BZ2(1)],
    "lzma": [numcodecs.LZMA(preset=0)],
    "zlib, zlib": [ZLIB, ZLIB],
    "zlib, blosc": [ZLIB, numcodecs.Blosc("lz4")],
    "delta": [DELTA],
    "delta, zlib": [DELTA, ZLIB],
    "delta, blosc": [DELTA, BLOSC],
    "delta, shuffle, zlib": [DELTA, SHUFFLE, ZLIB],
}
BY_ZARR: dict[str, list[Any]] = {
    "crc32": [numcodecs.CRC32()],
    "zlib, adler32": [ZLIB, numcodecs.Adler32()],
    "blosc, crc32": [BLOSC, numcodecs.CRC32()],
}
CODECS = NATIVE | BY_ZARR


@pytest.mark.parametrize("name", CODECS)
def test_what_hdf5_files_hold_is_decoded_natively_and_the_rest_by_zarr(name: str) -> None:
    array = opened(encoded(CODECS[name]), CODECS[name])
    assert (decoder(array) is not None) is (name in NATIVE)
    assert np.array_equal(np.asarray(array[...]), VALUES)


@pytest.mark.parametrize("name", [name for name in CODECS if name != "raw"])
@pytest.mark.parametrize("spoil", ["empty", "half", "short by one", "one byte", "garbage"])
def test_a_chunk_that_is_cut_short_or_garbage_is_corrupt(name: str, spoil: str) -> None:
    good = encoded(CODECS[name])
    rng = np.random.default_rng(3)
    spoilt = {
        "empty": b"",
        "half": good[: len(good) // 2],
        "short by one": good[:-1],
        "one byte": good[:1],
        "garbage": rng.bytes(len(good) + (name in {"shuffle", "delta"})),
    }[spoil]
    # What is too short for any stream is told when the references are read
    with pytest.raises((CorruptChunk, InvalidReferences), match="a/0") as caught:
        opened(spoilt, CODECS[name])[...]
    assert vars(caught.value)["key"] == "a/0"
    assert vars(caught.value)["reason"] in str(caught.value)


@pytest.mark.parametrize("name", [name for name in CODECS if name != "raw"])
@pytest.mark.parametrize("content", [PLAIN + PLAIN, PLAIN + bytes(4), PLAIN[:-4], PLAIN[4:8]])
def test_a_chunk_that_decodes_to_another_size_is_corrupt(name: str, content: bytes) -> None:
    with pytest.raises(CorruptChunk):
        opened(encoded(CODECS[name], content), CODECS[name])[...]


@pytest.mark.parametrize("name", ["zlib", "shuffle, zlib", "fletcher32", "zlib, fletcher32", "gzip", "bz2"])
@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_a_flipped_bit_is_never_other_values_where_there_is_a_checksum(name: str, place: int, bit: int) -> None:
    spoilt = bytearray(encoded(CODECS[name]))
    spoilt[place % len(spoilt)] ^= 1 << bit
    try:
        read = np.asarray(opened(bytes(spoilt), CODECS[name])[...])
    except CorruptChunk:
        return
    assert np.array_equal(read, VALUES)


def peak_of(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


BOMB_NBYTES = 64 << 20


BOMBS = ["zlib", "shuffle, zlib", "fletcher32, zlib", "zlib, fletcher32", "zlib, zlib", "delta, zlib", "blosc", "gzip"]
BOMBS += ["zstd", "shuffle, zstd", "lz4", "bz2", "lzma"]


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_corrupt_before_it_has_cost_memory(name: str) -> None:
    codecs = NATIVE[name]
    chunk = bytes(BOMB_NBYTES)
    array = opened(encoded([codec for codec in codecs if codec not in (SHUFFLE, DELTA)], chunk), codecs)

    def read() -> None:
        with pytest.raises(CorruptChunk):
            array[...]

    assert peak_of(read) < 8 << 20


def test_a_zstd_frame_that_does_not_say_its_length_is_bounded_too() -> None:
    nameless = zstandard.ZstdCompressor(write_content_size=False)
    codecs = [numcodecs.Zstd(1)]
    assert np.array_equal(np.asarray(opened(nameless.compress(PLAIN), codecs)[...]), VALUES)
    array = opened(nameless.compress(bytes(BOMB_NBYTES)), codecs)

    def read() -> None:
        with pytest.raises(CorruptChunk):
            array[...]

    assert peak_of(read) < 8 << 20


@pytest.mark.parametrize(
    ("codec", "compress"),
    [
        (numcodecs.Zstd(1), zstandard.ZstdCompressor().compress),
        (numcodecs.GZip(1), gzip.compress),
        (numcodecs.BZ2(1), bz2.compress),
        (numcodecs.LZMA(), lzma.compress),
    ],
    ids=["zstd", "gzip", "bz2", "lzma"],
)
def test_streams_that_follow_each_other_are_one(codec: Any, compress: Callable[[bytes], bytes]) -> None:
    parts = [compress(part) for part in (PLAIN[:1000], PLAIN[1000:1001], PLAIN[1001:])]
    assert np.array_equal(np.asarray(opened(b"".join(parts), [codec])[...]), VALUES)
    for wrong in (parts[:2], [*parts, parts[1]], [*parts[:2], parts[2][:-3]]):
        with pytest.raises(CorruptChunk):
            opened(b"".join(wrong), [codec])[...]


# Blosc: the library trusts the header of a frame


def frame(**claims: int) -> bytes:
    """A good frame of `PLAIN` whose header claims something else."""
    header = bytearray(encoded([BLOSC]))
    places = {"version": ("<B", 0), "flags": ("<B", 2), "itemsize": ("<B", 3), "nbytes": ("<I", 4)}
    places |= {"blocksize": ("<I", 8), "held": ("<I", 12), "first_block": ("<I", 16)}
    for field, value in claims.items():
        struct.pack_into(places[field][0], header, places[field][1], value)
    return bytes(header)


CLAIMS: list[dict[str, int]] = [
    {"nbytes": 0},
    {"nbytes": len(PLAIN) - 4},
    {"nbytes": len(PLAIN) + 4},
    {"nbytes": 2**31 - 1},
    {"nbytes": 2**32 - 1},
    {"held": 0},
    {"held": 16},
    {"held": len(frame()) - 1},
    {"held": len(frame()) + 1},
    {"held": 2**32 - 1},
    {"blocksize": 0},
    {"blocksize": 2**32 - 1},
    {"first_block": 0},
    {"first_block": len(frame())},
    {"first_block": 2**31 - 1},
    {"first_block": 2**32 - 1},
    {"version": 200},
    {"itemsize": 0},
]


@pytest.mark.parametrize("codecs", [[BLOSC], [DELTA, BLOSC]], ids=["alone", "behind a filter"])
@pytest.mark.parametrize("claims", CLAIMS, ids=lambda claims: " ".join(f"{k}={v}" for k, v in claims.items()))
def test_a_blosc_frame_that_claims_what_is_not_so_is_corrupt(claims: dict[str, int], codecs: list[Any]) -> None:
    with pytest.raises(CorruptChunk):
        opened(frame(**claims), codecs)[...]


@pytest.mark.parametrize("codecs", [[BLOSC], [DELTA, BLOSC]], ids=["alone", "behind a filter"])
def test_a_blosc_frame_cut_short_anywhere_is_corrupt(codecs: list[Any]) -> None:
    good = encoded(codecs)
    for stop in {*range(40), *range(40, len(good), 97), len(good) - 1}:
        with pytest.raises(CorruptChunk):
            opened(good[:stop], codecs)[...]


def test_a_blosc_frame_says_how_much_it_holds() -> None:
    assert blosc_frame_nbytes(frame()) == len(PLAIN)
    for data in (b"", frame()[:15], frame()[:-1], frame() + b"x"):
        with pytest.raises(ValueError, match="Blosc frame"):
            blosc_frame_nbytes(data)


# HDF5's filters, by hand


@given(content=st.binary(max_size=40), itemsize=st.sampled_from([1, 2, 3, 4, 8, 50]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_shuffled_bytes_come_back_and_those_that_fill_no_item_stay_at_the_end(content: bytes, itemsize: int) -> None:
    count = len(content) // itemsize
    whole = count * itemsize
    planes = b"".join(content[i:whole:itemsize] for i in range(itemsize)) + content[whole:]
    shuffle = numcodecs.Shuffle(itemsize)
    if not content:
        return
    changes = {"shape": [len(content)], "chunks": [len(content)], "dtype": "|u1"}
    read = np.asarray(opened(planes, [shuffle], **changes)[...])
    assert read.tobytes() == content


@pytest.mark.parametrize("itemsize", [0, -4])
def test_a_shuffle_of_no_size_is_no_values(itemsize: int) -> None:
    refs = document(encoded([SHUFFLE]), [])
    refs["refs"]["a/.zarray"]["filters"] = [{"id": "shuffle", "elementsize": itemsize}]
    array = ld.open_group(refs)["a"]
    assert isinstance(array, zarr.Array)
    with pytest.raises(UnsupportedArray):
        array[...]


@pytest.mark.parametrize("length", range(5))
def test_a_chunk_shorter_than_its_checksum_is_corrupt(length: int) -> None:
    with pytest.raises(CorruptChunk):
        opened(bytes(length), [SUM])[...]
