"""Reading reference files of any size: JSON in blocks, chunk references straight into columns.

A reference file is a large JSON object with a million small entries. Blocks of it are parsed by a fast parser where
they hold nothing but `"path/1.0": [url, offset, length]`, and entry by entry elsewhere; either way, no Python object
of a chunk outlives its block.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.columns import LooseEntry, Run, chunk_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MAX_ENTRIES",
    "MAX_VALUES",
    "Content",
    "DuplicateKeyError",
    "Scan",
    "deeper_than",
    "is_metadata",
    "scan",
    "unique_object",
]

MAX_ENTRIES: Final = 20_000_000
"""of one reference file"""

MAX_VALUES: Final = 2**21
"""values within one: as objects of Python they take some hundred times the room that they have in the file"""

METADATA: Final = frozenset((".zarray", ".zgroup", ".zattrs", ".zmetadata", "zarr.json"))
"""last parts of the keys that hold documents"""


_MEMBERS: Final = frozenset(
    ("version", "templates", "gen", "refs", "generationMetadata", "sources", "zarr_consolidated")
)
# Bytes that the fast parser is given at once: the lists in a block are fewer than start Python's garbage collector
_SMALL_BLOCK, _LARGE_BLOCK = 2**14, 3 * 2**14
_WINDOW = 2**14  # bytes that the entry-by-entry parser looks at, at first
_PENDING = 2**12  # references that become columns at once
_WORTH_COLUMNS = 8
_MAX_DEPTH = 32
_MAX_VALUE = 96 * 2**20  # bytes: more than 64 MiB in base64
_MAX_DOCUMENTS: Final = 1_000_000
_MAX_LOOSE: Final = 4_000_000  # entries that are kept as objects of Python
_LONGEST_TOKEN = 16  # bytes, of a word or an escape: an error this near to a text's end may come from its being cut
_BYTE_ORDER_MARKS: Final = (b"\xef", b"\xfe", b"\xff")  # begin them, and no JSON
_BLANKS: Final = b" \t\r\n"
_OTHER_VALUES: Final = frozenset(bytes((first,)) for first in b'["tfn-0123456789')  # how JSON that is no object begins

Columns: TypeAlias = tuple[NDArray[np.uint32], NDArray[np.uint64], NDArray[np.uint32]]


class Content(Protocol):
    """The bytes of a reference file: `bytes`, or a memory map of it."""

    def __len__(self) -> int: ...
    def __getitem__(self, at: slice, /) -> bytes: ...
    def rfind(self, what: bytes, start: int, stop: int, /) -> int:
        """Return where `what` begins last, or -1."""
        ...


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
    reader = _Reader(content, name)
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


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object for `json.loads`; `DuplicateKeyError` if a key stands there twice."""
    values = dict(pairs)
    if len(values) != len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise DuplicateKeyError(key)
            seen.add(key)
    return values


class DuplicateKeyError(ValueError):
    """A JSON object repeats a key."""


def _is_entry(key: str) -> bool:
    return "/" in key or is_metadata(key)


def _scan_entries(reader: _Reader, found: Scan) -> None:
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


def _slow(reader: _Reader, found: Scan, pending: _Pending, *, first: bool) -> bool:
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


def deeper_than(value: object, depth: int) -> bool:
    """Return whether a JSON value has more than `depth` levels of objects and lists."""
    level = [value]
    for _ in range(depth):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


