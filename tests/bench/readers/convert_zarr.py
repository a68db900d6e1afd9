"""Others that convert: by dask, by xarray, or shard by shard in a loop, from a zarr array that a reader opens.

Settings: `reader`, the module that opens it; `by`: "dask", "xarray" or "loop"; those of `zarr_settings`; `workers` as
of `convert_ours`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import dask.array as da
import xarray as xr
from readers import converted

if TYPE_CHECKING:
    from readers.task import Given, Settings, Task

PACKAGES = ("fsspec", "virtualizarr", "zarr", "dask", "xarray", "numcodecs", "numpy")


def open_array(given: Given, settings: Settings) -> tuple[Any, str, Any]:
    client = None
    if "workers" in settings:
        from distributed import Client, LocalCluster  # noqa: PLC0415 - where it is wanted

        client = Client(
            LocalCluster(n_workers=settings["workers"], threads_per_worker=2, dashboard_address="127.0.0.1:0")
        )
    array = importlib.import_module(f"readers.{settings['reader']}").open_array(given, settings)
    return array, settings["by"], client


def read(opened: tuple[Any, str, Any], task: Task) -> Any:
    array, by, client = opened
    out = converted.place()
    rows, channels = converted.SHARD_ROWS, array.shape[1]
    computing: dict[str, Any] = {"scheduler": "threads", "num_workers": task.threads} if client is None else {}
    if by == "loop":
        target = converted.created(out, task, channels)
        for start in range(0, task.stop, rows):
            target[start : start + rows] = array[start : start + rows]
        return converted.Output(out)
    blocks = da.from_zarr(array, chunks=(rows, channels))  # one task a shard: with smaller ones the output is wrong
    if by == "dask":
        da.store(blocks, converted.created(out, task, channels), lock=False, **computing)
        return converted.Output(out)
    encoding = {
        "chunks": (converted.CHUNK_ROWS, channels),
        "shards": (rows, channels),
        "compressors": converted.compressors(),
    }
    dataset = xr.Dataset({"data": (("time", "channel"), blocks)})
    writing = dataset.to_zarr(out, zarr_format=3, encoding={"data": encoding}, compute=False, consolidated=False)
    writing.compute(**computing)
    return converted.Output(out)
