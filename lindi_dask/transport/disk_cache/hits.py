"""How what a cache holds is read: planned as ranges of its files are, gathered into batches of a few MiB. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np

from lindi_dask.refs import Locations
from lindi_dask.transport.disk_cache.intervals import NONE
from lindi_dask.transport.disk_cache.range_file import PAGE, pages_of
from lindi_dask.transport.plan import PlannedRange, plan_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lindi_dask.transport.disk_cache.range_cache import Found, HeldRange

    Read = Callable[[HeldRange, Sequence[tuple[int, int]]], list[memoryview] | None]

__all__ = ["Hit", "nbytes_of", "plan_hits", "read_hits"]

_SIZE: Final = 2 * 2**20  # bytes: large enough for few hops between threads, and that all of these have work


@dataclass(frozen=True, slots=True, eq=False)
class Hit:
    """A part of a held range, and the chunks in it."""

    held: HeldRange
    planned: PlannedRange
    """of the source itself, as if it were to be fetched"""

    @property
    def part(self) -> tuple[int, int]:
        """First byte, and first byte after it, from the start of the source."""
        assert self.planned.stop is not None  # noqa: S101 - sources as a whole are not held
        return self.planned.start, self.planned.stop

    @property
    def nbytes(self) -> int:
        """Bytes that are read for it: whole pages."""
        start, stop = self.part
        first, last = pages_of(start - self.held.start, stop - self.held.start, self.held.stop - self.held.start)
        return last - first


def plan_hits(found: Found, locations: Locations) -> list[list[Hit]]:
    """Return how to read the locations that are held: batches, each for one thread at a time.

    Each of these locations is a member of exactly one planned range.
    """
    at = np.flatnonzero(found.at != NONE)
    in_files = Locations(found.at[at].astype(np.uint32), locations.offsets[at], locations.lengths[at])
    batches: list[list[Hit]] = []
    left = 0
    for planned in plan_ranges(in_files, max_gap=PAGE, size=_SIZE):
        members = at[planned.members]
        source = int(locations.sources[members[0]])
        hit = Hit(found.held[planned.source], replace(planned, source=source, members=members))
        if hit.nbytes > left:
            batches.append([])
            left = _SIZE
        batches[-1].append(hit)
        left -= hit.nbytes
    return batches


def nbytes_of(batch: list[Hit]) -> int:
    """Return the bytes that are read for a batch."""
    return sum(hit.nbytes for hit in batch)


def read_hits(read: Read, batch: list[Hit]) -> list[memoryview | None]:
    """Return the bytes of each hit, None for one that can't be read; each file is opened once."""
    data: list[memoryview | None] = []
    for held, hits in groupby(batch, key=lambda hit: hit.held):
        parts = [hit.part for hit in hits]
        data += read(held, parts) or [None] * len(parts)
    return data
