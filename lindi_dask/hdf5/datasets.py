"""One HDF5 dataset -> its `zarr.json`, and its chunks: in columns, or held by the references themselves."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from h5py import h5d, h5s

from lindi_dask.hdf5.chunks import chunk_columns, contiguous_columns, refiltered
from lindi_dask.hdf5.elements import elements_of
from lindi_dask.hdf5.filters import codecs_of
from lindi_dask.hdf5.layouts import chunk_index
from lindi_dask.hdf5.values import encoded, fill_of, finished, type_of
from lindi_dask.refs.dialect.v2_kinds import UntranslatableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from h5py.h5d import DatasetID
    from h5py.h5p import PropDCID
    from numpy.typing import NDArray

    from lindi_dask.hdf5.chunk_tree import ChunkColumns
    from lindi_dask.hdf5.chunks import FileBytes
    from lindi_dask.hdf5.elements import Elements
    from lindi_dask.hdf5.values import DataType, PathOf
    from lindi_dask.refs.references import Source

__all__ = ["INLINE_SIZE", "SPLIT_NBYTES", "Dataset", "described", "fingerprint"]

INLINE_SIZE: Final = 1000
"""elements: datasets of fewer are held in the references themselves, as one chunk (as LINDI does)"""

SPLIT_NBYTES: Final = 8 * 2**20
"""bytes, about: the chunks that contiguous datasets are split into"""

_MAX_HELD: Final = 2**26  # bytes of a dataset that are held in the references
_TEXTS: Final = 256  # elements of text that are read at once
_HELD_CHUNK: Final = 2**16  # elements of such a chunk, about


@dataclass(slots=True)
class Dataset:
    """What a dataset is in the internal dialect."""

    document: dict[str, Any]
    """its `zarr.json`, without attributes"""
    name: str = ""
    """for the attribute `_DTYPE`; "" for none"""
    references: tuple[str, ...] = ()
    """fields of its compounds that are references to objects"""
    columns: ChunkColumns | None = None
    """chunks that lie in the file"""
    held: list[tuple[int, bytes]] = field(default_factory=list)
    """chunks that the references hold: place in the grid, encoded"""
    unreadable: str | None = None
    """why it can't be translated, or None"""


def described(
    dataset: DatasetID, address: int, content: FileBytes, path_of: PathOf, known: ChunkColumns | None = None
) -> Dataset:
    """Translate a dataset; what Zarr has nothing for is listed with the reason.

    Parameters
    ----------
    dataset
        Open.
    address
        Of its object header, from the file's base.
    content
        Bytes of the file.
    path_of
        Returns the path of the object at an address.
    known
        Where its chunks lie, if that was found out already.
    """
    reason = None
    try:
        return _translated(dataset, address, content, path_of, known)
    except UntranslatableError as error:
        reason = str(error)
    except (OSError, ValueError, TypeError, RuntimeError, OverflowError) as error:  # all of them h5py's
        reason = f"HDF5 can't read it: {error}"
    shape = _extents(dataset)
    document = _document(shape, tuple(max(extent, 1) for extent in shape), "string", "", [{"name": "vlen-utf8"}])
    return Dataset(document, unreadable=reason)


def fingerprint(documents: Mapping[str, Any], datasets: Mapping[str, Dataset], source: Source) -> str:
    """Return a digest of all that references are made of."""
    digest = hashlib.sha256()
    known = [documents, {path: one.unreadable for path, one in datasets.items()}]
    digest.update(json.dumps([*known, source.url, source.size, source.etag, source.address]).encode())
    for one in datasets.values():
        if one.columns is not None:
            for column in (one.columns.places, one.columns.offsets, one.columns.lengths):
                digest.update(column.data)
        for place, data in one.held:
            digest.update(b"%d:%d:" % (place, len(data)))
            digest.update(data)
    return digest.hexdigest()[:32]


def _translated(
    dataset: DatasetID, address: int, content: FileBytes, path_of: PathOf, known: ChunkColumns | None
) -> Dataset:
    elements = elements_of(dataset.get_type())
    properties = dataset.get_create_plist()
    layout = properties.get_layout()
    if layout == h5d.VIRTUAL or properties.get_external_count():
        raise UntranslatableError("its data lie in other files, which are not looked for")
    shape = _extents(dataset)
    if dataset.get_space().get_simple_extent_type() == h5s.NULL or 0 in shape:
        return _held(np.zeros((*shape, *elements.shape), _one(elements).dtype), elements, path_of)
    if math.prod(shape) < INLINE_SIZE or layout == h5d.COMPACT or not elements.is_stored:
        return _read(dataset, elements, shape, path_of)
    if layout == h5d.CONTIGUOUS:
        return _contiguous(dataset, properties, elements, shape, content)
    reason = None
    try:
        return _chunked(dataset, properties, elements, shape, address, content, known)
    except UntranslatableError as error:
        reason = str(error)
    return _read(dataset, elements, shape, path_of, why=reason)


