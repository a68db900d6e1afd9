"""kerchunk's parquet folders: `.zmetadata`, and the chunks of each array in records of `record_size` rows.

The format is what fsspec's `LazyReferenceMapper` reads and writes
(https://github.com/fsspec/filesystem_spec/blob/master/fsspec/implementations/reference.py). Row i of `a/refs.N.parq` is
the chunk at place `N * record_size + i` of the grid of `a`: `raw` holds its bytes, or text that begins with `base64:`;
else `path`, `offset` and `size` say where it lies (offset and size 0: it is the whole file); else it is missing.
Older writers (kerchunk's own, 2023) left out columns that hold nothing, and rows behind the grid.
"""

from __future__ import annotations

import json
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.refs.dialect.v3 import parse_sources
from lindi_dask.refs.json_reader import DuplicateKeyError, deeper_than, unique_object
from lindi_dask.refs.kerchunk.parquet_records import Record
from lindi_dask.refs.kerchunk.parquet_table import invalid_file
from lindi_dask.refs.manifest import MISSING, ChunkManifest, Locations
from lindi_dask.refs.references import Source
from lindi_dask.refs.scan import MAX_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lindi_dask.refs.references import SourceTable

__all__ = ["RecordManifest", "ZMetadata", "parse_zmetadata"]

_MAX_NBYTES: Final = 2**30  # of `.zmetadata`
_MAX_DEPTH: Final = 32
_MAX_RECORDS: Final = 100_000  # of an array whose chunks are listed


@dataclass(frozen=True, slots=True)
class ZMetadata:
    """What the file `.zmetadata` of a folder has."""

    documents: dict[str, Any]
    """by key (`a/.zarray`): JSON objects"""
    record_size: int
    """rows of a record"""
    sources: dict[str, Source]
    """what is said of files, by URL; other writers say nothing"""


def parse_zmetadata(content: bytes) -> ZMetadata:
    """Read the file `.zmetadata` of a folder.

    Raises
    ------
    InvalidReferences
        If it is not JSON, repeats a key, is nested too deeply, or lacks `metadata` or a sensible `record_size`.
    """
    document: object = None
    reason = None
    if len(content) > _MAX_NBYTES:
        raise invalid_file(".zmetadata", f"it is larger than {_MAX_NBYTES >> 20} MiB")
    try:
        document = json.loads(content, object_pairs_hook=unique_object)
    except RecursionError:
        reason = "it is nested too deeply"
    except DuplicateKeyError as error:
        reason = f"the key {error.args[0]!r} stands there twice"
    except UnicodeDecodeError:
        reason = "it is not JSON: not UTF-8 text"
    except ValueError as error:
        reason = f"it is not JSON: {error}"
    if reason is not None:
        raise invalid_file(".zmetadata", reason)
    if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
        raise invalid_file(".zmetadata", "it has no object called 'metadata'")
    documents, record_size = document["metadata"], document.get("record_size")
    if type(record_size) is not int or not 0 < record_size <= MAX_ENTRIES:
        raise invalid_file(".zmetadata", f"its 'record_size' is not a whole number from 1 to {MAX_ENTRIES:,}")
    if len(documents) > MAX_ENTRIES:
        raise invalid_file(".zmetadata", f"it has more than {MAX_ENTRIES:,} entries")
    for key, value in documents.items():
        if not isinstance(value, dict):
            raise invalid_file(".zmetadata", f"its entry {key!r} is not a JSON object")
        if deeper_than(value, _MAX_DEPTH):
            raise invalid_file(".zmetadata", f"its entry {key!r} is nested too deeply")
    return ZMetadata(documents, record_size, parse_sources(document.get("sources") or {}, templates=None))


