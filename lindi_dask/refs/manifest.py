"""Where the chunks of an array lie: columns of numbers over the chunk grid, no Python object a chunk."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["MISSING", "WHOLE", "ChunkManifest", "ColumnManifest", "LazyManifest", "Locations", "name_of", "place_of"]

MISSING = 0xFFFF_FFFF
"""the source of a chunk that the references don't list: it holds the fill value"""

WHOLE = 0xFFFF_FFFF
"""the length of a chunk that is all of its source, however long that is"""

_DENSE_FROM = 0.25  # of the grid filled; below, a sorted index costs less than the empty places
_NAMED_AT_ONCE = 65536  # chunks whose names are made in one go


@dataclass(frozen=True, slots=True)
class Locations:
    """Where some chunks lie; element i of each column belongs to the i-th chunk that was asked for."""

    sources: NDArray[np.uint32]
    """index into `References.sources`, or MISSING"""
    offsets: NDArray[np.uint64]
    """bytes, from the start of the source"""
    lengths: NDArray[np.uint32]
    """bytes, or WHOLE"""

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, at: NDArray[np.unsignedinteger | np.signedinteger | np.bool_]) -> Locations:
        return Locations(self.sources[at], self.offsets[at], self.lengths[at])

    @classmethod
    def joined(cls, parts: Sequence[Locations]) -> Locations:
        """Return the locations of all parts, one part behind the other."""
        return cls(
            np.concatenate([part.sources for part in parts]),
            np.concatenate([part.offsets for part in parts]),
            np.concatenate([part.lengths for part in parts]),
        )

    @classmethod
    def missing(cls, n: int) -> Locations:
        """Return the locations of `n` chunks that are not listed."""
        return cls(np.full(n, MISSING, np.uint32), np.zeros(n, np.uint64), np.zeros(n, np.uint32))


def place_of(grid: tuple[int, ...], name: str) -> int | None:
    """Return the place (C order) in a grid of the chunk called `name`, as `ChunkManifest.place` does."""
    parts = name.split(".") if grid or name != "0" else []
    if len(parts) != len(grid):
        return None
    place = 0
    for part, extent in zip(parts, grid, strict=True):
        if not (part.isascii() and part.isdecimal()) or (len(part) > 1 and part[0] == "0") or len(part) > 19:
            return None
        if int(part) >= extent:
            return None
        place = place * extent + int(part)
    return place


def name_of(grid: tuple[int, ...], place: int) -> str:
    """Return the name of the chunk at a place (C order) of a grid."""
    numbers = []
    for extent in reversed(grid):
        place, number = divmod(place, extent)
        numbers.append(str(number))
    return ".".join(reversed(numbers)) or "0"


class ChunkManifest(ABC):
    """The chunk locations of one array."""

    grid: tuple[int, ...]
    """chunks along each dimension"""

    @abstractmethod
    def locate(self, places: NDArray[np.uint64]) -> Locations:
        """Return where the chunks at these places of the grid (C order) lie.

        Parameters
        ----------
        places
            Shape (n,), each less than the product of `grid`.
        """

    @abstractmethod
    def present(self) -> NDArray[np.uint64]:
        """Return the places of the listed chunks, ascending."""

    @property
    def is_ready(self) -> bool:
        """Whether `locate` only looks up, and reads nothing first."""
        return False

    def place(self, name: str) -> int | None:
        """Return the place in the grid of the chunk called `name` (`"3.0"`; `"0"` for an array without dimensions).

        None if the grid has no such chunk.
        """
        return place_of(self.grid, name)

    def names(self) -> Iterator[str]:
        """Yield the names of the listed chunks, in the order of the grid."""
        present = self.present()
        for first in range(0, len(present), _NAMED_AT_ONCE):
            places = present[first : first + _NAMED_AT_ONCE]
            coordinates: list[list[int]] = []
            for extent in reversed(self.grid):
                places, coordinate = np.divmod(places, np.uint64(extent))
                coordinates.append(coordinate.tolist())
            if not coordinates:
                yield "0"
                continue
            for chunk in zip(*reversed(coordinates), strict=True):
                yield ".".join(map(str, chunk))


@dataclass(frozen=True, slots=True)
class ColumnManifest(ChunkManifest):
    """Locations in columns; `build` makes it.

    Dense where at least a quarter of the grid is filled (then `index` is None and the columns follow the grid
    in C order), else
    sorted by the chunks' places in the grid: an absurd shape costs no more than what it holds. 16 or 24 bytes a chunk.
    """

    grid: tuple[int, ...]
    """chunks along each dimension"""
    index: NDArray[np.uint64] | None
    """places in the grid (C order), ascending; None where dense"""
    columns: Locations

    @property
    def is_ready(self) -> bool:
        """Whether `locate` only looks up: always."""
        return True

    @classmethod
    def build(
        cls, grid: tuple[int, ...], places: ArrayLike, sources: ArrayLike, offsets: ArrayLike, lengths: ArrayLike
    ) -> ColumnManifest:
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
        if len(at) < total * _DENSE_FROM:
            order = np.argsort(at)
            return cls(grid, at[order], columns[order])
        if len(at) == total and (total == 0 or (at[0] == 0 and bool((np.diff(at) == 1).all()))):
            return cls(grid, None, columns)
        full = Locations.missing(total)
        full.sources[at], full.offsets[at], full.lengths[at] = columns.sources, columns.offsets, columns.lengths
        return cls(grid, None, full)

    def locate(self, places: NDArray[np.uint64]) -> Locations:
        """Return where the chunks at these places of the grid lie."""
        if self.index is None:
            return self.columns[places]
        if len(self.index) == 0:
            return Locations.missing(len(places))
        at = np.minimum(np.searchsorted(self.index, places), len(self.index) - 1)
        found = self.columns[at]
        return Locations(
            np.where(self.index[at] == places, found.sources, np.uint32(MISSING)), found.offsets, found.lengths
        )

    def present(self) -> NDArray[np.uint64]:
        """Return the places of the listed chunks, ascending."""
        if self.index is None:
            return np.flatnonzero(self.columns.sources != MISSING).astype(np.uint64)
        return self.index


class LazyManifest(ChunkManifest):
    """A manifest that is made when it is first asked for a chunk. Thread-safe.

    Parameters
    ----------
    grid
        Chunks along each dimension.
    make
        Called once, at the first use; again only after it raised.
    """

    def __init__(self, grid: tuple[int, ...], make: Callable[[], ChunkManifest]) -> None:
        self.grid = grid
        self._make = make
        self._made: ChunkManifest | None = None
        self._lock = threading.Lock()

    @property
    def is_ready(self) -> bool:
        """Whether the manifest was made."""
        return self._made is not None and self._made.is_ready

    def _manifest(self) -> ChunkManifest:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def locate(self, places: NDArray[np.uint64]) -> Locations:
        """Return where the chunks at these places of the grid lie."""
        return self._manifest().locate(places)

    def present(self) -> NDArray[np.uint64]:
        """Return the places of the listed chunks, ascending."""
        return self._manifest().present()
