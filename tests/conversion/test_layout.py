"""Layouts: pure arithmetic, against brute force."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lindi_dask.conversion.layout import SMALL, Layout, amplification, asked_layout, default_layout, shrunk

MIB = 2**20

ARRAYS = st.integers(1, 3).flatmap(
    lambda ndim: st.tuples(
        st.tuples(*[st.integers(0, 10**7 if ndim == 1 else 10**5 if ndim == 2 else 3000)] * ndim),
        st.sampled_from([1, 2, 4, 8, 16]),
        st.tuples(*[st.integers(1, 5000)] * ndim),
    )
)


@given(ARRAYS)
def test_shards_are_whole_chunks_and_within_bounds(array: tuple[tuple[int, ...], int, tuple[int, ...]]) -> None:
    shape, itemsize, source = array
    layout = default_layout(shape, itemsize, source)
    assert all(size >= 1 for size in layout.chunks)
    assert all(unit % chunk == 0 for unit, chunk in zip(layout.unit, layout.chunks, strict=True))
    assert layout.shards != layout.chunks
    nbytes = math.prod(shape) * itemsize
    if nbytes <= SMALL:
        assert layout == Layout(tuple(max(extent, 1) for extent in shape), None)
        return
    assert math.prod(layout.chunks) * itemsize <= 4 * MIB
    held = math.prod(map(min, layout.unit, shape)) * itemsize
    largest = max(256 * MIB, math.prod(map(min, source, shape)) * itemsize)
    assert held <= 1.05 * largest  # even parts are rounded up


@pytest.mark.parametrize(
    ("shape", "itemsize", "source", "chunks", "shards"),
    [
        ((2_000_000, 64), 2, (8192, 64), (16384, 64), (1_015_808, 64)),
        ((60_000_000, 384), 2, (30_000, 384), (15_000, 64), (150_000, 384)),  # a divisor of the source's rows
        ((20_000_000, 64), 2, (20_000_000, 1), (160_000, 6), (20_000_000, 6)),  # chunks along all of time
        ((120, 512, 512), 2, (1, 512, 512), (4, 512, 512), (120, 512, 512)),  # images by frames
        ((100_000, 2048, 2048), 2, (1, 2048, 2048), (1, 512, 2048), (16, 2048, 2048)),  # frames of 8 MiB
        ((50_000_000,), 8, (10_000,), (260_000,), (12_740_000,)),
        ((64, 2_000_000), 2, (1, 2_000_000), (64, 16_261), (64, 2_000_103)),  # channels first
    ],
)
def test_recordings_and_images(
    shape: tuple[int, ...], itemsize: int, source: tuple[int, ...], chunks: tuple[int, ...], shards: tuple[int, ...]
) -> None:
    layout = default_layout(shape, itemsize, source)
    assert layout == Layout(chunks, shards)
    assert amplification(shape, source, layout.unit) == 1


@given(
    st.integers(1, 3).flatmap(
        lambda ndim: st.tuples(*[st.tuples(*[st.integers(1, 25)] * ndim) for _ in range(3)])  # shape, source, unit
    )
)
def test_amplification_is_how_many_chunks_each_object_touches(
    sizes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
) -> None:
    shape, source, unit = sizes
    touched = 0
    for at in itertools.product(*(range(0, extent, size) for extent, size in zip(shape, unit, strict=True))):
        chunks = [
            {element // chunk for element in range(start, min(start + size, extent))}
            for start, size, extent, chunk in zip(at, unit, shape, source, strict=True)
        ]
        touched += math.prod(map(len, chunks))
    there = math.prod(-(-extent // chunk) for extent, chunk in zip(shape, source, strict=True))
    assert amplification(shape, source, unit) == pytest.approx(touched / there)


def test_what_is_asked_for_holds() -> None:
    shape, source = (2_000_000, 64), (8192, 64)
    assert asked_layout(shape, 2, source, (20_000, -1), (800_000, -1)) == Layout((20_000, 64), (800_000, 64))
    assert asked_layout(shape, 2, source, (20_000, 64), False) == Layout((20_000, 64), None)
    assert asked_layout(shape, 2, source, None, (100_000, -1)) == Layout((20_000, 64), (100_000, 64))  # a divisor
    assert asked_layout(shape, 2, source, (30_000, -1), (-1, -1)).shards == (2_010_000, 64)  # whole chunks of it
    chosen = asked_layout(shape, 2, source, (20_000, 64), None)
    assert chosen.shards is not None
    assert chosen.shards[0] % 20_000 == 0


@pytest.mark.parametrize(
    ("chunks", "shards", "what"),
    [
        ((20_000,), None, "chunks"),
        ((0, 64), None, "chunks"),
        ((20_000, 64), (30_000, 64), "whole chunks"),
        ((True, 64), None, "chunks"),
        (None, (5, 5, 5), "shards"),
    ],
)
def test_what_does_not_go_together_is_refused(
    chunks: tuple[int, ...] | None, shards: tuple[int, ...] | None, what: str
) -> None:
    with pytest.raises(ValueError, match=what):
        asked_layout((2_000_000, 64), 2, (8192, 64), chunks, shards)


def test_a_layout_shrinks_to_a_chunk_a_shard() -> None:
    layout: Layout | None = Layout((10, 4), (80, 12))
    units = []
    while layout is not None:
        units.append(layout.unit)
        layout = shrunk(layout)
    assert units == [(80, 12), (40, 12), (20, 12), (10, 12), (10, 8), (10, 4)]
