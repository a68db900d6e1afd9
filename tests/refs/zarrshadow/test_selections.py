from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.zarrshadow.selections import Selection, parse_selections

quick = settings(max_examples=200, deadline=None, derandomize=True)


@st.composite
def selections(draw: st.DrawFn) -> Selection:
    unit = draw(st.sampled_from([1, 1, 2, 4, 8]))
    size = draw(st.integers(1, 24))
    bounds = st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True).map(sorted)
    ranges = draw(st.lists(bounds, min_size=1, max_size=9))
    return Selection(size * unit, tuple((start * unit, stop * unit) for start, stop in ranges))


def by_hand(selection: Selection, data: bytes) -> bytes:
    kept = b""
    for first in range(0, len(data), selection.record_size):
        record = data[first : first + selection.record_size]
        for start, stop in selection.keep:
            kept += record[start:stop]
    return kept


@given(selections(), st.integers(0, 20), st.integers(0, 3))
@quick
def test_it_takes_what_a_loop_over_the_records_takes(selection: Selection, records: int, skipped: int) -> None:
    held = np.random.default_rng(records).bytes(records * selection.record_size + skipped)
    data = memoryview(held)[skipped:]  # a view into a larger answer, at any address
    assert bytes(selection.apply(data)) == by_hand(selection, held[skipped:])
    assert selection.kept_nbytes(np.array([data.nbytes], np.uint32)).tolist() == [records * selection.kept]


@given(selections(), st.integers(1, 500))
@quick
def test_a_part_of_a_record_is_refused(selection: Selection, length: int) -> None:
    if length % selection.record_size:
        with pytest.raises(ValueError, match=f"its {length} bytes are not a whole number of records"):
            selection.apply(memoryview(bytes(length)))
        assert selection.kept_nbytes(np.array([length], np.uint32)).tolist() == [-1]
    else:
        assert len(selection.apply(memoryview(bytes(length)))) == length // selection.record_size * selection.kept


@pytest.mark.parametrize(
    ("record_size", "keep", "length", "expected"),
    [
        (6, [(4, 6), (0, 2)], 18, [4, 5, 0, 1, 10, 11, 6, 7, 16, 17, 12, 13]),
        (10, [(2, 6), (8, 10)], 20, [2, 3, 4, 5, 8, 9, 12, 13, 14, 15, 18, 19]),
        (4, [(0, 4)], 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (2, [(0, 1), (0, 2)], 4, [0, 0, 1, 2, 2, 3]),
        (3, [(0, 1)], 0, []),
    ],
)
def test_ranges_are_joined_in_their_order(
    record_size: int, keep: list[tuple[int, int]], length: int, expected: list[int]
) -> None:
    selection = Selection(record_size, tuple(keep))
    assert selection.apply(memoryview(bytes(range(length)))).tolist() == expected


def test_what_would_grow_beyond_2_gib_is_refused_before_it_is_made() -> None:
    selection = Selection(1, ((0, 1),) * 65_536)
    assert len(selection.apply(memoryview(bytes(16)))) == 2**20
    with pytest.raises(ValueError, match="more than 2 GiB"):
        selection.apply(memoryview(bytes(2**15 + 1)))
    lengths = np.array([2**15, 2**15 + 1, 2**32 - 2], np.uint32)
    assert selection.kept_nbytes(lengths).tolist() == [2**31, -1, -1]
    assert Selection(2**31, ((0, 2**31),) * 65_536).kept_nbytes(lengths).tolist() == [-1, -1, -1]


def test_selections_are_parsed_by_the_path_of_their_array() -> None:
    found = parse_selections(
        {"imec0.ap": {"record_size": 770, "keep": [[0, 768]]}, "": {"record_size": 1, "keep": [[0, 1]]}}
    )
    assert found == {"imec0.ap": Selection(770, ((0, 768),)), "": Selection(1, ((0, 1),))}
    assert parse_selections({}) == {}


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        "x",
        {},
        {"record_size": 4},
        {"keep": [[0, 1]]},
        {"record_size": True, "keep": [[0, 1]]},
        {"record_size": 4.0, "keep": [[0, 1]]},
        {"record_size": "4", "keep": [[0, 1]]},
        {"record_size": 0, "keep": [[0, 1]]},
        {"record_size": -4, "keep": [[0, 1]]},
        {"record_size": 2**31 + 1, "keep": [[0, 1]]},
        {"record_size": 4, "keep": []},
        {"record_size": 4, "keep": {}},
        {"record_size": 4, "keep": [[0]]},
        {"record_size": 4, "keep": [[0, 1, 2]]},
        {"record_size": 4, "keep": [0, 1]},
        {"record_size": 4, "keep": [[0, 1.5]]},
        {"record_size": 4, "keep": [[False, True]]},
        {"record_size": 4, "keep": [[1, 1]]},
        {"record_size": 4, "keep": [[2, 1]]},
        {"record_size": 4, "keep": [[-1, 1]]},
        {"record_size": 4, "keep": [[0, 5]]},
        {"record_size": 4, "keep": [[0, 1]] * 65_537},
    ],
)
def test_a_malformed_selection_is_refused_by_its_arrays_name(entry: Any) -> None:
    with pytest.raises(InvalidReferences, match="'a/b'") as caught:
        parse_selections({"ok": {"record_size": 1, "keep": [[0, 1]]}, "a/b": entry})
    assert caught.value.key == "selections of 'a/b'"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("value", [None, [], "x", 1, {"/a": {"record_size": 1, "keep": [[0, 1]]}}, {"a/": {}}])
def test_a_member_that_is_no_object_of_paths_is_refused(value: Any) -> None:
    with pytest.raises(InvalidReferences, match="selection"):
        parse_selections(value)
