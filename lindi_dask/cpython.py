"""A mend for Python 3.11, without which workers of distributed hang for good."""

from __future__ import annotations

import gc
import sys
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["mend_current_frames"]

_lock: Final = threading.Lock()
_current_frames: Final = sys._current_frames  # noqa: SLF001 - Python's own name for it


def mend_current_frames() -> None:
    """Keep the garbage collector out of `sys._current_frames`, as Python does since 3.12 (and late patches of 3.11).

    distributed's profiler calls it every 10 ms. There Python 3.11 holds a lock while it makes objects; when that starts
    a collection which frees a `threading.local` (each retry of tenacity's has one), or lets another thread begin, the
    process waits for itself: https://github.com/python/cpython/issues/106883
    """
    if sys.version_info < (3, 12):
        sys._current_frames = _without_collection  # noqa: SLF001 - as above


def _without_collection() -> dict[int, FrameType]:
    with _lock:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return _current_frames()
        finally:
            if was_enabled:
                gc.enable()
