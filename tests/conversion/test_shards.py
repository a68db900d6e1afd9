"""Blocks <-> objects: zarr itself says what is right."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from lindi_dask.conversion.codecs import CRC32C, ChunkCodec, default_codecs, native_codec
from lindi_dask.conversion.encoding import block_codec, each, stored_digest
from lindi_dask.conversion.plan import ArrayPlan
from lindi_dask.conversion.shards import packed, unpacked

if TYPE_CHECKING:
    from numpy.typing import NDArray

BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
CHAINS: list[list[dict[str, Any]] | None] = [None, [BYTES], [BYTES, CRC32C], [BYTES, ZSTD, CRC32C]]


def planned(
    shape: tuple[int, ...],
    dtype: str,
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
    codecs: list[dict[str, Any]] | None = None,
    fill: Any = 0,
) -> ArrayPlan:
    """A plan for an array, its document made by zarr's own code."""
    itemsize = np.dtype(dtype).itemsize
    inner = codecs or default_codecs(itemsize, is_text=False)
    if shards is not None:
        index = [BYTES, CRC32C]
        options = {"chunk_shape": list(chunks), "codecs": inner, "index_codecs": index, "index_location": "end"}
        inner = [{"name": "sharding_indexed", "configuration": options}]
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shards or chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": inner,
        "attributes": {},
    }
    return ArrayPlan("a", document, "native", itemsize, chunks, None)


def opened(plan: ArrayPlan, objects: dict[str, bytes]) -> zarr.Array[Any]:
    buffer = default_buffer_prototype().buffer
    held = {f"a/{key}": buffer.from_bytes(data) for key, data in objects.items()}
    held["a/zarr.json"] = buffer.from_bytes(json.dumps(plan.document).encode())
    return zarr.open_array(MemoryStore(held), path="a", mode="r+", zarr_format=3)


def encoded(plan: ArrayPlan, values: NDArray[Any]) -> dict[str, bytes]:
    """All objects of an array, by their keys below its path."""
    objects = {}
    for place in range(plan.tasks):
        codec, block = block_codec(plan), values[plan.region(place)]
        rows = plan.chunks[0] * 2  # some at a time, as tasks do
        blocks = [block[at : at + rows] for at in range(0, len(block), rows)] if plan.is_sharded else [block]
        parts = codec.object_of([piece for part in blocks for piece in codec.encode(part, each)])
        if parts is not None:
            objects[plan.place_key(place).removeprefix("a/")] = b"".join(parts)
    return objects


@st.composite
def _cases(draw: st.DrawFn) -> tuple[ArrayPlan, NDArray[Any]]:
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 20)) for _ in range(ndim))
    chunks = tuple(draw(st.integers(1, 7)) for _ in range(ndim))
    shards = draw(st.none() | st.tuples(*[st.integers(1, 4)] * ndim))
    dtype = draw(st.sampled_from(["int16", "uint8", "float32", "float64", "complex128", "bool"]))
    if shards is not None:
        shards = tuple(number * chunk for number, chunk in zip(shards, chunks, strict=True))
    codecs = draw(st.sampled_from(CHAINS if np.dtype(dtype).itemsize > 1 else [None]))
    fill: Any = {"b": False, "c": [0.0, 0.0]}.get(np.dtype(dtype).kind, 0)
    values = draw(arrays(dtype, shape, fill=st.just(np.zeros((), dtype)[()])))
    return planned(shape, dtype, chunks, shards, codecs, fill), values


@settings(max_examples=30, deadline=None)
@given(_cases())
def test_zarr_reads_what_is_written_here(case: tuple[ArrayPlan, NDArray[Any]]) -> None:
    plan, values = case
    objects = encoded(plan, values)
    found = opened(plan, objects)[...]
    np.testing.assert_array_equal(np.asarray(found).view(np.uint8), values.view(np.uint8))
    for place in range(plan.tasks):
        stored = objects.get(plan.place_key(place).removeprefix("a/"))
        block = values[plan.region(place)]
        if stored is not None:
            again = b"".join(part.tobytes() for part in block_codec(plan).decode(stored, block.shape, each))
            assert again == np.ascontiguousarray(block).tobytes()


