"""What the source holds, block by block: the next one is read while something is done with the last."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr

from lindi_dask.lazy import LazyArray, begun, result_of
from lindi_dask.refs import MISSING

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from lindi_dask.conversion.plan import ArrayPlan
    from lindi_dask.factory import StoreFactory

__all__ = ["blocks_of", "encoded_chunks", "source_of"]

_NUMBERS: Final = "biufc"


@lru_cache(maxsize=64)
def source_of(factory: StoreFactory, path: str) -> zarr.Array[Any]:
    """Return an array of the source; opened once a process."""
    return zarr.open_array(factory(), path=path, mode="r", zarr_format=3)


def blocks_of(factory: StoreFactory, array: ArrayPlan, place: int) -> Generator[NDArray[Any]]:
    """Yield what the object at a place holds of an array, in blocks of some rows each."""
    source = source_of(factory, array.path)
    if not array.shape:
        yield _plain(source[()], source)
        return
    lazy = LazyArray(source)
    others = array.region(place)[1:]
    pending: list[Future[Any]] = []
    try:
        for start, stop in array.steps(place):
            pending.append(lazy.begin((slice(start, stop), *others)))
            if len(pending) > 1:
                yield _plain(result_of(pending.pop(0)), source)
        yield _plain(result_of(pending.pop()), source)
    finally:
        for future in pending:
            future.cancel()


def _plain(block: Any, source: zarr.Array[Any]) -> NDArray[Any]:  # noqa: ANN401 - whatever zarr returns
    """Return a block as it is digested and encoded: numbers little-endian, one after the other."""
    found = np.asarray(block, source.dtype)
    if found.dtype.kind not in _NUMBERS:
        return found
    return np.ascontiguousarray(found, found.dtype.newbyteorder("<")).reshape(found.shape)


def encoded_chunks(factory: StoreFactory, array: ArrayPlan, place: int) -> list[bytes | None]:
    """Return the source's chunks that go into an object, as they are encoded, in C order; None where there is none."""
    store, grid = factory(), tuple(-(-n // chunk) for n, chunk in zip(array.shape, array.chunks, strict=True))
    starts = [part.start // chunk for part, chunk in zip(array.region(place), array.chunks, strict=True)]
    counts = [size // chunk for size, chunk in zip(array.unit, array.chunks, strict=True)]
    coordinates = [np.array(at) + starts for at in np.ndindex(*counts)]
    inside = [i for i, at in enumerate(coordinates) if all(number < n for number, n in zip(at, grid, strict=True))]
    places = np.array([np.ravel_multi_index(coordinates[i], grid) if grid else 0 for i in inside], np.uint64)
    pieces: list[bytes | None] = [None] * len(coordinates)

    async def read() -> None:
        locations = await store.locate_at(array.path, places)
        present = np.flatnonzero(locations.sources != MISSING)

        def deliver(indices: NDArray[np.intp], views: Sequence[memoryview]) -> None:
            for i, view in zip(present[indices].tolist(), views, strict=True):
                pieces[inside[i]] = bytes(view)

        if len(present):
            await store.get_many(array.path, locations[present], deliver)

    result_of(begun(read()))
    return pieces
