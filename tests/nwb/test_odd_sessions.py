"""Sessions that break NWB's rules, or that no table knows: what can be used is, and the rest is named."""

from __future__ import annotations

import base64
import json
import time
import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr

import lindi_dask as ld
from lindi_dask import errors
from lindi_dask.nwb import NwbWarning, ragged_row
from lindi_dask.nwb.early import EarlyValues

Refs = dict[str, Any]


def group(refs: Refs, path: str, kind: str = "", **attributes: Any) -> None:
    refs[f"{path}/.zgroup"] = {"zarr_format": 2}
    refs[f"{path}/.zattrs"] = attributes | ({"neurodata_type": kind, "namespace": "core"} if kind else {})


def array(refs: Refs, path: str, values: Any, **attributes: Any) -> None:
    data = np.asarray(values)
    zarray = {"zarr_format": 2, "shape": data.shape, "chunks": [max(n, 1) for n in data.shape], "dtype": data.dtype.str}
    if data.dtype.kind == "U":
        text = json.dumps([*data.ravel().tolist(), "|O", list(data.shape)]).encode()
        zarray |= {"dtype": "|O", "filters": [{"id": "json2", "encoding": "utf-8"}], "fill_value": None}
    else:
        text = data.tobytes()
        zarray |= {"filters": None, "fill_value": 0}
    refs[f"{path}/.zarray"] = zarray | {"order": "C", "compressor": None}
    refs[f"{path}/.zattrs"] = attributes
    if data.size:
        refs[f"{path}/{'.'.join('0' * data.ndim) or '0'}"] = "base64:" + base64.b64encode(text).decode()


def reference(path: str) -> dict[str, Any]:
    return {"_REFERENCE": {"source": ".", "path": path, "object_id": "x", "source_object_id": "y"}}


def link(refs: Refs, path: str, target: str) -> None:
    refs[f"{path}/.zgroup"] = {"zarr_format": 2}
    refs[f"{path}/.zattrs"] = {"_SOFT_LINK": {"path": target}}


@pytest.fixture
def refs() -> Refs:
    """A session with one sound series of three channels, and the table of its electrodes."""
    refs: Refs = {".zgroup": {"zarr_format": 2}, ".zattrs": {"neurodata_type": "NWBFile", "nwb_version": "2.9.0"}}
    for path in ("acquisition", "general", "general/extracellular_ephys", "processing"):
        group(refs, path)
    group(refs, "acquisition/s", "ElectricalSeries", description="d", comments="c")
    array(
        refs, "acquisition/s/data", np.arange(30, dtype="<i2").reshape(10, 3), unit="volts", conversion=0.5, offset=1.0
    )
    array(refs, "acquisition/s/starting_time", 2.0, rate=10.0, unit="seconds")
    table = "general/extracellular_ephys/electrodes"
    group(refs, table, "DynamicTable", colnames=["location", "x"])
    array(refs, f"{table}/id", [7, 8, 9, 10])
    array(refs, f"{table}/location", ["CA1", "CA3", "CA1", "DG"])
    array(refs, f"{table}/x", [0.0, 1.0, 2.0, 3.0])
    array(
        refs,
        "acquisition/s/electrodes",
        [3, 0, 2],
        neurodata_type="DynamicTableRegion",
        table=reference("/general/extracellular_ephys/electrodes"),
    )
    return refs


def opened(refs: Refs, path: str, **options: Any) -> xr.Dataset:
    document: Any = {"refs": refs}
    return xr.open_dataset(document, engine="lindi", group=path, **options)


def tree_of(refs: Refs, **options: Any) -> Any:
    document: Any = {"refs": refs}
    return xr.open_datatree(document, engine="lindi", **options)


def opened_with_a_warning(refs: Refs, path: str, match: str) -> xr.Dataset:
    """Opens the group, and the whole tree, and expects the one warning of both."""
    with pytest.warns(NwbWarning, match=match):
        dataset = opened(refs, path)
    with pytest.warns(NwbWarning, match=match):
        tree = tree_of(refs)
    assert tree[path].to_dataset(inherit=False).sizes == dataset.sizes
    return dataset


