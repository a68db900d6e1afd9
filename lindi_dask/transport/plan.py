"""Which ranges to request for the chunks of a block. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

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
    stop: int
    """first byte after the range"""
    members: NDArray[np.intp]
    """which of the locations lie in the range"""


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
        In the order of source and offset. Each location is a member of exactly one range and lies within it.
        No byte is fetched
        outside the chunks and the gaps between them.
    """
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
