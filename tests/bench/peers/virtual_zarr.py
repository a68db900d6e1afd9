"""VirtualiZarr's ManifestStore of a kerchunk JSON, read by zarr.

It expands no templates and takes arrays right below the root only: it has its own file, of the same chunks.
"""

from __future__ import annotations

from typing import Any

import dask.array as da
import zarr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore, S3Store
from virtualizarr.parsers import KerchunkJSONParser

PACKAGES = ("virtualizarr", "zarr", "dask")


def open_array(path: str, array: str) -> Any:
    bucket = S3Store("b", region="us-east-2", skip_signature=True)
    registry = ObjectStoreRegistry({"file://": LocalStore(), "s3://b": bucket})
    store = KerchunkJSONParser()(f"file://{path}", registry)
    return zarr.open_array(store, path=flat(array), mode="r", zarr_format=3)


def store_of(opened: Any) -> Any:
    return opened.store


def locate(store: Any, array: str, names: list[str]) -> list[tuple[int, int]]:
    manifest = store._group.arrays[flat(array)].manifest
    entries = [manifest[name] for name in names]
    return [(int(entry["offset"]), int(entry["length"])) for entry in entries]


def to_pickle(opened: Any) -> dict[str, Any]:
    return {"store": opened.store, "graph": da.from_zarr(opened, chunks="auto").__dask_graph__()}


def flat(array: str) -> str:
    return array.replace("/", "_")
