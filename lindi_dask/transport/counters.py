"""What a process has read, in numbers."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Counters", "Counts"]


@dataclass(frozen=True, slots=True)
class Counts:
    """What was read up to a moment."""

    requests: int = 0
    """sent to storage hosts, retries and hedges included"""
    bytes_wanted: int = 0
    """bytes of the chunks that were asked for"""
    bytes_fetched: int = 0
    """bytes that came by the network or from local files, gaps between chunks included"""
    bytes_cached: int = 0
    """bytes of the chunks that came from the disk cache"""
    chunks: int = 0
    """that were asked for"""
    cache_hits: int = 0
    """of these chunks, those that came from the disk cache"""
    ranges: int = 0
    """that the other ones were coalesced into"""
    retries: int = 0
    """requests that repeated one that had failed"""
    renewals: int = 0
    """requests that repeated one whose presigned URL was refused"""
    hedges: int = 0
    """requests that were sent beside one that took long"""
    wait_s: float = 0.0
    """seconds from the start of reads to their last byte, summed over reads (of blocks) that may run side by side"""
    decode_s: float = 0.0
    """seconds of decoding and placing, summed over threads"""

    def __sub__(self, other: Counts) -> Counts:
        """Return what was counted since `other`."""
        return Counts(*(getattr(self, one.name) - getattr(other, one.name) for one in fields(self)))


class Counters:
    """Counts as reads go on. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, Any] = {one.name: one.default for one in fields(Counts)}

    def add(self, **amounts: float) -> None:
        """Add to some counts, by their names."""
        with self._lock:
            for name, amount in amounts.items():
                self._values[name] += amount

    def counts(self) -> Counts:
        """Return the counts as they are now."""
        with self._lock:
            return Counts(**self._values)
