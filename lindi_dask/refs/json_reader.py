"""Steps through a JSON text of any size: value by value, or in blocks of whole members. Pure."""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

from lindi_dask.errors import InvalidReferences

__all__ = ["MAX_VALUES", "Content", "DuplicateKeyError", "JsonReader", "deeper_than", "unique_object"]

MAX_VALUES: Final = 2**21
"""values within one: as objects of Python they take some hundred times the room that they have in the file"""

_WINDOW = 2**14  # bytes that the entry-by-entry parser looks at, at first
_MAX_DEPTH = 32
_MAX_VALUE = 96 * 2**20  # bytes: more than 64 MiB in base64
_LONGEST_TOKEN = 16  # bytes, of a word or an escape: an error this near to a text's end may come from its being cut
_BLANKS: Final = b" \t\r\n"


class Content(Protocol):
    """The bytes of a reference file: `bytes`, or a memory map of it."""

    def __len__(self) -> int: ...
    def __getitem__(self, at: slice, /) -> bytes: ...
    def rfind(self, what: bytes, start: int, stop: int, /) -> int:
        """Return where `what` begins last, or -1."""
        ...


class JsonReader:
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
        """Return the error for this file."""
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
        """Go into the object that begins here."""
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
        """Raise unless nothing more stands here."""
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