class RecordManifest(ChunkManifest):
    """The chunks of an array whose references lie in records; reads those that it is asked for, once. Thread-safe.

    Parameters
    ----------
    path
        Of the array in the folder, without a slash at either end.
    grid
        Chunks along each dimension.
    record_size
        Rows of a record, from `.zmetadata`.
    read
        Returns the bytes of a file by its name in the folder (`a/refs.0.parq`), or None if there surely is no such
        file; raises for any other trouble.
    sources
        Where the files that hold chunks are entered.
    source
        Returns the file that a path as written means; called once for each distinct path of a record.
    sparse
        Take an absent record for one whose chunks are all missing. fsspec's writer leaves such records out, at the
        end and in between, and then nothing tells them from lost files: without this, they are an error.
    """

    def __init__(
        self,
        path: str,
        grid: tuple[int, ...],
        record_size: int,
        read: Callable[[str], bytes | None],
        sources: SourceTable,
        source: Callable[[str], Source] = Source,
        *,
        sparse: bool = False,
    ) -> None:
        self.grid = grid
        self._path = path
        self._size = record_size
        self._total = math.prod(grid)
        self._read = read
        self._sources = sources
        self._source = source
        self._sparse = sparse
        self._records: dict[int, Locations | None] = {}
        self._reading: dict[int, threading.Lock] = {}
        self._lock = threading.Lock()

    def locate(self, places: NDArray[np.uint64]) -> Locations:
        """Return where the chunks at these places of the grid lie.

        Raises
        ------
        InvalidReferences
            If a record that is needed for it is broken or absent.
        ConfigurationError
            If the parquet reader is not installed.
        """
        found = Locations.missing(len(places))
        numbers, rows = np.divmod(places, np.uint64(self._size))
        order = np.argsort(numbers, kind="stable")
        wanted, starts = np.unique(numbers[order], return_index=True)
        stops = [*starts[1:].tolist(), len(order)]
        for number, start, stop in zip(wanted.tolist(), starts.tolist(), stops, strict=False):
            record = self._record(number)
            if record is not None:
                at = order[start:stop]
                part = record[rows[at]]
                found.sources[at], found.offsets[at], found.lengths[at] = part.sources, part.offsets, part.lengths
        return found

    def present(self) -> NDArray[np.uint64]:
        """Return the places of the listed chunks, ascending; reads all records.

        Raises
        ------
        InvalidReferences, ConfigurationError
            As `locate`.
        """
        count = -(-self._total // self._size)
        if count > _MAX_RECORDS:
            raise invalid_file(
                f"{self._path}/.zarray", f"its {self._total:,} chunks make {count:,} records: too many to list"
            )
        places = [np.zeros(0, np.uint64)]
        for number in range(count):
            record = self._record(number)
            if record is not None:
                rows = np.flatnonzero(record.sources != MISSING).astype(np.uint64)
                places.append(rows + np.uint64(number * self._size))
        return np.concatenate(places)

    def _record(self, number: int) -> Locations | None:
        with self._lock:
            if number in self._records:
                return self._records[number]
            reading = self._reading.setdefault(number, threading.Lock())
        with reading:  # only who wants the same record waits
            if number not in self._records:
                record = self._load(number)
                with self._lock:
                    self._records[number] = record
                    del self._reading[number]
            return self._records[number]

    def _load(self, number: int) -> Locations | None:
        name = f"{self._path}/refs.{number}.parq".removeprefix("/")
        content = self._read(name)
        if content is None and self._sparse:
            return None
        if content is None:
            raise invalid_file(
                name,
                "it is not there. It was lost (then copy the folder again), or none of its chunks was ever written and "
                "the writer left it out (then write the references again with all records, or as JSON)",
            )
        first = number * self._size
        rows = min(self._size, self._total - first)
        record = Record(content, name, rows, self._size, lambda row: self._chunk(first + row))
        return record.locations(self._sources, self._source)

    def _chunk(self, place: int) -> str:
        """How messages call the chunk at a place, which may lie behind the grid."""
        if place >= self._total:
            return f"behind the last chunk of {self._path!r}"
        coordinates: list[int] = []
        for extent in reversed(self.grid):
            place, coordinate = divmod(place, extent)
            coordinates.append(coordinate)
        return f"the chunk '{self._path}/{'.'.join(map(str, reversed(coordinates))) or '0'}'"
