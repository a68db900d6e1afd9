"""The time axis of parts that follow each other is right, or an error; and other dimensions."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pynwb
import pytest
from parts_on_disk import CHUNKED, DATA, RATE, SERIES, STARTED, Recording, dataset, numbers, opened, read

import lindi_dask as ld
from lindi_dask.errors import ConfigurationError, PartsDisagree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


Json = dict[str, Any]


@pytest.mark.parametrize("started", ["2026-01-01T12:00:02+00:00", "2026-01-01T14:00:02+02:00", "2026-01-01T12:00:02Z"])
def test_times_of_parts_that_count_from_their_own_start_are_those_of_the_first(tmp_path: Path, started: str) -> None:
    values, times = numbers(2500), np.arange(2500) / RATE
    parts = [
        Recording(values[:2000], storage=CHUNKED).write(tmp_path / "a.nwb"),
        Recording(values[2000:], started=started, storage=CHUNKED).write(tmp_path / "b.nwb"),
    ]
    for path, count in zip(parts, (3, 2), strict=True):
        with h5py.File(path, "a") as file:
            file["events/data"] = np.arange(count)
            file["events/timestamps"] = 0.25 + np.arange(count) / 2
    whole = ld.combine([ld.index(path) for path in parts])
    series = dataset(whole, tmp_path, SERIES)
    np.testing.assert_allclose(series["time"], times)
    assert series["time"].attrs["since"] == STARTED
    assert read(whole, "events/timestamps", tmp_path).tolist() == [0.25, 0.75, 1.25, 2.25, 2.75]


def test_timestamps_of_up_to_a_mebibyte_in_files_are_read_and_shifted(tmp_path: Path) -> None:
    times = np.sort(np.random.default_rng(3).uniform(0, 9, 100_000))
    parts = []
    for name, started in (("a", STARTED), ("b", "2026-01-01T12:00:10+00:00")):
        path = Recording(np.zeros((len(times), 2), "<i2"), timestamps=times, started=started).write(tmp_path / name)
        parts.append(ld.index(path))
        listed = parts[-1].manifests[f"{SERIES}/timestamps"]
        assert all(parts[-1].sources[i].url for i in listed.locate(listed.present()).sources.tolist())
    whole = ld.combine(parts, allow=[f"{tmp_path}/"])
    np.testing.assert_array_equal(read(whole, f"{SERIES}/timestamps", tmp_path), np.concatenate([times, times + 10]))


@pytest.mark.parametrize(
    ("times", "storage", "said"),
    [
        (np.arange(3000) / RATE, {"chunks": (1000,), "compression": "gzip"}, "they are too large to be held"),
        (np.arange(500, dtype="<f4") / RATE, {}, "they are not float64"),
    ],
)
def test_timestamps_that_can_not_be_shifted_are_an_error(tmp_path: Path, times: Any, storage: Json, said: str) -> None:
    parts = []
    for name, started in (("a", STARTED), ("b", "2026-01-01T12:00:10+00:00")):
        path = Recording(numbers(len(times)), timestamps=[], started=started).write(tmp_path / f"{name}.nwb")
        with h5py.File(path, "a") as file:
            del file[f"{SERIES}/timestamps"]
            big = np.tile(times, 300) if storage else times
            del file[DATA]
            file[DATA] = np.zeros((len(big), 2), "<i2")
            file[DATA].attrs.update({"conversion": 1.0, "unit": "volts"})
            file.create_dataset(f"{SERIES}/timestamps", data=big, **storage)
        parts.append(ld.index(path))
    with pytest.raises(PartsDisagree, match=said) as caught:
        ld.combine(parts)
    assert caught.value.path == f"{SERIES}/timestamps"


def test_parts_in_the_wrong_order_are_an_error(tmp_path: Path) -> None:
    parts = [
        Recording(numbers(100), timestamps=np.arange(100) + start).index(tmp_path / f"{start}.nwb")
        for start in (1000.0, 0.0)
    ]
    with pytest.raises(PartsDisagree, match=r"part 2 starts at 0\.000000 s, before the last .* in the order of time"):
        ld.combine(parts)
    assert read(ld.combine(parts[::-1]), f"{SERIES}/timestamps", tmp_path)[[0, -1]].tolist() == [0.0, 1099.0]


def test_rows_without_a_time_are_an_error(tmp_path: Path) -> None:
    parts = [Recording(numbers(100), timestamps=np.arange(n)).index(tmp_path / f"{n}.nwb") for n in (100, 99)]
    with pytest.raises(PartsDisagree, match=r"in part 2 it has \[99\] rows, but /acquisition/Raw/data has \[100\]"):
        ld.combine(parts)


def points_at_samples(file: h5py.File) -> None:
    table = file.create_group("intervals/trials")
    table.attrs["colnames"] = ["timeseries"]
    rows = np.zeros(2, [("idx_start", "<i4"), ("count", "<i4"), ("timeseries", h5py.ref_dtype)])
    rows["timeseries"] = file[SERIES].ref
    table["timeseries"] = rows


def counts_samples(file: h5py.File) -> None:
    frames = file.create_group("stimulus/frames")
    frames["data"], frames["timestamps"] = np.arange(2), np.arange(2) + float(file[f"{SERIES}/starting_time"][()])
    frames["indexed_timeseries"] = h5py.SoftLink(f"/{SERIES}")


@pytest.mark.parametrize(
    ("add", "path"), [(points_at_samples, "intervals/trials/timeseries"), (counts_samples, "stimulus/frames")]
)
def test_numbers_of_samples_of_one_part_are_not_taken_for_those_of_the_whole(
    tmp_path: Path, add: Callable[[h5py.File], None], path: str
) -> None:
    values, parts = numbers(2000), []
    for i in (0, 1):
        one = Recording(values[:1000], start=float(i), storage=CHUNKED).write(tmp_path / f"{i}.nwb")
        with h5py.File(one, "a") as file:
            add(file)
        parts.append(ld.index(one))
    with pytest.raises(PartsDisagree, match=r"by their numbers in one part|are numbers of samples") as caught:
        ld.combine(parts)
    assert caught.value.path == path
    left = ld.combine(parts, drop=[f"/{path}", "processing/linked"])
    assert DATA in left.manifests
    assert path not in left.manifests
    assert not left.links


def test_tables_of_times_that_count_from_elsewhere_are_an_error(tmp_path: Path) -> None:
    parts = []
    for i, started in enumerate((STARTED, "2026-01-01T12:00:01+00:00")):
        path = Recording(numbers(1000), storage=CHUNKED, started=started).write(tmp_path / f"{i}.nwb")
        with h5py.File(path, "a") as file:
            file["intervals/trials/start_time"] = [0.1, 0.2]
        parts.append(ld.index(path))
    with pytest.raises(PartsDisagree, match="other times in each of them"):
        ld.combine(parts)


def test_arrays_of_a_series_that_the_schema_does_not_know_are_along_time_if_they_have_its_rows(tmp_path: Path) -> None:
    parts = []
    for i in (0, 1):
        path = Recording(numbers(1000), start=float(i), storage=CHUNKED).write(tmp_path / f"{i}.nwb")
        with h5py.File(path, "a") as file:
            file[f"{SERIES}/confidence"] = np.full(1000, 1.0)  # the same in both parts
            file[f"{SERIES}/skeleton"] = np.arange(3)
        parts.append(ld.index(path))
    whole = opened(ld.combine(parts, allow=[f"{tmp_path}/"]), tmp_path)
    assert whole[f"{SERIES}/confidence"][...].tolist() == [1.0] * 2000
    assert whole[f"{SERIES}/skeleton"].shape == (3,)
    assert whole[f"{SERIES}/electrodes"].shape == (2,)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="hdmf-zarr 0.14 needs Python 3.12")
def test_pynwb_reads_a_recording_of_two_sessions_that_it_wrote(tmp_path: Path) -> None:
    values, position = numbers(3000, 4), np.random.default_rng(2).normal(size=(90, 2))
    parts = []
    for i, (first, last) in enumerate(((0, 2000), (2000, 3000))):
        started = datetime(2026, 1, 1, 12, 0, 2 * i, tzinfo=UTC)
        session = pynwb.NWBFile(session_description="two parts", identifier=f"part {i}", session_start_time=started)
        device = session.create_device(name="probe")
        group = session.create_electrode_group(name="shank", description="one", location="CA1", device=device)
        for _ in range(4):
            session.add_electrode(location="CA1", group=group)
        region = session.create_electrode_table_region(region=[0, 1, 2, 3], description="all")
        data = pynwb.H5DataIO(values[first:last], chunks=(500, 4), maxshape=(None, 4), compression="gzip")
        raw = pynwb.ecephys.ElectricalSeries(
            name="Raw", data=data, electrodes=region, rate=1000.0, starting_time=0.0, conversion=1e-6
        )
        rows = slice(30 * i, 30 + 60 * i)
        times = np.arange(rows.stop - rows.start) / 30
        session.add_acquisition(raw)
        session.add_acquisition(pynwb.TimeSeries(name="position", data=position[rows], unit="m", timestamps=times))
        with pynwb.NWBHDF5IO(tmp_path / f"{i}.nwb", "w") as io:
            io.write(session)
        parts.append(ld.index(tmp_path / f"{i}.nwb"))
    whole = ld.combine(parts)
    found = ld.open_nwb(ld.StoreFactory(whole, allow=[f"{tmp_path}/"]))
    np.testing.assert_array_equal(found.acquisition["Raw"].data[...], values)
    assert found.acquisition["Raw"].electrodes.to_dataframe()["group_name"].tolist() == ["shank"] * 4
    np.testing.assert_array_equal(found.acquisition["position"].data[...], position)
    times = np.concatenate([np.arange(30) / 30, 2 + np.arange(60) / 30])
    np.testing.assert_array_equal(found.acquisition["position"].timestamps[...], times)
    assert found.session_start_time == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert not pynwb.validate(io=found.read_io)


def climate(folder: Path, name: str, values: Any, times: Any, *, units: str = "days since 2000-01-01") -> ld.References:
    """Return references to a file with dimension scales, time the second of three."""
    with h5py.File(folder / name, "w") as file:
        for axis, scale in (("lat", np.arange(values.shape[0])), ("time", times), ("lon", np.arange(values.shape[2]))):
            file[axis] = scale
            file[axis].make_scale(axis)
        file["time"].attrs["units"] = units
        file.create_dataset("t2m", data=values, chunks=(2, 10, 3), maxshape=(None, None, None))
        for i, axis in enumerate(("lat", "time", "lon")):
            file["t2m"].dims[i].attach_scale(file[axis])
    return ld.index(folder / name)


def test_a_dimension_with_a_name_may_be_any_of_the_dimensions(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5, 110, 7))
    parts = [
        climate(tmp_path, f"{first}.h5", values[:, first:last], np.arange(first, last))
        for first, last in ((0, 30), (30, 70), (70, 110))
    ]
    whole = ld.combine(parts, along="time")
    np.testing.assert_array_equal(read(whole, "t2m", tmp_path), values)
    found = dataset(whole, tmp_path)
    assert found.sizes == {"lat": 5, "time": 110, "lon": 7}
    assert str(found["time"][-1].values).startswith("2000-04-19")
    with pytest.raises(PartsDisagree, match="'units' is"):
        ld.combine([parts[0], climate(tmp_path, "x.h5", values[:, :30], np.arange(30), units="hours since 2000-01-01")])
    with pytest.raises(PartsDisagree, match="only dimension 0 may differ"):
        ld.combine(parts[:2], along="lat")
    with pytest.raises(ConfigurationError, match="nothing along 'depth'"):
        ld.combine(parts, along="depth")
