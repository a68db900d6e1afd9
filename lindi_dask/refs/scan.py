"""Reading reference files of any size: JSON in blocks, chunk references straight into columns.

A reference file is a large JSON object with a million small entries. Blocks of it are parsed by a fast parser where
they hold nothing but `"path/1.0": [url, offset, length]`, and entry by entry elsewhere; either way, no Python object
of a chunk outlives its block.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from lindi_dask.refs.columns import LooseEntry, Run, chunk_runs
from lindi_dask.refs.json_reader import JsonReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lindi_dask.refs.json_reader import Content

__all__ = ["MAX_ENTRIES", "Scan", "is_metadata", "scan"]

MAX_ENTRIES: Final = 20_000_000
"""of one reference file"""

METADATA: Final = frozenset((".zarray", ".zgroup", ".zattrs", ".zmetadata", "zarr.json"))
"""last parts of the keys that hold documents"""


_MEMBERS: Final = frozenset(
    ("version", "templates", "gen", "refs", "generationMetadata", "sources", "zarr_consolidated")
)
# Bytes that the fast parser is given at once: the lists in a block are fewer than start Python's garbage collector
_SMALL_BLOCK, _LARGE_BLOCK = 2**14, 3 * 2**14
_PENDING = 2**12  # references that become columns at once
_WORTH_COLUMNS = 8
_MAX_DOCUMENTS: Final = 1_000_000
_MAX_LOOSE: Final = 4_000_000  # entries that are kept as objects of Python
_BYTE_ORDER_MARKS: Final = (b"\xef", b"\xfe", b"\xff")  # begin them, and no JSON
_OTHER_VALUES: Final = frozenset(bytes((first,)) for first in b'["tfn-0123456789')  # how JSON that is no object begins

Columns: TypeAlias = tuple[NDArray[np.uint32], NDArray[np.uint64], NDArray[np.uint32]]


@dataclass(slots=True)
class Scan:
    """What a reference file has, still without meaning."""

    members: dict[str, Any] = field(default_factory=dict)
    """of the document, besides `refs`"""
    documents: dict[str, Any] = field(default_factory=dict)
    """metadata by key (`a/.zarray`): a parsed object, or text that holds one"""
    runs: list[Run] = field(default_factory=list)
    """references to chunks, in columns"""
    loose: list[LooseEntry] = field(default_factory=list)
    """all other entries, by key"""
    urls: dict[str, int] = field(default_factory=dict)
    """as written -> the number that `Run.urls` has for it"""
    count: int = 0
    """entries"""


def scan(content: Content, name: str) -> Scan:
    """Take a reference file apart.

    Parameters
    ----------
    content
        JSON: an object with a member `refs`, or (kerchunk's version 0) the entries themselves.
    name
        How messages call the file.

    Raises
    ------
    InvalidReferences
        If it is not JSON, repeats a key, is nested too deeply or has too many entries.
    """
    reader = JsonReader(content, name)
    found = Scan()
    if (start := reader.peek()) in _OTHER_VALUES:
        raise reader.invalid("the document has no object called 'refs'")
    if start in _BYTE_ORDER_MARKS:
        raise reader.invalid("it begins with a byte order mark; save it as UTF-8 without one")
    reader.open_object()
    first = True
    while (key := reader.next_key(first=first)) is not None:
        if first and key not in _MEMBERS and _is_entry(key):
            reader.rewind()
            _scan_entries(reader, found)
            break
        first = False
        if key in found.members:
            raise reader.invalid(f"the key {key!r} stands there twice", key)
        if key == "refs" and reader.peek() == b"{":
            found.members[key] = True
            reader.open_object()
            _scan_entries(reader, found)
        else:
            found.members[key] = reader.value(key)
    reader.end()
    return found


def is_metadata(key: str) -> bool:
    """Return whether the entry `key` holds a document and not a chunk."""
    return key.rpartition("/")[2] in METADATA


def _is_entry(key: str) -> bool:
    return "/" in key or is_metadata(key)


def _scan_entries(reader: JsonReader, found: Scan) -> None:
    """Read all entries up to the end of the object that holds them."""
    pending = _Pending()
    size, first, ended = _SMALL_BLOCK, True, False
    while not ended:
        block = reader.block(size, first=first)
        if block is not None and _fast(block, pending):
            reader.accept()
            size = _LARGE_BLOCK
        else:
            size = _SMALL_BLOCK
            ended = _slow(reader, found, pending, first=first)
        first = False
        if len(pending.keys) >= _PENDING:
            pending.flush(found)
        if found.count + len(pending.keys) > MAX_ENTRIES:
            raise reader.invalid(f"it has more than {MAX_ENTRIES:,} entries")
        if len(found.documents) > _MAX_DOCUMENTS:
            raise reader.invalid(f"it has more than {_MAX_DOCUMENTS:,} documents of metadata")
        if len(found.loose) > _MAX_LOOSE:
            raise reader.invalid(f"it has more than {_MAX_LOOSE:,} entries besides plain references to chunks")
    pending.flush(found)
    if len({key for key, _ in found.loose}) != len(found.loose):
        twice = Counter(key for key, _ in found.loose).most_common(1)[0][0]
        raise reader.invalid(f"the key {twice!r} stands there twice", twice)


@dataclass(slots=True)
class _Pending:
    """References that wait to become columns; lists of plain values, which cost the garbage collector nothing."""

    keys: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def flush(self, found: Scan) -> None:
        """Hand the references over: in columns, or by key where one of the keys or numbers is not plain."""
        if self.keys:
            found.count += len(self.keys)
            if not self._to_columns(found, 0, len(self.keys)):
                first = 0
                for _, group in groupby(self.keys, key=lambda key: key.rpartition("/")[0]):
                    last = first + len(list(group))
                    if last - first < _WORTH_COLUMNS or not self._to_columns(found, first, last):
                        found.loose += self._loose(first, last)
                    first = last
        self.keys, self.urls, self.offsets, self.lengths = [], [], [], []

    def _to_columns(self, found: Scan, first: int, last: int) -> bool:
        part = slice(first, last)
        columns = _columns(self.urls[part], self.offsets[part], self.lengths[part], found.urls)
        runs = None if columns is None else chunk_runs(self.keys[part], *columns)
        if runs is None:
            return False
        found.runs += runs
        return True

    def _loose(self, first: int, last: int) -> Iterator[LooseEntry]:
        for i in range(first, last):
            yield self.keys[i], [self.urls[i], self.offsets[i], self.lengths[i]]


def _fast(block: bytes, pending: _Pending) -> bool:
    """Take a block of entries in; False (and nothing done) unless all are plain references to chunks."""
    if b"\\" in block:
        return False
    try:
        entries = orjson.loads(block)
    except orjson.JSONDecodeError:
        return False
    # Each such entry has four quotes: more, and one of the keys stands there twice
    values = list(entries.values())
    if set(map(type, values)) != {list} or set(map(len, values)) != {3} or block.count(b'"') != 4 * len(values):
        return False
    urls, offsets, lengths = zip(*values, strict=True)
    if set(map(type, urls)) != {str} or set(map(type, offsets)) | set(map(type, lengths)) != {int}:
        return False
    pending.keys += entries
    pending.urls += urls
    pending.offsets += offsets
    pending.lengths += lengths
    return True


def _columns(urls: list[str], offsets: list[int], lengths: list[int], numbers: dict[str, int]) -> Columns | None:
    """Return columns of numbers, or None where a value is not one that a reference can have."""
    try:
        starts, sizes = np.fromiter(offsets, np.int64, len(offsets)), np.fromiter(lengths, np.int64, len(lengths))
    except OverflowError:
        return None
    if starts.min() < 0 or sizes.min() < 0 or sizes.max() >= 2**32 - 1 or starts.max() > 2**63 - 2**32:
        return None
    distinct = set(urls)
    for url in sorted(distinct - numbers.keys()):
        numbers[url] = len(numbers)
    if len(distinct) == 1:
        chosen = np.full(len(urls), numbers[urls[0]], np.uint32)
    else:
        chosen = np.fromiter(map(numbers.__getitem__, urls), np.uint32, len(urls))
    return chosen, starts.astype(np.uint64), sizes.astype(np.uint32)


def _slow(reader: JsonReader, found: Scan, pending: _Pending, *, first: bool) -> bool:
    """Read the entries of one window one by one; return whether the object ended."""
    stop = reader.position + _SMALL_BLOCK
    while reader.position < stop:
        key = reader.next_key(first=first)
        first = False
        if key is None:
            return True
        value = reader.value(key)
        if is_metadata(key) and not _is_reference(value):
            if key in found.documents:
                raise reader.invalid(f"the key {key!r} stands there twice", key)
            found.documents[key] = value
        elif _is_reference(value):
            pending.keys.append(key)
            pending.urls.append(value[0])
            pending.offsets.append(value[1])
            pending.lengths.append(value[2])
            continue
        else:
            found.loose.append((key, value))
        found.count += 1
    return False


def _is_reference(value: object) -> bool:
    match value:
        case [str(), offset, length] if type(offset) is int and type(length) is int:
            return 0 <= offset <= 2**63 - 2**32 and 0 <= length < 2**32 - 1
    return False