def test_the_sound_session_opens_without_a_warning(refs: Refs) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = opened(refs, "acquisition/s")
        tree_of(refs)
    np.testing.assert_array_equal(dataset["data"], np.arange(30).reshape(10, 3) * 0.5 + 1)
    assert dataset["data"].dtype == "f4"
    assert dataset["location"].values.tolist() == ["DG", "CA1", "CA1"]
    assert dataset["electrode_id"].values.tolist() == [10, 7, 9]
    np.testing.assert_array_equal(dataset["time"], 2.0 + np.arange(10) / 10)
    np.testing.assert_array_equal(dataset.sel(channel=dataset["location"] == "CA1")["data"][0], [1.5, 2.0])


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("starting_time/.zattrs", {}, "a rate of None Hz make no times"),
        ("starting_time/.zattrs", {"rate": 0.0}, "a rate of 0.0 Hz make no times"),
        ("starting_time/.zattrs", {"rate": -10.0}, "a rate of -10.0 Hz make no times"),
        ("starting_time/.zattrs", {"rate": "NaN"}, "a rate of nan Hz make no times"),
        ("starting_time/.zattrs", {"rate": 1e30}, "a rate of 1e\\+30 Hz make no times"),
        ("starting_time/0", "base64:" + base64.b64encode(np.float64(np.inf).tobytes()).decode(), "inf s and a rate"),
    ],
)
def test_a_broken_starting_time_leaves_out_the_time_alone(refs: Refs, key: str, value: Any, match: str) -> None:
    refs[f"acquisition/s/{key}"] = value
    dataset = opened_with_a_warning(refs, "acquisition/s", match)
    assert "time" not in dataset.coords
    assert dataset["data"].dims == ("time", "channel")
    assert float(dataset["data"][9, 2]) == 15.5


def test_a_damaged_starting_time_leaves_out_the_time_alone(refs: Refs) -> None:
    refs["acquisition/s/starting_time/.zarray"]["compressor"] = {"id": "zlib", "level": 1}
    dataset = opened_with_a_warning(refs, "acquisition/s", "can't be decoded.*/acquisition/s has no coordinate time")
    assert "time" not in dataset.coords
    with pytest.raises(errors.CorruptChunk):
        dataset["starting_time"].load()


def test_neither_rate_nor_timestamps(refs: Refs) -> None:
    for name in ("starting_time/.zarray", "starting_time/.zattrs", "starting_time/0"):
        del refs[f"acquisition/s/{name}"]
    dataset = opened_with_a_warning(refs, "acquisition/s", "/acquisition/s has neither timestamps nor a starting_time")
    assert "time" not in dataset.coords


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ([0, 1, 2, 3, 2.5, 5, 6, 7, 8, 9], "goes backwards after 3"),
        ([0, 1, np.nan, 3, 4, 5, 6, 7, 8, 9], "is NaN at 2"),
    ],
)
def test_timestamps_that_are_no_times_are_not_selected_by(refs: Refs, times: list[float], reason: str) -> None:
    array(refs, "acquisition/s/timestamps", times)
    dataset = opened(refs, "acquisition/s")
    np.testing.assert_array_equal(dataset["time"].values, times)
    np.testing.assert_array_equal(dataset.isel(time=slice(2, 4))["time"].values, times[2:4])
    with pytest.raises(
        errors.InvalidSession, match=f"/acquisition/s/timestamps {reason}, so nothing can be selected"
    ) as caught:
        dataset.sel(time=slice(1, 5))
    assert caught.value.path == "acquisition/s/timestamps"
    with pytest.raises(errors.InvalidSession, match=reason):
        dataset.sel(time=1.0, method="nearest")
    tree_of(refs).load()


