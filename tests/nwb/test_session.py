"""The sample session by the engine `lindi`, against pynwb's own reading of the HDF5 file."""

from __future__ import annotations

import json
import pickle
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pynwb
import pytest
import xarray as xr
from pynwb import NWBHDF5IO

import lindi_dask as ld
from lindi_dask import errors
from lindi_dask.nwb import TimeIndex, ragged_row, spike_times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lindi_dask.testing import EmbeddedArchive

SERIES = {
    "acquisition/ElectricalSeries": ("time", "channel"),
    "acquisition/TwoPhotonSeries": ("time", "x", "y"),
    "acquisition/contiguous": ("time", "feature"),
    "processing/behavior/Position/position": ("time", "feature"),
    "processing/ecephys/LFP/LFP": ("time", "channel"),
    "processing/ophys/Fluorescence/RoiResponseSeries": ("time", "roi"),
}
TABLES = [
    "general/extracellular_ephys/electrodes",
    "intervals/trials",
    "processing/ophys/ImageSegmentation/rois",
    "units",
]


@pytest.fixture(scope="module")
def nwb(data: Path) -> Iterator[pynwb.NWBFile]:
    with NWBHDF5IO(data / "session.nwb", "r") as io:
        yield io.read()


@pytest.fixture
def options(embedded_archive: EmbeddedArchive, own_key: Callable[..., dict[str, str]]) -> dict[str, Any]:
    return {"engine": "lindi", "instances": own_key(embedded_archive)}