@settings(max_examples=15, deadline=None)
@given(_cases())
def test_what_zarr_writes_is_read_here(case: tuple[ArrayPlan, NDArray[Any]]) -> None:
    plan, values = case
    array = opened(plan, {})
    array[...] = values
    held = array.store_path.store._store_dict  # type: ignore[attr-defined] # a MemoryStore's
    for place in range(plan.tasks):
        stored = held.get(plan.place_key(place))
        block = values[plan.region(place)]
        if stored is None:
            assert not block.any()
        else:
            found = np.concatenate(list(block_codec(plan).decode(stored.to_bytes(), block.shape, each)))
            np.testing.assert_array_equal(found, block)


def test_only_the_fill_value_to_the_last_bit_is_left_out() -> None:
    plan = planned((8,), "float64", (2,), (4,), fill="NaN")
    values = np.array([np.nan] * 4 + [np.nan, np.nan, -0.0, np.nan])
    assert list(encoded(plan, values)) == ["c/1"]
    other = values.copy()
    other.view(np.uint64)[0] ^= 1  # another NaN
    assert list(encoded(plan, other)) == ["c/0", "c/1"]
    zeros = planned((4,), "float64", (2,), (4,), fill=0.0)
    assert not encoded(zeros, np.zeros(4))
    assert encoded(zeros, np.array([0, 0, 0, -0.0]))


def test_every_flipped_bit_is_found() -> None:
    values = np.random.default_rng(0).normal(0, 50, (400, 8)).astype("int16")
    plan = planned((400, 8), "int16", (50, 8), (400, 8))
    stored = encoded(plan, values)["c/0/0"]
    before = stored_digest(plan, 0, stored)
    draw = random.Random(1)
    for _ in range(40):
        damaged = bytearray(stored)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        with pytest.raises((ValueError, RuntimeError)):
            stored_digest(plan, 0, bytes(damaged))
    assert stored_digest(plan, 0, stored) == before


def test_a_chunk_that_does_not_decode_to_what_it_was_is_never_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned((40,), "int16", (10,), (40,))
    values = np.arange(40, dtype="int16")
    right = ChunkCodec.encode

    def wrong(codec: ChunkCodec, raw: memoryview) -> bytes:
        return right(codec, memoryview(bytes(len(raw))) if raw[0] == 20 else raw)

    monkeypatch.setattr(ChunkCodec, "encode", wrong)
    with pytest.raises(ValueError, match="does not decode to what it was"):
        encoded(plan, values)


@pytest.mark.parametrize("cut", [0, 3, 30])
def test_a_shard_that_was_cut_short_is_an_error(cut: int) -> None:
    shard = b"".join(packed([b"one", None, b"three"]))
    assert [None if chunk is None else bytes(chunk) for chunk in unpacked(shard, 3)] == [b"one", None, b"three"]
    with pytest.raises(ValueError, match=r"short|checksum"):
        unpacked(shard[:cut], 3)
    with pytest.raises(ValueError, match=r"short|checksum"):
        unpacked(shard[:-1], 3)


def test_an_index_that_leads_outside_is_an_error() -> None:
    shard = b"".join(packed([b"x" * 10]))
    with pytest.raises(ValueError, match="does not have"):
        unpacked(shard[5:], 1)


@pytest.mark.parametrize(
    "codecs",
    [
        [{"name": "bytes", "configuration": {"endian": "big"}}],
        [{"name": "transpose", "configuration": {"order": [1, 0]}}, BYTES],
        [BYTES, {"name": "gzip", "configuration": {"level": 1}}],
        [BYTES, ZSTD, ZSTD],
        [{"name": "vlen-utf8"}],
    ],
)
def test_other_codecs_are_left_to_zarr(codecs: list[dict[str, Any]]) -> None:
    assert native_codec(codecs) is None
