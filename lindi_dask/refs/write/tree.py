"""A reference file in Zarr v2, as it is written: documents, arrays, and what they make of the sources. Pure."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.errors import UnsupportedArray
from lindi_dask.refs.dialect.v2_kinds import UntranslatableError
from lindi_dask.refs.documents import nodes_of
from lindi_dask.refs.manifest import MISSING, WHOLE, Locations
from lindi_dask.refs.write.objects import recoded
from lindi_dask.refs.write.v2 import RESERVED, v2_array, v2_attribute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lindi_dask.refs.manifest import ChunkManifest
    from lindi_dask.refs.references import References, SourceTable
    from lindi_dask.refs.write.objects import Recode
    from lindi_dask.refs.write.v2 import Form

__all__ = ["V2Tree", "WrittenArray"]

_log = logging.getLogger(__name__)

_BLOCK: Final = 65536  # chunks that are looked at in one go
_GROUP: Final = {"zarr_format": 2}
_OBJECTS: Final = frozenset(("lindi-dask.records", "lindi-dask.text", "vlen-utf8"))


@dataclass(slots=True)
class WrittenArray:
    """An array that is written."""

    manifest: ChunkManifest
    recode: Recode | None
    """makes its chunks, all held by the references, anew"""
    nbytes: int | None
    """bytes of each chunk, where a shorter one has to be made as long"""

    def held(self, data: bytes) -> bytes:
        """Return a chunk that the references hold themselves, as it is written."""
        if self.recode is not None:
            return self.recode(data)
        return data if self.nbytes is None else data.ljust(self.nbytes, b"\0")

    def blocks(self) -> Iterator[tuple[NDArray[np.uint64], Locations]]:
        """Yield places and locations of the listed chunks."""
        present = self.manifest.present()
        for first in range(0, len(present), _BLOCK):
            places = present[first : first + _BLOCK]
            yield places, self.manifest.locate(places)


@dataclass(slots=True)
class _Uses:
    """What the chunks make of each source, by its number."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """references to it"""
    reach: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    """bytes that it has at least, as some reference ends there, or as it is known"""

    def add(self, locations: Locations, sources: SourceTable) -> None:
        known = len(self.counts)
        if len(sources) > known:  # manifests that are read now add theirs
            sizes = [sources[i].size or 0 for i in range(known, len(sources))]
            self.counts = np.concatenate([self.counts, np.zeros(len(sizes), np.int64)])
            self.reach = np.concatenate([self.reach, np.array(sizes, np.uint64)])
        self.counts += np.bincount(locations.sources, minlength=len(self.counts))
        ends = np.where(locations.lengths == WHOLE, np.uint64(0), locations.offsets + locations.lengths)
        np.maximum.at(self.reach, locations.sources, ends)


class V2Tree:
    """Documents and arrays in Zarr v2.

    Parameters
    ----------
    references
        What to write.
    form
        Whose v2.
    skip
        Log what can't be written and leave it out, instead of raising.
    max_places
        Places for chunks that an array may have.

    Raises
    ------
    UnsupportedArray
        For the first array, link or attribute that can't be written.
    """

    def __init__(self, references: References, form: Form, *, skip: bool, max_places: int | None = None) -> None:
        self.form: Form = form
        self.sources = references.sources
        self.documents: dict[str, Any] = {}
        self.arrays: dict[str, WrittenArray] = {}
        self.uses = _Uses()
        self._skip = skip
        self._max_places = max_places
        self._references = references
        self._nodes = nodes_of(references)
        for path, reason in references.unreadable.items():
            self.refuse(path, f"it can't be read, and is not known well enough to be written: {reason}")
        for path, node in self._nodes.items():
            if node["node_type"] == "group":
                self._put(path, ".zgroup", _GROUP, self._attributes(path, node, frozenset(), {}))
            elif path not in references.unreadable:
                self._add_array(path, node)
        for path, target in references.links.items():
            lost = target in self._nodes and "codecs" in self._nodes[target] and target not in self.arrays
            if path not in self._nodes and not lost:
                self._put(path, ".zgroup", _GROUP, {"_SOFT_LINK": {"path": f"/{target}"}})

    def refuse(self, path: str, reason: str) -> None:
        """Raise for what can't be written, or log that it is left out."""
        if not self._skip:
            message = f"/{path} can't be written: {reason}. To leave out what can't be, save with skip_unreadable=True."
            raise UnsupportedArray(message, path=path, reason=reason)
        _log.warning("/%s is left out: %s", path, reason)

    def data(self, source: int, offset: int, length: int) -> bytes:
        """Return bytes that the references hold themselves."""
        held = self.sources[source].data
        return b"" if held is None else bytes(held[offset : offset + length])

    def _put(self, path: str, name: str, document: dict[str, Any], attributes: dict[str, Any]) -> None:
        folder = f"{path}/" if path else ""
        self.documents[f"{folder}{name}"] = document
        if attributes:
            self.documents[f"{folder}.zattrs"] = attributes

    def _add_array(self, path: str, node: dict[str, Any]) -> None:
        reason = "it is a part of each record of a file, which only Zarr v3 references can say"
        if path not in self._references.selections:
            try:
                reason = self._translate(path, node) or ""
            except UntranslatableError as error:
                reason = str(error)
        if reason:
            self.refuse(path, reason)

    def _translate(self, path: str, node: dict[str, Any]) -> str | None:
        """Add an array, or return why it can't be written."""
        manifest = self._references.manifests[path]
        places = math.prod(manifest.grid)
        if self._max_places is not None and places > self._max_places:
            return f"its {places:,} places for chunks make too many records: save it as JSON"
        array = WrittenArray(manifest, None, None)
        is_held = isinstance(node["data_type"], dict) or any(codec["name"] in _OBJECTS for codec in node["codecs"])
        for _, locations in array.blocks():
            self.uses.add(locations, self.sources)
            is_held = is_held and all(self.sources[i].data is not None for i in _distinct(locations.sources))
            whole = _distinct(locations.sources[locations.lengths == WHOLE])
            if self.form == "lindi" and any(self.sources[i].size is None for i in whole):
                return "one of its chunks is a whole file of unknown size, which LINDI has to know: save as kerchunk"
        found = recoded(node, self.form, self._chunks(array) if is_held else None, self._refer)
        if found is not None:
            node, array.recode = found
        made = v2_array(node, self.form)
        if not made.pads:
            array.nbytes = self._references.padded.get(path)
        self._put(path, ".zarray", made.zarray, self._attributes(path, node, made.dropped, made.extra))
        self.arrays[path] = array
        return None

    def _chunks(self, array: WrittenArray) -> Iterator[bytes]:
        for _, at in array.blocks():
            for row in zip(at.sources.tolist(), at.offsets.tolist(), at.lengths.tolist(), strict=True):
                yield self.data(*row)

    def _attributes(
        self, path: str, node: dict[str, Any], dropped: frozenset[str], extra: dict[str, Any]
    ) -> dict[str, Any]:
        attributes = {}
        for name, value in node["attributes"].items():
            if name in RESERVED or name in dropped:
                continue
            if name == "_LINKS" and isinstance(value, list):
                others = [link for link in value if not self._is_own_link(path, link)]
                if not others:
                    continue
                value = others  # noqa: PLW2901 - what is left of it
            reason = None
            try:
                attributes[name] = v2_attribute(value, self.form, self._refer)
            except UntranslatableError as error:
                reason = f"of its attribute {name!r}: {error}"
            if reason is not None:
                self.refuse(path, reason)
        return attributes | extra

    def _is_own_link(self, path: str, link: object) -> bool:
        match link:
            case {"name": str(name), "path": str(target)}:
                return self._references.links.get(f"{path}/{name}".removeprefix("/")) == target.strip("/")
        return False

    def _refer(self, path: str) -> dict[str, Any]:
        """Return a reference to an object as LINDI has it; it compares the ids where there are some."""
        return {
            "_REFERENCE": {
                "object_id": self._object_id(path.strip("/")),
                "path": path,
                "source": ".",
                "source_object_id": self._object_id(""),
            }
        }

    def _object_id(self, path: str) -> str | None:
        found = self._nodes.get(path, {}).get("attributes", {}).get("object_id")
        return found if isinstance(found, str) else None

    def long_enough(self, array: WrittenArray, places: NDArray[np.uint64], at: Locations) -> Locations:
        """Return locations with the short last chunk made as long as others, where its file goes on behind it."""
        if array.nbytes is None or not len(places) or places[-1] != math.prod(array.manifest.grid) - 1:
            return at
        source, end = int(at.sources[-1]), int(at.offsets[-1]) + array.nbytes
        if source == MISSING or self.sources[source].data is not None:
            return at
        if not int(at.lengths[-1]) < array.nbytes or int(self.uses.reach[source]) < end:
            return at
        lengths = at.lengths.copy()
        lengths[-1] = array.nbytes
        return Locations(at.sources, at.offsets, lengths)


def _distinct(numbers: NDArray[np.uint32]) -> list[int]:
    return list(np.unique(numbers).tolist())
