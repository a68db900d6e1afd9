"""VirtualiZarr's index of an HDF5 file; it has no links, no references to objects and no 0-d text."""

from __future__ import annotations

from typing import Any

from obspec_utils.readers import BlockStoreReader
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import HTTPStore, LocalStore
from virtualizarr.parsers import HDFParser

PACKAGES = ("virtualizarr", "h5py", "zarr")


def index(path: str) -> Any:
    if path.startswith("http"):
        store = HTTPStore.from_url(path, client_options={"allow_http": True})
        return HDFParser(reader_factory=reader)(url=path, registry=ObjectStoreRegistry({path: store}))
    return HDFParser()(url=f"file://{path}", registry=ObjectStoreRegistry({"file://": LocalStore()}))


def reader(store: Any, path: str) -> Any:
    """Return its default reader; it would ask for the size by HEAD, which presigned URLs refuse."""
    made = BlockStoreReader(store, path)
    made._size = store.get(path, options={"range": (0, 1)}).meta["size"]
    return made


def save(store: Any, out: str) -> None:
    if store._group.groups:
        return  # its writer takes one group
    store.to_virtual_dataset(loadable_variables=[]).vz.to_kerchunk(f"{out}.json", format="json")
