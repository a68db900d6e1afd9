"""What a run is measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Ballast", "described"]

PAGE_NBYTES = 4096


def described() -> str:
    """Describe this machine in one sentence."""
    cores = len(os.sched_getaffinity(0))
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return (
        f"{cores} cores of {_field('/proc/cpuinfo', 'model name') or platform.machine()}, {_memory()} of memory, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}; load average at the start "
        f"{load}."
    )


class Ballast:
    """Memory that is held between runs and given back right before each: what a reader then gets.

    Virtual machines hand what lies idle for some seconds back to their host. Getting it anew takes ten times as long as
    getting what was just freed, and about as long as the reading itself: it would matter who ran before.

    Parameters
    ----------
    nbytes
        More than a reader takes.
    """

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._held: NDArray[np.uint8] | None = None
        self.take()

    def take(self) -> None:
        self._held = np.empty(self._nbytes, np.uint8)
        self._held[::PAGE_NBYTES] = 1

    def drop(self) -> None:
        self._held = None


def _memory() -> str:
    kib = int(_field("/proc/meminfo", "MemTotal").split()[0] or 0)
    return f"{kib / 2**20:.0f} GiB"


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text("utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