def test_timestamps_of_another_number_than_the_data(refs: Refs) -> None:
    array(refs, "acquisition/s/timestamps", np.arange(9.0))
    dataset = opened_with_a_warning(refs, "acquisition/s", r"10 rows of data have timestamps of the shape \(9,\)")
    assert dataset["timestamps"].dims == ("timestamps_dim_0",)


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (
            [0, 4, 1],
            "/acquisition/s/electrodes points at row 4 of /general/extracellular_ephys/electrodes, which has 4",
        ),
        ([0, -1, 1], "points at row -1"),
        ([0, 1], "has 2 rows for 3 channels"),
        ([0.0, 1.0, 2.0], "has 3 rows for 3 channels"),
    ],
)
def test_a_region_that_points_outside_of_its_table(refs: Refs, rows: list[Any], match: str) -> None:
    array(refs, "acquisition/s/electrodes", rows, table=reference("/general/extracellular_ephys/electrodes"))
    dataset = opened_with_a_warning(refs, "acquisition/s", match)
    assert set(dataset.coords) == {"time"}


def test_a_region_without_a_table(refs: Refs) -> None:
    refs["acquisition/s/electrodes/.zattrs"] = {"table": reference("/nowhere")}
    opened_with_a_warning(refs, "acquisition/s", "/acquisition/s/electrodes points at no table")


def test_columns_of_unequal_length(refs: Refs) -> None:
    table = "general/extracellular_ephys/electrodes"
    array(refs, f"{table}/x", [0.0, 1.0])
    with pytest.warns(NwbWarning, match="/x has 2 rows, but its table has 4"):
        dataset = opened(refs, table)
    assert dataset["x"].dims == ("x_item",)
    assert dataset["location"].sizes == {"electrode": 4}
    with pytest.warns(NwbWarning, match="/x has 2 rows, but its table has 4: it is no coordinate"):
        assert "x" not in opened(refs, "acquisition/s").coords


def test_a_channel_conversion_of_another_length_is_never_applied(refs: Refs) -> None:
    array(refs, "acquisition/s/channel_conversion", [1.0, 2.0], axis=1)
    dataset = opened_with_a_warning(refs, "acquisition/s", "given as they are stored, not in their unit")
    assert dataset["data"].dtype == np.int16
    assert dataset["data"].attrs["conversion"] == 0.5
    assert "units" not in dataset["data"].attrs
    refs["acquisition/s/data/.zattrs"]["conversion"] = "NaN"
    opened_with_a_warning(refs, "acquisition/s", "its conversion or offset is not a finite number")


def test_unknown_types_are_taken_for_what_they_look_like(refs: Refs) -> None:
    refs["acquisition/s/.zattrs"]["neurodata_type"] = "TetrodeSeries"
    refs["general/extracellular_ephys/electrodes/.zattrs"]["neurodata_type"] = "TetrodesTable"
    dataset = opened(refs, "acquisition/s")
    assert dataset["data"].dims == ("time", "feature")  # nothing says that these are channels
    assert "time" in dataset.xindexes
    group(refs, "processing/odd", "OddThing", note="n")
    array(refs, "processing/odd/values", np.eye(2))
    assert opened(refs, "processing/odd")["values"].dims == ("values_dim_0", "values_dim_1")
    assert opened(refs, "general/extracellular_ephys/electrodes").sizes == {"electrode": 4}


def test_types_of_extensions_are_looked_up_in_the_files_own_specifications(refs: Refs) -> None:
    refs["acquisition/s/.zattrs"]["neurodata_type"] = "TetrodeSeries"
    for path in ("specifications", "specifications/ndx-tetrodes", "specifications/ndx-tetrodes/0.1.0"):
        group(refs, path)
    source = {"groups": [{"neurodata_type_def": "TetrodeSeries", "neurodata_type_inc": "ElectricalSeries"}]}
    array(refs, "specifications/ndx-tetrodes/0.1.0/tetrodes", [json.dumps(source)])
    dataset = opened(refs, "acquisition/s")
    assert dataset["data"].dims == ("time", "channel")
    assert dataset["location"].values.tolist() == ["DG", "CA1", "CA1"]
    array(refs, "specifications/ndx-tetrodes/0.1.0/tetrodes", ["{"])
    with pytest.warns(NwbWarning, match="is no specification"):
        assert opened(refs, "acquisition/s")["data"].dims == ("time", "feature")


