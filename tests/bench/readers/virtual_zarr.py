"""VirtualiZarr's ManifestStore of kerchunk's JSON over obstore, read by zarr and dask. Settings: of `zarr_settings`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dask.array as da
import zarr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import HTTPStore, LocalStore
from readers import by_dask, zarr_settings
from virtualizarr.parsers import KerchunkJSONParser

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from readers.task import Given, Settings, Task

PACKAGES = ("virtualizarr", "zarr", "dask", "obstore", "obspec-utils", "numcodecs", "numpy")


def open_array(given: Given, settings: Settings) -> zarr.Array[Any]:
    zarr_settings.tune(settings)
    # Its paths have no query: the store of the presigned URL has it, and is asked for the path ""
    http = HTTPStore.from_url(given.presigned, client_options={"allow_http": True})
    host = "{0.scheme}://{0.netloc}".format(urlsplit(given.presigned))
    registry = ObjectStoreRegistry({"file://": LocalStore(), host: http})
    array = zarr.open_array(KerchunkJSONParser()(f"file://{given.kerchunk_bare}", registry), path="data", mode="r")
    zarr_settings.check(array, settings)
    return array


def read(array: zarr.Array[Any], task: Task) -> NDArray[np.int16]:
    if task.places:
        return by_dask.windows(array, task)
    return by_dask.compute(da.from_zarr(array, chunks=(task.block_rows, array.shape[1])), task)
