"""The keys of a `gen` as places in the chunk grid of an array."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lindi_dask.refs.kerchunk.expressions import Integer, Number, Text
from lindi_dask.refs.kerchunk.gen_columns import Block, Fault, number_column, refuse, text_column
from lindi_dask.refs.manifest import place_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ChunkKeys", "check_distinct"]

_CANONICAL = re.compile(r"0|[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class ChunkKeys:
    """Keys that have to be those of chunks of one array; `of` makes it."""

    key: Text
    """as in the gen"""
    prefix: str
    """path of the array, with a slash behind it unless it is the root"""
    grid: tuple[int, ...]
    """chunks along each dimension of the array"""
    separator: str
    """between the numbers in a chunk's name, a dot or a slash"""
    coordinates: list[Integer] | None
    """the numbers of a chunk's name, if the key is made of the prefix and of plain numbers. None for others, which
    are read one by one"""

    @classmethod
    def of(cls, key: Text, path: str, grid: tuple[int, ...], separator: str) -> ChunkKeys:
        """Prepare keys; those that can't be of this array are refused when they are read."""
        prefix = f"{path}/" if path else ""
        coordinates = _coordinates(key, prefix, separator)
        fits = coordinates is not None and len(coordinates) == max(1, len(grid))
        return cls(key, prefix, grid, separator, coordinates if fits else None)

    def places(self, block: Block) -> NDArray[np.int64]:
        """Return the place in the grid (C order) of each combination's chunk.

        Raises
        ------
        Fault
            At the first key that is not that of a chunk.
        """
        no_chunk = f"the array has no such chunk: its grid is {list(self.grid)}"
        places = np.zeros(block.n, np.int64)
        if self.coordinates is None:
            for row, key in enumerate(text_column(self.key, block)):
                place = self._place(key)
                if place is None:
                    raise Fault(row, no_chunk)
                places[row] = place
            return places
        extents = self.grid or (1,)  # the chunk of a 0-d array is called "0"
        for coordinate, extent in zip(self.coordinates, extents, strict=True):
            column = number_column(coordinate, block)
            refuse((column < 0) | (column >= extent), no_chunk)
            places = places * extent + column
        return places

    def _place(self, key: str) -> int | None:
        name = key.removeprefix(self.prefix)
        if not key.startswith(self.prefix) or (self.separator != "." and "." in name):
            return None
        return place_of(self.grid, name.replace(self.separator, "."))


def check_distinct(places: NDArray[np.uint64]) -> None:
    """Raise a `Fault` at the first place that is there for the second time."""
    if (places[1:] > places[:-1]).all():
        return
    again = np.ones(len(places), np.bool_)
    again[np.unique(places, return_index=True)[1]] = False
    refuse(again, "another combination of the dimensions has it too")


def _coordinates(key: Text, prefix: str, separator: str) -> list[Integer] | None:
    """Return the numbers of a chunk's name, if the key is made of the prefix and of plain numbers."""
    first = key.parts[0] if key.parts and isinstance(key.parts[0], str) else ""
    if not first.startswith(prefix):
        return None
    parts = (first[len(prefix) :], *(key.parts[1:] if first else key.parts))
    pieces: list[list[Any]] = [[]]
    for part in parts:
        if isinstance(part, str):
            joined, *apart = part.split(separator)
            pieces[-1] += [joined] if joined else []
            pieces += [[piece] if piece else [] for piece in apart]
        else:
            pieces[-1].append(part)
    coordinates: list[Integer] = []
    for piece in pieces:
        match piece:
            case [Number(value, "")]:
                coordinates.append(value)
            case [str(digits)] if _CANONICAL.fullmatch(digits):
                coordinates.append(int(digits))
            case _:
                return None
    return coordinates
