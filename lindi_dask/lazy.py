"""What a block's task reads from: an array whose reads end when nobody waits for them any more."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from lindi_dask import process

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import numpy as np
    import zarr

__all__ = ["LazyArray"]

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

    def __getitem__(self, selection: Any) -> Any:  # noqa: ANN401 - whatever numpy takes and gives
        parts = selection if isinstance(selection, tuple) else (selection,)
        if not all(part is Ellipsis or isinstance(part, slice | int) for part in parts):
            return self._array[selection]
        return _result(self._array.async_array.getitem(selection))

    def __reduce__(self) -> tuple[Any, ...]:
        return LazyArray, (self._array,)

    def __repr__(self) -> str:
        return f"LazyArray({self._array!r})"


def _result(work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - as above
    """Wait for a read, as long as it is wanted."""
    is_wanted = _wanted()
    future = process.block_loop().submit(work)
    with _lock:
        _pending.add(future)
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


def _give_up() -> None:
    """At the end of the process: after Ctrl-C, do not wait for blocks that threads of a pool still read."""
    if getattr(sys, "last_type", None) is KeyboardInterrupt:
        with _lock:
            pending = list(_pending)
        for future in pending:
            future.cancel()


# Called before the threads of executors are waited for, which atexit's functions are not; of no use where it is missing
getattr(threading, "_register_atexit", lambda _: None)(_give_up)
