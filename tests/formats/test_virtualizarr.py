"""References that VirtualiZarr wrote of groups: beside what fsspec and zarr-python read of the same file, and h5py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

import lindi_dask as ld

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import h5py

    from lindi_dask.testing import EmbeddedArchive

# pandas says so at each use; fsspec still reads with it by default
pytestmark = pytest.mark.filterwarnings("ignore:The 'fastparquet' engine is deprecated")

GROUPS: dict[str, tuple[str, set[str], set[str]]] = {
    "ElectricalSeries": ("acquisition/ElectricalSeries", {"data"}, {"starting_time"}),
    "LFP": ("processing/ecephys/LFP/LFP", {"data", "timestamps"}, set()),
    "TwoPhotonSeries": ("acquisition/TwoPhotonSeries", {"data"}, {"starting_time"}),
    "contiguous": ("acquisition/contiguous", {"data"}, {"starting_time"}),
    "electrodes": (
        "general/extracellular_ephys/electrodes",
        {"group_name", "id", "imp", "location", "x", "y", "z"},
        set(),
    ),
    "position": ("processing/behavior/Position/position", {"data", "timestamps"}, {"reference_frame"}),
    "trials": ("intervals/trials", {"id", "start_time", "stimulus", "stop_time"}, set()),
}
"""sample -> its group in the session, its arrays with dimensions, and those without, which parquet has not"""
UNSEEN = {("ElectricalSeries", "starting_time"), ("position", "reference_frame")}
"""arrays without dimensions of which fsspec reads fill values in Zarr v2: zarr-python asks for `name/0`, and their one
chunk is called `name/`. (Two more are zero, as is their fill value.)"""


@pytest.mark.parametrize("form", ["json", "zarr3.json", "parq"])
@pytest.mark.parametrize("name", GROUPS)
def test_every_array_is_what_h5py_reads_and_what_fsspec_reads(
    name: str,
    form: str,
    place: Callable[..., Path],
    document: Callable[..., dict[str, Any]],
    by_fsspec: Callable[..., dict[str, zarr.Array[Any]]],
    arrays: Callable[..., dict[str, zarr.Array[Any]]],
    assert_same: Callable[..., None],
    is_truth: Callable[..., bool],
    session_h5: h5py.File,
    here: dict[str, Any],
) -> None:
    group, with_dimensions, without = GROUPS[name]
    sample = f"virtualizarr.{name}.{form}"
    path = place(sample)
    theirs = by_fsspec(str(path) if form == "parq" else document(sample), zarr_format=3 if form == "zarr3.json" else 2)
    ours = arrays(ld.open_group(path, **here))
    assert ours.keys() == theirs.keys() == (with_dimensions if form == "parq" else with_dimensions | without)
    for key, array in ours.items():
        assert is_truth(array, session_h5[f"{group}/{key}"]), key
        unseen = form == "json" and (name, key) in UNSEEN
        assert is_truth(theirs[key], session_h5[f"{group}/{key}"]) != unseen
        if not unseen:
            assert_same(array, theirs[key])


@pytest.mark.parametrize("form", ["json", "zarr3.json"])
def test_the_chunk_of_an_array_without_dimensions_is_found_under_either_name(
    form: str, place: Callable[..., Path], document: Callable[..., dict[str, Any]], here: dict[str, Any]
) -> None:
    sample = f"virtualizarr.ElectricalSeries.{form}"
    name = {"json": "starting_time/", "zarr3.json": "starting_time/c"}[form]
    assert name in document(sample)["refs"]
    starting_time = ld.open_group(place(sample), **here)["starting_time"]
    assert isinstance(starting_time, zarr.Array)
    assert np.asarray(starting_time[...]) == 1.5


@pytest.mark.parametrize("form", ["json", "zarr3.json", "parq"])
def test_an_embargoed_session_is_read_through_the_archive(
    form: str,
    embedded_archive: EmbeddedArchive,
    own_key: Callable[[EmbeddedArchive], dict[str, str]],
    place: Callable[..., Path],
    is_truth: Callable[..., bool],
    session_h5: h5py.File,
    data: Path,
) -> None:
    url = embedded_archive.add(data / "session.nwb").url
    group = ld.open_group(place(f"virtualizarr.LFP.{form}", url), instances=own_key(embedded_archive))
    assert is_truth(group["data"], session_h5["processing/ecephys/LFP/LFP/data"])
