"""fsspec's ReferenceFileSystem over kerchunk's JSON, read by zarr and dask. Settings: those of `zarr_settings`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import fsspec  # type: ignore[import-untyped]
import zarr
from readers import by_dask, zarr_settings
from zarr.storage import FsspecStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from readers.task import Given, Settings, Task

PACKAGES = ("fsspec", "zarr", "dask", "aiohttp", "numcodecs", "numpy")


def open_array(given: Given, settings: Settings) -> zarr.Array[Any]:
    zarr_settings.tune(settings)
    options = {"asynchronous": True, "remote_protocol": "http", "remote_options": {"asynchronous": True}}
    store = FsspecStore(fsspec.filesystem("reference", fo=given.kerchunk, **options), read_only=True, path="")
    array = zarr.open_array(store, path="data", mode="r")
    zarr_settings.check(array, settings)
    return array


def read(array: zarr.Array[Any], task: Task) -> NDArray[np.int16]:
    if task.places:
        return by_dask.windows(array, task)
    return by_dask.compute(da.from_zarr(array, chunks=(task.block_rows, array.shape[1])), task)