def test_links_are_followed_described_and_never_in_a_circle(refs: Refs) -> None:
    link(refs, "processing/again", "/acquisition/s")
    link(refs, "processing/above", "/processing")
    link(refs, "processing/one", "/processing/two")
    link(refs, "processing/two", "/processing/one")
    link(refs, "processing/nowhere", "/nothing")
    with pytest.warns(NwbWarning) as warned:
        tree = tree_of(refs)
    messages = "".join(str(one.message) for one in warned)
    for name in ("one", "two"):
        assert f"/processing/{name} can't be read: it is a soft link to" in messages
    assert "which leads in a circle" in messages
    assert "/processing/nowhere can't be read: it is a soft link to /nothing, where there is nothing" in messages
    assert tree["processing"].attrs == {"again": "/acquisition/s", "above": "/processing"}
    assert not tree["processing"].children
    xr.testing.assert_identical(opened(refs, "processing/again"), opened(refs, "acquisition/s"))
    xr.testing.assert_identical(opened(refs, "processing/above/above/again"), opened(refs, "acquisition/s"))
    with pytest.raises(errors.RefsError):
        opened(refs, "processing/one")


def test_a_group_that_is_not_there_is_an_error_that_lists_near_names(refs: Refs) -> None:
    with pytest.raises(errors.RefsError, match=r"there is no group /acquisition/S\. Near it: /acquisition/s\."):
        opened(refs, "acquisition/S")
    with pytest.raises(errors.RefsError, match="/acquisition/s/data is an array, not a group"):
        opened(refs, "acquisition/s/data")
    with pytest.raises(errors.RefsError, match="there is no group"):
        tree_of(refs, group="nowhere")


def test_an_image_series_with_its_frames_in_other_files_is_described(refs: Refs) -> None:
    group(refs, "acquisition/movie", "ImageSeries")
    array(refs, "acquisition/movie/data", np.zeros((0, 0, 0), "u1"), unit="n.a.")
    array(refs, "acquisition/movie/external_file", ["./one.avi", "./two.avi"], starting_frame=[0, 5])
    array(refs, "acquisition/movie/timestamps", np.arange(9.0))
    dataset = opened(refs, "acquisition/movie")
    assert dataset["external_file"].values.tolist() == ["./one.avi", "./two.avi"]
    assert dataset["external_file"].attrs["starting_frame"] == [0, 5]
    assert "data" not in dataset
    assert dataset.sel(time=slice(2, 4)).sizes["time"] == 3


def test_enumerations_are_categories_and_broken_ones_numbers(refs: Refs) -> None:
    group(refs, "processing/t", "DynamicTable", colnames=["side"])
    array(refs, "processing/t/id", [0, 1, 2])
    array(
        refs,
        "processing/t/side",
        np.array([1, 0, 1], "u1"),
        neurodata_type="EnumData",
        elements=reference("/processing/t/side_elements"),
    )
    array(refs, "processing/t/side_elements", ["left", "right"], neurodata_type="VectorData")
    dataset = opened(refs, "processing/t")
    assert list(dataset["side"].data.categories) == ["left", "right"]
    assert list(dataset["side"].to_series()) == ["right", "left", "right"]
    array(refs, "processing/t/side", np.array([1, 0, 2], "u1"), neurodata_type="EnumData")
    with pytest.warns(NwbWarning, match="/processing/t/side has codes that /processing/t/side_elements does not name"):
        assert opened(refs, "processing/t")["side"].values.tolist() == [1, 0, 2]


