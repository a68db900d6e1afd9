"""Which chunks of a regular grid a part of an array touches, and what of each."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Slices = tuple[slice, ...]

__all__ = ["Touched", "touched"]


@dataclass(frozen=True, slots=True)
class Touched:
    """Chunks, in C order."""

    places: NDArray[np.uint64]
    """shape (n,), in the grid, C order"""
    parts: list[tuple[Slices, Slices, bool]]
    """of each: a selection of the chunk, the selection of the part that it fills, whether that is all of the chunk"""


def touched(shape: Sequence[int], chunks: Sequence[int], part: Sequence[tuple[int, int]]) -> Touched:
    """Return the chunks that a part touches.

    Parameters
    ----------
    shape, chunks
        Of the array; the grid has fewer than 2**63 chunks.
    part
        For each dimension its first element and the one after its last; nowhere empty, within the array.
    """
    places = np.zeros(1, np.uint64)
    along = []
    for extent, chunk, (start, stop) in zip(shape, chunks, part, strict=True):
        numbers = range(start // chunk, -(-stop // chunk))
        here = np.arange(numbers.start, numbers.stop, dtype=np.uint64)
        places = np.add.outer(places * np.uint64(-(-extent // chunk)), here, dtype=np.uint64).ravel()
        pieces = []
        for number in numbers:
            first = number * chunk
            low, high = max(start, first), min(stop, first + chunk)
            is_whole = low == first and high == min(first + chunk, extent)
            pieces.append((slice(low - first, high - first), slice(low - start, high - start), is_whole))
        along.append(pieces)
    parts = []
    for pieces_of_one in itertools.product(*along):
        of_chunk, of_part, is_whole_along = zip(*pieces_of_one, strict=True)
        parts.append((of_chunk, of_part, all(is_whole_along)))
    return Touched(places, parts)
