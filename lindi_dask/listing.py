"""References -> what a listing of them shows: groups, arrays and links as those who know pynwb look for them. Pure."""

from __future__ import annotations

import difflib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lindi_dask.errors import ConfigurationError, RefsError
from lindi_dask.refs import INLINE, WHOLE, follow
from lindi_dask.refs.dialect.v2_kinds import NUMERIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from lindi_dask.refs import ChunkManifest, Locations, References

__all__ = ["ArrayRow", "GroupRow", "LinkRow", "Row", "Stored", "as_json", "list_rows", "near", "size_text"]

_AT_ONCE = 2**20  # chunks that are added up in one go: some 50 MB of numbers
_COMPARED = 5_000  # paths that a wrong one is compared with letter by letter, at some 20 us each
_TO_BYTES = frozenset(("bytes", "vlen-utf8", "vlen-bytes"))
_OWN = "lindi-dask."  # codecs that only say how LINDI writes text and records
_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")
_CODECS = {"zlib": "gzip", "sharding_indexed": "shards"}  # HDF5's gzip filter is numcodecs' zlib


@dataclass(frozen=True, slots=True)
class Stored:
    """What the chunks of an array take up."""

    chunks: int
    """that the references list; the others hold the fill value"""
    inline: int
    """of them, those that the reference file holds itself"""
    nbytes: int | None
    """encoded; None if the references don't say of all"""
    logical_nbytes: int | None
    """of the elements in the listed chunks; None if they differ in size (text)"""

    @property
    def ratio(self) -> float | None:
        """How many times as large the elements are as what is stored of them; None if that is not known."""
        return self.logical_nbytes / self.nbytes if self.nbytes and self.logical_nbytes is not None else None


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group."""

    path: str
    """from the root, without a leading slash"""
    neurodata_type: str | None
    """NWB's name of what it is"""


@dataclass(frozen=True, slots=True)
class LinkRow:
    """A soft link."""

    path: str
    """from the root, without a leading slash"""
    target: str | None
    """path of what it is the same as, past all links; None if it leads nowhere"""
    unreadable: str | None
    """why it leads nowhere"""


@dataclass(frozen=True, slots=True)
class ArrayRow:
    """An array."""

    path: str
    """from the root, without a leading slash"""
    neurodata_type: str | None
    """NWB's name of what it is, of columns of tables and the like"""
    shape: tuple[int, ...]
    dtype: str | None
    """numpy's name of a numeric type; "text", "reference" (to an object), "bytes[10]", "compound"; None if it can't be
    read"""
    fields: tuple[tuple[str, str], ...]
    """name and type of each field of a compound"""
    chunk_shape: tuple[int, ...]
    grid: tuple[int, ...]
    """chunks along each dimension"""
    codecs: tuple[str, ...]
    """in the order of encoding, without the one that makes bytes of elements"""
    unit: str | None
    conversion: float
    """what the elements are multiplied by to be in `unit`"""
    rate: float | None
    """hertz, of a `starting_time`"""
    stored: Stored | None
    """None if it was not looked at, or can't be told"""
    unreadable: str | None
    """why the array can't be read, or where its chunks lie"""

    @property
    def nbytes(self) -> int | None:
        """Bytes of all elements; None if they differ in size."""
        itemsize = _itemsize(self.dtype, self.fields)
        return None if itemsize is None else itemsize * math.prod(self.shape)

    @property
    def chunk_nbytes(self) -> int | None:
        """Bytes of a whole chunk's elements, decoded; None if they differ in size."""
        itemsize = _itemsize(self.dtype, self.fields)
        return None if itemsize is None else itemsize * math.prod(self.chunk_shape)


Row: TypeAlias = GroupRow | ArrayRow | LinkRow


def list_rows(
    references: References, path: str = "", *, measured: Callable[[ChunkManifest], bool] = lambda _: True
) -> list[Row]:
    """Return what lies at a path and below it, sorted as a tree: each group right before what is in it.

    Parameters
    ----------
    references
        What to list.
    path
        Of a group, an array, or a link to one (then that is what is listed); `""` for the root.
    measured
        Says of a manifest whether the chunks in it are to be counted: that of some formats reads files for it.

    Raises
    ------
    RefsError
        If there is nothing at the path; the message has what is near it.
    """
    start = path.strip("/")
    start = start if start in references.unreadable else follow(start, references.links) or start
    documents = {key.removesuffix("zarr.json").rstrip("/"): value for key, value in references.metadata.items()}
    paths = {*documents, *references.links, *references.unreadable}
    if start not in paths:
        raise RefsError(f"There is nothing at /{start}. {near(start, paths)}")
    folder = f"{start}/" if start else ""
    listed = sorted((one for one in paths if one == start or one.startswith(folder)), key=lambda one: one.split("/"))
    return [_row(one, documents.get(one), references, measured) for one in listed]


