"""The index of times at a fixed rate does what pandas does with the same times, and makes none of them."""

from __future__ import annotations

import pickle
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lindi_dask.nwb import SampledTimes, TimeIndex

starts = st.floats(-1e6, 1e6, allow_nan=False)
rates = st.one_of(st.sampled_from([0.1, 3.0, 30.0, 1250.0, 24414.0625, 30000.0]), st.floats(1e-3, 1e5))
sizes = st.integers(1, 400)


def sampled(transform: SampledTimes) -> xr.DataArray:
    coordinates = xr.Coordinates.from_xindex(TimeIndex(transform))
    return xr.DataArray(np.arange(transform.size), dims="time", coords=coordinates)


def by_pandas(array: xr.DataArray) -> xr.DataArray:
    return xr.DataArray(array.values, dims="time", coords={"time": array["time"].values})


def is_lazy(array: xr.DataArray) -> bool:
    return isinstance(array.xindexes["time"], TimeIndex)


@pytest.mark.parametrize("chunks", [None, 3])
def test_a_single_time_has_no_dimension_dask_s_neither(chunks: int | None) -> None:
    array = sampled(SampledTimes(1.5, 10.0, 7))
    dataset = array.to_dataset(name="x")
    dataset = dataset if chunks is None else dataset.chunk(time=chunks)
    for at in (0, np.int64(4), -1):
        one = dataset["time"][at]
        assert one.values.shape == one.shape == ()
        assert float(one) == array["time"].values[at] == dataset.isel(time=at)["time"].values
    np.testing.assert_array_equal(dataset["time"][[1, 2]].values, [1.6, 1.7])
    np.testing.assert_array_equal(dataset["time"][2:].values, array["time"].values[2:])


@st.composite
def arrays(draw: Any) -> xr.DataArray:
    array = sampled(SampledTimes(draw(starts), draw(rates), draw(sizes)))
    if draw(st.booleans()):
        step = draw(st.sampled_from([1, 2, 3, -1, -2]))
        array = array[draw(st.integers(0, 20)) :][::step]
    return array


def a_label(draw: Any, array: xr.DataArray) -> float:
    """A sample's own time, one next to it, one between two, or one far away."""
    if not array.size:
        return 0.0
    time = float(array["time"].values[draw(st.integers(0, array.size - 1))])
    other = draw(st.floats(-1e7, 1e7))
    label: float = draw(
        st.sampled_from([time, np.nextafter(time, np.inf), np.nextafter(time, -np.inf), (time + other) / 2, other])
    )
    return label


@settings(deadline=None, max_examples=300)
@given(data=st.data(), array=arrays(), step=st.sampled_from([None, 1, 2, -1]))
def test_a_slice_of_times_is_closed_at_both_ends_as_in_pandas(data: Any, array: xr.DataArray, step: int | None) -> None:
    first = data.draw(st.just(None)) if data.draw(st.booleans()) else a_label(data.draw, array)
    last = None if data.draw(st.booleans()) else a_label(data.draw, array)
    truth = by_pandas(array).sel(time=slice(first, last, step))
    found = array.sel(time=slice(first, last, step))
    np.testing.assert_array_equal(found.values, truth.values)
    np.testing.assert_array_equal(found["time"].values, truth["time"].values)
    assert is_lazy(found)


@settings(deadline=None, max_examples=300)
@given(
    data=st.data(),
    array=arrays(),
    method=st.sampled_from([None, "nearest", "ffill", "bfill"]),
    count=st.integers(0, 3),
)
def test_points_are_found_as_in_pandas(data: Any, array: xr.DataArray, method: str | None, count: int) -> None:
    labels: Any = [a_label(data.draw, array) for _ in range(count)] if count else a_label(data.draw, array)
    tolerance = None if method is None or data.draw(st.booleans()) else data.draw(st.floats(0, 10))
    if data.draw(st.booleans()):
        labels = xr.DataArray(labels, dims="event" if count else ())
    options: dict[str, Any] = {"method": method} | ({} if tolerance is None else {"tolerance": tolerance})
    try:
        truth = by_pandas(array).sel(time=labels, **options)
    except KeyError:
        with pytest.raises(KeyError):
            array.sel(time=labels, **options)
        return
    xr.testing.assert_equal(array.sel(time=labels, **options), truth)