def test_ragged_columns_of_ragged_columns(refs: Refs) -> None:
    group(refs, "units", "Units", colnames=["waveforms"])
    array(refs, "units/id", [4, 5])
    array(refs, "units/waveforms", np.arange(12.0).reshape(6, 2))
    array(refs, "units/waveforms_index", np.array([2, 3, 6], "u1"), neurodata_type="VectorIndex")
    array(refs, "units/waveforms_index_index", np.array([2, 3], "u1"), neurodata_type="VectorIndex")
    units = opened(refs, "units")
    assert units["waveforms_count"].attrs["sample_dimension"] == "waveforms_item"
    assert units["waveforms_count"].values.tolist() == [2, 1, 3]
    assert units["waveforms_index_count"].values.tolist() == [2, 1]
    rows: Any = [ragged_row(units, "waveforms", row) for row in (0, 1)]
    assert [[part.sizes["waveforms_item"] for part in row] for row in rows] == [[2, 1], [3]]
    assert rows[1][0].values.tolist() == np.arange(6.0, 12.0).reshape(3, 2).tolist()
    array(refs, "units/waveforms_index", np.array([2, 1, 6], "u1"), neurodata_type="VectorIndex")
    with pytest.raises(errors.InvalidSession, match="row 1 ends before it begins"):
        opened(refs, "units")["waveforms_count"].load()
    array(refs, "units/waveforms_index", np.array([2, 3, 9], "u1"), neurodata_type="VectorIndex")
    with pytest.raises(errors.InvalidSession, match="a row ends at 9 of 6 elements"):
        ragged_row(opened(refs, "units"), "waveforms", 1)


def test_missing_chunks_are_scaled_fill_values_and_unreadable_arrays_errors_of_their_own(refs: Refs) -> None:
    del refs["acquisition/s/data/0.0"]
    assert (opened(refs, "acquisition/s")["data"].values == 1.0).all()
    refs["acquisition/s/data/.zattrs"]["_EXTERNAL_ARRAY_LINK"] = {
        "link_type": "hdf5_dataset",
        "url": "https://x.org/",
        "name": "x",
    }
    dataset = opened(refs, "acquisition/s")
    with pytest.raises(errors.UnsupportedArray):
        dataset["data"].load()
    assert dataset["location"].values.tolist() == ["DG", "CA1", "CA1"]
    assert tree_of(refs)["acquisition/s"]["time"].size == 10


def test_a_coordinate_never_takes_the_name_of_something_else(refs: Refs) -> None:
    table = "general/extracellular_ephys/electrodes"
    array(refs, f"{table}/data", [0.0, 1.0, 2.0, 3.0])
    array(refs, f"{table}/time", [0.0, 1.0, 2.0, 3.0])
    dataset = opened(refs, "acquisition/s")
    assert dataset["electrode_data"].values.tolist() == dataset["electrode_time"].values.tolist() == [3.0, 0.0, 2.0]
    assert dataset["data"].ndim == 2


def test_a_group_in_a_group_with_the_same_dimensions_stays_apart(refs: Refs) -> None:
    for path, rows in (("processing/t", [0, 1, 2]), ("processing/t/inner", [5, 6])):
        group(refs, path, "DynamicTable", colnames=["c"])
        array(refs, f"{path}/id", rows)
        array(refs, f"{path}/c", rows)
    tree = tree_of(refs)
    assert tree["processing/t/inner"].to_dataset(inherit=False).sizes == {"inner_row": 2}
    assert tree["processing/t/inner"]["c"].sel(inner_row=6).item() == 6


def test_a_tree_of_two_thousand_series_opens_without_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EarlyValues, "_read", lambda *_: pytest.fail("an inline value was read by zarr"))
    refs: Refs = {".zgroup": {"zarr_format": 2}, ".zattrs": {"neurodata_type": "NWBFile", "nwb_version": "2.9.0"}}
    group(refs, "acquisition")
    for i in range(2000):
        group(refs, f"acquisition/s{i}", "TimeSeries")
        array(refs, f"acquisition/s{i}/data", np.arange(10, dtype="<i2"), unit="V", conversion=0.5)
        array(refs, f"acquisition/s{i}/starting_time", float(i), rate=10.0)
    before = ld.stats()
    started = time.monotonic()
    tree = tree_of(refs)
    took_s = time.monotonic() - started
    print(f"{took_s:.1f} s")
    assert took_s < 60
    assert len(list(tree.subtree)) == 2002
    read = ld.stats() - before
    assert (read.requests, read.chunks) == (0, 0)
    assert tree["acquisition/s1999"].sel(time=1999.5)["data"].item() == 2.5
