"""HDF5 files -> `References`: the tree of a file, its links, attributes and datasets."""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5o, h5r, h5s

from lindi_dask.hdf5.chunks import chunk_columns
from lindi_dask.hdf5.datasets import Dataset, described, fingerprint
from lindi_dask.hdf5.elements import elements_of
from lindi_dask.hdf5.values import decoded, python_jsonable, to_jsonable
from lindi_dask.refs.build import Builder
from lindi_dask.refs.dialect.v2_kinds import UntranslatableError
from lindi_dask.refs.manifest import Locations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from h5py.h5t import TypeID

    from lindi_dask.hdf5.chunk_tree import ChunkColumns
    from lindi_dask.hdf5.chunks import FileBytes
    from lindi_dask.refs.references import References, Source

__all__ = ["index_file", "share_of_chunks"]

_log = logging.getLogger(__name__)

_RESERVED: Final = frozenset(("_DTYPE", "_LINKS", "_REFERENCE_FIELDS", "_SCALAR", "zarr_conventions"))
_SCALES: Final = "DIMENSION_LIST"
_MANY: Final = 10_000  # chunks of a dataset that is worth a process of its own: their index takes half a MB


def index_file(
    file: h5py.File, content: FileBytes, source: Source, known: Mapping[str, ChunkColumns] | None = None
) -> References:
    """Make references to the chunks of an HDF5 file.

    Parameters
    ----------
    file
        Open.
    content
        Its bytes.
    source
        Where readers will find the same bytes.
    known
        Where the chunks of some of its datasets lie, by their paths, as `share_of_chunks` found it.

    Returns
    -------
    lindi_dask.References
        What Zarr has nothing for is listed there as unreadable, with the reason; attributes without a form are left
        out, and logged.

    Raises
    ------
    InvalidReferences
        If chunks of the file overlap in part, or its tree is deeper than reference files may be.
    """
    tree = _Tree(file)
    tree.walk()
    return _References(tree, content, source, known or {}).made()


def share_of_chunks(file: h5py.File, content: FileBytes, share: int, shares: int) -> dict[str, ChunkColumns]:
    """Return where the chunks of some of a file's largest datasets lie, by their paths.

    Parameters
    ----------
    file
        Open.
    content
        Its bytes.
    share, shares
        Which datasets: those of this share, from 0 on, out of that many. Each dataset is in one of them, and they have
        about as many chunks each.
    """
    tree = _Tree(file)
    tree.walk()
    large = {one.path: grid for one in tree.objects if (grid := _chunks_of(one)) >= _MANY}
    taken = {path for path, number in _dealt(large, shares).items() if number == share}
    found = {}
    for one in tree.objects:
        if one.path in taken:
            # What can't be translated is found out, and said, by who describes the dataset
            with suppress(UntranslatableError, OSError, ValueError, TypeError, RuntimeError, OverflowError):
                chunks = one.id.get_create_plist().get_chunk()
                found[one.path] = chunk_columns(one.id, content, one.address, chunks)
    return found


def _dealt(sizes: Mapping[str, int], shares: int) -> dict[str, int]:
    """Return which share each path goes to: the largest first, always to the share that has the least."""
    loads = [0] * shares
    dealt = {}
    for path, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        dealt[path] = loads.index(min(loads))
        loads[dealt[path]] += size
    return dealt


