"""References that are no NWB: as xarray's own engines for zarr and kerchunk read them."""

from __future__ import annotations

import json
import math
import tracemalloc
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest
import xarray as xr
from kerchunk.hdf import SingleHdf5ToZarr  # type: ignore[import-untyped]

import lindi_dask as ld
from lindi_dask.xarray_backend import LindiBackendEntrypoint

if TYPE_CHECKING:
    from pathlib import Path

    from lindi_dask.testing import EmbeddedArchive


@pytest.fixture
def climate(tmp_path: Path) -> Path:
    """References, made by kerchunk, of a file as climate models write them: packed, masked, with times."""
    path = tmp_path / "climate.nc"
    rng = np.random.default_rng(4)
    with h5py.File(path, "w") as file:
        axes = {"time": np.arange(1.0, 49), "lat": np.linspace(-85, 85, 18), "lon": np.arange(5.0, 360, 10)}
        for name, values in axes.items():
            file[name] = values
            file[name].make_scale(name)
        file["time"].attrs["units"] = "hours since 2001-01-01"
        file["time"].attrs["calendar"] = "standard"
        packed = rng.integers(-1000, 1000, (48, 18, 36)).astype("i2")
        packed[rng.random(packed.shape) < 0.1] = -32768
        data = file.create_dataset(
            "t2m", data=packed, chunks=(8, 18, 36), compression="gzip", shuffle=True, fillvalue=-32768
        )
        data.attrs.update({"scale_factor": 0.1, "add_offset": 273.15, "_FillValue": np.int16(-32768), "units": "K"})
        for axis, name in enumerate(axes):
            data.dims[axis].attach_scale(file[name])
        data.attrs["coordinates"] = "height"
        file["height"] = 2.0
        inner = file.create_group("model")
        inner["level"] = np.arange(3)
        inner["level"].make_scale("level")
    references = tmp_path / "climate.json"
    references.write_text(json.dumps(SingleHdf5ToZarr(str(path), inline_threshold=300).translate()))
    return references


AS_STORED = {"mask_and_scale": False, "decode_times": False, "decode_coords": False}


def without_fill_of_0(dataset: xr.Dataset) -> xr.Dataset:
    """Leaves out that 0 stands for what is missing: the engine `kerchunk` says so of all that has no fill value."""
    for variable in dataset.variables.values():
        if variable.attrs.get("_FillValue") == 0:
            del variable.attrs["_FillValue"]
    return dataset


@pytest.mark.parametrize(
    "options",
    [{}, AS_STORED, {"decode_times": False}, {"mask_and_scale": False}, {"drop_variables": ["height"]}],
)
@pytest.mark.filterwarnings("ignore:The specified chunks separate the stored chunks")  # xarray's, of smaller blocks
def test_a_climate_file_is_what_xarrays_kerchunk_engine_gives(climate: Path, options: dict[str, Any]) -> None:
    truth = xr.open_dataset(str(climate), engine="kerchunk", **options)
    allow = [f"{climate.parent}/"]
    for chunks in (None, {}, {"time": 16}):
        ours = xr.open_dataset(climate, engine="lindi", allow=allow, chunks=chunks, **options)
        xr.testing.assert_identical(without_fill_of_0(ours.load()), without_fill_of_0(truth))
    if options == AS_STORED:
        raw = xr.open_dataset(climate, engine="lindi", allow=allow, decode_cf=False)
        xr.testing.assert_identical(without_fill_of_0(raw), ours)
    if options.get("mask_and_scale", True):
        assert 0.05 < float(ours["t2m"].isnull().mean()) < 0.15
    tree = xr.open_datatree(climate, engine="lindi", allow=allow, **options)
    xr.testing.assert_identical(tree.to_dataset(), ours)
    np.testing.assert_array_equal(tree["model"]["level"], np.arange(3))  # 0 is a level, and nothing that is missing