def near(path: str, known: Iterable[str]) -> str:
    """Return a sentence that says which of the known paths may have been meant."""
    paths = sorted(known)
    name = path.rpartition("/")[2].lower()
    namesakes = [one for one in paths if name and one.rpartition("/")[2].lower() == name][:_COMPARED]
    found = sorted(namesakes, key=lambda one: -difflib.SequenceMatcher(None, path, one).ratio())[:3]
    if not found and len(paths) <= _COMPARED:
        found = difflib.get_close_matches(path, paths, n=3, cutoff=0.5)
    found = found or [one for one in paths if name and name in one.rpartition("/")[2].lower()][:3]
    return f"Near it: {', '.join(f'/{one}' for one in found)}." if found else f"There are {len(paths)} other paths."


def _row(path: str, document: bytes | None, references: References, measured: Callable[[ChunkManifest], bool]) -> Row:
    reason = references.unreadable.get(path)
    if document is None:
        return LinkRow(path, references.links.get(path), reason)
    node: dict[str, Any] = json.loads(document)
    attributes: dict[str, Any] = node.get("attributes", {})
    neurodata_type = _text(attributes.get("neurodata_type"))
    if node["node_type"] == "group":
        return GroupRow(path, neurodata_type)
    manifest = references.manifests[path]
    shape, chunk_shape = tuple(node["shape"]), tuple(node["chunk_grid"]["configuration"]["chunk_shape"])
    dtype, fields = (None, ()) if reason is not None else _elements(node)
    stored = None
    if reason is None and measured(manifest):
        stored, reason = _stored_or_reason(path, references, shape, chunk_shape, _itemsize(dtype, fields))
    return ArrayRow(
        path=path,
        neurodata_type=neurodata_type,
        shape=shape,
        dtype=dtype,
        fields=fields,
        chunk_shape=chunk_shape,
        grid=manifest.grid,
        codecs=() if dtype is None else _codecs(node["codecs"]),
        unit=_text(attributes.get("unit")),
        conversion=_number(attributes.get("conversion"), 1.0) or 1.0,
        rate=_number(attributes.get("rate"), None),
        stored=stored,
        unreadable=reason,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object, default: float | None) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else default  # type: ignore[arg-type]


# What the elements are


