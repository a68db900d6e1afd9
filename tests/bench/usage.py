"""What this process takes of the machine. Needs the standard library alone: it runs in each reader's interpreter."""

from __future__ import annotations

import ctypes
import gc
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["Memory", "memory", "reset_peak", "settle", "versions"]


@dataclass(frozen=True, slots=True)
class Memory:
    """Of this process, in bytes."""

    resident: int
    """pages of mapped files among them"""
    peak: int
    """the most that was resident since `reset_peak`"""
    private: int
    """resident, and of no other process"""


def memory() -> Memory:
    status, rollup = _fields("/proc/self/status"), _fields("/proc/self/smaps_rollup")
    return Memory(status["VmRSS"], status["VmHWM"], rollup["Private_Clean"] + rollup["Private_Dirty"])


def _fields(path: str) -> dict[str, int]:
    lines = (line.split() for line in Path(path).read_text("ascii").splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[-1] == "kB"}


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # man 5 proc_pid_clear_refs


def settle() -> int:
    """Give back what nobody needs any more, so that readers start alike; return the bytes that stay resident."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    reset_peak()
    return memory().resident


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of those packages that are installed, and Python's."""
    found = {"Python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