def test_what_can_be_opened_is_told_by_content(climate: Path, data: Path, tmp_path: Path) -> None:
    engine = LindiBackendEntrypoint()
    for name in ("session.lindi.json", "session.amended.lindi.tar", "session.amended.lindi.d"):
        assert engine.guess_can_open(data / name)
    for name in (
        "kerchunk.json",
        "kerchunk.gen.json",
        "kerchunk.null.json.gz",
        "kerchunk.parq",
        "session.zarrshadow.json",
    ):
        assert engine.guess_can_open(data / "peers" / name)
    assert engine.guess_can_open(climate)
    assert engine.guess_can_open(json.loads(climate.read_text()))
    assert engine.guess_can_open(ld.StoreFactory(climate))
    assert engine.guess_can_open("https://example.org/session.lindi.json?x=1")
    (tmp_path / "other.json").write_text('{"a": {"refs": {}}}')
    (tmp_path / "other.tar").write_bytes(bytes(1024))
    others = [data / "session.nwb", tmp_path, tmp_path / "other.json", tmp_path / "other.tar", tmp_path / "nowhere"]
    for other in [*others, "https://example.org/climate.nc", {"a": 1}, 3, b"{}"]:
        assert not engine.guess_can_open(other)
    assert xr.open_dataset(data / "session.amended.lindi.tar", group="units").sizes["unit"] == 8  # no engine's name


def test_a_hundred_hours_at_30_khz_open_and_are_selected_without_their_times(
    embedded_archive: EmbeddedArchive, own_key: Any, tmp_path: Path
) -> None:
    rate, size, chunk = 30_000, 100 * 3600 * 30_000, 3_000_000
    places = range(360, 363)  # the only chunks that were written, at 10 hours
    rng = np.random.default_rng(1)
    written = rng.integers(-99, 99, len(places) * chunk).astype("<i2")
    (tmp_path / "raw.bin").write_bytes(written.tobytes())
    url = embedded_archive.add(tmp_path / "raw.bin").url
    plain = {"zarr_format": 2, "compressor": None, "filters": None, "fill_value": 0, "order": "C"}
    refs: dict[str, Any] = {
        ".zgroup": {"zarr_format": 2},
        "s/.zgroup": {"zarr_format": 2},
        "s/.zattrs": {"neurodata_type": "TimeSeries"},
        "s/data/.zarray": {**plain, "shape": [size], "chunks": [chunk], "dtype": "<i2"},
        "s/data/.zattrs": {"unit": "volts", "conversion": 0.25},
        "s/starting_time/.zarray": {**plain, "shape": [1], "chunks": [1], "dtype": "<f8"},
        "s/starting_time/.zattrs": {"rate": float(rate), "_SCALAR": True},
        "s/starting_time/0": "base64:AAAAAAAAAAA=",
        **{f"s/data/{place}": [url, 2 * chunk * i, 2 * chunk] for i, place in enumerate(places)},
    }
    assert places[-1] < math.ceil(size / chunk)
    document: Any = {"refs": refs}
    options: Any = {"engine": "lindi", "group": "s", "instances": own_key(embedded_archive)}
    xr.open_dataset(document, **options)["data"][:3].load()  # what is imported and made once
    before = ld.stats()
    tracemalloc.start()
    dataset = xr.open_dataset(document, **options)
    part = dataset.sel(time=slice(36_150.0, 36_150.5))["data"].load()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert part.sizes["time"] == rate // 2 + 1
    first = 36_150 * rate - places[0] * chunk
    np.testing.assert_array_equal(part, written[first : first + rate // 2 + 1] * 0.25)
    np.testing.assert_array_equal(part["time"], np.arange(36_150 * rate, 36_150 * rate + rate // 2 + 1) / rate)
    assert (ld.stats() - before).chunks == 1
    print(f"{peak / 1e6:.1f} MB at most")
    assert peak < 8 * size / 1000  # a thousandth of all times
    missing = dataset.sel(time=slice(0, 0.001))["data"]
    assert missing.values.tolist() == [0.0] * 31
