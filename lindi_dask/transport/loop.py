"""The event loop that all range reads of a process run on.

zarr, distributed and notebooks each have a loop of their own, and stores are used from all of them. With one loop for
the reads, limits hold for the whole process and no foreign loop is ever blocked.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from lindi_dask.cpython import mend_current_frames
from lindi_dask.network import forked

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future

__all__ = ["IoLoop"]

T = TypeVar("T")


class IoLoop:
    """An asyncio loop in a daemon thread, started when first used. Thread-safe; does not pickle.

    Parameters
    ----------
    name
        Of the thread.
    """

    def __init__(self, name: str = "lindi-io") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid: int | None = None  # of the process that it was started in

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop; to cancel the future cancels it.

        Raises
        ------
        ForkedProcessError
            In a process that was forked from the loop's.
        """
        if self._pid not in {None, os.getpid()}:
            work.close()
            raise forked()
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                mend_current_frames()
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True).start()
            return self._loop