def _chunks_of(one: _Object) -> int:
    """Return how many places for chunks a dataset has; 0 for what is not chunked."""
    if isinstance(one.id, h5g.GroupID) or one.id.get_create_plist().get_layout() != h5d.CHUNKED:
        return 0
    chunks = one.id.get_create_plist().get_chunk()
    return math.prod(-(-extent // chunk) for extent, chunk in zip(one.id.shape, chunks, strict=True))


@dataclass(slots=True)
class _Object:
    path: str
    id: Any
    address: int
    links: list[dict[str, str]] = field(default_factory=list)
    """of a group: to other paths, as `_LINKS` has them"""


class _Tree:
    """The objects of a file by the shortest of their paths; other paths to the same object are links."""

    def __init__(self, file: h5py.File) -> None:
        self._root = h5g.open(file.id, b"/")
        self.file = file.id
        self.paths: dict[int, str] = {}
        self.objects: list[_Object] = []

    def walk(self) -> None:
        """Find all objects, level by level."""
        self._add("", self._root, h5o.get_info(self._root).addr)
        for one in self.objects:  # it grows meanwhile
            if isinstance(one.id, h5g.GroupID):
                self._walk_group(one)

    def _add(self, path: str, found: Any, address: int) -> None:  # noqa: ANN401 - h5py's identifiers have no types
        self.paths[address] = path
        if isinstance(found, h5g.GroupID | h5d.DatasetID):  # what is left are committed types: they hold no data
            self.objects.append(_Object(path, found, address))

    def _walk_group(self, group: _Object) -> None:
        links = group.id.links
        for raw in list(group.id):
            name = decoded(raw)
            path = f"{group.path}/{name}" if group.path else name
            if name in {".", ".."} or "\0" in name:
                _log.warning("/%s is left out: its name means something else in paths", path)
                continue
            info = links.get_info(raw)
            match info.type:
                # What a link says of its object's address, h5o.get_info tells only after a walk through all its chunks
                case h5py.h5l.TYPE_HARD if info.u in self.paths:
                    group.links.append({"source": ".", "path": f"/{self.paths[info.u]}", "name": name})
                case h5py.h5l.TYPE_HARD:
                    self._add(path, h5o.open(group.id, raw), info.u)
                case h5py.h5l.TYPE_SOFT:
                    group.links.append({"source": ".", "path": decoded(links.get_val(raw)), "name": name})
                case h5py.h5l.TYPE_EXTERNAL:
                    file, target = links.get_val(raw)
                    group.links.append({"source": decoded(file), "path": decoded(target), "name": name})
                case _:
                    _log.warning("/%s is left out: it is a link of a kind that only its writer knows", path)

    def path_of(self, address: int) -> str:
        """Return the path of the object at an address: absolute; "" for none."""
        if not address:
            return ""
        path = self.paths.get(address)
        if path is None:
            raise UntranslatableError("it refers to an object that has no path in the file")
        return f"/{path}"

    def address_of(self, reference: h5py.Reference) -> int:
        """Return the address of the object that h5py's reference means; 0 for none."""
        found = h5r.dereference(reference, self.file) if reference else None
        return h5o.get_info(found).addr if found is not None else 0


class _References:
    """What is made of the tree."""

    def __init__(self, tree: _Tree, content: FileBytes, source: Source, known: Mapping[str, ChunkColumns]) -> None:
        self._tree, self._content, self._source, self._known = tree, content, source, known

    def made(self) -> References:
        documents: dict[str, Any] = {}
        datasets: dict[str, Dataset] = {}
        for one in self._tree.objects:
            key = f"{one.path}/zarr.json" if one.path else "zarr.json"
            attributes = self._attributes(one)
            if isinstance(one.id, h5g.GroupID):
                if one.links:
                    attributes["_LINKS"] = one.links
                documents[key] = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
                continue
            known = self._known.get(one.path)
            found = described(one.id, one.address, self._content, self._tree.path_of, known)
            if found.name:
                attributes["_DTYPE"] = found.name
            if found.references:
                attributes["_REFERENCE_FIELDS"] = list(found.references)
            names = self._dimension_names(one, attributes, len(found.document["shape"]))
            documents[key] = {**found.document, "attributes": attributes, **names}
            datasets[one.path] = found
        return self._built(documents, datasets)

    def _built(self, documents: dict[str, Any], datasets: dict[str, Dataset]) -> References:
        builder = Builder(fingerprint(documents, datasets, self._source), documents, lindi=False)
        number = builder.sources.add(self._source)
        for path, found in datasets.items():
            if found.unreadable is not None:
                builder.refuse(path, found.unreadable)
                continue
            if found.columns is not None and len(found.columns):
                columns = found.columns
                sources = np.full(len(columns), number, np.uint32)
                builder.add_columns(path, columns.places, Locations(sources, columns.offsets, columns.lengths))
            for place, data in found.held:
                builder.add_held(path, place, data)
            found.columns, found.held = None, []
        return builder.build()

    # Attributes

    def _attributes(self, one: _Object) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        for i in range(h5a.get_num_attrs(one.id)):
            attribute = h5a.open(one.id, index=i)
            name = decoded(attribute.name)
            if name in _RESERVED:
                _log.warning("/%s: its attribute %r is left out: NWB-Zarr uses that name itself", one.path, name)
                continue
            try:
                attributes[name] = self._value(attribute)
            except (UntranslatableError, OSError, ValueError, TypeError) as error:
                _log.warning("/%s: its attribute %r is left out: %s", one.path, name, error)
        return attributes

    def _value(self, attribute: h5a.AttrID) -> Any:  # noqa: ANN401 - JSON
        space = attribute.get_space()
        if space.get_simple_extent_type() == h5s.NULL:
            return None
        kind = attribute.get_type()
        if kind.get_class() == h5py.h5t.VLEN or _holds_lists(kind):
            return self._by_h5py(attribute)
        elements = elements_of(kind)
        values = np.zeros(space.shape, elements.dtype)
        attribute.read(values, mtype=elements.memory)
        return to_jsonable(values, elements, self._tree.path_of)

    def _by_h5py(self, attribute: h5a.AttrID) -> Any:  # noqa: ANN401 - JSON
        values = np.empty(attribute.shape, attribute.dtype)
        attribute.read(values)
        return python_jsonable(values if values.shape else values[()], self._tree.address_of, self._tree.path_of)

    def _dimension_names(self, one: _Object, attributes: dict[str, Any], ndim: int) -> dict[str, Any]:
        """Return the names of the dimensions: those of the scales that are attached to them."""
        match attributes.get(_SCALES):
            case list(scales) if len(scales) == ndim:
                names: list[str | None] = []
                for scale in scales:
                    match scale:
                        case [{"_REFERENCE": {"path": str(path)}}, *_]:
                            names.append(path.rpartition("/")[2])
                        case _:
                            names.append(None)
                return {"dimension_names": names}
        if attributes.get("CLASS") == "DIMENSION_SCALE" and ndim == 1:
            return {"dimension_names": [one.path.rpartition("/")[2]]}
        return {}


def _holds_lists(kind: TypeID) -> bool:
    """Whether a compound has lists of any length, as the attribute REFERENCE_LIST may."""
    if kind.get_class() != h5py.h5t.COMPOUND:
        return False
    return any(kind.get_member_class(i) == h5py.h5t.VLEN for i in range(kind.get_nmembers()))
