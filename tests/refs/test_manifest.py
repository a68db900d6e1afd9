from __future__ import annotations

import itertools
import math
import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.refs import MISSING, ColumnManifest

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

Chunks = dict[int, tuple[int, int, int]]
quick = settings(max_examples=100, deadline=None, derandomize=True)


def build(grid: tuple[int, ...], chunks: Chunks) -> ColumnManifest:
    columns = list(zip(*chunks.values(), strict=True)) or [(), (), ()]
    return ColumnManifest.build(grid, list(chunks), *(list(column) for column in columns))


@st.composite
def manifests(draw: DrawFn) -> tuple[tuple[int, ...], Chunks]:
    grid = draw(st.lists(st.integers(0, 6), max_size=3).map(tuple))
    location = st.tuples(st.integers(0, MISSING - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1))
    total = math.prod(grid)
    places = st.integers(0, total - 1) if total else st.nothing()
    chunks = draw(st.dictionaries(places, location, max_size=total))
    return grid, dict(draw(st.permutations(list(chunks.items()))))


@given(manifests(), st.data())
@quick
def test_it_is_a_dictionary_from_places_to_locations(
    manifest: tuple[tuple[int, ...], Chunks], data: st.DataObject
) -> None:
    grid, chunks = manifest
    built = build(grid, chunks)
    asked = data.draw(st.lists(st.integers(0, math.prod(grid) - 1), max_size=20)) if math.prod(grid) else []
    found = built.locate(np.array(asked, np.uint64))
    assert len(found) == len(asked)
    for i, place in enumerate(asked):
        if place in chunks:
            assert (found.sources[i], found.offsets[i], found.lengths[i]) == chunks[place]
        else:
            assert found.sources[i] == MISSING


@given(manifests())
@quick
def test_it_lists_what_it_was_made_of_in_the_order_of_the_grid(manifest: tuple[tuple[int, ...], Chunks]) -> None:
    grid, chunks = manifest
    built = build(grid, chunks)
    assert built.present().tolist() == sorted(chunks)
    assert [built.place(name) for name in built.names()] == sorted(chunks)


@given(st.lists(st.integers(1, 5), max_size=3).map(tuple))
@quick
def test_names_count_the_grid_in_c_order(grid: tuple[int, ...]) -> None:
    manifest = build(grid, {})
    every = [".".join(map(str, index)) or "0" for index in itertools.product(*map(range, grid))]
    assert [manifest.place(name) for name in every] == list(range(math.prod(grid)))
    full = build(grid, dict.fromkeys(range(math.prod(grid)), (1, 0, 1)))
    assert list(full.names()) == every


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=3).map(tuple),
    st.text("0123456789.-+_ a/\u0661", max_size=8),
)
@quick
def test_only_the_canonical_name_of_a_chunk_has_a_place(grid: tuple[int, ...], name: str) -> None:
    every = {".".join(map(str, index)): i for i, index in enumerate(itertools.product(*map(range, grid)))}
    assert build(grid, {}).place(name) == every.get(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "0.", ".0", "00", "01", "-0", "+0", "0x0", " 0", "0 ", "1e0", "1_0", "\u0661", "\u00b2", "9" * 5000],
)
def test_odd_spellings_have_no_place(name: str) -> None:
    assert build((20,), {}).place(name) is None


@pytest.mark.parametrize("name", ["", "1", "0.0", "00", "c"])
def test_an_array_without_dimensions_has_one_chunk_called_0(name: str) -> None:
    manifest = build((), {0: (1, 2, 3)})
    assert manifest.place("0") == 0
    assert list(manifest.names()) == ["0"]
    assert manifest.place(name) is None


@pytest.mark.parametrize(("filled", "dense"), [(0, False), (24, False), (25, True), (100, True)])
def test_it_is_dense_from_a_quarter_of_the_grid(filled: int, dense: bool) -> None:
    manifest = build((100,), {place: (1, place, 1) for place in range(filled)})
    assert (manifest.index is None) is dense


@pytest.mark.parametrize("grid", [(2**62,), (2**20, 2**20, 2**20), (2**31, 2**31)])
def test_an_absurd_shape_costs_what_it_holds(grid: tuple[int, ...]) -> None:
    last = math.prod(grid) - 1
    tracemalloc.start()
    manifest = build(grid, {last: (1, 2, 3), 0: (4, 5, 6)})
    found = manifest.locate(np.array([0, 1, last], np.uint64))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.sources.tolist() == [4, MISSING, 1]
    assert manifest.place(list(manifest.names())[-1]) == last
    assert peak < 100_000


def test_a_dense_manifest_costs_16_bytes_a_chunk() -> None:
    manifest = build((1000,), {place: (1, place, 1) for place in range(1000)})
    columns = manifest.columns
    assert columns.sources.nbytes + columns.offsets.nbytes + columns.lengths.nbytes == 16_000
