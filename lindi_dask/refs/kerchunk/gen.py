"""`gen` of kerchunk's reference files: one entry that stands for many, by values that run over dimensions.

Format: https://fsspec.github.io/kerchunk/spec.html, version 1. Entries are evaluated in columns, a block of
combinations at a time (`gen_columns.py`).
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.kerchunk.expressions import BOUND, Axis, Integer, Number, Refused, Text, Word
from lindi_dask.refs.kerchunk.gen_columns import (
    LIMITS,
    MAX_TEXTS,
    QUANTITY,
    Block,
    Dimension,
    Fault,
    GenColumns,
    quantity_column,
    refuse,
    rows_at_once,
    text_column,
    url_column,
)
from lindi_dask.refs.kerchunk.gen_keys import ChunkKeys, check_distinct
from lindi_dask.refs.kerchunk.templates import read
from lindi_dask.refs.manifest import WHOLE
from lindi_dask.refs.references import Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from lindi_dask.refs.references import SourceTable

__all__ = ["Gen", "parse_gen"]

_MAX_COUNT: Final = 20_000_000  # combinations: as entries of a reference file
_MAX_WORK: Final = 2**31  # combinations times numbers and names in the texts: some ten seconds
_MAX_DIMENSIONS: Final = 32
_MAX_DIGITS: Final = 256  # characters of an offset or a length

_TEXTS = ("key", "url", "offset", "length")
_RANGE = (("start", 0), ("stop", 0), ("step", 1))


@dataclass(frozen=True, slots=True, eq=False)
class Gen:
    """An entry of `gen`, checked but not expanded; `parse_gen` makes it."""

    number: int
    """its place in `gen`, from 0"""
    count: int
    """combinations of the dimensions' values"""
    key: Text
    """templates expanded"""
    url: Text
    """templates expanded"""
    offset: Integer | Text
    """bytes, from the start of the source"""
    length: Integer | Text
    """bytes, or WHOLE"""
    dimensions: Mapping[str, Dimension]
    """by name; the last one runs fastest"""

    @property
    def key_prefix(self) -> str:
        """The literal text with which all keys begin, up to the first piece that depends on a dimension."""
        return next((part for part in self.key.parts[:1] if isinstance(part, str)), "")

    def entries(self) -> Iterator[tuple[str, list[str | int]]]:
        """Yield the key of each combination, and what version 0 of the format has there.

        That is `[url, offset, length]`, or `[url]` for a whole file.

        Raises
        ------
        InvalidReferences
            If one can't be evaluated; it names the key.
        """
        step = rows_at_once(self.key.longest, self.url.longest)
        for first in range(0, self.count, step):
            columns: list[list[Any]] = []
            fault = None
            try:
                block = Block.of(self.dimensions, slice(first, min(first + step, self.count)))
                columns = [
                    text_column(self.key, block),
                    text_column(self.url, block),
                    *(c.tolist() for c in self._ranges(block)),
                ]
            except Fault as error:
                fault = error
            if fault is not None:
                raise self._invalid(first + fault.row, str(fault))
            for key, url, offset, length in zip(*columns, strict=True):
                yield key, [url] if length == WHOLE else [url, offset, length]

    def expand(
        self,
        path: str,
        grid: tuple[int, ...],
        separator: str,
        sources: SourceTable,
        known: Mapping[str, Source] | None = None,
    ) -> GenColumns:
        """Return all entries; their keys have to be those of chunks of one array.

        Parameters
        ----------
        path
            Of the array, without a leading slash.
        grid
            Chunks along each dimension of the array.
        separator
            Between the numbers in a chunk's name: "." or "/".
        sources
            Gets the distinct URLs, when all else is in order.
        known
            Files by URL, as far as the reference file says anything of them.

        Raises
        ------
        InvalidReferences
            If a combination's key is not that of a chunk of the array, or is another one's too, or if its URL,
            offset or length can't be used; it names the first such key.
        """
        keys = ChunkKeys.of(self.key, path, grid, separator)
        plain = keys.coordinates is not None
        odd = not plain or isinstance(self.offset, Text) or isinstance(self.length, Text)
        step = rows_at_once(0 if plain else self.key.longest, 0 if self.url.constant else self.url.longest)
        places, offsets = np.empty(self.count, np.uint64), np.empty(self.count, np.uint64)
        numbers, lengths = np.empty(self.count, np.uint32), np.empty(self.count, np.uint32)
        urls: dict[str, int] = {}
        first, fault = 0, None
        try:
            for first in range(0, self.count, step):
                refuse(odd and first >= MAX_TEXTS, f"more than {MAX_TEXTS} entries are not in plain numbers")
                rows = slice(first, min(first + step, self.count))
                block = Block.of(self.dimensions, rows)
                places[rows] = keys.places(block)
                offsets[rows], lengths[rows] = self._ranges(block)
                numbers[rows] = url_column(self.url, block, urls)
            first = 0
            check_distinct(places)
        except Fault as error:
            fault = error
        if fault is not None:
            raise self._invalid(first + fault.row, str(fault))
        described = known or {}
        table = np.array([sources.add(described.get(url) or Source(url)) for url in urls], np.uint32)
        return GenColumns(places, table[numbers] if urls else numbers, offsets, lengths)

    def _ranges(self, block: Block) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        offsets = quantity_column("offset", self.offset, block)
        lengths = quantity_column("length", self.length, block)
        refuse(offsets > BOUND - 1 - lengths, "its end is 2**63 or more")
        return offsets, lengths

    def _invalid(self, index: int, reason: str) -> InvalidReferences:
        key = None
        with contextlib.suppress(Fault):  # of the key itself, which then is the reason
            key = text_column(self.key, Block.of(self.dimensions, slice(index, index + 1)))[0]
        return _invalid(self.number, key, reason)


