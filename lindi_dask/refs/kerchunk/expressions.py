"""Values of the expressions in a reference file's texts, as far as they are known without the dimensions of a `gen`.

A value is a whole number or a text. What depends on a dimension stays an expression, for all combinations at once.
"""

from __future__ import annotations

import itertools
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "BOUND",
    "MAX_LENGTH",
    "OPERATORS",
    "Axis",
    "Integer",
    "Number",
    "Operation",
    "Part",
    "Refused",
    "Text",
    "Value",
    "Word",
    "as_parts",
    "bounded",
    "format_fields",
    "join",
    "operate",
]

BOUND: Final = 2**63
"""each number, also in between, is smaller than this, and larger than its negative"""

MAX_LENGTH: Final = 65536
"""characters, of a text and of what it expands to"""

OPERATORS: Final[Mapping[str, Callable[..., Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}

_MAX_SIZE = 200  # numbers and names in one expression, after what it names has been put in
_DIGITS = 20  # of a number within the bound, its sign counted in

_WIDTH = r"0?(?:[1-9][0-9]?)?"
_PERCENT = re.compile(rf"%(?:(%)|({_WIDTH}[dx])|s)")
_FIELD = re.compile(rf"\{{([0-9]?)(?::({_WIDTH}[dx]?))?\}}")


class Refused(Exception):
    """Why a text can't be used; becomes the reason of an `InvalidReferences`."""


@dataclass(frozen=True, slots=True)
class Axis:
    """The number that a dimension has."""

    name: str
    """of the dimension"""
    size: int = 1
    """as an expression"""


@dataclass(frozen=True, slots=True)
class Operation:
    """Two numbers put together; at least one of them depends on a dimension."""

    symbol: str
    """of `OPERATORS`"""
    left: Integer
    right: Integer
    size: int
    """numbers and names in it"""


Integer = int | Axis | Operation


@dataclass(frozen=True, slots=True)
class Number:
    """A number within a text."""

    value: Axis | Operation
    spec: str
    """as for `format`: a width, perhaps with a leading zero, perhaps `x`"""

    @property
    def longest(self) -> int:
        """Characters that it has at most."""
        return max(_DIGITS, int(self.spec.removesuffix("x") or 0))


@dataclass(frozen=True, slots=True)
class Word:
    """The text that a dimension has."""

    name: str
    """of the dimension"""
    longest: int
    """characters that it has at most"""


Part = str | Number | Word


@dataclass(frozen=True, slots=True)
class Text:
    """A text in pieces; two literal ones never follow each other, and none is empty."""

    parts: tuple[Part, ...]

    @property
    def constant(self) -> str | None:
        """The text, if it depends on no dimension."""
        match self.parts:
            case ():
                return ""
            case (str(text),):
                return text
            case _:
                return None

    @property
    def longest(self) -> int:
        """Characters that it has at most."""
        return sum(len(part) if isinstance(part, str) else part.longest for part in self.parts)


Value = Integer | Text


def bounded(value: int) -> int:
    """Return a number as it is.

    Raises
    ------
    Refused
        If it is not within `BOUND`.
    """
    if not -BOUND < value < BOUND:
        raise Refused("a number is 2**63 or more")
    return value


def operate(symbol: str, left: Value, right: Value) -> Value:
    """Return what an operation makes of two values.

    Parameters
    ----------
    symbol
        Of `OPERATORS`; on texts, `+` joins them and `%` formats the left one.
    left, right
        What stands beside it.

    Raises
    ------
    Refused
        If there is no such operation on these values, or its result is too large.
    """
    if symbol == "%" and isinstance(left, Text):
        return _format_percent(left.constant, right)
    if isinstance(left, Text) and isinstance(right, Text) and symbol == "+":
        return join([*left.parts, *right.parts])
    if isinstance(left, Text) or isinstance(right, Text):
        raise Refused(f"{symbol} can't be used on text")
    if symbol in {"//", "%"} and right == 0:
        raise Refused("it divides by zero")
    if isinstance(left, int) and isinstance(right, int):
        return bounded(int(OPERATORS[symbol](left, right)))
    size = sum(1 if isinstance(side, int) else side.size for side in (left, right))
    if size > _MAX_SIZE:
        raise Refused(f"an expression has more than {_MAX_SIZE} numbers and names")
    return Operation(symbol, left, right, size)


def _format_percent(template: str | None, value: Value) -> Text:
    pieces = [] if template is None else _PERCENT.split(template)
    if template is None or any("%" in piece for piece in pieces[::3]):
        raise Refused(
            "the left side of % may be a number, or text with %d, %x or %s, the first two perhaps with a width"
        )
    parts: list[Part] = [pieces[0]]
    taken = 0
    for percent, spec, literal in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        if percent:
            parts.append("%")
        else:
            parts += as_parts(value, spec or "")
            taken += 1
        parts.append(literal)
    if taken != 1:
        raise Refused("the text before % has to take one value")
    return join(parts)


def format_fields(template: str, values: list[Value]) -> Text:
    """Return a text with values in its fields (`{}`, `{0}`, `{:03d}`), as `str.format` does.

    Raises
    ------
    Refused
        If a field is of another form, or has no value.
    """
    pieces = _FIELD.split(template)
    numbers = pieces[1::3]
    if any("{" in piece or "}" in piece for piece in pieces[::3]) or len({bool(number) for number in numbers}) > 1:
        raise Refused("format takes fields like {}, {0} or {:03d}, of d and x, numbered all or none")
    parts: list[Part] = [pieces[0]]
    for i, (number, spec, literal) in enumerate(zip(numbers, pieces[2::3], pieces[3::3], strict=True)):
        index = int(number or i)
        if index >= len(values):
            raise Refused("format has too few values")
        parts += [*as_parts(values[index], spec or ""), literal]
    return join(parts)


def as_parts(value: Value, spec: str = "") -> tuple[Part, ...]:
    """Return a value as it appears in a text; `spec` as for `format`, of a number only."""
    if isinstance(value, Text):
        if spec:
            raise Refused("text can't be formatted as a number")
        return value.parts
    if isinstance(value, int):
        return (format(value, spec),)
    return (Number(value, spec.removesuffix("d")),)


def join(parts: Iterable[Part]) -> Text:
    """Return pieces as one text; `Refused` if it could be longer than `MAX_LENGTH`."""
    pieces = Text(tuple(part for part in parts if part))
    if pieces.longest > MAX_LENGTH:
        raise Refused(f"it expands to more than {MAX_LENGTH} characters")
    joined: list[Part] = []
    for literal, group in itertools.groupby(pieces.parts, lambda part: isinstance(part, str)):
        joined += ["".join(map(str, group))] if literal else list(group)  # noqa: B031 - once, whichever it is
    return Text(tuple(joined))
