"""What a process has read, in numbers."""

from __future__ import annotations

import math
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
    chunks_shared: int = 0
    """that were not fetched, as another block that has a part of them did"""
    ranges: int = 0
    """that the other ones were coalesced into"""
    retries: int = 0
    """requests that repeated one that had failed"""
    refusals: int = 0
    """requests that repeated one whose presigned URL was refused"""
    hedges: int = 0
    """requests that were sent beside one that took long"""
    exchanges: int = 0
    """download URLs that were exchanged for presigned ones"""
    renewals: int = 0
    """exchanges of an asset that the process had one for before"""
    wait_s: float = 0.0
    """seconds from the start of reads to their last chunk, decoded, summed over reads (of blocks) that may run side by
    side"""
    decode_s: float = 0.0
    """seconds of decoding and placing, summed over threads"""

    @property
    def chunks_per_request(self) -> float:
        """How many chunks a request brought, on average: the coalescing ratio; nan without requests."""
        return (self.chunks - self.cache_hits) / self.requests if self.requests else math.nan

    @property
    def overhead(self) -> float:
        """Bytes that came for each one that the disk cache did not have: gaps are above 1; nan for none."""
        missed = self.bytes_wanted - self.bytes_cached
        return self.bytes_fetched / missed if missed else math.nan

    def __sub__(self, other: Counts) -> Counts:
        """Return what was counted since `other`."""
        return Counts(*(getattr(self, one.name) - getattr(other, one.name) for one in fields(self)))

    def __add__(self, other: Counts) -> Counts:
        """Return the sum of two processes."""
        return Counts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def __str__(self) -> str:
        came = f"{self.requests:,} requests ({_size(self.bytes_fetched)})"
        parts = [
            f"{self.chunks:,} chunks ({_size(self.bytes_wanted)}) by {came}",
            f"{self.cache_hits:,} from the disk cache, {self.chunks_shared:,} shared by blocks",
            f"{self.exchanges:,} exchanges, {self.renewals:,} of them renewals",
            f"{self.refusals:,} refusals, {self.retries:,} retries, {self.hedges:,} hedges",
            f"{self.wait_s:,.1f} s in reads, {self.decode_s:,.1f} s of decoding",
        ]
        return "; ".join(parts)


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


def _size(nbytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if abs(nbytes) < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:,.1f} GB"
