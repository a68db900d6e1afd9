"""Index a local HDF5 file as a reference file system in LINDI's form (Zarr v2 metadata).

The forms are those of LINDI 0.4.6 (https://github.com/NeurodataWithoutBorders/lindi), but that inline chunks
are not compressed. Not indexed yet, and refused by name: compound types, other filters than gzip, shuffle and
fletcher32, data in external files, virtual datasets, external links.
"""

import base64
import json
import math
import os
from typing import Any

import h5py
import numpy as np

from lindi_dask.errors import UnsupportedArray
from lindi_dask.index.jsonable import jsonable

INLINE_SIZE = 1000
"""Elements: numeric datasets of fewer are held in the references themselves, as one chunk."""

SPLIT_NBYTES = 8 * 2**20
"""Bytes, about: the chunks that contiguous datasets are split into."""

JSON2 = {
    "id": "json2", "encoding": "utf-8", "allow_nan": True, "check_circular": True, "ensure_ascii": True,
    "indent": None, "separators": [",", ":"], "skipkeys": False, "sort_keys": True, "strict": True,
}  # fmt: skip
"""The filter that LINDI gives to arrays of strings and of object references."""

Json = dict[str, Any]


def index_hdf5(path: str | os.PathLike[str], url: str) -> Json:
    """Make the reference file system of an HDF5 file.

    Parameters
    ----------
    path
        The file, local.
    url
        Where readers will find the same bytes; becomes the template `u1`.

    Returns
    -------
    dict
        `{"version": 1, "templates": {"u1": url}, "refs": {...}}`, as `json.dumps` takes it. A chunk is
        `["{{u1}}", offset, length]`, in bytes from the start of the file; a chunk that was never written
        has no entry.

    Raises
    ------
    UnsupportedArray
        For an object that cannot be indexed yet; names it and says why.
    """
    refs: Json = {}
    with h5py.File(path, "r") as file:
        _index_group(file, "", refs)
    return {"version": 1, "templates": {"u1": url}, "refs": refs}


def _index_group(group: h5py.Group, prefix: str, refs: Json) -> None:
    refs[f"{prefix}.zgroup"] = {"zarr_format": 2}
    _index_attributes(group, prefix, {}, refs)
    for name in group:
        link, inner = group.get(name, getlink=True), f"{prefix}{name}/"
        if isinstance(link, h5py.SoftLink):
            refs[f"{inner}.zgroup"] = {"zarr_format": 2}
            refs[f"{inner}.zattrs"] = {"_SOFT_LINK": {"path": link.path}}
        elif isinstance(link, h5py.ExternalLink):
            raise _unsupported(inner, f"it is a link into another file, {link.filename}")
        elif isinstance(child := group[name], h5py.Group):
            _index_group(child, inner, refs)
        elif isinstance(child, h5py.Dataset):
            _index_dataset(child, inner, refs)
        # what is left are committed datatypes: they hold no data


def _index_attributes(node: h5py.Group | h5py.Dataset, prefix: str, extra: Json, refs: Json) -> None:
    try:
        attributes = {name: jsonable(value, node.file) for name, value in sorted(node.attrs.items())}
    except ValueError as error:
        raise _unsupported(prefix, f"an attribute has no JSON form: {error}") from error
    if attributes | extra:
        refs[f"{prefix}.zattrs"] = extra | attributes


def _index_dataset(dataset: h5py.Dataset, prefix: str, refs: Json) -> None:
    if dataset.shape is None:
        raise _unsupported(prefix, "its dataspace is null")
    shape = dataset.shape or (1,)  # Zarr v2 as LINDI writes it knows scalars as arrays of one
    _index_attributes(dataset, prefix, {} if dataset.shape else {"_SCALAR": True}, refs)
    dtype = dataset.dtype
    layout = dataset.id.get_create_plist().get_layout()

    if h5py.check_string_dtype(dtype) or h5py.check_ref_dtype(dtype) is h5py.Reference:
        _index_objects(dataset, prefix, refs)
    elif dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise _unsupported(prefix, f"its type is {dtype}")
    elif dataset.size < INLINE_SIZE or layout == h5py.h5d.COMPACT:
        _put_inline(dataset[...].tobytes(), _array(shape, dtype.str, _fill(dataset), None), prefix, refs)
    elif layout == h5py.h5d.CHUNKED:
        _index_chunked(dataset, prefix, refs)
    elif layout == h5py.h5d.CONTIGUOUS and not dataset.external:
        _index_contiguous(dataset, prefix, refs)
    else:
        raise _unsupported(prefix, "its data lie in other files")