class _Reader:
    """A place in a JSON text, and the steps that lead on from it."""

    def __init__(self, content: Content, name: str) -> None:
        self._content = content
        self._name = name
        self._length = len(content)
        self.position = 0
        self._before = 0
        self._accepted = 0
        self._decoder = json.JSONDecoder(object_pairs_hook=unique_object)
        self._text, self._text_start, self._text_stop = "", 0, 0

    def invalid(self, reason: str, key: str | None = None) -> InvalidReferences:
        message = f"{self._name} is not a reference file: {reason}. Fetch it again, or make it anew."
        return InvalidReferences(message, key=key, reason=reason)

    def _not_json(self, what: str) -> InvalidReferences:
        return self.invalid(f"it is not JSON: {what} at byte {self.position}")

    def peek(self) -> bytes:
        """Return the next byte that is not blank, b"" at the end; the position moves to it."""
        while True:
            piece = self._content[self.position : self.position + 256]
            rest = piece.lstrip(_BLANKS)
            self.position += len(piece) - len(rest)
            if rest or not piece:
                return rest[:1]

    def _take(self, wanted: bytes, what: str) -> None:
        if self.peek() != wanted:
            raise self._not_json(f"{what} is missing" if self.position < self._length else "it ends too early,")
        self.position += 1

    def open_object(self) -> None:
        self._take(b"{", "an object ('{')")

    def next_key(self, *, first: bool) -> str | None:
        """Go to the value of the next member; None behind the object's end."""
        self._before = self.position
        if self.peek() == b"}":
            self.position += 1
            return None
        if not first:
            self._take(b",", "a comma")
        if self.peek() != b'"':
            raise self._not_json("a key is missing" if self.position < self._length else "it ends too early,")
        key = self.value()
        self._take(b":", "a colon")
        return str(key)

    def rewind(self) -> None:
        """Go back to where `next_key` began."""
        self.position = self._before

    def value(self, key: str | None = None) -> Any:  # noqa: ANN401 - any JSON value
        """Return the value at the position, that of the key, and go behind it."""
        self.peek()
        size = _WINDOW
        while True:
            text, at = self._window(size)
            reason, whole = None, self.position + size >= self._length
            try:
                value, stop = self._decoder.raw_decode(text, at)
            except DuplicateKeyError as error:
                reason = f"{_in_entry(key)} the key {error.args[0]!r} stands there twice"
            except RecursionError:
                reason = f"{_in_entry(key)} lists and objects are nested too deeply"
            except ValueError as error:
                if whole or _is_final(error, len(text)):
                    reason = self._fault(error, text, at, key)
            else:
                # a number that reaches the end of a window may go on behind it: 1 as 1e-5
                if stop + 2 < len(text) or whole:
                    self.position += len(text[at:stop].encode("utf-8", "surrogatepass"))
                    if not deeper_than(value, _MAX_DEPTH):
                        return value
                    reason = f"{_in_entry(key)} lists and objects are nested too deeply"
            if reason is None and size >= _MAX_VALUE:
                reason = f"{_in_entry(key)} a value is larger than {_MAX_VALUE >> 20} MiB"
            if reason is None and size > _WINDOW and _separators(text, at) > MAX_VALUES:
                reason = f"{_in_entry(key)} there are more than {MAX_VALUES:,} values"
            if reason is not None:
                raise self.invalid(reason, key)
            size = min(4 * size if size < 2**20 else 2 * size, max(_MAX_VALUE, size))

    def _fault(self, error: ValueError, text: str, at: int, key: str | None) -> str:
        """Return what is wrong with the JSON of a value, which begins at that place of a text."""
        within = "a key" if key is None else f"the value of {key!r}"
        if not isinstance(error, json.JSONDecodeError):
            return f"it is not JSON: {within} holds a number with too many digits, at byte {self.position}"
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            return f"it is not JSON: it ends in the middle of {within}, which begins at byte {self.position}"
        place = self.position + len(text[at : error.pos].encode("utf-8", "surrogatepass"))
        return f"it is not JSON: {error.msg} at byte {place}, in {within}"

    def _window(self, size: int) -> tuple[str, int]:
        """Return text that holds `size` bytes from the position on (or all there are), and where in it they begin."""
        stop = min(self.position + size, self._length)
        if self._text.isascii() and self._text_start <= self.position and stop <= self._text_stop:
            return self._text, self.position - self._text_start
        # Read ahead: the next values will find their text here
        stop = min(self.position + (2 * size if size == _WINDOW else size), self._length)
        self._text = ""  # which may be large
        piece = self._content[self.position : stop]
        cut = len(piece)
        while stop < self._length and cut > len(piece) - 4 and piece[cut - 1] & 0xC0 == 0x80:
            cut -= 1
        if stop < self._length and cut and piece[cut - 1] >= 0xC0:
            cut -= 1
        reason = None
        try:
            text = piece[:cut].decode("utf-8")
        except UnicodeDecodeError as error:
            reason = f"it is not JSON: not UTF-8 text at byte {self.position + error.start}"
        if reason is not None:
            raise self.invalid(reason)
        self._text, self._text_start, self._text_stop = text, self.position, self.position + cut
        return text, 0

    def block(self, size: int, *, first: bool) -> bytes | None:
        """Return up to `size` bytes of whole members as an object, or None if no end of a list is near."""
        at = self.position
        if not first:
            if self.peek() != b",":
                return None
            at = self.position + 1
        stop = self._content.rfind(b"]", at, min(at + size, self._length)) + 1
        if stop == 0:
            return None
        self._accepted = stop
        return b"{" + self._content[at:stop] + b"}"

    def accept(self) -> None:
        """Go behind the block that was handed out."""
        self.position = self._accepted

    def end(self) -> None:
        if self.peek():
            raise self._not_json("something stands behind its end,")


def _in_entry(key: str | None) -> str:
    return "in a key" if key is None else f"in the entry {key!r}"


def _is_final(error: ValueError, length: int) -> bool:
    """Return whether JSON cut off after `length` characters is wrong whatever follows."""
    place = getattr(error, "pos", 0)  # of numbers with too many digits, Python tells none
    return place < length - _LONGEST_TOKEN and not str(error).startswith("Unterminated string")


def _separators(text: str, at: int) -> int:
    """Return how many values a text may hold from a place on, where one begins that is longer than the text."""
    return 0 if text.startswith('"', at) else sum(text.count(sign, at) for sign in ",[{")
