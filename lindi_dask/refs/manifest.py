"""Where the chunks of an array lie: columns of numbers over the chunk grid, no Python object a chunk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["MISSING", "ChunkManifest", "Locations"]

MISSING = 0xFFFF_FFFF
"""the source of a chunk that the references don't list: it holds the fill value"""

_DENSE_FROM = 0.25  # of the grid filled; below, a sorted index costs less than the empty places


@dataclass(frozen=True, slots=True)
class Locations:
    """Where some chunks lie; element i of each column belongs to the i-th chunk that was asked for."""

    sources: NDArray[np.uint32]
    """index into `References.sources`, or MISSING"""
    offsets: NDArray[np.uint64]
    """bytes, from the start of the source"""
    lengths: NDArray[np.uint32]
    """bytes"""

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True, slots=True)
class ChunkManifest:
    """The chunk locations of one array; `build` makes it.

    Dense where at least a quarter of the grid is filled (then `index` is None and the columns follow the grid
    in C order), else
    sorted by the chunks' places in the grid: an absurd shape costs no more than what it holds. 16 or 24 bytes a chunk.
    """

    grid: tuple[int, ...]
    """chunks along each dimension"""
    index: NDArray[np.uint64] | None
    """places in the grid (C order), ascending; None where dense"""
    columns: Locations

    @classmethod
    def build(
        cls,
        grid: tuple[int, ...],
        places: list[int],
        sources: list[int],
        offsets: list[int],
        lengths: list[int],
    ) -> ChunkManifest:
        """Make a manifest of chunks given in any order.

        Parameters
        ----------
        grid
            Chunks along each dimension.
        places
            Of the chunks in the grid, C order, each at most once.
        sources, offsets, lengths
            One entry a chunk, as in `Locations`.
        """
        columns = Locations(
            np.asarray(sources, np.uint32), np.asarray(offsets, np.uint64), np.asarray(lengths, np.uint32)
        )
        at = np.asarray(places, np.uint64)
        total = math.prod(grid)
        if len(at) >= total * _DENSE_FROM:
            full = Locations(np.full(total, MISSING, np.uint32), np.zeros(total, np.uint64), np.zeros(total, np.uint32))
            full.sources[at] = columns.sources
            full.offsets[at] = columns.offsets
            full.lengths[at] = columns.lengths
            return cls(grid, None, full)
        order = np.argsort(at)
        return cls(grid, at[order], Locations(columns.sources[order], columns.offsets[order], columns.lengths[order]))

    def locate(self, places: NDArray[np.uint64]) -> Locations:
        """Return where the chunks at these places of the grid (C order) lie.

        Parameters
        ----------
        places
            Shape (n,), each less than the product of `grid`.
        """
        if self.index is None:
            return self._take(places)
        if len(self.index) == 0:
            n = len(places)
            return Locations(np.full(n, MISSING, np.uint32), np.zeros(n, np.uint64), np.zeros(n, np.uint32))
        at = np.minimum(np.searchsorted(self.index, places), len(self.index) - 1)
        found = self._take(at)
        return Locations(
            np.where(self.index[at] == places, found.sources, np.uint32(MISSING)),
            found.offsets,
            found.lengths,
        )

    def present(self) -> NDArray[np.uint64]:
        """Return the places of the listed chunks, ascending."""
        if self.index is None:
            return np.flatnonzero(self.columns.sources != MISSING).astype(np.uint64)
        return self.index

    def place(self, name: str) -> int | None:
        """Return the place in the grid of the chunk called `name` (`"3.0"`; `"0"` for an array without dimensions).

        None if the grid has no such chunk.
        """
        parts = name.split(".") if self.grid or name != "0" else []
        if len(parts) != len(self.grid):
            return None
        place = 0
        for part, extent in zip(parts, self.grid, strict=True):
            if not (part.isascii() and part.isdecimal()) or (len(part) > 1 and part[0] == "0") or len(part) > 19:
                return None
            if int(part) >= extent:
                return None
            place = place * extent + int(part)
        return place

    def names(self) -> Iterator[str]:
        """Yield the names of the listed chunks, in the order of the grid."""
        for place in self.present():
            coordinates = []
            rest = int(place)
            for extent in reversed(self.grid):
                rest, coordinate = divmod(rest, extent)
                coordinates.append(str(coordinate))
            yield ".".join(reversed(coordinates)) or "0"

    def _take(self, at: NDArray[np.unsignedinteger | np.signedinteger]) -> Locations:
        return Locations(self.columns.sources[at], self.columns.offsets[at], self.columns.lengths[at])
