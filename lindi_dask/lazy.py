"""What a block's task reads from: an array whose reads end when nobody waits for them any more."""

from __future__ import annotations

import concurrent.futures
import math
import sys
import threading
import weakref
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata import ArrayV3Metadata

from lindi_dask import process
from lindi_dask.block_read import BlockRead, BulkStore
from lindi_dask.codecs import BulkCodecPipeline
from lindi_dask.decode import chunk_decoder
from lindi_dask.grid import touched
from lindi_dask.refs import MISSING, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import zarr
    from numpy.typing import NDArray

    from lindi_dask.decode import ChunkDecoder

__all__ = ["LazyArray", "begun", "give_up", "result_of"]

_LOOK_S: Final = 0.2  # seconds between two looks at whether dask still wants a task
_pending: Final[weakref.WeakSet[concurrent.futures.Future[Any]]] = weakref.WeakSet()
_lock: Final = threading.Lock()


class LazyArray:
    """A zarr array for `dask.array.from_array`. Picklable as that is.

    zarr itself reads a selection to its end, whoever still waits for it. Here a read is given up at Ctrl-C, and when
    dask releases the task that reads. Fancy selections are left to zarr.

    Parameters
    ----------
    array
        Over a `LindiStore`.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self.ndim: int = array.ndim

    @property
    def zarr(self) -> zarr.Array[Any]:
        """The array itself."""
        return self._array

    def __getitem__(self, selection: Any) -> Any:  # noqa: ANN401 - whatever numpy takes and gives
        parts = selection if isinstance(selection, tuple) else (selection,)
        if not all(part is Ellipsis or isinstance(part, slice | int) for part in parts):
            return self._array[selection]
        return result_of(begun(self._read(selection, self._plain(parts))))

    def begin(self, part: tuple[slice, ...]) -> concurrent.futures.Future[Any]:
        """Begin to read a part, which `result_of` waits for."""
        return begun(self._read(part, self._plain(part)))

    def _plain(self, parts: tuple[Any, ...]) -> list[tuple[int, int]] | None:
        """Return the first element, and the one after the last, of each dimension; None for what zarr has to see to."""
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts = (*parts[:at], *[slice(None)] * (self.ndim - len(parts) + 1), *parts[at + 1 :])
        if not self.ndim or len(parts) != self.ndim or not all(isinstance(part, slice) for part in parts):
            return None
        bounds = [part.indices(extent) for part, extent in zip(parts, self.shape, strict=True)]
        if any(step != 1 or start >= stop for start, stop, step in bounds):
            return None
        return [(start, stop) for start, stop, _ in bounds]

    async def _read(self, selection: Any, plain: list[tuple[int, int]] | None) -> Any:  # noqa: ANN401 - as above
        block = None if plain is None else await self._block(plain)
        return await self._array.async_array.getitem(selection) if block is None else block

    async def _block(self, plain: list[tuple[int, int]]) -> NDArray[Any] | None:
        """Read without zarr, which makes some objects for each chunk; None for what zarr has to see to."""
        store, path, decoder = self._array.store_path.store, self._array.path, self._decoder
        if decoder is None or not isinstance(store, BulkStore):
            return None
        found = touched(self.shape, self._array.chunks, plain)
        locations = await store.locate_at(path, found.places)
        if (locations.sources == MISSING).any():
            return None  # fill values are zarr's
        out = np.empty([stop - start for start, stop in plain], decoder.dtype)

        def key(i: int) -> str:
            return f"{path}/{name_of(self._grid, int(found.places[i]))}"

        await BlockRead(store, path, locations, found.parts, key, decoder, decoder.onto(out)).run()
        return out

    @cached_property
    def _grid(self) -> tuple[int, ...]:
        return tuple(-(-extent // chunk) for extent, chunk in zip(self.shape, self._array.chunks, strict=True))

    @cached_property
    def _decoder(self) -> ChunkDecoder | None:
        """Of the array's chunks; None if zarr has to decode them."""
        pipeline, metadata = self._array.async_array.codec_pipeline, self._array.metadata
        if not isinstance(pipeline, BulkCodecPipeline) or not isinstance(metadata, ArrayV3Metadata):
            return None
        if math.prod(self._grid) >= 2**63:
            return None
        prototype = default_buffer_prototype()
        spec = ArraySpec(self._array.chunks, metadata.data_type, metadata.fill_value, self._array.config, prototype)
        return chunk_decoder(pipeline, spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyArray, (self._array,)

    def __repr__(self) -> str:
        return f"LazyArray({self._array!r})"


def begun(work: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
    """Run a read on the loop of blocks."""
    future = process.block_loop().submit(work)
    with _lock:
        _pending.add(future)
    return future


def result_of(future: concurrent.futures.Future[Any]) -> Any:  # noqa: ANN401 - as above
    """Wait for a read that was begun, as long as it is wanted by the task of this thread."""
    is_wanted = _wanted()
    try:
        while not concurrent.futures.wait([future], _LOOK_S if is_wanted is not None else None).done:
            if is_wanted is not None and not is_wanted():
                break
        else:
            return future.result()
    except BaseException:
        future.cancel()
        raise
    future.cancel()
    # The one error that does no harm when the task is wanted again meanwhile: it is run anew
    raise sys.modules["distributed"].Reschedule


def _wanted() -> Callable[[], bool] | None:
    """Return what tells whether distributed still wants the task of this thread; None where there is none."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        worker = distributed.get_worker()
        key = worker.get_current_task()
    except (ValueError, KeyError):  # no worker; a thread that a task started
        return None

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state != "cancelled"

    return is_wanted


def give_up() -> None:
    """Cancel all reads of this process that somebody waits for."""
    with _lock:
        pending = list(_pending)
    for future in pending:
        future.cancel()


def _give_up_at_end() -> None:
    """At the end of the process: after Ctrl-C, do not wait for blocks that threads of a pool still read."""
    if getattr(sys, "last_type", None) is KeyboardInterrupt:
        give_up()


# Called before the threads of executors are waited for, which atexit's functions are not; of no use where it is missing
getattr(threading, "_register_atexit", lambda _: None)(_give_up_at_end)
