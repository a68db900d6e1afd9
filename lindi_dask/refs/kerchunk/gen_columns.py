"""The texts and numbers of a `gen`, evaluated in columns: one row a combination of the dimensions' values.

A combination's index counts them in C order: the last dimension runs fastest.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lindi_dask.refs.kerchunk.expressions import BOUND, OPERATORS, Axis, Integer, Number, Text, Word
from lindi_dask.refs.manifest import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    Column = NDArray[Any]  # of int64, or of texts as objects; a row a combination

__all__ = [
    "LIMITS",
    "MAX_TEXTS",
    "QUANTITY",
    "Block",
    "Dimension",
    "Fault",
    "GenColumns",
    "number_column",
    "quantity_column",
    "refuse",
    "rows_at_once",
    "text_column",
    "url_column",
]

LIMITS: Final = {"offset": BOUND, "length": WHOLE}
"""these are smaller than that"""

QUANTITY: Final = re.compile(r"\s*[-+]?[0-9]{1,19}\s*")
"""an offset or a length as text"""

MAX_TEXTS: Final = 1_000_000
"""distinct URLs; keys, offsets and lengths that have to be read one by one"""

_MAX_CHARACTERS: Final = 2**29  # of the distinct URLs
_BLOCK: Final = 2**17  # combinations: a column has 1 MiB and stays in a core's cache
_BLOCK_CHARACTERS: Final = 2**25  # of texts made at a time


class Fault(Exception):
    """Why a combination can't be used."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row  # in the block


@dataclass(frozen=True, slots=True, eq=False)
class Dimension:
    """The values that a name takes, one after the other."""

    length: int
    """number of values"""
    start: int = 0
    """the first one"""
    step: int = 1
    """from one to the next"""
    values: Column | None = None
    """in place of start and step"""

    def at(self, positions: NDArray[np.int64]) -> Column:
        """Return the values at these positions."""
        # positions * step may wrap around, and the sum wraps back, since all values are in bounds
        return self.start + positions * self.step if self.values is None else self.values[positions]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Combinations that are evaluated together."""

    n: int
    """of combinations, at least 1"""
    positions: Mapping[str, NDArray[np.int64]]
    """along each dimension"""
    values: Mapping[str, Column]
    """by dimension"""

    @classmethod
    def of(cls, dimensions: Mapping[str, Dimension], rows: slice) -> Block:
        """Return the combinations of these indices."""
        rest = np.arange(rows.start, rows.stop)
        positions: dict[str, NDArray[np.int64]] = {}
        for name in reversed(list(dimensions)):
            rest, positions[name] = np.divmod(rest, dimensions[name].length)
        return cls(
            rows.stop - rows.start, positions, {name: dimensions[name].at(positions[name]) for name in positions}
        )


@dataclass(frozen=True, slots=True, eq=False)
class GenColumns:
    """The entries of a gen, one row a combination."""

    places: NDArray[np.uint64]
    """in the grid of the array, C order; none twice"""
    sources: NDArray[np.uint32]
    """numbers in the source table"""
    offsets: NDArray[np.uint64]
    """bytes, from the start of the source"""
    lengths: NDArray[np.uint32]
    """bytes, or WHOLE"""


def refuse(bad: bool | NDArray[np.bool_], reason: str) -> None:
    """Raise a `Fault` at the first row that is bad, if there is one."""
    if np.any(bad):
        raise Fault(int(np.argmax(bad)), reason)


def number_column(value: Integer, block: Block) -> NDArray[np.int64]:
    """Evaluate a number; `Fault` where it divides by zero or leaves `BOUND`."""
    if isinstance(value, int):
        return np.full(block.n, value, np.int64)
    if isinstance(value, Axis):
        return block.values[value.name]
    left, right = number_column(value.left, block), number_column(value.right, block)
    apply = OPERATORS[value.symbol]
    if value.symbol in {"//", "%"}:
        refuse(right == 0, "it divides by zero")
    elif OPERATORS["*" if value.symbol == "*" else "+"](_largest(left), _largest(right)) >= BOUND:
        exact = apply(left.astype(object), right.astype(object))  # numpy's own integers would wrap around
        refuse((exact <= -BOUND) | (exact >= BOUND), "a number is 2**63 or more")
    return np.asarray(apply(left, right))


def _largest(column: NDArray[np.int64]) -> int:
    return max(-int(column.min()), int(column.max()))


def text_column(text: Text, block: Block) -> list[str]:
    """Evaluate a text."""
    columns: list[Iterable[str]] = [itertools.repeat("", block.n)]
    for part in text.parts:
        match part:
            case str():
                columns.append(itertools.repeat(part))
            case Word(name):
                columns.append(block.values[name])
            case Number(value, ""):
                columns.append(map(str, number_column(value, block).tolist()))
            case Number(value, spec):
                columns.append(map(format, number_column(value, block).tolist(), itertools.repeat(spec)))
    return list(map("".join, zip(*columns, strict=False)))


def rows_at_once(*longest: int) -> int:
    """Return how many combinations of texts of so many characters fit into memory."""
    return max(1, min(_BLOCK, _BLOCK_CHARACTERS // max(1, *longest)))


def quantity_column(field: str, quantity: Integer | Text, block: Block) -> NDArray[np.int64]:
    """Evaluate an offset or a length; `Fault` where it is none within `LIMITS`."""
    if isinstance(quantity, int):  # checked before, or WHOLE
        return np.full(block.n, quantity)
    if isinstance(quantity, Text):
        texts = text_column(quantity, block)
        refuse(np.array([not QUANTITY.fullmatch(text) for text in texts]), f"its {field} is no whole number")
        quantities = np.array(list(map(int, texts)), object)
    else:
        quantities = number_column(quantity, block)
    refuse((quantities < 0) | (quantities >= LIMITS[field]), f"its {field} is out of bounds")
    return quantities.astype(np.int64)


def url_column(url: Text, block: Block, known: dict[str, int]) -> NDArray[np.uint32]:
    """Return the URLs' numbers in `known`, adding new ones; each distinct one is put together once a block."""
    varying = [
        block.positions[part.name] if isinstance(part, Word) else number_column(part.value, block)
        for part in url.parts
        if not isinstance(part, str)
    ]
    firsts, groups = _groups(varying, block.n)
    urls = text_column(url, Block(len(firsts), {}, {name: column[firsts] for name, column in block.values.items()}))
    if "" in urls:
        raise Fault(int(firsts[urls.index("")]), "its URL is empty")
    numbers = np.array([known.setdefault(url, len(known)) for url in urls], np.uint32)
    if len(known) > MAX_TEXTS or len(known) * url.longest > max(_MAX_CHARACTERS, url.longest):
        raise Fault(0, f"there are more than {MAX_TEXTS} URLs, or more than {_MAX_CHARACTERS} characters in them")
    return numbers[groups]


def _groups(columns: list[NDArray[np.int64]], n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first row of each group of equal rows, and the group of each row."""
    if not columns:
        return np.zeros(1, np.intp), np.zeros(n, np.intp)
    order = np.lexsort(columns)  # stable: a group's first row comes first
    begins = np.zeros(n, np.bool_)
    begins[0] = True
    for column in columns:
        ordered = column[order]
        begins[1:] |= ordered[1:] != ordered[:-1]
    groups = np.empty(n, np.intp)
    groups[order] = np.cumsum(begins) - 1
    return order[begins], groups
