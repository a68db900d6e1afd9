"""The chunk index of an HDF5 dataset that an external array link names, checked against what the link's array says."""

from __future__ import annotations

import gc
import math
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import h5py

from lindi_dask.errors import LindiError, SourceMismatch, UnsupportedArray
from lindi_dask.hdf5.jsonable import jsonable
from lindi_dask.refs.dialect.v2_kinds import json_float
from lindi_dask.refs.scan import MAX_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lindi_dask.hdf5.remote_file import RemoteFile

    Json = dict[str, Any]

__all__ = ["ExternalLink", "collections_put_off", "linked_chunks"]

_NUMERIC: Final = "biuf"
_FILTERS: Final = {1: "zlib", 2: "shuffle", 3: "fletcher32", 307: "bz2", 32001: "blosc", 32015: "zstd"}
"""HDF5's filters (https://github.com/HDFGroup/hdf5_plugins) -> numcodecs' that undo them"""

_indexing: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class ExternalLink:
    """An array whose chunks are those of a dataset elsewhere."""

    path: str
    """of the array, without a leading slash"""
    written: str
    """the URL of the file, as the document has it"""
    url: str
    """of the file, templates expanded"""
    name: str
    """path of the dataset in the file"""


def linked_chunks(link: ExternalLink, zarray: Json, file: RemoteFile) -> list[tuple[str, int, int]]:
    """Return where the chunks of a linked dataset lie; only its index is read, in one pass.

    Parameters
    ----------
    link
        To the dataset.
    zarray
        `.zarray` of the array that it is to be.
    file
        What the link's URL stands for.

    Returns
    -------
    list of tuple
        Name (`"3.0"`), offset and length (bytes, from the start of the file) of each chunk that was ever written.

    Raises
    ------
    SourceMismatch
        If the file is not HDF5, has no such dataset, or one that is not what `zarray` says.
    UnsupportedArray
        If its chunks can't be referred to.
    LindiError
        If the file can't be read.
    """
    failure: LindiError
    try:
        with collections_put_off(), h5py.File(file, "r") as opened:
            found = _indexed(_dataset(opened, link, file), link, zarray, file)
        if file.failure is None:
            return found
        failure = file.failure
    except LindiError as error:
        failure = error.fresh()
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:  # all of them h5py's
        what = str(error.args[0]) if error.args else type(error).__name__
        failure = _mismatch(link, f"{file.name} can't be read as an HDF5 file: {what}")
    raise (file.failure or failure).fresh()


@contextmanager
def collections_put_off() -> Iterator[None]:
    """Collect no garbage for a while, in the whole process.

    h5py holds its lock while it waits for a read. If the thread that reads were to collect garbage with objects of
    h5py in it, it would wait for that lock: for ever (https://github.com/h5py/h5py/issues/2019).
    """
    with _indexing:
        enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if enabled:
                gc.enable()


def _dataset(opened: h5py.File, link: ExternalLink, file: RemoteFile) -> h5py.Dataset:
    """Return the dataset by hard links alone: others lead to where a stranger likes, such as files of this machine."""
    node = opened
    for part in link.name.split("/"):
        links = node.id.links if isinstance(node, h5py.Group) else None
        name = part.encode("utf-8", "surrogatepass")
        if links is None or not part or not links.exists(name) or links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise _mismatch(link, f"{file.name} has no dataset {link.name!r}")
        node = node[name]
    if not isinstance(node, h5py.Dataset):
        raise _mismatch(link, f"{link.name!r} in {file.name} is not a dataset")
    return node


