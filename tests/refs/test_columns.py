"""Keys of chunks as columns of numbers: the same keys, in the same order."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.refs.columns import Run, chunk_runs

many = settings(max_examples=300, deadline=None, derandomize=True)

CANONICAL = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:\.(?:0|[1-9][0-9]{0,8}))*")


def runs(keys: list[str]) -> list[Run] | None:
    count = len(keys)
    return chunk_runs(
        keys, np.arange(count, dtype=np.uint32), np.arange(count, dtype=np.uint64) * 7, np.full(count, 7, np.uint32)
    )


def rebuilt(found: list[Run]) -> list[str]:
    names = []
    for run in found:
        for row in run.coordinates.tolist():
            name = run.separator.join(map(str, row))
            names.append(f"{run.folder}/{name}" if run.folder else name)
    return names


folders = st.sampled_from(["", "a", "a/b", "é", "a/1", "x y", "0", "\u2028", "a/b/c/d", "A" * 300])
digits = st.one_of(st.integers(0, 12), st.sampled_from([99, 2**16, 10**8, 10**9 - 1])).map(str)
dotted = st.lists(digits, min_size=1, max_size=4).map(".".join)
slashed = st.lists(digits, min_size=2, max_size=4).map("/".join)
odd = st.sampled_from(
    [
        "",
        "01",
        "1.",
        ".1",
        "1..2",
        "-1",
        "+1",
        "1_0",
        "1e3",
        "1" * 10,
        "1\n2",
        "\n1",
        "\u0661",
        "\u00b2",
        "c",
        "c/0/1",
        " 1",
    ]
)


@st.composite
def keys(draw: st.DrawFn, *names: st.SearchStrategy[str]) -> list[str]:
    """Keys of several arrays, one after the other as files have them."""
    found: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        folder = draw(folders)
        parts = draw(st.lists(st.one_of(*names), min_size=1, max_size=6))
        found += [f"{folder}/{name}" if folder else name for name in parts]
    return found


@given(names=keys(dotted, slashed, odd))
@many
def test_what_becomes_columns_is_the_same_keys_in_the_same_order(names: list[str]) -> None:
    found = runs(names)
    if found is not None:
        assert rebuilt(found) == names
        assert np.concatenate([run.urls for run in found]).tolist() == list(range(len(names)))
        assert np.concatenate([run.offsets for run in found]).tolist() == [7 * i for i in range(len(names))]
        assert sum(len(run.lengths) for run in found) == len(names)
        assert all(len(run.coordinates) == len(run.urls) == len(run.offsets) for run in found)


@given(names=keys(dotted))
@many
def test_canonical_numbers_always_become_columns(names: list[str]) -> None:
    assert runs(names) is not None


@given(names=keys(dotted, odd))
@many
def test_what_is_not_canonical_never_becomes_columns(names: list[str]) -> None:
    canonical = all(CANONICAL.fullmatch(name.rpartition("/")[2]) for name in names)
    assert (runs(names) is not None) <= canonical


SPLIT = {
    "one array": (["a/0.0", "a/0.1", "a/1.0"], [("a", ".", 3, 2)]),
    "two arrays": (["a/0", "a/1", "b/0"], [("a", ".", 2, 1), ("b", ".", 1, 1)]),
    "one array in two pieces": (["a/0", "b/0", "a/1"], [("a", ".", 1, 1), ("b", ".", 1, 1), ("a", ".", 1, 1)]),
    "an array at the root": (["0.0", "0.1"], [("", ".", 2, 2)]),
    "keys with slashes": (["a/0/0", "a/0/1"], [("a", "/", 2, 2)]),
    "keys of Zarr v3": (["a/c/0/0", "a/c/0/1"], [("a/c", "/", 2, 2)]),
    "different ranks": (["a/0", "a/0.0", "a/1.0"], [("a", ".", 1, 1), ("a", ".", 2, 2)]),
    "one number behind another": (["a/0/1", "a/0"], [("a", "/", 1, 2), ("a", "/", 1, 1)]),
}


@pytest.mark.parametrize("name", SPLIT)
def test_keys_part_where_the_array_or_the_form_changes(name: str) -> None:
    names, expected = SPLIT[name]
    found = runs(names)
    assert found is not None
    assert [(run.folder, run.separator, *run.coordinates.shape) for run in found] == expected


def test_the_largest_coordinates_are_exact() -> None:
    found = runs(["a/999999999.0.999999999", "a/1.2.3"])
    assert found is not None
    assert found[0].coordinates.tolist() == [[999999999, 0, 999999999], [1, 2, 3]]
    assert runs(["a/1000000000.0.0"]) is None
