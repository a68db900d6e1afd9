"""References that are to be combined: their trees, and chunks whose sources are those of one table. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.errors import PartsDisagree
from lindi_dask.refs.documents import nodes_of
from lindi_dask.refs.links import follow
from lindi_dask.refs.manifest import Locations
from lindi_dask.refs.references import SourceTable
from lindi_dask.types import without_query

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from lindi_dask.refs.references import References, Source
    from lindi_dask.refs.zarrshadow.selections import Selection

__all__ = ["Chunks", "Part", "Tree", "disagreement", "trees_of"]

_CLAIMS: Final = ("size", "etag", "address")  # that references may make of a file


@dataclass(frozen=True, slots=True)
class Part:
    """References that become a part of others."""

    name: str
    """how messages call them"""
    references: References
    """whose URLs mean the same wherever they stand: none is relative, none is of a bundle"""
    values: Callable[[str], NDArray[Any]]
    """returns all elements of the array at a path; may block, and raise a `LindiError`"""


@dataclass(frozen=True, slots=True)
class Chunks:
    """The listed chunks of an array."""

    grid: tuple[int, ...]
    """chunks along each dimension"""
    places: NDArray[np.uint64]
    """in the grid, C order, ascending"""
    locations: Locations
    """one entry a place; sources are those of the one table"""

    def is_held(self, sources: SourceTable) -> bool:
        """Return whether all of them are held by references themselves."""
        return all(sources[i].data is not None for i in np.unique(self.locations.sources).tolist())

    def data(self, sources: SourceTable) -> list[bytes]:
        """Return the chunks, encoded; of an array that `is_held`."""
        columns = (self.locations.sources, self.locations.offsets, self.locations.lengths)
        held = zip(*(column.tolist() for column in columns), strict=True)
        return [bytes((sources[i].data or b"")[start : start + length]) for i, start, length in held]


class Tree:
    """The groups and arrays of a part.

    Parameters
    ----------
    part
        What it is of.
    chunks
        Of each array, by path.
    """

    def __init__(self, part: Part, chunks: Mapping[str, Chunks]) -> None:
        references = part.references
        self.name = part.name
        self.chunks = chunks
        self.nodes = nodes_of(references)
        self.links = dict(references.links)
        self.unreadable = dict(references.unreadable)
        self.padded: Mapping[str, int] = references.padded
        self.selections: Mapping[str, Selection] = references.selections
        self._values = part.values
        self._known: dict[str, NDArray[Any]] = {}
        for path, node in self.nodes.items():
            listed = node["attributes"].get("_LINKS")
            if isinstance(listed, list):
                others = [link for link in listed if not self._is_own(path, link)]
                attributes = {name: value for name, value in node["attributes"].items() if name != "_LINKS"}
                node["attributes"] = attributes | ({"_LINKS": others} if others else {})

    def _is_own(self, path: str, link: object) -> bool:
        match link:
            case {"name": str(name)}:
                return f"{path}/{name}".removeprefix("/") in self.links
        return False

    def is_array(self, path: str) -> bool:
        """Return whether there is an array at a path."""
        return path in self.chunks

    def values(self, path: str) -> NDArray[Any]:
        """Return all elements of an array; they are read once."""
        if path not in self._known:
            self._known[path] = self._values(path)
        return self._known[path]

    def members(self, path: str) -> dict[str, str]:
        """Return what lies in a group: name -> path, past links."""
        return self._members.get(path, {})

    @cached_property
    def _members(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for path in (*self.nodes, *self.links):
            if path:
                parent, _, name = path.rpartition("/")
                found.setdefault(parent, {})[name] = follow(path, self.links) or path
        return found

    def drop(self, paths: Sequence[str]) -> None:
        """Take out what lies at or below some paths."""
        for found in (self.nodes, self.links, self.unreadable):
            for path in [path for path in found if any(f"{path}/".startswith(f"{gone}/") for gone in paths)]:
                del found[path]
        self.chunks = {path: chunks for path, chunks in self.chunks.items() if path in self.nodes}
        self.__dict__.pop("_members", None)


def trees_of(parts: Sequence[Part]) -> tuple[list[Tree], SourceTable]:
    """Return the trees of parts, and the table of the sources of all their chunks.

    Raises
    ------
    PartsDisagree
        If parts say different things of the same file.
    LindiError
        Of a manifest that is read now.
    """
    found = [{path: _listed(manifest) for path, manifest in part.references.manifests.items()} for part in parts]
    table = SourceTable()
    described = _described(parts)
    trees = []
    for part, arrays in zip(parts, found, strict=True):
        known = part.references.sources
        sources = [known[i] if known[i].data is not None else described[known[i].url] for i in range(len(known))]
        numbers = np.array([table.add(source) for source in sources], np.uint32)
        chunks = {
            path: Chunks(grid, places, Locations(numbers[at.sources], at.offsets, at.lengths))
            for path, (grid, places, at) in arrays.items()
        }
        trees.append(Tree(part, chunks))
    return trees, table


def _listed(manifest: Any) -> tuple[tuple[int, ...], NDArray[np.uint64], Locations]:  # noqa: ANN401 - a ChunkManifest
    places = manifest.present()
    return manifest.grid, places, manifest.locate(places)


def _described(parts: Sequence[Part]) -> dict[str, Source]:
    """Return the sources by URL, with what all parts say of each."""
    described: dict[str, Source] = {}
    for part in parts:
        table = part.references.sources
        for source in (table[i] for i in range(len(table)) if table[i].data is None):
            known = described.setdefault(source.url, source)
            for one, other in ((known.size, source.size), (known.etag, source.etag)):
                if one != other and one is not None and other is not None:
                    shown = without_query(source.url) if "://" in source.url else source.url
                    raise PartsDisagree(
                        f"{part.name} says that {shown} has {other!r} (its size or ETag), but a part in front of it "
                        f"says {one!r}: the file was changed between the two. Make the references anew.",
                        path="",
                        part=part.name,
                        reason="different things are said of one file",
                    )
            told = {name: getattr(source, name) for name in _CLAIMS if getattr(known, name) is None}
            described[source.url] = replace(known, **told)
    return described


def disagreement(path: str, part: str, reason: str) -> PartsDisagree:
    """Return the error for what can't be concatenated; the root can't be left out."""
    remedy = f"Leave it out (drop=[{f'/{path}'!r}]), or give" if path else "Give"
    return PartsDisagree(
        f"/{path} can't be concatenated: {reason}. {remedy} the parts names, which makes each a group.",
        path=path,
        part=part,
        reason=reason,
    )
