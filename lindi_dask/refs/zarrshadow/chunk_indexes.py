"""`indexes` of Zarr v3 references: the chunk locations of an array as a Zarr array in files of their own. Pure.

An index has the shape (*grid, 2) and the type uint64; its last axis holds a chunk's offset and length in bytes. Both
2**64 - 1 is a chunk that was never written, as in the index of a Zarr v3 shard
(https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html).
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.manifest import WHOLE, ColumnManifest, LazyManifest
from lindi_dask.refs.paths import relative_path
from lindi_dask.refs.scan import MAX_ENTRIES
from lindi_dask.refs.zarrshadow.index_codecs import decoded
from lindi_dask.refs.zarrshadow.index_layout import NOT_WRITTEN, IndexLayout, invalid_index, parse_layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lindi_dask.refs.manifest import ChunkManifest

    Read = Callable[[str], bytes | None]

__all__ = ["ChunkIndex", "index_manifest", "parse_indexes"]

_MAX_OFFSET: Final = 2**63 - 2**32  # so that offset plus length stays below 2**63
_MAX_NBYTES: Final = 2**31  # of an index, decoded


@dataclass(frozen=True, slots=True)
class ChunkIndex:
    """Where the index of an array lies, and the file that it points into."""

    url: str
    """of the file that holds every chunk, as written: templates are not expanded"""
    folder: str
    """of the index, from the folder of the reference file, without slashes at its ends"""


def parse_indexes(value: object) -> dict[str, ChunkIndex]:
    """Return the indexes of a reference file by array path.

    Parameters
    ----------
    value
        The member `indexes`: by array path, `{"url": ..., "index": "index/a/b"}`.

    Raises
    ------
    InvalidReferences
        If it is malformed, or an index may lie outside the reference file's folder; it names the array.
    """
    if not isinstance(value, dict):
        raise invalid_index("indexes", "it is not an object")
    return {path: _chunk_index(path, entry) for path, entry in value.items()}


def _chunk_index(path: object, entry: Any) -> ChunkIndex:  # noqa: ANN401 - any JSON
    name = f"indexes of {path!r}"
    if not isinstance(path, str) or path.startswith("/") or path.endswith("/"):
        raise invalid_index(name, "that is not the path of an array: it has no slash at its ends")
    match entry:
        case {"url": str(url), "index": str(folder)}:
            pass
        case _:
            raise invalid_index(name, "it is not an object with the texts 'url' and 'index'")
    reason, relative = "it is a URL, and not a path below the reference file's folder", None
    try:
        relative = relative_path(folder)
    except InvalidReferences as error:
        reason = error.reason
    if relative is None:
        raise invalid_index(name, f"its index {folder[:200]!r} is refused: {reason}")
    return ChunkIndex(url, relative)


def index_manifest(index: ChunkIndex, grid: tuple[int, ...], read: Read, source: int) -> ChunkManifest:
    """Return a manifest of the chunks in an index, which is read when it is first asked for a chunk.

    Parameters
    ----------
    index
        Of the array.
    grid
        Chunks of the array along each dimension; their product is less than 2**63.
    read
        Returns the content of a file by its path from the reference file's folder, or None if there is no such file.
        A chunk of the index that is not there holds no locations: None must never stand for a failed read.
    source
        Number of the file that the index points into.

    Returns
    -------
    ChunkManifest
        At its first use it raises `InvalidReferences` if the index is not there, is not one of this grid, can't be
        decoded, or holds what can't be a location; and what `read` raises.
    """
    return LazyManifest(grid, lambda: _manifest(index, grid, read, source))


def _manifest(index: ChunkIndex, grid: tuple[int, ...], read: Read, source: int) -> ColumnManifest:
    name = f"{index.folder}/zarr.json"
    content = read(name)
    if content is None:
        raise invalid_index(name, "it is not there: the index belongs beside the reference file")
    layout = parse_layout(name, content, grid)
    places: list[NDArray[np.uint64]] = []
    found: list[NDArray[np.uint64]] = []
    chunks_there, count = 0, 0
    for at in itertools.product(*map(range, layout.grid)):
        name = f"{index.folder}/{layout.key(at)}"
        encoded = read(name)
        if encoded is None:
            continue
        chunks_there += 1
        if chunks_there * layout.nbytes > _MAX_NBYTES:
            raise invalid_index(index.folder, f"it is larger than {_MAX_NBYTES >> 30} GiB")
        entries = _entries(name, encoded, layout)
        extents = [min(chunk, extent - i * chunk) for i, chunk, extent in zip(at, layout.chunks, grid, strict=True)]
        within = entries[tuple(map(slice, extents))].reshape(-1, 2)
        # Native from here on: numpy is slow with the other byte order
        within = within.astype(np.uint64, copy=False)
        here = _places(at, layout.chunks, extents, grid)
        present = (within != NOT_WRITTEN).any(axis=1)
        if not present.all():
            here, within = here[present], within[present]
        _check(name, here, within, grid)
        places.append(here)
        found.append(within)
        count += len(here)
        if count > MAX_ENTRIES:
            raise invalid_index(index.folder, f"it has more than {MAX_ENTRIES:,} chunks")
    listed = np.concatenate([np.empty((0, 2), np.uint64), *found])
    found.clear()
    return ColumnManifest.build(
        grid,
        np.concatenate([np.empty(0, np.uint64), *places]),
        np.full(count, source, np.uint32),
        listed[:, 0].copy(),
        listed[:, 1].astype(np.uint32),
    )


def _places(at: tuple[int, ...], chunks: tuple[int, ...], extents: list[int], grid: tuple[int, ...]) -> NDArray[Any]:
    """Return the places in the grid of the locations in one of the index's chunks, in C order."""
    places = np.zeros(1, np.uint64)
    for i, chunk, extent, length in zip(at, chunks, extents, grid, strict=True):
        along = np.arange(i * chunk, i * chunk + extent, dtype=np.uint64)
        places = (places[:, None] * np.uint64(length) + along).reshape(-1)
    return places


def _check(name: str, places: NDArray[np.uint64], entries: NDArray[np.uint64], grid: tuple[int, ...]) -> None:
    wrong = (entries[:, 0] > _MAX_OFFSET) | (entries[:, 1] >= WHOLE)
    if wrong.any():
        i = int(wrong.argmax())
        chunk, rest = [], int(places[i])
        for extent in reversed(grid):
            rest, coordinate = divmod(rest, extent)
            chunk.append(coordinate)
        offset, length = entries[i].tolist()
        raise invalid_index(name, f"the chunk {chunk[::-1]} can't have the offset {offset} and the length {length}")


def _entries(name: str, encoded: bytes, layout: IndexLayout) -> NDArray[np.uint64]:
    """Decode a chunk of the index: shape (*chunks, 2)."""
    reason, content = "", None
    try:
        content = decoded(encoded, layout.steps, layout.nbytes)
    except (ValueError, RuntimeError, zlib.error) as error:  # numcodecs raises RuntimeError
        reason = str(error)
    if content is None:
        raise invalid_index(name, f"it can't be decoded: {reason}")
    numbers = np.frombuffer(content, layout.dtype).reshape(*layout.chunks, layout.width)
    return numbers[..., :2]
