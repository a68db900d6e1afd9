"""`lindi_dask.convert`. Settings: `workers`, processes of a cluster that have two threads each (none: threads here)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from readers import converted

import lindi_dask as ld

if TYPE_CHECKING:
    from readers.task import Given, Settings, Task

PACKAGES = ("lindi-dask", "zarr", "dask", "obstore", "numpy", "deflate", "numcodecs")


def open_array(given: Given, settings: Settings) -> tuple[ld.StoreFactory, Any]:
    client = None
    if "workers" in settings:
        from distributed import Client, LocalCluster  # noqa: PLC0415 - where it is wanted

        client = Client(
            LocalCluster(n_workers=settings["workers"], threads_per_worker=2, dashboard_address="127.0.0.1:0")
        )
    return ld.StoreFactory(given.lindi, instances={"local": given.api_url}), client


def read(opened: tuple[ld.StoreFactory, Any], task: Task) -> Any:
    factory, client = opened
    out = converted.place()
    layout = {"data": {"chunks": (converted.CHUNK_ROWS, -1), "shards": (converted.SHARD_ROWS, -1)}}
    threads = task.threads if client is None else None
    ld.convert(factory, out, layout=layout, client=client, threads=threads)
    return converted.Output(out)
