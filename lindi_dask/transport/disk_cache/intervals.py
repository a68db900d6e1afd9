"""Which of many ranges covers another one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NONE", "Intervals"]

NONE: Final = -1
"""in the place of an index: no interval covers it"""


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Ranges none of which lies within another one, so that both ends ascend: one search finds what covers a range."""

    starts: NDArray[np.int64]
    """first bytes, ascending"""
    stops: NDArray[np.int64]
    """first bytes after each, ascending"""

    @classmethod
    def of(cls, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Intervals:
        """Return those of some ranges that lie within no other one.

        Parameters
        ----------
        starts, stops
            Shape (n,), in any order; each start less than its stop.
        """
        order = np.lexsort((-stops, starts))
        starts, stops = starts[order], stops[order]
        is_maximal = np.ones(len(starts), bool)
        is_maximal[1:] = stops[1:] > np.maximum.accumulate(stops)[:-1]
        return cls(starts[is_maximal], stops[is_maximal])

    @classmethod
    def none(cls) -> Intervals:
        """Return no interval at all."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.starts)

    def covering(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return for each range the index of an interval that it lies within, or NONE.

        Of all that begin at its start or before it, the last one reaches furthest.
        """
        if not len(self):
            return np.full(len(starts), NONE, np.intp)
        found = np.searchsorted(self.starts, starts, side="right") - 1
        found[(found >= 0) & (self.stops[found] < stops)] = NONE
        return found

    def covers(self, start: int, stop: int) -> bool:
        """Return whether a range lies within an interval."""
        return bool(self.covering(np.array([start]), np.array([stop]))[0] != NONE)

    def plus(self, start: int, stop: int) -> Intervals:
        """Return these and one more, without those that lie within it."""
        if self.covers(start, stop):
            return self
        first = np.searchsorted(self.starts, start, side="left")
        last = np.searchsorted(self.stops, stop, side="right")
        return Intervals(
            np.concatenate((self.starts[:first], np.array([start]), self.starts[last:])),
            np.concatenate((self.stops[:first], np.array([stop]), self.stops[last:])),
        )

    def minus(self, start: int, stop: int) -> Intervals:
        """Return these but for one, if it is among them."""
        others = (self.starts != start) | (self.stops != stop)
        return self if others.all() else Intervals(self.starts[others], self.stops[others])
