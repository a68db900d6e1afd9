"""VirtualiZarr's index of an HDF5 file; it has no links, no references to objects and no 0-d text."""

from __future__ import annotations

from typing import Any

from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from virtualizarr.parsers import HDFParser

PACKAGES = ("virtualizarr", "h5py", "zarr")


def index(path: str) -> Any:
    return HDFParser()(url=f"file://{path}", registry=ObjectStoreRegistry({"file://": LocalStore()}))


def save(store: Any, out: str) -> None:
    if store._group.groups:
        return  # its writer takes one group
    store.to_virtual_dataset(loadable_variables=[]).vz.to_kerchunk(f"{out}.json", format="json")
