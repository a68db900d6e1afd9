"""What a computation is said to read, beside what it then reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import pytest
import xarray as xr

import lindi_dask as ld
from lindi_dask.estimating import estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from lindi_dask.testing import EmbeddedArchive

DATA, LFP = "acquisition/ElectricalSeries/data", "processing/ecephys/LFP/LFP/data"


@pytest.fixture
def factory(
    embedded_archive: EmbeddedArchive,
    own_key: Callable[[EmbeddedArchive], dict[str, str]],
    session_refs: Callable[..., dict[str, Any]],
    data: Any,
) -> ld.StoreFactory:
    refs = session_refs(embedded_archive.add(data / "session.nwb").url)
    refs["refs"][f"{LFP}/.zattrs"]["_ARRAY_DIMENSIONS"] = ["time", "channel"]
    refs["refs"][f"{LFP.replace('data', 'timestamps')}/.zattrs"]["_ARRAY_DIMENSIONS"] = ["time"]
    return ld.StoreFactory(refs, instances=own_key(embedded_archive))


def whole(factory: ld.StoreFactory) -> Any:
    return ld.open_array(factory, DATA, chunks={0: 8192}).mean(axis=0)


def part(factory: ld.StoreFactory) -> Any:
    return (ld.open_array(factory, LFP, chunks={0: 3200})[5_000:9_000, 3] ** 2).sum()


def two(factory: ld.StoreFactory) -> Any:
    return ld.open_array(factory, LFP, chunks={0: 16_000})[:30_000, :4].sum() + ld.open_array(factory, DATA)[-5:].max()


def from_zarr(factory: ld.StoreFactory) -> Any:
    return da.from_zarr(ld.open_store(factory), component=DATA, chunks=(8192, 16))[:20_000].std()


def by_xarray(factory: ld.StoreFactory) -> Any:
    wanted: Any = factory  # which xarray does not know of
    series = xr.open_dataset(wanted, engine="lindi", group="acquisition/ElectricalSeries", chunks={})
    return series["data"].isel(time=slice(1_000, 9_000), channel=[1, 5]).mean()


def a_dataset(factory: ld.StoreFactory) -> Any:
    wanted: Any = factory
    return xr.open_dataset(wanted, engine="lindi", group="acquisition/TwoPhotonSeries", chunks={}).isel(time=slice(5))


def by_open_zarr(factory: ld.StoreFactory) -> Any:
    group = LFP.removesuffix("/data")
    return xr.open_zarr(ld.open_store(factory), group=group, consolidated=False)["data"][:2100].sum()


@pytest.mark.parametrize("computation", [whole, part, two, from_zarr, by_xarray, a_dataset, by_open_zarr])
def test_as_much_is_read_as_was_said(
    computation: Callable[[ld.StoreFactory], Any], factory: ld.StoreFactory, embedded_archive: EmbeddedArchive
) -> None:
    wanted = computation(factory)
    requests, before = len(embedded_archive.requests), ld.stats()
    said = estimate(wanted)
    assert len(embedded_archive.requests) == requests
    assert ld.stats() == before
    wanted.compute(scheduler="synchronous")
    read = ld.stats() - before
    assert said.nbytes <= read.bytes_wanted <= said.nbytes + said.repeated_nbytes
    assert said.chunks <= read.chunks + read.chunks_shared
    assert read.requests <= said.requests <= read.requests + said.blocks
    assert said.blocks >= 1
    assert said.unsized == 0


def test_what_is_not_needed_is_not_counted(factory: ld.StoreFactory) -> None:
    array = ld.open_array(factory, LFP, chunks={0: 3200})
    assert estimate(array).chunks == 1250
    assert estimate(array[:32]).chunks == 1
    both = estimate(array[:48])
    assert (both.chunks, both.blocks, both.repeated_nbytes) == (2, 1, 0)


def test_other_arrays_are_not_counted() -> None:
    assert estimate(da.ones(10).sum()).chunks == 0
    assert estimate(xr.DataArray(da.ones((4, 4), chunks=2)).sum()).requests == 0


def test_steps_touch_what_they_touch_and_lists_whole_blocks(factory: ld.StoreFactory) -> None:
    array = ld.open_array(factory, LFP, chunks=-1)  # chunks of 32 rows
    assert estimate(array[::500]).chunks == 80
    assert estimate(array[::3]).chunks == 1250
    assert estimate(array[[0, 31, 64, -1]]).chunks == 1250  # dask picks from the block when it has been read