def _index_objects(dataset: h5py.Dataset, prefix: str, refs: Json) -> None:
    """Index strings and object references; they lie in the file's heaps, where no byte range is of use."""
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    values = np.asarray((dataset.asstr() if is_text else dataset)[...], dtype=object)
    if is_text and not dataset.shape:
        text = np.array([values[()]], dtype="<U")
        _put_inline(text.tobytes(), _array((1,), text.dtype.str, "", None), prefix, refs)
        return
    shape = dataset.shape or (1,)
    items = [jsonable(item, dataset.file) for item in values.reshape(-1).tolist()]
    encoded = json.dumps([*items, "|O", list(shape)], separators=(",", ":"), sort_keys=True)
    _put_inline(encoded.encode("ascii"), _array(shape, "|O", 0, [JSON2]), prefix, refs)


def _index_chunked(dataset: h5py.Dataset, prefix: str, refs: Json) -> None:
    chunks, filters = dataset.chunks, _filters(dataset, prefix)
    refs[f"{prefix}.zarray"] = _array(dataset.shape, dataset.dtype.str, _fill(dataset), filters, chunks)

    def put(chunk: h5py.h5d.StoreInfo) -> None:
        if chunk.filter_mask:
            raise _unsupported(prefix, f"the chunk at {chunk.chunk_offset} was written without its filters")
        index = (start // size for start, size in zip(chunk.chunk_offset, chunks, strict=True))
        refs[prefix + ".".join(map(str, index))] = ["{{u1}}", chunk.byte_offset, chunk.size]

    dataset.id.chunk_iter(put)  # one pass; get_chunk_info walks the index anew for each chunk


def _index_contiguous(dataset: h5py.Dataset, prefix: str, refs: Json) -> None:
    shape = dataset.shape
    row_nbytes = dataset.nbytes // shape[0]
    rows = min(shape[0], max(1, SPLIT_NBYTES // row_nbytes))
    refs[f"{prefix}.zarray"] = _array(shape, dataset.dtype.str, _fill(dataset), None, (rows, *shape[1:]))
    first = dataset.id.get_offset()
    if first is None:  # never written: all of it is the fill value
        return
    for number in range(math.ceil(shape[0] / rows)):
        start = number * rows
        # as LINDI has it, the last chunk is as short as the data; readers pad it
        nbytes = min(rows, shape[0] - start) * row_nbytes
        key = ".".join([str(number)] + ["0"] * (len(shape) - 1))
        refs[prefix + key] = ["{{u1}}", first + start * row_nbytes, nbytes]


def _filters(dataset: h5py.Dataset, prefix: str) -> list[Json] | None:
    """Translate the filter pipeline, in the order in which it encodes."""
    properties = dataset.id.get_create_plist()
    filters: list[Json] = []
    for position in range(properties.get_nfilters()):
        code, _flags, options, name = properties.get_filter(position)
        if code == h5py.h5z.FILTER_SHUFFLE:
            filters.append({"id": "shuffle", "elementsize": dataset.dtype.itemsize})
        elif code == h5py.h5z.FILTER_DEFLATE:
            filters.append({"id": "zlib", "level": options[0]})
        elif code == h5py.h5z.FILTER_FLETCHER32:
            filters.append({"id": "fletcher32"})
        else:
            raise _unsupported(prefix, f"its chunks go through the filter {name.decode()!r} ({code})")
    return filters or None


def _array(
    shape: tuple[int, ...],
    dtype: str,
    fill: object,
    filters: list[Json] | None,
    chunks: tuple[int, ...] | None = None,
) -> Json:
    return {
        "zarr_format": 2,
        "shape": list(shape),
        "chunks": [max(1, size) for size in chunks or shape],  # Zarr has no chunks of length 0
        "dtype": dtype,
        "fill_value": fill,
        "order": "C",
        "compressor": None,
        "filters": filters,
    }


def _fill(dataset: h5py.Dataset) -> object:
    return jsonable(dataset.fillvalue, dataset.file)


def _put_inline(data: bytes, array: Json, prefix: str, refs: Json) -> None:
    refs[f"{prefix}.zarray"] = array
    if math.prod(array["shape"]):
        refs[prefix + ".".join("0" * len(array["shape"]))] = "base64:" + base64.b64encode(data).decode("ascii")


def _unsupported(prefix: str, reason: str) -> UnsupportedArray:
    path = prefix.rstrip("/")
    return UnsupportedArray(f"/{path} cannot be indexed: {reason}", path=path, reason=reason)