def _one(elements: Elements) -> Elements:
    """Return what the elements of a Zarr array are: an array of arrays is one of more dimensions."""
    return elements.fields[0][1] if elements.role == "array" else elements


def _extents(dataset: DatasetID) -> tuple[int, ...]:
    """Return the shape; a dataset without a value has no element."""
    space = dataset.get_space()
    return (0,) if space.get_simple_extent_type() == h5s.NULL else tuple(space.get_simple_extent_dims())


def _document(
    shape: tuple[int, ...], chunks: tuple[int, ...], kind: DataType, fill: object, codecs: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": kind,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": codecs,
    }


def _to_bytes(one: Elements, kind: DataType, *, big: bool = False) -> dict[str, Any]:
    """Return the codec from arrays to bytes."""
    if kind == "string":
        return {"name": "vlen-utf8"}
    if one.role == "bytes" or (one.dtype.itemsize == 1 and one.role == "number"):
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "big" if big else "little"}}


def _name(one: Elements, kind: DataType) -> str:
    match one.role:
        case "reference":
            return "object_reference"
        case "text":
            return "str"
        case "bytes":
            return f"S{one.dtype.itemsize}"
        case _:
            return kind if isinstance(kind, str) else ""


# Data that lie in the file


def _contiguous(
    dataset: DatasetID, properties: PropDCID, elements: Elements, shape: tuple[int, ...], content: FileBytes
) -> Dataset:
    one = _one(elements)
    shape = (*shape, *elements.shape)
    row = math.prod(shape[1:]) * one.dtype.itemsize
    rows = min(shape[0], max(1, SPLIT_NBYTES // row))
    found = _in_file(properties, one, shape, (rows, *shape[1:]), [])
    # Never written, all of it is the fill value; the offset says so only in files without a user block
    first = None if dataset.get_space_status() == h5d.SPACE_STATUS_NOT_ALLOCATED else dataset.get_offset()
    if first is not None:
        if first + row * shape[0] > content.size:
            raise UntranslatableError("its data end behind the end of the file, which was cut short")
        found.columns = contiguous_columns(first, shape, rows, one.dtype.itemsize)
    return found


def _chunked(
    dataset: DatasetID,
    properties: PropDCID,
    elements: Elements,
    shape: tuple[int, ...],
    address: int,
    content: FileBytes,
    known: ChunkColumns | None,
) -> Dataset:
    codecs = codecs_of(properties)
    chunks = properties.get_chunk()
    if codecs and any(extent % chunk for extent, chunk in zip(shape, chunks, strict=True)):
        index = chunk_index(content.read, content.base, address)
        if index is not None and index.leaves_edges:
            raise UntranslatableError("its chunks at the edges are stored without its filters")
    columns = chunk_columns(dataset, content, address, chunks) if known is None else known
    masks = np.unique(columns.masks).tolist()
    held: list[tuple[int, bytes]] = []
    if len(masks) == 1 and masks[0]:  # one filter or more that no chunk went through
        codecs = [codec for i, codec in enumerate(codecs) if not masks[0] >> i & 1]
    elif len(masks) > 1:
        odd = columns.masks != 0
        held = _with_filters(dataset, columns[odd], codecs, shape, chunks)
        columns = columns[~odd]
    found = _in_file(properties, _one(elements), (*shape, *elements.shape), (*chunks, *elements.shape), codecs)
    found.columns, found.held = columns, held
    return found


def _with_filters(
    dataset: DatasetID,
    columns: ChunkColumns,
    codecs: list[dict[str, Any]],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
) -> list[tuple[int, bytes]]:
    """Return chunks that were stored without some of the filters, with all of them."""
    if int(columns.lengths.sum(dtype=np.int64)) > _MAX_HELD:
        raise UntranslatableError("many of its chunks are stored without some of its filters")
    grid = tuple(-(-extent // chunk) for extent, chunk in zip(shape, chunks, strict=True))
    held = []
    for place in columns.places.tolist():
        at = np.unravel_index(place, grid)
        start = tuple(int(i) * chunk for i, chunk in zip(at, chunks, strict=True))
        mask, data = dataset.read_direct_chunk(start)
        held.append((place, refiltered(data, mask, codecs)))
    return held


def _in_file(
    properties: PropDCID, one: Elements, shape: tuple[int, ...], chunks: tuple[int, ...], codecs: list[dict[str, Any]]
) -> Dataset:
    kind = type_of(one)
    value = np.zeros((), one.dtype)
    if properties.fill_value_defined() == h5d.FILL_VALUE_USER_DEFINED:
        properties.get_fill_value(value)
    fill = fill_of(finished(value, one, str)[0], kind)
    big = one.role == "number" and one.dtype.newbyteorder(">") == one.dtype
    document = _document(shape, chunks, kind, fill, [_to_bytes(one, kind, big=big), *codecs])
    return Dataset(document, _name(one, kind))


# Data that the references hold


def _read(dataset: DatasetID, elements: Elements, shape: tuple[int, ...], path_of: PathOf, *, why: str = "") -> Dataset:
    """Take in all elements, as h5py reads them."""
    nbytes = math.prod(shape) * elements.dtype.itemsize
    if nbytes > _MAX_HELD:
        reason = why or "its elements do not lie in the file as Zarr would have them"
        raise UntranslatableError(f"{reason}; and with {nbytes:,} bytes it is too large to be held in the references")
    one = _one(elements)
    values = np.zeros((*shape, *elements.shape), one.dtype)
    if values.dtype.hasobject and shape:
        _read_text(dataset, elements, shape, values)
    else:
        dataset.read(h5s.ALL, h5s.ALL, values, mtype=elements.memory)
    return _held(values, elements, path_of)


def _read_text(dataset: DatasetID, elements: Elements, shape: tuple[int, ...], values: NDArray[Any]) -> None:
    """Read text a few elements at a time, and no more than may be held: how long it is shows only then."""
    axis = next(k for k in range(len(shape)) if math.prod(shape[k + 1 :]) <= _TEXTS or k == len(shape) - 1)
    rows = max(1, _TEXTS // max(math.prod(shape[axis + 1 :]), 1))
    nbytes = 0
    for outer in np.ndindex(shape[:axis]):
        for first in range(0, shape[axis], rows):
            stop = min(first + rows, shape[axis])
            piece = values[(*outer, slice(first, stop))]
            extent = (*[1] * axis, stop - first, *shape[axis + 1 :])
            space = dataset.get_space()
            space.select_hyperslab((*outer, first, *[0] * (len(shape) - axis - 1)), extent)
            dataset.read(h5s.create_simple(extent), space, piece, mtype=elements.memory)
            nbytes += _text_nbytes(piece)
            if nbytes > _MAX_HELD:
                raise UntranslatableError("its text is too long to be held in the references")


def _text_nbytes(values: NDArray[Any]) -> int:
    if values.dtype.names is not None:
        return sum(_text_nbytes(values[name]) for name in values.dtype.names)
    return sum(map(len, filter(None, values.reshape(-1).tolist()))) if values.dtype == object else 0


def _held(values: NDArray[Any], elements: Elements, path_of: PathOf) -> Dataset:
    one = _one(elements)
    plain, kind = finished(values, one, path_of)
    shape = plain.shape
    if plain.dtype == object and sum(map(len, plain.reshape(-1).tolist())) > _MAX_HELD:
        raise UntranslatableError("its text is too long to be held in the references")
    rows = max(1, _HELD_CHUNK // max(math.prod(shape[1:]), 1)) if shape else 1
    chunks = (max(min(rows, shape[0]), 1), *(max(extent, 1) for extent in shape[1:])) if shape else ()
    if math.prod(shape) < INLINE_SIZE:
        chunks = tuple(max(extent, 1) for extent in shape)
    held = []
    if 0 not in shape:
        starts = range(0, shape[0], chunks[0]) if shape else [0]
        held = [
            (i, encoded(plain[start : start + chunks[0]] if shape else plain, chunks)) for i, start in enumerate(starts)
        ]
    fill = fill_of(np.zeros((), plain.dtype), kind)
    document = _document(shape, chunks, kind, fill, [_to_bytes(one, kind)])
    fields = one.fields if one.role == "record" else ()
    return Dataset(document, _name(one, kind), tuple(name for name, f in fields if f.role == "reference"), held=held)
