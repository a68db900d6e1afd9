"""Which ranges to request for the chunks of a block. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lindi_dask.refs.manifest import WHOLE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lindi_dask.refs import Locations

__all__ = ["PlannedRange", "plan_ranges"]

_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class PlannedRange:
    """One request, and the chunks that it brings."""

    source: int
    """index into `References.sources`"""
    start: int
    """bytes, from the start of the source"""
    stop: int | None
    """first byte after the range; None: all that follows `start`, however much that is"""
    members: NDArray[np.intp]
    """which of the locations lie in the range"""

    def cut(self, locations: Locations, data: memoryview) -> list[memoryview]:
        """Return the bytes of each member out of the range's."""
        if self.stop is None:
            return [data] * len(self.members)
        starts = locations.offsets[self.members].astype(np.int64) - self.start
        stops = starts + locations.lengths[self.members]
        return [data[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]


def plan_ranges(locations: Locations, *, max_gap: int, max_size: int) -> list[PlannedRange]:
    """Coalesce chunks that lie near each other in their source into few ranges.

    Parameters
    ----------
    locations
        Of the chunks, in any order; they may overlap or repeat. All must have a source.
    max_gap
        Bytes that may be fetched for nothing between two neighbours of one range.
    max_size
        Bytes of a range, unless a single chunk is larger.

    Returns
    -------
    list of PlannedRange
        Each location is a member of exactly one range and lies within it. No byte is fetched outside the chunks
        and the gaps between them. In the order of source and offset, but for the chunks that are all of their source:
        these come last, each a range of its own.
    """
    whole = np.flatnonzero(locations.lengths == WHOLE)
    if len(whole) == 0:
        return _coalesced(locations, max_gap=max_gap, max_size=max_size)
    sized = np.flatnonzero(locations.lengths != WHOLE)
    ranges = [
        PlannedRange(one.source, one.start, one.stop, sized[one.members])
        for one in _coalesced(locations[sized], max_gap=max_gap, max_size=max_size)
    ]
    sources, offsets = locations.sources[whole].tolist(), locations.offsets[whole].tolist()
    for i, source, offset in zip(range(len(whole)), sources, offsets, strict=True):
        ranges.append(PlannedRange(source, offset, None, whole[i : i + 1]))
    return ranges


def _coalesced(locations: Locations, *, max_gap: int, max_size: int) -> list[PlannedRange]:
    if len(locations) == 0:
        return []
    starts = locations.offsets.astype(np.int64)
    order = np.lexsort((starts, locations.sources))
    sources, starts = locations.sources[order], starts[order]
    stops = starts + locations.lengths[order]
    ranges: list[PlannedRange] = []
    for low, high in _spans(sources[1:] != sources[:-1]):
        reach = np.maximum.accumulate(stops[low:high])
        for first, last in _spans(starts[low + 1 : high] - reach[:-1] > max_gap):
            begin, end = low + first, low + last
            while begin < end:
                # Chunks of this run that end within max_size of its start, at least one
                limit = min(int(starts[begin]) + max_size, _LAST)
                fits = np.searchsorted(reach[begin - low : end - low], limit, side="right")
                cut = begin + max(int(fits), 1)
                start, stop = int(starts[begin]), int(stops[begin:cut].max())
                ranges.append(PlannedRange(int(sources[begin]), start, stop, order[begin:cut]))
                begin = cut
    return ranges


def _spans(breaks: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open spans of a sequence of `len(breaks) + 1` elements, where `breaks[i]` parts element i from i + 1."""
    edges = np.concatenate(([0], np.flatnonzero(breaks) + 1, [len(breaks) + 1]))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
