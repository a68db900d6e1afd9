"""Which ranges to request for the chunks of a block. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lindi_dask.refs.manifest import WHOLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lindi_dask.refs import Locations

__all__ = ["PlannedRange", "plan_ranges", "split"]


@dataclass(frozen=True, slots=True)
class PlannedRange:
    """A run of bytes to fetch, and the chunks that it brings."""

    source: int
    """index into `References.sources`"""
    start: int
    """bytes, from the start of the source"""
    stop: int | None
    """first byte after the range; None: all that follows `start`, however much that is"""
    members: NDArray[np.intp]
    """which of the locations lie in the range, in the order of their offsets"""

    def cut(self, locations: Locations, data: memoryview) -> list[memoryview]:
        """Return the bytes of each member out of the range's."""
        if self.stop is None:
            return [data] * len(self.members)
        starts = (locations.offsets[self.members] - np.uint64(self.start)).astype(np.int64)
        stops = starts + locations.lengths[self.members]
        return [data[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]


def plan_ranges(locations: Locations, *, max_gap: int, size: int) -> list[PlannedRange]:
    """Coalesce chunks that lie near each other in their source into few ranges.

    Parameters
    ----------
    locations
        Of the chunks, in any order; they may overlap or repeat. All must have a source.
    max_gap
        Bytes that may be fetched for nothing between two neighbours of one range.
    size
        Bytes that a range should have at most. Neighbours that are longer together are shared out evenly over as few
        ranges as that takes; a range may be longer by less than a chunk. A chunk that is longer alone is a
        range of its own, for `split`.

    Returns
    -------
    list of PlannedRange
        Each location is a member of exactly one range and lies within it. No byte is fetched outside the chunks
        and the gaps between them. In the order of source and offset, but for the chunks that are all of their source:
        these come last, each a range of its own.
    """
    alone = locations.lengths > min(size, WHOLE - 1)
    if not alone.any():
        return _coalesced(locations, np.arange(len(locations)), max_gap=max_gap, size=size)
    small, large = np.flatnonzero(~alone), np.flatnonzero(alone & (locations.lengths != WHOLE))
    ranges = _coalesced(locations, small, max_gap=max_gap, size=size)
    ranges += _each(locations, large)
    ranges.sort(key=lambda one: (one.source, one.start))
    return ranges + _each(locations, np.flatnonzero(locations.lengths == WHOLE))


def split(start: int, stop: int, size: int) -> list[tuple[int, int]]:
    """Cut a range into as few parts of at most `size` bytes as possible, of the same length but for a byte."""
    count = max(-(-(stop - start) // size), 1)
    edges = [start + (stop - start) * i // count for i in range(count + 1)]
    return list(pairwise(edges))


def _each(locations: Locations, at: NDArray[np.intp]) -> list[PlannedRange]:
    ranges = []
    for i, one in zip(at.tolist(), np.split(at, len(at)) if len(at) else (), strict=True):
        start, length = int(locations.offsets[i]), int(locations.lengths[i])
        stop = None if length == WHOLE else start + length
        ranges.append(PlannedRange(int(locations.sources[i]), start, stop, one))
    return ranges


def _coalesced(locations: Locations, at: NDArray[np.intp], *, max_gap: int, size: int) -> list[PlannedRange]:
    if len(at) == 0:
        return []
    chosen = locations[at]
    order = np.lexsort((chosen.offsets, chosen.sources))
    sources, starts = chosen.sources[order], chosen.offsets[order].astype(np.int64)
    stops = starts + chosen.lengths[order]
    reach = _reach(sources, starts, stops)
    runs = _firsts((sources[1:] != sources[:-1]) | (starts[1:] - reach[:-1] > max_gap))
    # Each run in pieces of one length; a chunk belongs to the piece that it begins in
    lasts = np.append(runs[1:], len(order)) - 1
    extents = reach[lasts] - starts[runs]
    counts = np.maximum(-(-extents // size), 1)
    lengths = np.maximum(-(-extents // counts), 1)
    chunks = np.diff(np.append(runs, len(order)))
    pieces = (starts - np.repeat(starts[runs], chunks)) // np.repeat(lengths, chunks)
    pieces = np.minimum(pieces, np.repeat(counts - 1, chunks))  # chunks of no bytes may begin at the very end
    in_run = np.repeat(np.arange(len(runs)), chunks)
    firsts = _firsts((in_run[1:] != in_run[:-1]) | (pieces[1:] != pieces[:-1]))
    ends = np.maximum.reduceat(stops, firsts)
    members = np.split(at[order], firsts[1:])
    columns = sources[firsts].tolist(), starts[firsts].tolist(), ends.tolist(), members
    return [PlannedRange(*row) for row in zip(*columns, strict=True)]


def _reach(sources: NDArray[np.uint32], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the last stop so far within each source."""
    same = sources[1:] == sources[:-1]
    if not (same & (starts[1:] < stops[:-1])).any():
        return stops
    reach = stops.copy()
    edges = np.append(_firsts(~same), len(sources)).tolist()
    for low, high in pairwise(edges):
        np.maximum.accumulate(stops[low:high], out=reach[low:high])
    return reach


def _firsts(breaks: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return where each span begins in a sequence that `breaks[i]` parts between i and i + 1."""
    return np.concatenate(([0], np.flatnonzero(breaks) + 1))