@settings(deadline=None)
@given(array=arrays(), cut=st.integers(0, 400), gap=st.integers(0, 2))
def test_parts_put_together_are_what_pandas_makes_of_them(array: xr.DataArray, cut: int, gap: int) -> None:
    parts = [array[:cut], array[cut + gap :]]
    joined = xr.concat(parts, "time")
    truth = xr.concat([by_pandas(part) for part in parts], "time")
    np.testing.assert_array_equal(joined["time"].values, truth["time"].values)
    np.testing.assert_array_equal(joined.values, truth.values)
    index = array.xindexes["time"]
    assert isinstance(index, TimeIndex)
    if not gap and index.transform.step == 1:
        assert is_lazy(joined)


@settings(deadline=None)
@given(
    array=arrays(),
    how=st.sampled_from(["inner", "outer", "left", "right"]),
    cuts=st.lists(st.integers(0, 400), min_size=4, max_size=4),
)
def test_parts_are_aligned_as_in_pandas(array: xr.DataArray, how: Any, cuts: list[int]) -> None:
    one, two = array[cuts[0] : cuts[1]], array[cuts[2] : cuts[3]]
    truth = xr.align(by_pandas(one), by_pandas(two), join=how)
    for found, expected in zip(xr.align(one, two, join=how), truth, strict=True):
        order = np.argsort(found["time"].values), np.argsort(expected["time"].values)
        np.testing.assert_array_equal(found["time"].values[order[0]], expected["time"].values[order[1]])
        np.testing.assert_array_equal(found.values[order[0]], expected.values[order[1]])


def test_the_time_of_a_sample_is_what_numpy_makes_of_start_number_and_rate() -> None:
    transform = SampledTimes(1.1, 24414.0625, 10**6)
    np.testing.assert_array_equal(transform.times(np.arange(10**6)), 1.1 + np.arange(10**6) / 24414.0625)
    part = sampled(transform)[123_456:999_999:7]
    np.testing.assert_array_equal(part["time"].values, 1.1 + np.arange(123_456, 999_999, 7) / 24414.0625)


def test_series_of_other_rates_are_aligned_by_equal_times() -> None:
    fast, slow = sampled(SampledTimes(0.0, 8.0, 80)), sampled(SampledTimes(0.0, 2.0, 20))
    np.testing.assert_array_equal((fast + slow)["time"].values, np.arange(20) / 2)
    assert not fast.xindexes["time"].equals(slow.xindexes["time"])
    assert (
        sampled(SampledTimes(0.0, 4.0, 9, step=2))
        .xindexes["time"]
        .equals(sampled(SampledTimes(0.0, 2.0, 9)).xindexes["time"])
    )


def test_it_renames_copies_pickles_and_says_what_it_is() -> None:
    array = sampled(SampledTimes(1.5, 30000.0, 60_000)).rename(time="t")
    assert repr(array.xindexes["t"]) == "TimeIndex(1.5 to 3.49997 s, 30000 Hz)"
    np.testing.assert_array_equal(array.sel(t=slice(2.0, 2.0)).values, [15_000])
    again = pickle.loads(pickle.dumps(array.copy(deep=True)))
    xr.testing.assert_identical(again, array)
    assert len(pickle.dumps(array.xindexes["t"])) < 1000
    assert isinstance(array.xindexes["t"].to_pandas_index(), pd.Index)
    xr.testing.assert_equal(array[[3, 5]], array.sel(t=array["t"].values[[3, 5]]))
    assert "t" not in array[7].xindexes
    mask = (array["t"] > 2.0) & (array["t"] < 2.001)
    np.testing.assert_array_equal(array.sel(t=mask).values, np.flatnonzero(mask.values))


def test_no_time_of_a_hundred_hours_is_made_to_select_some() -> None:
    size = 100 * 3600 * 30_000
    values = np.broadcast_to(np.int16(0), (size,))
    array = xr.DataArray(
        values, dims="time", coords=xr.Coordinates.from_xindex(TimeIndex(SampledTimes(0.0, 30000.0, size)))
    )
    array.sel(time=1.0)  # what is imported and made once
    tracemalloc.start()
    part = array.sel(time=slice(360.0, 370.0))
    found = array.sel(time=[100.0, 300_000.00001], method="nearest")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert part.size == 300_001
    assert part["time"].values[[0, -1]].tolist() == [360.0, 370.0]
    assert found["time"].values.tolist() == [100.0, 300_000.0]
    assert peak < 1_000_000
