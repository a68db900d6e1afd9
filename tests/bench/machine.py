"""What a run is measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np

__all__ = ["described", "ready_memory"]

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


def ready_memory(nbytes: int) -> None:
    """Write to so much memory, and give it back at once.

    Virtual machines hand what lies idle for some seconds back to their host: getting it anew takes ten times as long as
    getting memory that was just freed, and as long as the reading itself. So all readers find some that was.
    """
    np.empty(nbytes, np.uint8)[::PAGE_NBYTES] = 1


def _memory() -> str:
    kib = int(_field("/proc/meminfo", "MemTotal").split()[0] or 0)
    return f"{kib / 2**20:.0f} GiB"


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text("utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
