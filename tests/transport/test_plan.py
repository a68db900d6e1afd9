from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.refs import Locations
from lindi_dask.refs.manifest import WHOLE
from lindi_dask.transport import plan_ranges
from lindi_dask.transport.plan import split

if TYPE_CHECKING:
    from lindi_dask.transport import PlannedRange

Chunk = tuple[int, int, int]  # source, offset, length


def plan(chunks: list[Chunk], *, max_gap: int = 0, size: int = 1000) -> list[PlannedRange]:
    sources, offsets, lengths = zip(*chunks, strict=True) if chunks else ((), (), ())
    locations = Locations(np.array(sources, np.uint32), np.array(offsets, np.uint64), np.array(lengths, np.uint32))
    return plan_ranges(locations, max_gap=max_gap, size=size)


def shown(ranges: list[PlannedRange]) -> list[tuple[int, int, int | None, list[int]]]:
    return [(one.source, one.start, one.stop, sorted(one.members.tolist())) for one in ranges]


def brute_force(chunks: list[Chunk], *, max_gap: int, size: int) -> list[tuple[int, int, int, list[int]]]:
    """The same, one chunk after the other: runs of neighbours, then each run in pieces of one length."""
    alone = [i for i in range(len(chunks)) if chunks[i][2] > size]
    runs: list[list[int]] = []
    for i in sorted(set(range(len(chunks))) - set(alone), key=lambda i: chunks[i][:2]):
        source, start, _ = chunks[i]
        if runs and chunks[runs[-1][0]][0] == source:
            reach = max(chunks[k][1] + chunks[k][2] for k in runs[-1])
            if start - reach <= max_gap:
                runs[-1].append(i)
                continue
        runs.append([i])
    pieces = [[i] for i in alone]
    for run in runs:
        begin = chunks[run[0]][1]
        extent = max(chunks[i][1] + chunks[i][2] for i in run) - begin
        count = max(math.ceil(extent / size), 1)
        length = max(math.ceil(extent / count), 1)
        of_piece: dict[int, list[int]] = {}
        for i in run:
            of_piece.setdefault(min((chunks[i][1] - begin) // length, count - 1), []).append(i)
        pieces += of_piece.values()
    found = [
        (
            chunks[piece[0]][0],
            min(chunks[i][1] for i in piece),
            max(chunks[i][1] + chunks[i][2] for i in piece),
            sorted(piece),
        )
        for piece in pieces
    ]
    return sorted(found, key=lambda one: one[:2])


chunk = st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(0, 12))
options = {"max_gap": st.integers(0, 20), "size": st.integers(1, 60)}
quick = settings(max_examples=100, deadline=None, derandomize=True)


@given(chunks=st.lists(chunk, max_size=20), **options)
@quick
def test_every_chunk_is_a_member_of_one_range_and_inside_it(chunks: list[Chunk], max_gap: int, size: int) -> None:
    ranges = plan(chunks, max_gap=max_gap, size=size)
    assert sorted(i for one in ranges for i in one.members.tolist()) == list(range(len(chunks)))
    for one in ranges:
        for i in one.members.tolist():
            source, start, length = chunks[i]
            assert source == one.source
            assert one.start <= start
            assert one.stop is not None
            assert start + length <= one.stop


@given(chunks=st.lists(chunk, max_size=20), **options)
@quick
def test_no_byte_is_fetched_but_of_chunks_and_of_small_gaps(chunks: list[Chunk], max_gap: int, size: int) -> None:
    for one in plan(chunks, max_gap=max_gap, size=size):
        listed = {b for source, start, length in chunks if source == one.source for b in range(start, start + length)}
        members = [chunks[i] for i in one.members.tolist()]
        assert one.start == min(start for _, start, _ in members)
        assert one.stop == max(start + length for _, start, length in members)
        begun = {start for source, start, _ in chunks if source == one.source}  # a chunk of no bytes parts a gap too
        gap = 0
        assert one.stop is not None
        for byte in range(one.start, one.stop):
            gap = 0 if byte in listed else 1 if byte in begun else gap + 1
            assert gap <= max_gap


@given(chunks=st.lists(chunk, max_size=20), **options)
@quick
def test_a_range_is_larger_than_it_should_be_by_less_than_a_chunk(chunks: list[Chunk], max_gap: int, size: int) -> None:
    for one in plan(chunks, max_gap=max_gap, size=size):
        assert one.stop is not None
        longest = max(chunks[i][2] for i in one.members.tolist())
        assert one.stop - one.start < size + max(longest, 1) or len(one.members) == 1


@given(chunks=st.lists(chunk, max_size=20), **options)
@quick
def test_ranges_come_in_the_order_of_source_and_offset(chunks: list[Chunk], max_gap: int, size: int) -> None:
    ranges = [(one.source, one.start) for one in plan(chunks, max_gap=max_gap, size=size)]
    assert ranges == sorted(ranges)


@given(chunks=st.lists(chunk, max_size=20), **options)
@quick
def test_the_ranges_are_those_of_brute_force(chunks: list[Chunk], max_gap: int, size: int) -> None:
    found = sorted(shown(plan(chunks, max_gap=max_gap, size=size)))
    assert found == sorted(brute_force(chunks, max_gap=max_gap, size=size))


@given(start=st.integers(0, 2**40), length=st.integers(0, 500), size=st.integers(1, 60))
@quick
def test_parts_are_as_few_as_possible_and_all_of_the_range(start: int, length: int, size: int) -> None:
    parts = split(start, start + length, size)
    assert [byte for first, last in parts for byte in range(first, last)] == list(range(start, start + length))
    assert len(parts) == max(math.ceil(length / size), 1)
    lengths = [last - first for first, last in parts]
    assert max(lengths) <= size or length == 0
    assert max(lengths) - min(lengths) <= 1


TABLE: dict[str, tuple[list[Chunk], int, int, list[tuple[int, int, int, list[int]]]]] = {
    "nothing": ([], 0, 10, []),
    "one": ([(3, 7, 5)], 0, 10, [(3, 7, 12, [0])]),
    "neighbours": ([(0, 5, 5), (0, 0, 5)], 0, 10, [(0, 0, 10, [0, 1])]),
    "a gap that may be": ([(0, 0, 5), (0, 8, 2)], 3, 10, [(0, 0, 10, [0, 1])]),
    "a gap that may not be": ([(0, 0, 5), (0, 8, 2)], 2, 10, [(0, 0, 5, [0]), (0, 8, 10, [1])]),
    "overlapping": ([(0, 0, 6), (0, 4, 6)], 0, 10, [(0, 0, 10, [0, 1])]),
    "one within another": ([(0, 0, 10), (0, 4, 2), (0, 10, 1)], 0, 20, [(0, 0, 11, [0, 1, 2])]),
    "the same twice": ([(0, 4, 6), (0, 4, 6)], 0, 10, [(0, 4, 10, [0, 1])]),
    "no length": ([(0, 4, 0), (0, 4, 6), (0, 10, 0)], 0, 10, [(0, 4, 10, [0, 1, 2])]),
    "only no length": ([(0, 4, 0)], 0, 10, [(0, 4, 4, [0])]),
    "too large together": ([(0, 0, 6), (0, 6, 6)], 0, 11, [(0, 0, 6, [0]), (0, 6, 12, [1])]),
    "shared out evenly": ([(0, i, 1) for i in range(12)], 0, 11, [(0, 0, 6, [*range(6)]), (0, 6, 12, [*range(6, 12)])]),
    "too large alone": ([(0, 0, 50), (0, 50, 5)], 0, 11, [(0, 0, 50, [0]), (0, 50, 55, [1])]),
    "sources side by side": ([(1, 5, 5), (0, 0, 5)], 9, 99, [(0, 0, 5, [1]), (1, 5, 10, [0])]),
    "the end of all offsets": ([(0, 2**63 - 9, 8), (0, 0, 1)], 0, 10, [(0, 0, 1, [1]), (0, 2**63 - 9, 2**63 - 1, [0])]),
    "the largest chunk": ([(0, 0, 2**32 - 2)], 0, 10, [(0, 0, 2**32 - 2, [0])]),
    "the largest source": ([(2**32 - 2, 0, 1)], 0, 10, [(2**32 - 2, 0, 1, [0])]),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_plan_of(name: str) -> None:
    chunks, max_gap, size, expected = TABLE[name]
    assert shown(plan(chunks, max_gap=max_gap, size=size)) == expected


def test_the_chunks_of_an_hdf5_dataset_become_ranges_of_the_size_asked_for() -> None:
    chunks = [(1, 2048 + 64_000 * i, 64_000) for i in range(100_000)]
    ranges = plan(chunks, max_gap=0, size=8 * 2**20)
    assert len(ranges) == math.ceil(64_000 * 100_000 / (8 * 2**20))
    assert sum((one.stop or 0) - one.start for one in ranges) == 64_000 * 100_000


whole_chunk = st.tuples(st.integers(0, 2), st.integers(0, 60), st.just(WHOLE))


@given(chunks=st.lists(chunk | whole_chunk, max_size=20), **options)
@quick
def test_chunks_that_are_all_of_their_source_are_ranges_of_their_own_behind_the_others(
    chunks: list[Chunk], max_gap: int, size: int
) -> None:
    sized = [i for i, (_, _, length) in enumerate(chunks) if length != WHOLE]
    alone = shown(plan([chunks[i] for i in sized], max_gap=max_gap, size=size))
    expected: list[tuple[int, int, int | None, list[int]]] = [
        (source, start, stop, sorted(sized[i] for i in members)) for source, start, stop, members in alone
    ]
    expected += [(*chunks[i][:2], None, [i]) for i in range(len(chunks)) if i not in sized]
    assert shown(plan(chunks, max_gap=max_gap, size=size)) == expected


@given(chunks=st.lists(chunk | whole_chunk, max_size=20), **options)
@quick
def test_a_range_is_cut_into_the_bytes_of_its_chunks(chunks: list[Chunk], max_gap: int, size: int) -> None:
    files = [bytes(range(source, source + 100)) for source in range(3)]
    sources, offsets, lengths = zip(*chunks, strict=True) if chunks else ((), (), ())
    locations = Locations(np.array(sources, "u4"), np.array(offsets, "u8"), np.array(lengths, "u4"))
    found: dict[int, bytes] = {}
    for one in plan_ranges(locations, max_gap=max_gap, size=size):
        data = memoryview(files[one.source][one.start : one.stop])
        found |= dict(zip(one.members.tolist(), map(bytes, one.cut(locations, data)), strict=True))
    for i, (source, offset, length) in enumerate(chunks):
        assert found[i] == files[source][offset : None if length == WHOLE else offset + length]