@pytest.fixture
def session(embedded_archive: EmbeddedArchive, session_refs: Callable[..., Any], data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "session.lindi.json"
    path.write_text(json.dumps(session_refs(embedded_archive.add(data / "session.nwb").url)))
    return path


def by_path(nwb: pynwb.NWBFile, path: str) -> Any:
    return next(one for one in nwb.objects.values() if h5_path(one) == path)


def h5_path(node: Any) -> str:
    """The path of an object in its file."""
    kept = ("acquisition", "processing", "intervals", "units", "general")
    if isinstance(node, pynwb.NWBFile):
        return ""
    if node.name == "electrodes" and isinstance(node.parent, pynwb.NWBFile):
        return "general/extracellular_ephys/electrodes"
    if isinstance(node, pynwb.ecephys.ElectrodeGroup):
        return f"general/extracellular_ephys/{node.name}"
    above = h5_path(node.parent)
    if not above:
        folder = {"TimeIntervals": "intervals/", "ProcessingModule": "processing/", "Units": ""}
        return f"{folder.get(node.neurodata_type, 'acquisition/')}{node.name}"
    assert above.startswith(kept)
    return f"{above}/{node.name}"


def in_units(series: Any) -> Any:
    """What pynwb's `get_data_in_units` gives, in float64."""
    return np.asarray(series.get_data_in_units(), np.float64)


def test_the_session_has_just_these_time_series_and_tables(nwb: pynwb.NWBFile) -> None:
    kinds = {pynwb.TimeSeries: set(SERIES), pynwb.core.DynamicTable: set(TABLES)}
    for kind, expected in kinds.items():
        assert {h5_path(one) for one in nwb.objects.values() if isinstance(one, kind)} == expected


@pytest.mark.parametrize(("path", "dims"), SERIES.items())
@pytest.mark.parametrize("chunks", [None, {}])
def test_each_time_series_has_pynwbs_values_times_units_and_channels(
    session: Path, options: dict[str, Any], nwb: pynwb.NWBFile, path: str, dims: tuple[str, ...], chunks: Any
) -> None:
    series = by_path(nwb, path)
    dataset = xr.open_dataset(session, group=path, chunks=chunks, **options)
    assert dataset["data"].dims == dims
    assert dataset["data"].attrs["units"] == series.unit
    assert dataset.attrs["neurodata_type"] == series.neurodata_type
    assert (dataset.attrs["description"], dataset.attrs["comments"]) == (series.description, series.comments)
    assert dataset.attrs["session_start_time"] == nwb.session_start_time.isoformat()
    truth = in_units(series)
    raw = np.asarray(series.data[:])
    np.testing.assert_allclose(dataset["data"].values, truth, rtol=3e-7, atol=0)
    assert dataset["data"].dtype == {"i2": "f4"}.get(raw.dtype.str[1:], raw.dtype)
    np.testing.assert_array_equal(dataset["time"].values, series.get_timestamps())
    assert dataset["time"].attrs["units"] == "seconds"
    assert dataset["time"].attrs["since"] == nwb.timestamps_reference_time.isoformat()
    unscaled = xr.open_dataset(session, group=path, physical=False, chunks=chunks, **options)["data"]
    np.testing.assert_array_equal(unscaled.values, raw)
    assert unscaled.dtype == raw.dtype
    assert unscaled.attrs["conversion"] == series.conversion
    wide = xr.open_dataset(session, group=path, physical="float64", chunks=chunks, **options)["data"]
    np.testing.assert_allclose(wide.values, truth, rtol=1e-15, atol=0)
    for name, dim in (("electrodes", "channel"), ("rois", "roi")):
        region = getattr(series, name, None)
        if region is not None:
            frame = region.table.to_dataframe().iloc[region.data[:]]
            label = "electrode_id" if dim == "channel" else "roi_id"
            assert dataset[label].dims == (dim,)
            np.testing.assert_array_equal(dataset[label].values, frame.index)
            for column in set(frame.columns) - {"group", "pixel_mask"}:
                assert dataset[column].dims == (dim,)
                assert dataset[column].values.tolist() == frame[column].tolist()


@pytest.mark.parametrize("path", TABLES)
def test_each_table_is_pynwbs_data_frame(session: Path, options: dict[str, Any], nwb: pynwb.NWBFile, path: str) -> None:
    frame = by_path(nwb, path).to_dataframe()
    table = xr.open_dataset(session, group=path, **options)
    (row,) = (str(name) for name in table.indexes)
    np.testing.assert_array_equal(table[row].values, frame.index)
    assert {name for name in map(str, table) if not name.endswith(("_index", "_count"))} == set(frame.columns)
    for column in frame.columns:
        for i, expected in enumerate(frame[column]):
            one: Any = ragged_row(table, column, i) if f"{column}_count" in table else table[column][i]
            if column == "group":
                assert one.item() == f"/{h5_path(expected)}"
            elif column == "electrodes":  # rows of their table
                assert table["electrodes"].attrs["table"] == "/general/extracellular_ephys/electrodes"
                np.testing.assert_array_equal(one.values, expected.index)
            else:
                assert one.values.tolist() == np.asarray(expected).tolist()


def test_the_tree_opens_fast_and_asks_for_nothing(
    session: Path, options: dict[str, Any], embedded_archive: EmbeddedArchive
) -> None:
    xr.open_datatree(session, **options)  # what is imported and parsed once
    started = time.monotonic()
    tree = xr.open_datatree(session, **options, chunks={})
    took_s = time.monotonic() - started
    print(f"{took_s:.3f} s")
    assert len(list(tree.subtree)) == 34
    assert embedded_archive.counts()["exchanges"] == embedded_archive.counts()["reads"] == 0
    assert took_s < 2
    assert tree["acquisition/ElectricalSeries/data"].sizes == {"time": 60_000, "channel": 16}
    assert set(xr.open_groups(session, **options)) == {one.path for one in tree.subtree}


@pytest.mark.filterwarnings("ignore:The specified chunks separate the stored chunks")  # xarray's, of smaller blocks
def test_a_slice_of_time_reads_only_its_chunks(session: Path, options: dict[str, Any], nwb: pynwb.NWBFile) -> None:
    dataset = xr.open_dataset(session, group="acquisition/ElectricalSeries", **options)
    before = ld.stats()
    part = dataset.sel(time=slice(2.0, 2.1))
    assert (ld.stats() - before).chunks == 0
    first, last = 15_000, 18_000  # at 30 kHz, from 1.5 s on: both ends belong to it
    series = nwb.acquisition["ElectricalSeries"]
    np.testing.assert_allclose(part["data"].values, in_units(series)[first : last + 1], rtol=3e-7)
    assert (ld.stats() - before).chunks == last // 4096 - first // 4096 + 1
    assert isinstance(part.xindexes["time"], TimeIndex)
    by_dask = xr.open_dataset(session, group="acquisition/ElectricalSeries", chunks={"time": 4096}, **options)
    before = ld.stats()
    values = by_dask["data"].sel(time=slice(3.0, 3.1)).values  # others: parts of chunks are kept for a while
    np.testing.assert_allclose(values, in_units(series)[45_000:48_001], rtol=3e-7)
    assert (ld.stats() - before).chunks == 2


def test_channels_are_selected_by_what_their_table_says(
    session: Path, options: dict[str, Any], nwb: pynwb.NWBFile
) -> None:
    truth = in_units(nwb.acquisition["ElectricalSeries"])
    both: list[Any] = [None, {}]
    for chunks in both:  # xarray takes no mask that dask has yet to compute
        dataset = xr.open_dataset(session, group="acquisition/ElectricalSeries", chunks=chunks, **options)
        some = dataset.sel(channel=(dataset["electrode_id"] >= 10).compute(), time=slice(None, 1.6))
        at = np.flatnonzero(nwb.electrodes["id"][:] >= 10)
        assert 0 < len(at) < 16
        np.testing.assert_allclose(some["data"].values, truth[:3001, at], rtol=3e-7)
        places = nwb.electrodes["location"][:]
        assert (
            dataset.sel(channel=(dataset["location"] == "CA1").compute()).sizes["channel"]
            == list(places).count("CA1")
            == 8
        )
        points = dataset["data"].isel(
            time=xr.DataArray([5, 59_999, 7], dims="e"), channel=xr.DataArray([1, 0, 3], dims="e")
        )
        np.testing.assert_allclose(points.values, truth[[5, 59_999, 7], [1, 0, 3]], rtol=3e-7)
        np.testing.assert_allclose(dataset["data"][::-7000, -1].values, truth[::-7000, -1], rtol=3e-7)
        np.testing.assert_allclose(dataset["data"][[9, 3, 3]][:, [0, 2]].values, truth[[9, 3, 3]][:, [0, 2]], rtol=3e-7)
        assert dataset["data"][:0].values.shape == (0, 16)


def test_timestamps_are_read_when_they_are_asked_for(
    session: Path, options: dict[str, Any], nwb: pynwb.NWBFile
) -> None:
    before = ld.stats()
    dataset = xr.open_dataset(session, group="processing/ecephys/LFP/LFP", **options)
    later = dataset.isel(time=slice(100, 200))
    assert (ld.stats() - before).chunks == 0
    times = nwb.processing["ecephys"]["LFP"].electrical_series["LFP"].timestamps[:]
    np.testing.assert_array_equal(later["time"].values, times[100:200])
    part = dataset.sel(time=slice(times[50], times[80]))
    np.testing.assert_array_equal(part["time"].values, times[50:81])
    assert dataset.sel(time=times[5] + 1e-9, method="nearest")["time"].item() == times[5]


def test_the_spikes_of_one_unit_are_read_alone(
    embedded_archive: EmbeddedArchive,
    options: dict[str, Any],
    session_refs: Callable[..., Any],
    nwb: pynwb.NWBFile,
    tmp_path: Path,
) -> None:
    refs = session_refs("https://x.org/")
    truth = nwb.units.to_dataframe()["spike_times"]
    # As a file has it that is too large to be inlined: chunks of 68 spikes
    times = np.concatenate(list(truth))
    (tmp_path / "spikes.bin").write_bytes(times.tobytes())
    spikes = embedded_archive.add(tmp_path / "spikes.bin").url
    refs["refs"].pop("units/spike_times/0")
    refs["refs"]["units/spike_times/.zarray"] |= {"chunks": [68], "compressor": None}
    refs["refs"] |= {f"units/spike_times/{i}": [spikes, i * 544, 544] for i in range(10)}
    units = xr.open_dataset(refs, group="units", **options)
    before = ld.stats()
    one = spike_times(units, 1)
    assert (one.sizes, one.values.tolist()) == ({"spike_times_item": len(truth[1])}, truth[1].tolist())
    start = len(truth[0])
    needed = (start + len(truth[1]) - 1) // 68 - start // 68 + 1
    read = ld.stats() - before
    assert needed < 10
    assert read.bytes_wanted == needed * 544
    some = units.isel(unit=[5, 2])
    assert spike_times(some, 2).values.tolist() == truth[2].tolist()
    assert ragged_row(some, "spike_times", 0).values.tolist() == truth[5].tolist()  # type: ignore[union-attr]
    with pytest.raises(KeyError):
        spike_times(some, 1)
    with pytest.raises(errors.InvalidSession, match="of 680 elements are here"):
        spike_times(units.isel(spike_times_item=slice(10, None)), 1)


def test_a_dataset_pickles_small_without_a_secret(
    session: Path, options: dict[str, Any], embedded_archive: EmbeddedArchive
) -> None:
    dataset = xr.open_dataset(session, group="acquisition/ElectricalSeries", **options)
    values = dataset["data"][:5].values
    lazy = xr.open_dataset(session, group="acquisition/ElectricalSeries", **options)
    pickled = pickle.dumps(lazy)
    assert len(pickled) < 16_384
    assert embedded_archive.owner_token.encode() not in pickled
    assert b"X-Amz" not in pickled
    np.testing.assert_array_equal(pickle.loads(pickled)["data"][:5].values, values)


def test_blocks_are_whole_chunks_and_those_of_open_array() -> None:
    chunked: dict[str, Any] = {
        "shape": [3_000_001, 32],
        "chunks": [1000, 32],
        "dtype": "<i2",
        "zarr_format": 2,
        "compressor": None,
    }
    plain = {"filters": None, "fill_value": 0, "order": "C"}
    refs = {
        ".zgroup": {"zarr_format": 2},
        "s/.zgroup": {"zarr_format": 2},
        "s/.zattrs": {"neurodata_type": "ElectricalSeries", "namespace": "core"},
        "s/data/.zarray": chunked | plain,
        "s/data/.zattrs": {"unit": "volts", "conversion": 1e-6},
    }
    refs |= {"s/starting_time/.zarray": chunked | plain | {"shape": [1], "chunks": [1], "dtype": "<f8"}}
    refs |= {"s/starting_time/.zattrs": {"rate": 30000.0, "_SCALAR": True}, "s/starting_time/0": "base64:AAAAAAAAAAA="}
    document: Any = {"refs": refs}
    dataset = xr.open_dataset(document, engine="lindi", group="s", chunks={}, physical=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        blocks = ld.open_array({"refs": refs}, "s/data").chunks
    assert dataset["data"].chunks == blocks
    assert blocks[0][0] % 1000 == 0
    assert len(blocks[0]) == 2
    assert dataset["time"].chunks == blocks[:1]
    assert dict(dataset.chunks) == {"time": blocks[0], "channel": (32,)}
    assert isinstance(dataset.xindexes["time"], TimeIndex)


def test_a_factory_brings_its_options(session: Path, options: dict[str, Any], tmp_path: Path) -> None:
    factory: Any = ld.StoreFactory(session, instances=options["instances"], cache=tmp_path / "ranges")
    for _ in range(2):
        before = ld.stats()
        xr.open_dataset(factory, group="acquisition/contiguous", engine="lindi")["data"].load()
    read = ld.stats() - before
    assert (read.cache_hits, read.requests) == (read.chunks, 0)
    assert read.chunks
    with pytest.raises(errors.ConfigurationError, match="options belong to the StoreFactory"):
        xr.open_dataset(factory, **options)
    with pytest.raises(errors.ConfigurationError, match="physical must be"):
        xr.open_dataset(session, physical="volts", **options)
