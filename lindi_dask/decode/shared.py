"""Chunks that several reads have a part of: unpacked once, by the first of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from lindi_dask.decode.steps import Bytes

    Claimed: TypeAlias = "Bytes | Future[Bytes | None] | Promise"

__all__ = ["Promise", "SharedChunks"]


class Promise:
    """To unpack a chunk for others too."""

    __slots__ = ("future", "key")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.future: Future[Bytes | None] = Future()
        self.future.set_running_or_notify_cancel()  # one waiter that gives up must not cancel it for the others


class SharedChunks:
    """The chunks that reads cut, unpacked: the last of them, and those that are being read. Thread-safe.

    Parameters
    ----------
    limit
        Bytes that are kept, at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Bytes] = OrderedDict()
        self._nbytes = 0
        self._pending: dict[Hashable, Future[Bytes | None]] = {}

    def is_worthwhile(self, nbytes: int) -> bool:
        """Return whether a read that cuts chunks of so many bytes leaves room for the neighbours'."""
        return 0 < nbytes <= self._limit // 4

    def claim(self, keys: Sequence[Hashable]) -> list[Claimed]:
        """Return for each chunk what is kept of it, or a future of what another read will find, or a promise to keep.

        What a future comes to is None when the other read failed: the chunk is then to be read without asking again.
        """
        found: list[Claimed] = []
        with self._lock:
            for key in keys:
                kept = self._kept.get(key)
                if kept is not None:
                    self._kept.move_to_end(key)
                    found.append(kept)
                elif key in self._pending:
                    found.append(self._pending[key])
                else:
                    promise = Promise(key)
                    self._pending[key] = promise.future
                    found.append(promise)
        return found

    def keep(self, promise: Promise, raw: Bytes) -> None:
        """Keep a chunk that was promised, and give it to those who wait."""
        if not (isinstance(raw, bytes) or (isinstance(raw, np.ndarray) and raw.flags.owndata)):
            raw = bytes(raw)  # else it would hold the much larger range that it is a part of
        with self._lock:
            if self._pending.pop(promise.key, None) is None:
                return
            self._kept[promise.key] = raw
            self._nbytes += len(raw)
            while self._nbytes > self._limit:
                self._nbytes -= len(self._kept.popitem(last=False)[1])
        promise.future.set_result(raw)

    def give_up(self, promises: Iterable[Promise]) -> None:
        """Let those who wait for what was promised, and was not kept, read it themselves."""
        for promise in promises:
            with self._lock:
                if self._pending.get(promise.key) is not promise.future:
                    continue
                del self._pending[promise.key]
            promise.future.set_result(None)

    def clear(self) -> None:
        """Forget what is kept."""
        with self._lock:
            self._kept.clear()
            self._nbytes = 0
