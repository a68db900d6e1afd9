"""What `touched` says, against brute force; and blocks read by it, against zarr."""

from __future__ import annotations

import base64
import itertools
import json
import math
import zlib
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import lindi_dask as ld
from lindi_dask import errors
from lindi_dask.grid import touched
from lindi_dask.lazy import LazyArray


@st.composite
def parts_of_arrays(draw: st.DrawFn) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    shape = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    chunks = [draw(st.integers(1, 14)) for _ in shape]
    starts = [draw(st.integers(0, extent - 1)) for extent in shape]
    part = [(start, draw(st.integers(start + 1, extent))) for start, extent in zip(starts, shape, strict=True)]
    return shape, chunks, part


@given(parts_of_arrays())
def test_chunks_that_a_part_touches_and_what_of_each_are_those_of_brute_force(
    case: tuple[list[int], list[int], list[tuple[int, int]]],
) -> None:
    shape, chunks, part = case
    grid = [-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True)]
    whole = np.arange(math.prod(shape)).reshape(shape)
    selection = tuple(slice(*one) for one in part)
    found = touched(shape, chunks, part)
    out = np.full([stop - start for start, stop in part], -1)
    wanted = []
    for coordinates in itertools.product(*map(range, grid)):
        chunk = tuple(slice(at * size, (at + 1) * size) for at, size in zip(coordinates, chunks, strict=True))
        if np.isin(whole[chunk], whole[selection]).any():
            wanted.append((np.ravel_multi_index(coordinates, grid), chunk))
    assert found.places.tolist() == [place for place, _ in wanted]
    assert found.places.dtype == np.uint64
    for (_, chunk), (of_chunk, of_part, is_whole) in zip(wanted, found.parts, strict=True):
        out[of_part] = whole[chunk][of_chunk]
        assert is_whole == (whole[chunk][of_chunk].size == whole[chunk].size)
    np.testing.assert_array_equal(out, whole[selection])


DTYPES = ["<i2", ">i4", "<f8", "|u1", "|b1", "<c8"]


@given(
    case=parts_of_arrays(),
    dtype=st.sampled_from(DTYPES),
    order=st.sampled_from("CF"),
    packed=st.booleans(),
    listed=st.sampled_from(["all", "some"]),
    seed=st.integers(0, 99),
)
def test_a_block_is_what_zarr_reads(
    case: tuple[list[int], list[int], list[tuple[int, int]]],
    dtype: str,
    order: str,
    packed: bool,
    listed: str,
    seed: int,
) -> None:
    shape, chunks, part = case
    rng = np.random.default_rng(seed)
    document: dict[str, Any] = {"zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": dtype, "order": order}
    document |= {
        "compressor": {"id": "zlib", "level": 1} if packed else None,
        "filters": None,
        "fill_value": [1.0, 0.0] if dtype == "<c8" else 1,
    }
    refs: dict[str, Any] = {".zgroup": '{"zarr_format": 2}', "data/.zarray": json.dumps(document)}
    grid = [-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True)]
    for coordinates in itertools.product(*map(range, grid)):
        if listed == "all" or rng.integers(3):
            content = (
                rng.integers(0, 2, math.prod(chunks))
                .astype(dtype)
                .reshape(chunks)
                .tobytes("F" if order == "F" else "C")
            )
            refs[f"data/{'.'.join(map(str, coordinates))}"] = _base64(zlib.compress(content) if packed else content)
    array: Any = zarr.open_array(ld.open_store({"refs": refs}), path="data", mode="r")
    selection = tuple(slice(*one) for one in part)
    lazy = LazyArray(array)
    assert lazy._decoder is not None
    read = lazy[selection]
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array[selection])
    np.testing.assert_array_equal(lazy[...], array[...])
    np.testing.assert_array_equal(lazy[selection[0]], array[selection[0]])


def test_a_chunk_that_cannot_be_decoded_is_named() -> None:
    document = {"zarr_format": 2, "shape": [4, 4], "chunks": [2, 2], "dtype": "|u1", "order": "C", "fill_value": 0}
    document |= {"compressor": {"id": "zlib", "level": 1}, "filters": None}
    chunk = _base64(zlib.compress(bytes(4)))
    refs = {".zgroup": '{"zarr_format": 2}', "data/.zarray": json.dumps(document)}
    refs |= {f"data/{i}.{j}": chunk for i in range(2) for j in range(2)} | {"data/1.0": "nonsense"}
    array = ld.open_array({"refs": refs}, "data", chunks=(4, 2))
    assert not array[:, 2:].compute().any()
    with pytest.raises(errors.CorruptChunk, match=r"The chunk data/1\.0 can't be decoded") as caught:
        array.compute()
    assert caught.value.key == "data/1.0"


def _base64(content: bytes) -> str:
    return f"base64:{base64.b64encode(content).decode()}"
