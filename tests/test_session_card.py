from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import lindi_dask as ld
from lindi_dask.listing import list_rows
from lindi_dask.session_card import Clock, Fact, card_as_json, card_of, wanted

if TYPE_CHECKING:
    from lindi_dask.listing import Row
    from lindi_dask.session_card import SessionCard

SERIES = {"neurodata_type": "TimeSeries"}


def rows_of(*groups: str, arrays: dict[str, Any] | None = None, links: dict[str, str] | None = None) -> list[Row]:
    """Return the rows of references; of an array the value is its shape, or its shape and attributes."""
    refs: dict[str, Any] = {".zgroup": {"zarr_format": 2}, ".zattrs": {"neurodata_type": "NWBFile"}}
    for path in groups:
        refs |= {f"{path}/.zgroup": {"zarr_format": 2}, f"{path}/.zattrs": SERIES}
    for path, (shape, attributes) in (arrays or {}).items():
        zarray = {"zarr_format": 2, "shape": shape or [1], "chunks": [max(n, 1) for n in shape] or [1], "dtype": "<f8"}
        refs[f"{path}/.zarray"] = {**zarray, "fill_value": 0, "order": "C", "compressor": None, "filters": None}
        refs[f"{path}/.zattrs"] = attributes if shape else {**attributes, "_SCALAR": True}
    for path, target in (links or {}).items():
        refs |= {f"{path}/.zgroup": {"zarr_format": 2}, f"{path}/.zattrs": {"_SOFT_LINK": {"path": target}}}
    return list_rows(ld.open_store({"refs": refs}).references)


def card(rows: list[Row], clocks: dict[str, Clock] | None = None, facts: tuple[Fact, ...] = ()) -> SessionCard:
    return card_of(rows, {"neurodata_type": "NWBFile"}, facts, clocks or {}, ())


def test_a_rate_gives_how_long_a_series_lasts() -> None:
    rows = rows_of("a", arrays={"a/data": ([50, 2], {"unit": "m"}), "a/starting_time": ([], {"rate": 10.0})})
    assert wanted(rows) == ({}, ["a/starting_time"])
    (found,) = card(rows, {"a/starting_time": Clock(1.5, 1.5)}).recordings
    assert (found.regular, found.rate, found.starts_s, found.lasts_s) == (True, 10.0, 1.5, 5.0)
    assert card(rows, {"a/starting_time": Clock(1.5, 1.5)}).lasts_s == 6.5
    assert card(rows).lasts_s is None  # where the start was not read


@pytest.mark.parametrize("rate", [{}, {"rate": 0.0}, {"rate": "fast"}, {"rate": None}])
def test_a_series_without_a_rate_that_makes_sense_has_no_end(rate: dict[str, Any]) -> None:
    rows = rows_of("a", arrays={"a/data": ([50], {}), "a/starting_time": ([], rate)})
    (found,) = card(rows, {"a/starting_time": Clock(0.0, 0.0)}).recordings
    assert found.lasts_s is None


def test_timestamps_give_a_mean_rate_also_those_of_another_series() -> None:
    arrays: dict[str, Any] = {"a/data": ([5], {}), "a/timestamps": ([5], {}), "b/data": ([5, 3], {})}
    rows = rows_of("a", "b", arrays=arrays, links={"b/timestamps": "/a/timestamps", "b/again": "/nowhere"})
    assert wanted(rows)[1] == ["a/timestamps"]  # read once
    found = card(rows, {"a/timestamps": Clock(10.0, 12.0)})
    assert [(one.path, one.regular, one.rate, one.lasts_s) for one in found.recordings] == [
        ("a", False, 2.0, 2.5),
        ("b", False, 2.0, 2.5),
    ]
    assert [path for path, _ in found.unreadable] == ["b/again"]


@pytest.mark.parametrize("clock", [Clock(5.0, 5.0), Clock(5.0, 1.0)])
def test_timestamps_that_do_not_rise_have_no_rate(clock: Clock) -> None:
    rows = rows_of("a", arrays={"a/data": ([5], {}), "a/timestamps": ([5], {})})
    (found,) = card(rows, {"a/timestamps": clock}).recordings
    assert (found.rate, found.lasts_s) == (None, None)


def test_what_is_empty_is_not_read() -> None:
    rows = rows_of("a", arrays={"a/data": ([0, 3], {}), "a/timestamps": ([0], {})})
    assert wanted(rows) == ({}, [])
    assert len(card(rows).recordings) == 1


def test_tables_are_told_by_their_ids_and_columns_counted_without_indexes() -> None:
    ids = {"neurodata_type": "ElementIdentifiers"}
    arrays: dict[str, Any] = {
        "t/id": ([7], ids),
        "t/spikes": ([90], {}),
        "t/spikes_index": ([7], {}),
        "t/x_index": ([7], {}),
    }
    (table,) = card(rows_of("t", "no", arrays={**arrays, "no/id": ([3], {})})).tables
    assert (table.path, table.rows, table.columns) == ("t", 7, ("spikes", "x_index"))


def test_facts_are_looked_for_where_nwb_has_them_unless_they_are_too_large() -> None:
    arrays: dict[str, Any] = {
        "general/subject/species": ([], {}),
        "general/keywords": ([2000], {}),
        "session_description": ([], {}),
    }
    facts, _ = wanted(rows_of("general/subject", arrays=arrays))
    assert facts == {"session_description": "session_description", "species": "general/subject/species"}


def test_a_card_as_json_is_json_and_keeps_all() -> None:
    rows = rows_of("a", arrays={"a/data": ([50, 2], {"unit": "m"}), "a/starting_time": ([], {"rate": 10.0})})
    facts = (Fact("species", ("Mus musculus",)), Fact("age", (), "the chunk is damaged"))
    found = json.loads(json.dumps(card_as_json(card(rows, facts=facts)), allow_nan=False))
    assert found["facts"] == {"species": ["Mus musculus"]}
    assert found["facts_unreadable"] == {"age": "the chunk is damaged"}
    assert found["recordings"][0]["data"]["unit"] == "m"
    assert (found["arrays"], found["groups"], found["nbytes"]) == (2, 2, 808)
