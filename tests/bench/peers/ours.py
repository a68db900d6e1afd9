"""lindi_dask: a dask array, as users open it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import lindi_dask as ld

if TYPE_CHECKING:
    import dask.array as da

PACKAGES = ("lindi-dask", "zarr", "dask")


def open_array(path: str, array: str) -> tuple[ld.StoreFactory, da.Array]:
    factory = ld.StoreFactory(path)
    return factory, ld.open_array(factory, array)


def store_of(opened: tuple[ld.StoreFactory, da.Array]) -> ld.LindiStore:
    return opened[0]()


def locate(store: ld.LindiStore, array: str, names: list[str]) -> list[tuple[int, int]]:
    found = asyncio.run(store.locate(array, names))
    return list(zip(found.offsets.tolist(), found.lengths.tolist(), strict=True))


def to_pickle(opened: tuple[ld.StoreFactory, da.Array]) -> dict[str, Any]:
    factory, array = opened
    return {"factory": factory, "store": factory(), "graph": array.__dask_graph__()}
