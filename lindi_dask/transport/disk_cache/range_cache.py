"""The disk cache: ranges that were fetched, kept in files for the next time, by whichever process of the node."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from lindi_dask.private_files import warn_once
from lindi_dask.refs.manifest import WHOLE
from lindi_dask.transport.disk_cache.folder import CacheFolder
from lindi_dask.transport.disk_cache.intervals import NONE, Intervals
from lindi_dask.transport.disk_cache.options import source_name
from lindi_dask.transport.disk_cache.range_file import DamagedRangeError, laid_out, read_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from lindi_dask.refs import Locations
    from lindi_dask.types import DiskCache, Target

__all__ = ["Found", "HeldRange", "RangeCache"]

_log = logging.getLogger(__name__)

_SOURCES: Final = 1024  # whose ranges are remembered
_LISTING_SHARE: Final = 20  # folders are listed anew for one in so many seconds: own writes change them all the time
_RACY_S: Final = 2.0  # a folder changed so lately may change again within the same tick of its clock
_RACY: Final = -1
_TOUCHED_S: Final = 60.0  # a file's time of change says when it was last used, to the minute
_PAUSE_S: Final = 60.0  # after a file could not be written
_FURTHEST: Final = 2**62  # bytes: sums of what is below do not overflow
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class HeldRange:
    """A range that there is, or was, a file of."""

    source: str
    """what the cache calls it"""
    start: int
    """bytes, from the start of the source"""
    stop: int
    """first byte after the range"""

    @property
    def seed(self) -> bytes:
        """What its checksums begin with."""
        return f"{self.source}/{self.start}-{self.stop}".encode()


@dataclass(frozen=True, slots=True)
class Found:
    """Which locations lie in which ranges."""

    held: list[HeldRange]
    at: NDArray[np.intp]
    """for each location the index of its range, or `NONE`"""


@dataclass(frozen=True, slots=True)
class _Known:
    """The ranges of one source, as far as this process knows."""

    intervals: Intervals
    changed_ns: int | None
    """when the folder was last changed before it was listed: nanoseconds since 1970; None: there was none"""
    listed_at: float
    """seconds, by `clock`"""
    took_s: float


class RangeCache:
    """Ranges of sources whose content never changes, on a disk of the node. Blocks; thread-safe; does not pickle.

    Whatever goes wrong with it costs a request only: what can't be read, or is not what was written, is not there.

    Parameters
    ----------
    cache
        Where, and how much.
    now
        The clock that files' times are compared with: seconds since 1970.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self, cache: DiskCache, *, now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._files = CacheFolder(Path(cache.folder), cache.limit, now=now)
        self._now, self._clock = now, clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._paused_until = clock()

    def find(self, targets: Mapping[int, Target], locations: Locations) -> Found:
        """Return which locations lie in a range that is held.

        Parameters
        ----------
        targets
            By source.
        locations
            All with a source that has a target.
        """
        held: list[HeldRange] = []
        at = np.full(len(locations), NONE, np.intp)
        sized = (locations.lengths != WHOLE) & (locations.lengths != 0) & (locations.offsets < _FURTHEST)
        for number, of_source in _by_source(locations.sources, np.flatnonzero(sized)):
            source = source_name(targets[number])
            if source is None:
                continue
            starts = locations.offsets[of_source].astype(np.int64)
            intervals, which = self._covering(source, starts, starts + locations.lengths[of_source])
            is_held = which != NONE
            used, places = np.unique(which[is_held], return_inverse=True)
            at[of_source[is_held]] = len(held) + places
            columns = intervals.starts[used].tolist(), intervals.stops[used].tolist()
            held += [HeldRange(source, start, stop) for start, stop in zip(*columns, strict=True)]
        return Found(held, at)

    def read(self, held: HeldRange, parts: Sequence[tuple[int, int]]) -> list[memoryview] | None:
        """Return some parts of a range; None if there is no sound file of it (any more).

        Parameters
        ----------
        held
            The range.
        parts
            (start, stop) of each, in bytes from the start of the source.
        """
        path = self._files.file(held.source, held.start, held.stop)
        try:
            handle = os.open(path, _FLAGS)
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link: never one of ours
                self.drop([held])
            elif not isinstance(error, FileNotFoundError):
                warn_once(f"{path} can't be read from the cache: {error.strerror}")
            self._forget(held)
            return None
        try:
            inside = [(start - held.start, stop - held.start) for start, stop in parts]
            views = read_parts(handle, held.stop - held.start, inside, held.seed)
        except (DamagedRangeError, OSError) as damage:
            _log.warning("%s is removed from the cache, and fetched anew: %s", path, damage)
            self._forget(held)
            self._files.discard(path, os.fstat(handle))
        else:
            self._touch(handle)
            return views
        finally:
            os.close(handle)
        return None

    def put(self, target: Target, start: int, data: memoryview) -> None:
        """Keep a range, if its source is one that doesn't change, it isn't there, and there is room.

        Parameters
        ----------
        target
            What it was read from.
        start
            Bytes, from the start of the source.
        data
            The bytes of the range.
        """
        source, stop = source_name(target), start + len(data)
        if source is None or not self._files.takes(start, stop) or self._clock() < self._paused_until:
            return
        with self._lock:
            known = self._known.get(source)
        if known is not None and known.intervals.covers(start, stop):
            return
        try:
            is_held = self._files.add(source, start, stop, laid_out(data, HeldRange(source, start, stop).seed))
        except OSError as error:
            self._paused_until = self._clock() + _PAUSE_S
            warn_once(f"nothing can be kept in the cache {self._files.path} for now: {error.strerror}")
            return
        if is_held:
            self._change(source, lambda intervals: intervals.plus(start, stop))

    def drop(self, ranges: Iterable[HeldRange]) -> None:
        """Remove ranges: their bytes are not what they should be, and were so when they came."""
        for held in set(ranges):
            self._forget(held)
            path = self._files.file(held.source, held.start, held.stop)
            with contextlib.suppress(OSError):
                self._files.discard(path, path.lstat())

    def _covering(
        self, source: str, starts: NDArray[np.int64], stops: NDArray[np.int64]
    ) -> tuple[Intervals, NDArray[np.intp]]:
        with self._lock:
            known = self._known.get(source)
            if known is not None:
                self._known.move_to_end(source)
        if known is not None:
            which = known.intervals.covering(starts, stops)
            if (which != NONE).all() or not self._is_outdated(source, known):
                return known.intervals, which
        intervals = self._listed(source)
        return intervals, intervals.covering(starts, stops)

    def _is_outdated(self, source: str, known: _Known) -> bool:
        if self._clock() - known.listed_at < _LISTING_SHARE * known.took_s:
            return False
        try:
            return self._files.changed_ns(source) != known.changed_ns
        except OSError:
            return True

    def _listed(self, source: str) -> Intervals:
        began = self._clock()
        changed_ns, intervals = None, Intervals.none()
        try:
            changed_ns = self._files.changed_ns(source)
            ranges = [] if changed_ns is None else self._files.ranges(source)
            if ranges:
                intervals = Intervals.of(*np.array(ranges, np.int64).T)
        except FileNotFoundError:
            changed_ns = None
        except OSError as error:
            warn_once(f"the cache {error.filename} is not used: {error.strerror}")
        if changed_ns is not None and self._now() - changed_ns / 1e9 < _RACY_S:
            changed_ns = _RACY
        listed_at = self._clock()
        with self._lock:
            self._known[source] = _Known(intervals, changed_ns, listed_at, listed_at - began)
            self._known.move_to_end(source)
            if len(self._known) > _SOURCES:
                self._known.popitem(last=False)
        return intervals

    def _forget(self, held: HeldRange) -> None:
        self._change(held.source, lambda intervals: intervals.minus(held.start, held.stop))

    def _change(self, source: str, change: Callable[[Intervals], Intervals]) -> None:
        with self._lock:
            known = self._known.get(source)
            if known is not None:
                self._known[source] = replace(known, intervals=change(known.intervals))

    def _touch(self, handle: int) -> None:
        """Note that a file is in use."""
        with contextlib.suppress(OSError):
            if self._now() - os.fstat(handle).st_mtime > _TOUCHED_S:
                os.utime(handle, (self._now(), self._now()))


def _by_source(sources: NDArray[np.uint32], at: NDArray[np.intp]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Yield each source and which of the places `at` have it."""
    order = at[np.argsort(sources[at], kind="stable")]
    numbers, firsts = np.unique(sources[order], return_index=True)
    yield from zip(numbers.tolist(), np.split(order, firsts[1:]), strict=True) if len(at) else ()
