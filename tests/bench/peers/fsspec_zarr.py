"""fsspec's ReferenceFileSystem, read by zarr."""

from __future__ import annotations

from typing import Any

import dask.array as da
import fsspec  # type: ignore[import-untyped]
import zarr
from zarr.storage import FsspecStore

PACKAGES = ("fsspec", "zarr", "dask")


def open_array(path: str, array: str) -> Any:
    system = fsspec.filesystem(
        "reference",
        fo=path,
        remote_protocol="https",
        remote_options={"asynchronous": True},
        asynchronous=True,
    )
    store = FsspecStore(system, read_only=True, path="")
    return zarr.open_array(store, path=array, mode="r", zarr_format=2)


def store_of(opened: Any) -> Any:
    return opened.store


def locate(store: Any, array: str, names: list[str]) -> list[tuple[int, int]]:
    return [tuple(store.fs.references[f"{array}/{name}"][1:]) for name in names]


def to_pickle(opened: Any) -> dict[str, Any]:
    return {"store": opened.store, "graph": da.from_zarr(opened, chunks="auto").__dask_graph__()}