def parse_gen(entry: object, templates: Mapping[str, str], *, number: int) -> Gen:
    """Check an entry of `gen`, without evaluating what depends on its dimensions.

    Parameters
    ----------
    entry
        As in the JSON: `{"key":, "url":, "offset":, "length":, "dimensions": {name: {"start":, "stop":, "step":}
        or [values]}}`; `offset` and `length` are left out where an entry is a whole file.
    templates
        Of the reference file, by name.
    number
        The entry's place in `gen`, from 0; for errors.

    Raises
    ------
    InvalidReferences
        If the entry is not of this form, a text is outside the grammar of `templates.py`, or it stands for more than
        20,000,000 entries.
    """
    gen, reason = None, ""
    try:
        gen = _parse(entry, templates, number)
    except Refused as refused:
        reason = str(refused)
    if gen is None:
        raise _invalid(number, None, reason)
    return gen


def _parse(entry: object, templates: Mapping[str, str], number: int) -> Gen:
    if not isinstance(entry, dict) or not {"key", "url", "dimensions"} <= entry.keys():
        raise Refused("it is no object with 'key', 'url' and 'dimensions'")
    if unknown := entry.keys() - {*_TEXTS, "dimensions"}:
        raise Refused(f"{min(map(str, unknown))[:60]!r} is not known")
    if ("offset" in entry) != ("length" in entry):
        raise Refused("offset and length have to be given both, or neither")
    if not isinstance(entry["dimensions"], dict) or len(entry["dimensions"]) > _MAX_DIMENSIONS:
        raise Refused(f"'dimensions' is no object of at most {_MAX_DIMENSIONS}")
    dimensions: dict[str, Dimension] = {}
    scope: dict[str, Axis | Text] = {}
    for name, given in entry["dimensions"].items():
        if not isinstance(name, str) or name in templates:
            raise Refused(f"the dimension {str(name)[:60]!r} has the name of a template, or one that is no text")
        dimensions[name], scope[name] = _dimension(name, given)
    count = math.prod(dimension.length for dimension in dimensions.values())
    if count > _MAX_COUNT:
        raise Refused(f"it stands for more than {_MAX_COUNT} entries")
    texts = {field: _text(field, entry[field], templates, scope) for field in _TEXTS if field in entry}
    work = sum(part.value.size if isinstance(part, Number) else 1 for text in texts.values() for part in text.parts)
    if count * work > _MAX_WORK:
        raise Refused(f"it stands for {count} entries of {work} numbers and names each, which is too much")
    return Gen(
        number=number,
        count=count,
        key=texts["key"],
        url=texts["url"],
        offset=_quantity("offset", texts["offset"]) if "offset" in texts else 0,
        length=_quantity("length", texts["length"]) if "length" in texts else WHOLE,
        dimensions=dimensions,
    )


def _text(field: str, given: object, templates: Mapping[str, str], scope: Mapping[str, Axis | Text]) -> Text:
    if type(given) is int and field in LIMITS and -BOUND < given < BOUND:
        given = str(given)
    if not isinstance(given, str):
        raise Refused(f"its {field} is no text")
    return read(given, templates, scope)


def _dimension(name: str, given: object) -> tuple[Dimension, Axis | Text]:
    """Return a dimension, and what its name stands for in texts."""
    if isinstance(given, list):
        if any(isinstance(value, str) for value in given):
            words = [value if isinstance(value, str) else str(_integer(name, value)) for value in given]
            return Dimension(len(words), values=np.array(words, object)), Text((Word(name, max(map(len, words))),))
        return Dimension(len(given), values=np.array([_integer(name, value) for value in given], np.int64)), Axis(name)
    if not isinstance(given, dict) or not {"stop"} <= given.keys() <= {"start", "stop", "step"}:
        raise Refused(f"the dimension {name[:60]!r} is neither a list nor an object of start, stop and step")
    start, stop, step = (_integer(name, given.get(field, default)) for field, default in _RANGE)
    if step == 0:
        raise Refused(f"the dimension {name[:60]!r} has a step of 0")
    return Dimension(max(0, -((start - stop) // step)), start, step), Axis(name)


def _integer(name: str, value: object) -> int:
    if type(value) is not int or not -BOUND < value < BOUND:
        raise Refused(f"the dimension {name[:60]!r} holds what is neither text nor a whole number below 2**63")
    return value


def _quantity(field: str, text: Text) -> Integer | Text:
    """Return an offset or a length as a number, unless it has to be put together as text."""
    parts = [part for part in text.parts if not (isinstance(part, str) and part.isspace())]
    match parts:
        case [Number(value, spec)] if not spec.endswith("x"):  # a width makes no difference
            return value
    if text.constant is None:
        if text.longest > _MAX_DIGITS:
            raise Refused(f"its {field} is no number")
        return text
    if not QUANTITY.fullmatch(text.constant) or not 0 <= int(text.constant) < LIMITS[field]:
        raise Refused(f"its {field} is no number from 0 to {LIMITS[field] - 1}")
    return int(text.constant)


def _invalid(number: int, key: str | None, reason: str) -> InvalidReferences:
    what = f"Entry {number} of 'gen'" if key is None else f"Entry {number} of 'gen', at the key {key!r},"
    return InvalidReferences(f"{what} can't be used: {reason}.", key=key or f"gen[{number}]", reason=reason)
