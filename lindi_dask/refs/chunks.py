"""The chunks of an array, gathered from a reference file's entries, checked, and made a manifest."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.dialect.v3 import shortest_nbytes
from lindi_dask.refs.kerchunk.templates import expand
from lindi_dask.refs.manifest import WHOLE, ColumnManifest, LazyManifest, Locations, name_of, place_of
from lindi_dask.refs.references import INLINE, Source, SourceTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from lindi_dask.refs.columns import Run
    from lindi_dask.refs.dialect.v2 import ArrayPlan
    from lindi_dask.refs.dialect.v3 import Selection
    from lindi_dask.refs.kerchunk.gen import Gen
    from lindi_dask.refs.kerchunk.gen_columns import GenColumns
    from lindi_dask.refs.manifest import ChunkManifest
    from lindi_dask.types import ByteRange

__all__ = ["ArrayChunks", "Urls"]

_DEFLATE_RATIO = 1040  # deflate packs 258 bytes into 2 bits at best: 1032 to 1, and a little for headers
_DEFLATE_EXTRA = 1024


class Urls:
    """What the URLs of a reference file are: a source, and where in it what they mean begins.

    Parameters
    ----------
    sources
        Of the references; grows.
    templates
        Of the reference file, by name.
    known
        Size in bytes and ETag of files, by URL, as far as the reference file says.
    relocate
        As for `parse_json`.
    """

    def __init__(
        self,
        sources: SourceTable,
        templates: Mapping[str, str],
        known: Mapping[str, Source],
        relocate: Callable[[str], ByteRange | None] | None,
    ) -> None:
        self._sources = sources
        self._templates = templates
        self._known = known
        self._relocate = relocate
        self._places: dict[str, tuple[int, int, int | None]] = {}

    def place(self, url: str, *, key: str) -> tuple[int, int, int | None]:
        """Return source, offset in it (bytes), and size (bytes, or None if it is not known) of what a URL means."""
        found = self._places.get(url)
        if found is None:
            found = self._places[url] = self._find(url, key)
        return found

    def _find(self, url: str, key: str) -> tuple[int, int, int | None]:
        expanded = expand(url, self._templates, key=key)
        if not expanded:
            raise _invalid(key, "its URL is empty")
        if self._relocate is not None and ":" not in expanded and not expanded.startswith("/"):
            member = self._relocate(expanded)
            if member is None:
                raise _invalid(key, f"the bundle has no {expanded!r}")
            return self._sources.add(Source("")), member.offset, member.length
        source = self._known.get(expanded) or Source(expanded)
        return self._sources.add(source), 0, source.size

    def locate(self, url: str, offset: int, length: int, *, key: str) -> tuple[int, int, int]:
        """Return source, offset and length of a reference; `WHOLE` is all that the URL means.

        Raises
        ------
        InvalidReferences
            If the URL can't be used, or the reference reaches past the end of what it means.
        """
        source, base, size = self.place(url, key=key)
        if length == WHOLE and base:
            return source, base, size or 0
        if size is not None and length != WHOLE and offset + length > size:
            raise _invalid(key, f"it reaches up to byte {offset + length}, but {url} has {size}")
        return source, base + offset, length

    def expand(self, gen: Gen, path: str, grid: tuple[int, ...], separator: str) -> GenColumns:
        """Return all entries of a rule for one array; see `Gen.expand`."""
        return gen.expand(path, grid, separator, self._sources, self._known)


@dataclass(slots=True)
class ArrayChunks:
    """The chunks of one array, as they come in."""

    path: str
    """of the array"""
    plan: ArrayPlan
    """of the array"""
    _parts: list[tuple[NDArray[np.uint64], Locations]] = field(default_factory=list)
    _places: list[int] = field(default_factory=list)
    _locations: list[tuple[int, int, int]] = field(default_factory=list)
    _absent: list[int] = field(default_factory=list)
    _gens: list[tuple[Gen, Urls]] = field(default_factory=list)
    _index: ChunkManifest | None = None

    @property
    def folder(self) -> str:
        """What the keys of the chunks share, without the slash behind it."""
        return "/".join(part for part in (self.path, self.plan.prefix) if part)

    def takes(self, run: Run) -> bool:
        """Return whether the keys of a run in `folder` are those of this array's chunks."""
        ndim = len(self.plan.grid)
        k = run.coordinates.shape[1]
        if self.plan.prefix and self.plan.separator != "/":
            return False
        return (
            k == max(ndim, 1)
            and (k == 1 or run.separator == self.plan.separator)
            and (ndim > 0 or not self.plan.prefix)
        )

    def add_run(self, run: Run, urls: Urls, written: list[str]) -> None:
        """Take in references in columns; `written` has the URLs by their numbers."""
        grid = self.plan.grid
        if 0 in grid:
            return
        limits = np.array(grid or (1,), np.uint64)
        outside = (run.coordinates >= limits).any(axis=1)
        if outside.any():
            raise self._no_such_chunk(self._key(run, int(outside.argmax())))
        places = run.coordinates[:, 0].astype(np.uint64)
        for axis in range(1, len(grid)):
            places = places * np.uint64(grid[axis]) + run.coordinates[:, axis]
        sources, offsets = np.empty(len(places), np.uint32), run.offsets
        for number in np.unique(run.urls).tolist():
            at = run.urls == number
            first = self._key(run, int(at.argmax()))
            source, base, size = urls.place(written[number], key=first)
            sources[at] = source
            if size is not None:
                beyond = at & (offsets + run.lengths > np.uint64(size))
                if beyond.any():
                    i = int(beyond.argmax())
                    urls.locate(written[number], int(offsets[i]), int(run.lengths[i]), key=self._key(run, i))
            if base:
                offsets = np.where(at, offsets + np.uint64(base), offsets)
        self._parts.append((places, Locations(sources, offsets, run.lengths)))

    def add(self, key: str, name: str, source: int, offset: int, length: int) -> None:
        """Take in one reference.

        Parameters
        ----------
        key
            As the reference file has it.
        name
            The part of it behind the array's path.
        source, offset, length
            As in `Locations`.
        """
        if 0 in self.plan.grid:
            return  # of an empty array: some writers give it an empty chunk
        place = self._place(key, name)
        if place is None and self.plan.unreadable is not None:
            return
        if place is None:
            raise self._no_such_chunk(key)
        self.add_at(place, source, offset, length)

    def add_at(self, place: int, source: int, offset: int, length: int) -> None:
        """Take in one reference by its place in the grid."""
        self._places.append(place)
        self._locations.append((source, offset, length))

    def add_columns(self, places: NDArray[np.uint64], locations: Locations) -> None:
        """Take in references by their places in the grid."""
        self._parts.append((places, locations))

    def add_absent(self, key: str, name: str) -> None:
        """Take in that a chunk is not there, which is said of none that is; parameters as of `add`."""
        place = None if 0 in self.plan.grid else self._place(key, name)
        if place is not None:
            self._absent.append(place)

    def _place(self, key: str, name: str) -> int | None:
        separator, prefix = self.plan.separator, self.plan.prefix
        if prefix:
            if not self.plan.grid:
                return 0 if name == prefix else None
            if not name.startswith(f"{prefix}{separator}"):
                return None
            name = name.removeprefix(f"{prefix}{separator}")
        elif not self.plan.grid and name == "":
            return 0  # so does VirtualiZarr name the chunk of an array without dimensions
        if separator != "." and "." in name:
            raise _invalid(key, f"chunk keys of this array are separated by {separator!r}")
        return place_of(self.plan.grid, name.replace(separator, "."))

    def add_gen(self, gen: Gen, urls: Urls) -> None:
        """Take in references that a rule makes; they are made when the array is first used."""
        self._gens.append((gen, urls))

    def add_index(self, index: ChunkManifest) -> None:
        """Take in an index that holds the array's chunks."""
        self._index = index

    def inline(self) -> list[tuple[int, int]] | None:
        """Return offset and length of each chunk, in the order of the grid; None unless the file has them all."""
        if self._parts or self._gens or self._index or any(source != INLINE for source, _, _ in self._locations):
            return None
        chunks = sorted(zip(self._places, self._locations, strict=True))
        return [(offset, length) for _, (_, offset, length) in chunks]

    def manifest(self, selection: Selection | None) -> ChunkManifest:
        """Return where the chunks lie.

        Raises
        ------
        InvalidReferences
            If a chunk is there twice, overlaps another in part, or has a length that it can't have.
        """
        sources, offsets, lengths = zip(*self._locations, strict=True) if self._locations else ((), (), ())
        loose = Locations(np.array(sources, np.uint32), np.array(offsets, np.uint64), np.array(lengths, np.uint32))
        places = np.concatenate([np.array(self._places, np.uint64), *(part for part, _ in self._parts)])
        locations = Locations.joined([loose, *(part for _, part in self._parts)])
        self._parts.clear()
        self._places.clear()
        self._locations.clear()
        denied = places[np.isin(places, np.array(self._absent, np.uint64))] if self._absent else places[:0]
        if len(denied):
            raise _invalid(self._name(int(denied[0])), "it stands there twice, once as null")
        if not self._gens and self._index is None:
            return self._checked(places, locations, selection)
        return LazyManifest(self.plan.grid, lambda: self._with_lazy(places, locations, selection))

    def _with_lazy(
        self, places: NDArray[np.uint64], locations: Locations, selection: Selection | None
    ) -> ChunkManifest:
        """Add what an index and rules make.

        In Zarr v3 references, of two entries the first counts; in kerchunk's, none may be there twice.
        """
        if self._index is not None:
            present = self._index.present()
            places, locations = self._added(places, locations, present, self._index.locate(present))
        for gen, urls in self._gens if self._index is None else ():
            made = urls.expand(gen, self.folder, self.plan.grid, self.plan.separator)
            columns = Locations(made.sources, made.offsets, made.lengths)
            places, locations = self._added(places, locations, made.places, columns)
        return self._checked(places, locations, selection)

    def _added(
        self, places: NDArray[np.uint64], locations: Locations, more: NDArray[np.uint64], columns: Locations
    ) -> tuple[NDArray[np.uint64], Locations]:
        if self.plan.prefix and len(places):
            new = ~np.isin(more, places)
            more, columns = more[new], columns[new]
        return np.concatenate([places, more]), Locations.joined([locations, columns])

    def _checked(self, places: NDArray[np.uint64], locations: Locations, selection: Selection | None) -> ColumnManifest:
        twice = _repeated(places, math.prod(self.plan.grid))
        if twice is not None:
            raise _invalid(self._name(twice), "it stands there twice")
        if self.plan.unreadable is None:
            self._check_lengths(places, locations, selection)
            self._check_overlaps(places, locations)
        return ColumnManifest.build(self.plan.grid, places, locations.sources, locations.offsets, locations.lengths)

    def _check_lengths(self, places: NDArray[np.uint64], locations: Locations, selection: Selection | None) -> None:
        """Raise for a chunk that can't hold what it must."""
        plan, lengths = self.plan, locations.lengths.astype(np.int64)
        whole = locations.lengths == WHOLE
        if selection is not None:
            inline = locations.sources == INLINE
            lengths = np.where(inline, lengths, selection.kept_nbytes(locations.lengths).astype(np.int64))
            self._refuse_where((lengths < 0) & ~whole, places, lambda _: "it is not a whole number of records")
        if plan.raw_nbytes is not None:
            raw = plan.raw_nbytes
            wrong = (lengths != raw) & ~whole
            if plan.may_end_early and wrong.any():
                wrong &= (lengths > raw) | (lengths < shortest_nbytes(plan, places).astype(np.int64))
            elif plan.tail_nbytes is not None:
                wrong &= (lengths != plan.tail_nbytes) | (places != plan.grid[0] - 1)
            reason = f"bytes, but an uncompressed chunk here has {raw}"
            self._refuse_where(wrong, places, lambda i: f"it has {lengths[i]} {reason}")
        if plan.deflated is not None:
            short = lengths * _DEFLATE_RATIO + _DEFLATE_EXTRA < plan.deflated
            reason = f"bytes can't hold a chunk of {plan.deflated}, however well they are compressed"
            self._refuse_where(short, places, lambda i: f"its {lengths[i]} {reason}")

    def _refuse_where(self, wrong: NDArray[np.bool_], places: NDArray[np.uint64], reason: Callable[[int], str]) -> None:
        if wrong.any():
            i = int(wrong.argmax())
            raise _invalid(self._name(int(places[i])), reason(i))

    def _check_overlaps(self, places: NDArray[np.uint64], locations: Locations) -> None:
        """Raise for chunks of which one has some of another's bytes; all of them, as for equal chunks, is sound."""
        remote = (locations.sources != INLINE) & (locations.lengths != WHOLE) & (locations.lengths > 0)
        if not remote.all():
            places, locations = places[remote], locations[remote]
        order = (
            np.lexsort((locations.offsets, locations.sources)) if len(places) and np.ptp(locations.sources) else None
        )
        if order is None and bool((locations.offsets[1:] < locations.offsets[:-1]).any()):
            order = np.argsort(locations.offsets, kind="stable")
        if order is not None:
            places, locations = places[order], locations[order]
        sources, offsets, lengths = locations.sources, locations.offsets, locations.lengths
        overlaps = (sources[1:] == sources[:-1]) & (offsets[1:] < offsets[:-1] + lengths[:-1])
        if overlaps.any():
            overlaps &= (offsets[1:] != offsets[:-1]) | (lengths[1:] != lengths[:-1])
        if overlaps.any():
            i = int(overlaps.argmax())
            other = self._name(int(places[i]))
            raise _invalid(self._name(int(places[i + 1])), f"its bytes overlap those of {other!r}")

    def _name(self, place: int) -> str:
        """Return the key of the chunk at a place of the grid, as the reference file has it."""
        if not self.plan.grid and self.plan.prefix:
            return self.folder
        name = name_of(self.plan.grid, place).replace(".", self.plan.separator)
        separator = self.plan.separator if self.plan.prefix else "/"
        return f"{self.folder}{separator}{name}" if self.folder else name

    def _key(self, run: Run, i: int) -> str:
        name = run.separator.join(map(str, run.coordinates[i].tolist()))
        return f"{run.folder}/{name}" if run.folder else name

    def _no_such_chunk(self, key: str) -> InvalidReferences:
        return _invalid(key, f"the array has no such chunk: its grid is {list(self.plan.grid)}")


def _repeated(places: NDArray[np.uint64], total: int) -> int | None:
    """Return a place that is there more than once, or None."""
    if len(places) < 2 or bool((places[1:] > places[:-1]).all()):
        return None
    if total <= 8 * len(places):
        seen = np.zeros(total, bool)
        seen[places] = True
        if int(seen.sum()) == len(places):
            return None
    ordered = np.sort(places)
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    return int(ordered[same[0]]) if len(same) else None


def _invalid(key: str, reason: str) -> InvalidReferences:
    message = f"The entry {key!r} is not valid: {reason}. Mend it, or make the references anew."
    return InvalidReferences(message, key=key, reason=reason)