def _elements(node: Mapping[str, Any]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return the name of a data type, and the fields of a compound."""
    attributes = node["attributes"]
    if attributes.get("_DTYPE") == "object_reference":
        return "reference", ()
    data_type = node["data_type"]
    references = attributes.get("_REFERENCE_FIELDS")
    references = references if isinstance(references, list) else []
    match data_type:
        case {"name": "structured" | "struct", "configuration": {"fields": list(listed)}}:
            fields = [_field(field) for field in listed]
            return "compound", tuple((name, "reference" if name in references else kind) for name, kind in fields)
        case _:
            return _type_name(data_type), ()


def _field(field: object) -> tuple[str, str]:
    match field:
        case [str(name), data_type] | {"name": str(name), "data_type": data_type}:
            return name, _type_name(data_type)
        case _:
            return str(field), "?"


def _type_name(data_type: object) -> str:
    match data_type:
        case "string" | {"name": "string"} | {"name": "fixed_length_utf32"}:
            return "text"
        case str(name):
            return "bytes" if name in {"bytes", "variable_length_bytes"} else name
        case {"name": "null_terminated_bytes" | "raw_bytes", "configuration": {"length_bytes": length}}:
            return f"bytes[{length}]"
        case {"name": str(name)}:
            return name
        case _:
            return "?"


_ITEMSIZES = {name: int(code[1:]) for code, name in NUMERIC.items()}


def _itemsize(dtype: str | None, fields: tuple[tuple[str, str], ...]) -> int | None:
    """Return bytes of an element, packed; None where they differ."""
    if fields:
        sizes = [_itemsize(kind, ()) for _, kind in fields]
        return None if None in sizes else sum(size or 0 for size in sizes)
    if dtype is not None and dtype.startswith("bytes["):
        return int(dtype[len("bytes[") : -1])
    return _ITEMSIZES.get(dtype or "")


def _codecs(codecs: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    names: list[str] = []
    for codec in codecs:
        name = codec["name"].removeprefix("numcodecs.")
        if name not in _TO_BYTES and not name.startswith(_OWN):
            names.append(_CODECS.get(name, name))
        if name == "sharding_indexed":
            names += _codecs(codec["configuration"]["codecs"])
    return tuple(names)


# What the chunks take up


def _stored_or_reason(
    path: str, references: References, shape: tuple[int, ...], chunk_shape: tuple[int, ...], itemsize: int | None
) -> tuple[Stored | None, str | None]:
    """Add up the chunks; a manifest that turns out broken, or needs a library, is this array's trouble only."""
    try:
        return _stored(path, references, shape, chunk_shape, itemsize), None
    except (RefsError, ConfigurationError) as error:
        return None, str(error).rstrip(".")


def _stored(
    path: str, references: References, shape: tuple[int, ...], chunk_shape: tuple[int, ...], itemsize: int | None
) -> Stored:
    manifest = references.manifests[path]
    places = manifest.present()
    nbytes: int | None = 0
    inline, elements = 0, 0
    for first in range(0, len(places), _AT_ONCE):
        part = places[first : first + _AT_ONCE]
        locations = manifest.locate(part)
        inline += int((locations.sources == INLINE).sum())
        found = _encoded_nbytes(path, locations, references)
        nbytes = None if nbytes is None or found is None else nbytes + found
        elements += _elements_in(part, shape, chunk_shape, manifest.grid)
    return Stored(len(places), inline, nbytes, None if itemsize is None else itemsize * elements)


def _encoded_nbytes(path: str, locations: Locations, references: References) -> int | None:
    """Return bytes of chunks as they lie in files; None if that is not known of all."""
    selection = references.selections.get(path)
    lengths = locations.lengths.astype(np.int64)
    whole = locations.lengths == WHOLE
    if selection is not None:
        lengths = np.where(locations.sources == INLINE, lengths, selection.kept_nbytes(locations.lengths))
    lengths[whole] = 0
    total = int(lengths.sum())
    for number, offset in zip(locations.sources[whole].tolist(), locations.offsets[whole].tolist(), strict=True):
        size = references.sources[number].size
        if size is None or selection is not None:
            return None
        total += max(size - offset, 0)
    return total


def _elements_in(
    places: NDArray[np.uint64], shape: tuple[int, ...], chunk_shape: tuple[int, ...], grid: tuple[int, ...]
) -> int:
    """Return how many elements of an array lie in chunks at some places of its grid; those at the edges have fewer."""
    counts = np.ones(len(places), np.int64)
    rest = places
    for extent, chunk, length in reversed(list(zip(shape, chunk_shape, grid, strict=True))):
        rest, coordinate = np.divmod(rest, np.uint64(length))
        counts *= np.minimum(extent - coordinate.astype(np.int64) * chunk, chunk)
    return int(counts.sum())


def as_json(row: Row) -> dict[str, Any]:
    """Return a row as a JSON object."""
    match row:
        case GroupRow():
            return {"path": f"/{row.path}", "kind": "group", "neurodata_type": row.neurodata_type}
        case LinkRow():
            target = None if row.target is None else f"/{row.target}"
            return {"path": f"/{row.path}", "kind": "link", "target": target, "unreadable": row.unreadable}
    stored = row.stored
    return {
        "path": f"/{row.path}",
        "kind": "array",
        "neurodata_type": row.neurodata_type,
        "shape": row.shape,
        "dtype": row.dtype,
        "fields": dict(row.fields) or None,
        "unit": row.unit,
        "conversion": row.conversion,
        "rate": row.rate,
        "chunk_shape": row.chunk_shape,
        "chunk_nbytes": row.chunk_nbytes,
        "chunks": math.prod(row.grid),
        "codecs": row.codecs,
        "nbytes": row.nbytes,
        "chunks_listed": None if stored is None else stored.chunks,
        "chunks_inline": None if stored is None else stored.inline,
        "stored_nbytes": None if stored is None else stored.nbytes,
        "ratio": None if stored is None or stored.ratio is None else round(stored.ratio, 3),
        "unreadable": row.unreadable,
    }


def size_text(nbytes: int) -> str:
    """Return bytes in a unit that leaves three digits."""
    if nbytes < 1000:
        return f"{nbytes} B"
    power = min(len(f"{nbytes + nbytes // 2000}") - 1, 3 * len(_UNITS)) // 3  # 999,950 is 1 MB, and not 1,000 kB
    return f"{nbytes / 1000**power:.3g} {_UNITS[power - 1]}"