def _indexed(dataset: h5py.Dataset, link: ExternalLink, zarray: Json, file: RemoteFile) -> list[tuple[str, int, int]]:
    layout = dataset.id.get_create_plist().get_layout()
    if layout not in {h5py.h5d.CHUNKED, h5py.h5d.CONTIGUOUS} or dataset.external:
        raise _unsupported(link, "the data of the dataset lie in other files, or in the file's metadata")
    if dataset.dtype.kind not in _NUMERIC or dataset.shape is None:
        raise _unsupported(link, f"the dataset's elements are no numbers: their type is {dataset.dtype}")
    chunked = layout == h5py.h5d.CHUNKED
    for what, found, said in _compared(dataset, link, zarray, chunked=chunked):
        if found != said:
            raise _mismatch(link, f"the dataset {link.name!r} in {file.name} has {what} {found}, not {said}")
    separator = "/" if zarray.get("dimension_separator") == "/" else "."
    chunks = _of_chunked(dataset, link, separator) if chunked else _of_contiguous(dataset, zarray["chunks"], separator)
    for name, offset, length in chunks:
        if offset + length > file.size:
            raise _mismatch(link, f"the chunk {name} ends behind the end of {file.name}")
    total = math.prod(-(-extent // max(size, 1)) for extent, size in zip(dataset.shape, zarray["chunks"], strict=True))
    if len(chunks) < total and not _same_fill(dataset, zarray.get("fill_value")):
        raise _mismatch(
            link,
            f"the dataset {link.name!r} in {file.name} has the fill value {dataset.fillvalue}, not "
            f"{zarray.get('fill_value')}, and chunks that were never written",
        )
    return chunks


def _compared(
    dataset: h5py.Dataset, link: ExternalLink, zarray: Json, *, chunked: bool
) -> Iterator[tuple[str, object, object]]:
    """Yield what must be the same: its name, the dataset's, the document's."""
    yield "the shape", list(dataset.shape), zarray.get("shape")
    yield "the type", dataset.dtype.str, zarray.get("dtype")
    declared = zarray.get("chunks")
    if chunked:
        yield "the chunks", list(dataset.chunks), declared
    else:  # as LINDI splits it: along the first dimension
        yield "(contiguous) rows of", list(dataset.shape[1:]), declared[1:] if isinstance(declared, list) else declared
    steps = [*(zarray.get("filters") or []), zarray.get("compressor")]
    yield (
        "the filters",
        _filters(dataset, link),
        [
            (step.get("id"), step.get("elementsize")) if step.get("id") == "shuffle" else step.get("id")
            for step in steps
            if isinstance(step, dict)
        ],
    )
    yield "the order", "C", zarray.get("order", "C")


def _filters(dataset: h5py.Dataset, link: ExternalLink) -> list[object]:
    """Return the filters of a dataset by numcodecs' names, in the order in which they encode."""
    properties = dataset.id.get_create_plist()
    names: list[object] = []
    for position in range(properties.get_nfilters()):
        code, _flags, _options, name = properties.get_filter(position)
        if code not in _FILTERS:
            shown = name.decode("utf-8", "replace")
            raise _unsupported(link, f"the dataset's chunks go through the filter {shown!r} ({code})")
        names.append(("shuffle", dataset.dtype.itemsize) if _FILTERS[code] == "shuffle" else _FILTERS[code])
    return names


def _same_fill(dataset: h5py.Dataset, said: object) -> bool:
    if isinstance(said, float):
        said = json_float(said)
    return bool(jsonable(dataset.fillvalue, dataset.file) == (0 if said is None else said))


def _of_chunked(dataset: h5py.Dataset, link: ExternalLink, separator: str) -> list[tuple[str, int, int]]:
    shape, sizes = dataset.shape, dataset.chunks
    found: list[tuple[str, int, int]] = []

    def keep(chunk: h5py.h5d.StoreInfo) -> None:
        if chunk.filter_mask:
            raise _unsupported(
                link, f"the chunk at {chunk.chunk_offset} was written without some of the dataset's filters"
            )
        if len(found) == MAX_ENTRIES:
            raise _unsupported(link, f"the dataset has more than {MAX_ENTRIES:,} chunks")
        if all(start < extent for start, extent in zip(chunk.chunk_offset, shape, strict=True)):
            index = (start // size for start, size in zip(chunk.chunk_offset, sizes, strict=True))
            found.append((separator.join(map(str, index)), chunk.byte_offset, chunk.size))

    dataset.id.chunk_iter(keep)  # one pass; get_chunk_info walks the index anew for each chunk
    return found


def _of_contiguous(dataset: h5py.Dataset, sizes: list[int], separator: str) -> list[tuple[str, int, int]]:
    # Never written, all of it is the fill value; the offset says so only in files without a user block
    never = dataset.id.get_space_status() == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED
    first = None if never else dataset.id.get_offset()
    if first is None or not dataset.size:
        return []
    rows, total = sizes[0], dataset.shape[0]
    row_nbytes = dataset.nbytes // total
    others = [0] * (len(sizes) - 1)
    return [
        # as LINDI has it, the last chunk is as short as the data; readers pad it
        (
            separator.join(map(str, [start // rows, *others])),
            first + start * row_nbytes,
            min(rows, total - start) * row_nbytes,
        )
        for start in range(0, total, rows)
    ]


def _unsupported(link: ExternalLink, reason: str) -> UnsupportedArray:
    return UnsupportedArray(f"/{link.path} can't be expanded: {reason}.", path=link.path, reason=reason)


def _mismatch(link: ExternalLink, reason: str) -> SourceMismatch:
    return SourceMismatch(
        f"/{link.path} can't be expanded: {reason}. If the references belong to another version of the file, make them "
        "anew."
    )
