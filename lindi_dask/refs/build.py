"""Documents and entries of reference files -> `References`. Pure."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.refs.chunks import ArrayChunks, Urls
from lindi_dask.refs.dialect import v3
from lindi_dask.refs.dialect.v2 import array_document, group_document, link_target, plain_attributes, with_objects
from lindi_dask.refs.dialect.v2_kinds import UntranslatableError
from lindi_dask.refs.documents import (
    MAX_INLINE,
    add_implied_groups,
    attributes_key,
    attributes_of,
    check_key,
    document_object,
    documents_of,
    invalid_entry,
    node_below,
)
from lindi_dask.refs.inline import inline_bytes, items_of, json_text
from lindi_dask.refs.kerchunk.gen import parse_gen
from lindi_dask.refs.links import Links
from lindi_dask.refs.manifest import WHOLE
from lindi_dask.refs.references import INLINE, References, Source, SourceTable
from lindi_dask.refs.scan import MAX_ENTRIES, is_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from lindi_dask.refs.columns import Run
    from lindi_dask.refs.dialect.v2 import ArrayPlan
    from lindi_dask.refs.kerchunk.gen import Gen
    from lindi_dask.refs.manifest import ChunkManifest, Locations
    from lindi_dask.refs.scan import Scan
    from lindi_dask.types import ByteRange

__all__ = ["Builder"]

_log = logging.getLogger(__name__)

_MAX_OFFSET: Final = 2**63 - 1
_MAX_DIMENSIONS: Final = 64  # numpy has no more; HDF5 has 32
_MAX_GEN_LOOSE: Final = 1_000_000  # entries of `gen` that are taken one by one


class Builder:
    """Puts `References` together.

    Parameters
    ----------
    fingerprint
        Of the reference file's content.
    documents
        Metadata by key: `a/.zarray`, `a/.zattrs`, `a/.zgroup`, or `a/zarr.json`; objects, or text that holds one.
    lindi
        Whether attributes that are objects are in LINDI's form; kerchunk's are text.
    """

    def __init__(self, fingerprint: str, documents: Mapping[str, Any], *, lindi: bool = True) -> None:
        self._fingerprint = fingerprint
        self._nodes: dict[str, dict[str, Any]] = {}
        self._compounds: dict[str, Any] = {}
        self._unreadable: dict[str, str] = {}
        self._manifests: dict[str, ChunkManifest] = {}
        self._selections: dict[str, v3.Selection] = {}
        self._chunks: dict[str, ArrayChunks] = {}
        self._links = Links()
        self._inline = bytearray()
        self._homeless: tuple[int, str] = (0, "")  # how many, and the first
        self._lindi = lindi
        self.plans: dict[str, ArrayPlan] = {}
        self.sources = SourceTable()
        self._read_documents(documents)

    def add_manifest(self, path: str, manifest: ChunkManifest) -> None:
        """Set where the chunks of an array lie, all at once."""
        self._manifests[path] = manifest

    def add_columns(self, path: str, places: NDArray[np.uint64], locations: Locations) -> None:
        """Take in where chunks of an array lie; offsets and lengths are those of a file that exists."""
        self._chunks[path].add_columns(places, locations)

    def add_held(self, path: str, place: int, data: bytes) -> None:
        """Take in a chunk of an array, encoded."""
        self._inline += data
        self._chunks[path].add_at(place, INLINE, len(self._inline) - len(data), len(data))

    def refuse(self, path: str, reason: str) -> None:
        """Say why an array can't be read, or a path not be opened."""
        self._unreadable[path] = reason

    # Metadata

    def _read_documents(self, documents: Mapping[str, Any]) -> None:
        for key, value in documents.items():
            path, _, name = key.rpartition("/")
            check_key(key)
            lindi = self._lindi and isinstance(documents.get(attributes_key(path)), dict)
            if name == ".zarray":
                self._add_v2_array(path, key, document_object(key, value), attributes_of(documents, path), lindi=lindi)
            elif name == ".zgroup":
                document_object(key, value)
                self._add_v2_group(path, key, attributes_of(documents, path), lindi=lindi)
            elif name == "zarr.json":
                self._add_v3(path, key, document_object(key, value))
        self._nodes.setdefault("", group_document({}))

    def _set_node(self, path: str, key: str, document: dict[str, Any]) -> None:
        if path in self._nodes:
            raise invalid_entry(key, "the same path has other metadata, too")
        if not all(part not in {"", ".", ".."} for part in path.split("/")) and path:
            raise invalid_entry(key, "its path has an empty part, or '.' or '..'")
        self._nodes[path] = document

    def _add_v2_group(self, path: str, key: str, attributes: dict[str, Any], *, lindi: bool) -> None:
        target = link_target(attributes)
        if target is None:
            self._set_node(path, key, group_document(plain_attributes(attributes, lindi=lindi)))
        elif not path:
            raise invalid_entry(key, "the root of a file can't be a soft link")
        else:
            self._links.add(path, target)

    def _add_v2_array(
        self,
        path: str,
        key: str,
        zarray: dict[str, Any],
        attributes: dict[str, Any],
        *,
        lindi: bool,
    ) -> None:
        reason = None
        try:
            plan = array_document(zarray, attributes, lindi=lindi)
        except ValueError as error:
            reason = str(error)
        if reason is not None:
            raise invalid_entry(key, reason)
        self._compounds[path] = attributes.get("_COMPOUND_DTYPE")
        self._add_array(path, key, plan)

    def _add_v3(self, path: str, key: str, document: dict[str, Any]) -> None:
        reason = None
        try:
            match document.get("node_type"):
                case "group":
                    attributes = v3.attributes(document)
                    others = self._links.add_all(path, attributes.pop("_LINKS", None))
                    if others:
                        attributes["_LINKS"] = others
                    self._set_node(path, key, group_document(attributes))
                case "array":
                    self._add_array(path, key, v3.array_plan(document))
                case other:
                    reason = f"its node_type {other!r} is neither 'group' nor 'array'"
        except ValueError as error:
            reason = str(error)
        if reason is not None:
            raise invalid_entry(key, reason)

    def _add_array(self, path: str, key: str, plan: ArrayPlan) -> None:
        if len(plan.grid) > _MAX_DIMENSIONS:
            raise invalid_entry(key, f"it has {len(plan.grid)} dimensions, and may have {_MAX_DIMENSIONS}")
        self._set_node(path, key, plan.document)
        self.plans[path] = plan
        self._chunks[path] = ArrayChunks(path, plan)
        if plan.unreadable is not None:
            self._unreadable[path] = plan.unreadable

    # Chunks

    def add_entries(
        self,
        found: Scan,
        *,
        name: str,
        relocate: Callable[[str], ByteRange | None] | None,
        read: Callable[[str], bytes | None] | None,
    ) -> None:
        """Take in what was scanned besides the metadata.

        Parameters
        ----------
        found
            Its columns are used up.
        name, relocate, read
            As for `parse_json`.
        """
        members = found.members
        templates = members.get("templates") or {}
        if not isinstance(templates, dict) or not all(isinstance(value, str) for value in templates.values()):
            raise invalid_entry("templates", "it is not an object of names and strings")
        known = v3.parse_sources(members.get("sources") or {}, templates=templates)
        urls = Urls(self.sources, templates, known, relocate)
        self._selections = v3.parse_selections(members.get("selections") or {})
        folders = {chunks.folder: chunks for chunks in self._chunks.values()}
        found.runs.reverse()
        written = list(found.urls)
        while found.runs:
            self._add_run(found.runs.pop(), folders, urls, written)
        for key, value in found.loose:
            self._add_loose(key, value, urls)
        self._add_gens(members.get("gen") or [], templates, urls)
        self._add_indexes(members.get("indexes") or {}, urls, read, name)

    def _add_run(self, run: Run, folders: dict[str, ArrayChunks], urls: Urls, written: list[str]) -> None:
        chunks = folders.get(run.folder)
        if chunks is not None and chunks.takes(run):
            chunks.add_run(run, urls, written)
            return
        folder = f"{run.folder}/" * bool(run.folder)
        if run.separator == "." and self._array_of(f"{folder}0")[0] is None:
            key = folder + ".".join(map(str, run.coordinates[0].tolist()))
            check_key(key)
            for number in np.unique(run.urls).tolist():
                urls.place(written[number], key=key)  # an error if it is broken
            self._leave_out(len(run.urls), key)
            return
        for i, coordinates in enumerate(run.coordinates.tolist()):
            key = folder + run.separator.join(map(str, coordinates))
            self._add_loose(key, [written[run.urls[i]], int(run.offsets[i]), int(run.lengths[i])], urls)

    def _leave_out(self, count: int, key: str) -> None:
        self._homeless = self._homeless[0] + count, self._homeless[1] or key

    def _add_loose(self, key: str, value: object, urls: Urls) -> None:
        check_key(key)
        if is_metadata(key):
            raise invalid_entry(key, "it is not a JSON object: metadata must stand in the reference file itself")
        chunks, name = self._array_of(key)
        if value is None and chunks is not None and chunks.plan.prefix:
            chunks.add_absent(key, name)  # so say the writers of Zarr v3 references
            return
        location = self._location(key, value, urls)
        if chunks is None:  # an entry that belongs to nothing does no harm, unless it is broken
            self._leave_out(1, key)
            return
        chunks.add(key, name, *location)

    def _array_of(self, key: str) -> tuple[ArrayChunks | None, str]:
        """Return the array that a chunk's key belongs to, and the chunk's name in it (which may hold slashes)."""
        path, _, name = key.rpartition("/")
        while path not in self._chunks and path:
            path, _, more = path.rpartition("/")
            name = f"{more}/{name}"
        return self._chunks.get(path), name

    def _location(self, key: str, value: object, urls: Urls) -> tuple[int, int, int]:
        match value:
            case [str(url), offset, length] if type(offset) is int and type(length) is int:
                if not 0 <= offset <= _MAX_OFFSET - length or not 0 <= length < WHOLE:
                    raise invalid_entry(key, f"offset {offset} or length {length} is out of bounds")
                return urls.locate(url, offset, length, key=key)
            case [str(url)]:
                return urls.locate(url, 0, WHOLE, key=key)
            case str() | dict():
                data = inline_bytes(key, value, limit=MAX_INLINE)
                self._inline += data
                return INLINE, len(self._inline) - len(data), len(data)
            case _:
                raise invalid_entry(key, "an entry is [url, offset, length] with whole numbers, [url], or a string")

    def _add_gens(self, entries: object, templates: dict[str, str], urls: Urls) -> None:
        if not isinstance(entries, list):
            raise invalid_entry("gen", "it is not a list")
        total = 0
        for number, entry in enumerate(entries):
            gen = parse_gen(entry, templates, number=number)
            total += gen.count
            if total > MAX_ENTRIES:
                raise invalid_entry("gen", f"with entry {number} it stands for more than {MAX_ENTRIES:,} entries")
            chunks = self._array_of_gen(gen)
            if chunks is not None:
                chunks.add_gen(gen, urls)
                continue
            if gen.count > _MAX_GEN_LOOSE:
                reason = f"entry {number} stands for more than {_MAX_GEN_LOOSE:,} entries, and its key names no array"
                raise invalid_entry("gen", reason)
            for key, value in gen.entries():  # its array depends on a dimension
                self._add_loose(key, value, urls)

    def _array_of_gen(self, gen: Gen) -> ArrayChunks | None:
        path = gen.key_prefix
        while path:
            path = path.rpartition("/")[0]
            if path in self._chunks:
                return self._chunks[path]
        return self._chunks.get("") if "" in self._chunks else None

    def _add_indexes(self, members: object, urls: Urls, read: Callable[[str], bytes | None] | None, name: str) -> None:
        for path, index in v3.parse_indexes(members).items():
            key = f"indexes of {path!r}"
            if path not in self._chunks:
                raise invalid_entry(key, "there is no such array")
            if read is None:
                raise invalid_entry(key, f"its index is a folder beside the reference file, and {name} lies in none")
            source, _, _ = urls.locate(index.url, 0, WHOLE, key=key)
            self._chunks[path].add_index(v3.index_manifest(index, self.plans[path].grid, read, source))

    # The whole

    def build(self) -> References:
        """Return the references.

        Raises
        ------
        InvalidReferences
            If chunks contradict the metadata, or each other.
        """
        if self._homeless[0]:
            _log.warning("references that belong to no array are left out: %d, the first is %r", *self._homeless)
        hidden = self._links.hidden(self._nodes)
        if hidden is not None:
            raise invalid_entry(hidden, "it lies at or below a soft link, so that it could not be reached")
        below = node_below(self._nodes, self.plans)
        if below is not None:
            raise invalid_entry(below, "it lies below an array, where nothing but its chunks may lie")
        self._finish_objects()
        held = Source("", data=memoryview(bytes(self._inline)))
        self.sources.replace(INLINE, held)
        manifests = {
            path: self._manifests[path] if path in self._manifests else chunks.manifest(self._selections.get(path))
            for path, chunks in self._chunks.items()
        }
        add_implied_groups(self._nodes)
        links, broken = self._links.resolved(self._nodes)
        self._unreadable |= broken
        return References(
            fingerprint=self._fingerprint,
            metadata=documents_of(self._links.written(self._nodes, links)),
            manifests=manifests,
            padded={
                path: plan.raw_nbytes
                for path, plan in self.plans.items()
                if plan.raw_nbytes is not None and path not in self._manifests
            },
            selections=self._selections,
            sources=self.sources,
            links=links,
            unreadable=self._unreadable,
        )

    def _finish_objects(self) -> None:
        """Say of arrays of JSON what they hold, where the reference file holds it."""
        for path, plan in self.plans.items():
            if plan.compressor is None or plan.unreadable is not None:
                continue
            chunks = self._chunks[path].inline()
            if path in self._manifests or chunks is None:
                continue  # what they hold is not known here
            items = self._items(chunks, plan.compressor)
            if items is None:
                continue
            try:
                self._nodes[path] = with_objects(plan, items, self._compounds.get(path)).document
            except UntranslatableError as reason:
                self._unreadable[path] = str(reason)

    def _items(self, chunks: list[tuple[int, int]], compressor: dict[str, Any]) -> list[Any] | None:
        """Return the elements in chunks of JSON; None if they can't be decoded: an error when they are read."""
        items: list[Any] = []
        left = MAX_INLINE  # bytes, of all of them
        for offset, length in chunks:
            try:
                text = json_text(self._inline[offset : offset + length], compressor, limit=left)
                items += items_of(text)
            except ValueError:
                return None
            left -= len(text)
        return items
