"""Objects that are encoded and decoded by zarr itself: text, compounds, and codecs that are not known here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr.core.buffer import Buffer

    from lindi_dask.conversion.plan import ArrayPlan

__all__ = ["decoded_by_zarr", "encoded_by_zarr"]


def encoded_by_zarr(array: ArrayPlan, place: int, block: NDArray[Any]) -> list[bytes]:
    """Return the bytes of an object that holds a block."""
    held = dict[str, Any]()
    _opened(array, held)[_region(array, place)] = block
    key = array.place_key(place).removeprefix(f"{array.path}/")
    stored: Buffer = held[key]
    return [stored.to_bytes()]


def decoded_by_zarr(array: ArrayPlan, place: int, stored: bytes) -> NDArray[Any]:
    """Return the block that an object holds; raises whatever zarr and its codecs do for a damaged one."""
    key = array.place_key(place).removeprefix(f"{array.path}/")
    opened = _opened(array, {key: _buffer(stored)})
    return np.asarray(opened[_region(array, place)], opened.dtype)


def _region(array: ArrayPlan, place: int) -> tuple[slice, ...]:
    return array.region(place) if array.shape else ()


def _opened(array: ArrayPlan, held: dict[str, Any]) -> zarr.Array[Any]:
    """Return the array over a store of its own, in memory."""
    held["zarr.json"] = _buffer(json.dumps(array.document).encode())
    return zarr.open_array(MemoryStore(held), mode="r+", zarr_format=3, config={"write_empty_chunks": True})


def _buffer(data: bytes) -> Buffer:
    return default_buffer_prototype().buffer.from_bytes(data)
