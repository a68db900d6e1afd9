"""lindi_dask, by the ways that its users take.

Settings: `way`, one of `READS`; `window`: requests at a time, fixed (it adapts otherwise).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import dask.array as da
import xarray as xr
import zarr
from readers import by_dask
from zarr.storage import WrapperStore

import lindi_dask as ld
from lindi_dask import process
from lindi_dask.transport.adaptive import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from readers.task import Given, Settings, Task

PACKAGES = ("lindi-dask", "zarr", "dask", "obstore", "numpy", "deflate", "xarray")


class Fixed(Window):
    """A window that nothing changes."""

    def __init__(self, size: int) -> None:
        super().__init__(1024, start=size)

    def answered(self, nbytes: int, now: float, *, full: bool) -> None:
        pass

    def pushed_back(self) -> None:
        pass


def open_array(given: Given, settings: Settings) -> tuple[ld.StoreFactory, Callable[..., NDArray[np.int16]]]:
    window = settings.get("window")
    if window is not None:
        process._traffic.window = Fixed(window)
    # The key is in the environment, as users have it
    factory = ld.StoreFactory(given.lindi, instances={"local": given.api_url}, concurrency=window)
    return factory, READS[settings["way"]]


def read(opened: tuple[ld.StoreFactory, Callable[..., NDArray[np.int16]]], task: Task) -> NDArray[np.int16]:
    factory, way = opened
    return way(factory, task)


def by_open_array(factory: ld.StoreFactory, task: Task) -> NDArray[np.int16]:
    if task.places:
        return by_dask.windows(ld.open_group(factory)["data"], task)
    return by_dask.compute(ld.open_array(factory, "data", chunks=(task.block_rows, -1)), task)


def by_from_zarr(factory: ld.StoreFactory, task: Task) -> NDArray[np.int16]:
    array = da.from_zarr(ld.open_store(factory), component="data", chunks=(task.block_rows, -1))
    return by_dask.compute(array, task)


def by_from_zarr_as_it_comes(factory: ld.StoreFactory, task: Task) -> NDArray[np.int16]:
    """A block a chunk, which is what dask makes of it unless told otherwise."""
    return by_dask.compute(da.from_zarr(ld.open_store(factory), component="data"), task)


def by_open_zarr(factory: ld.StoreFactory, task: Task) -> NDArray[np.int16]:
    array = xr.open_zarr(ld.open_store(factory), chunks=None)["data"]
    return by_dask.compute(array.chunk({array.dims[0]: task.block_rows}).data, task)


def by_group(factory: ld.StoreFactory, task: Task) -> NDArray[np.int16]:
    array: Any = ld.open_group(factory)["data"]
    values: NDArray[np.int16] = array[task.start : task.stop]
    return values


def undispatched(factory: ld.StoreFactory, task: Task) -> NDArray[np.int16]:
    """The same store, hidden from the dispatcher: zarr's pipeline fetches and decodes chunk by chunk."""
    array = zarr.open_array(WrapperStore(factory()), path="data", mode="r")
    return by_dask.compute(da.from_zarr(array, chunks=(task.block_rows, array.shape[1])), task)


READS: Final = {
    "open_array": by_open_array,
    "from_zarr": by_from_zarr,
    "open_zarr": by_open_zarr,
    "a block a chunk": by_from_zarr_as_it_comes,
    "group": by_group,
    "undispatched": undispatched,
}
