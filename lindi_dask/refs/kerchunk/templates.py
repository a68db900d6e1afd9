"""`{{ expression }}` in the texts of a reference file, read by a small grammar of our own.

::

    text        (literal | "{{" expression "}}")*
    expression  term (("+" | "-") term)*
    term        factor (("*" | "//" | "%") factor)*
    factor      "-"* (number | quoted | quoted ".format(" expressions ")" | name | name "(" arguments ")"
                | "(" expression ")")
    arguments   [name "=" expression ("," name "=" expression)*]

That is the part of Jinja that kerchunk's specification (https://fsspec.github.io/kerchunk/spec.html) is about, with
Jinja's meaning; all else is refused. Texts come from strangers: no template engine runs, work and results are
bounded. Reading evaluates as it goes; what depends on a dimension stays an expression (see `expressions.py`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lindi_dask.errors import InvalidReferences
from lindi_dask.refs.kerchunk.expressions import (
    MAX_LENGTH,
    Part,
    Refused,
    Text,
    Value,
    as_parts,
    bounded,
    format_fields,
    join,
    operate,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["expand", "read"]

_MAX_DEPTH = 32  # brackets and templates within each other
_MAX_TOKENS = 1000  # in the braces of a text, those of the templates that it uses counted in

_PLAIN = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}", re.ASCII)
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+)|(?P<name>[A-Za-z_]\w*)|(?P<quoted>'[^'\\]*'|"[^"\\]*")|(?P<sign>//|\}\}|[-+*%().,=]))""",
    re.ASCII,
)
_RESERVED = frozenset(("and", "else", "false", "if", "in", "is", "none", "not", "or", "true", "False", "None", "True"))


def expand(url: str, templates: Mapping[str, str], *, key: str) -> str:
    """Return `url` with the expressions in its braces evaluated; what they bring in is never read again.

    A template that is written with braces itself is evaluated where it is used.

    Parameters
    ----------
    url
        As written in the entry.
    templates
        Of the reference file, by name.
    key
        Of the entry, for the error.

    Raises
    ------
    InvalidReferences
        If a name is not defined, templates use each other in a loop, or braces hold what is not in the grammar.
    """
    if "{{" not in url:
        return url
    expanded, reason = _expand_names(url, templates), None
    try:
        expanded = read(url, templates, {}).constant if expanded is None else expanded
    except Refused as refused:
        reason = str(refused)
    if expanded is None:
        raise InvalidReferences(f"The reference {key!r} can't be used: {reason}.", key=key, reason=reason)
    return expanded


def _expand_names(url: str, templates: Mapping[str, str]) -> str | None:
    """Expand a URL that has only names of literal templates in braces, as nearly all have; None if there is more."""
    pieces = _PLAIN.split(url)
    names = pieces[1::2]
    if len(url) > MAX_LENGTH or any("{" in literal for literal in pieces[::2]) or not _RESERVED.isdisjoint(names):
        return None
    texts = [templates.get(name) for name in names]
    if any(text is None or "{{" in text for text in texts):
        return None
    pieces[1::2] = texts
    return "".join(pieces) if sum(map(len, pieces)) <= MAX_LENGTH else None


def read(text: str, templates: Mapping[str, str], scope: Mapping[str, Value]) -> Text:
    """Evaluate a text as far as that goes without the dimensions' values.

    Parameters
    ----------
    text
        As written.
    templates
        Of the reference file, by name.
    scope
        What other names stand for; a template sees the arguments of its call in place of it.

    Raises
    ------
    Refused
        If the text can't be used.
    """
    return _Reader(text, templates, scope, iter(range(_MAX_TOKENS)), (), 0).text()


class _Reader:
    """A recursive descent through one text, or through one use of a template."""

    def __init__(
        self,
        text: str,
        templates: Mapping[str, str],
        scope: Mapping[str, Value],
        budget: Iterator[int],
        within: tuple[str, ...],
        depth: int,
    ) -> None:
        self._text = text
        self._templates = templates
        self._scope = scope
        self._budget = budget  # of tokens
        self._within = within  # these templates
        self._depth = depth
        self._at = 0  # behind the next token
        self._kind, self._next = "end", ""

    def text(self) -> Text:
        if len(self._text) > MAX_LENGTH:
            raise Refused(f"it is longer than {MAX_LENGTH} characters")
        parts: list[Part] = []
        while (opening := self._text.find("{{", self._at)) >= 0:
            parts.append(self._literal(opening))
            self._at = opening + 2
            if self._text[self._at : self._at + 1] in {"-", "+"}:
                # Jinja takes "{{-" for an order to strip the spaces before it, not for a sign
                raise Refused("a sign right after '{{' is ambiguous: put a space between them")
            self._advance()
            parts += as_parts(self._expression())
            if self._next != "}}":
                raise self._unexpected()
        parts.append(self._literal(len(self._text)))
        return join(parts)

    def _literal(self, end: int) -> str:
        literal = self._text[self._at : end]
        if "{%" in literal or "{#" in literal:
            raise Refused("statements and comments ('{%', '{#') can't be used")
        return literal

    def _expression(self) -> Value:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Refused(f"brackets and templates are more than {_MAX_DEPTH} deep")
        value = self._term()
        while (symbol := self._next) in {"+", "-"}:
            self._advance()
            value = operate(symbol, value, self._term())
        self._depth -= 1
        return value

    def _term(self) -> Value:
        value = self._factor()
        while (symbol := self._next) in {"*", "//", "%"}:
            self._advance()
            value = operate(symbol, value, self._factor())
        return value

    def _factor(self) -> Value:
        signs = 0
        while self._accept("-"):
            signs += 1
        value = self._primary()
        for _ in range(signs):
            value = operate("-", 0, value)
        return value

    def _primary(self) -> Value:
        kind, found = self._kind, self._next
        if kind not in {"number", "name", "quoted"} and found != "(":
            raise self._unexpected()
        self._advance()
        if kind == "number":
            return _number(found)
        if kind == "quoted":
            return self._format(found[1:-1]) if self._accept(".") else join([found[1:-1]])
        if kind == "name":
            return self._named(found)
        value = self._expression()
        self._expect(")")
        return value

    def _named(self, name: str) -> Value:
        called = self._accept("(")
        arguments = self._arguments() if called else {}
        if name in self._scope and name not in _RESERVED and not called:
            return self._scope[name]
        if name not in self._templates or name in _RESERVED or name in self._scope:
            raise Refused(f"the template {_short(name)} is not defined")
        text = self._templates[name]
        if "{{" not in text:
            return join([text])
        if name in self._within:
            raise Refused(f"the template {_short(name)} uses itself")
        within = (*self._within, name)
        return _Reader(text, self._templates, arguments, self._budget, within, self._depth).text()

    def _arguments(self) -> dict[str, Value]:
        arguments: dict[str, Value] = {}
        while self._next != ")" or arguments:
            name = self._next
            if self._kind != "name" or name in arguments or name in _RESERVED:
                raise self._unexpected()
            self._advance()
            self._expect("=")
            arguments[name] = self._expression()
            if not self._accept(","):
                break
        self._expect(")")
        return arguments

    def _format(self, template: str) -> Text:
        if self._next != "format":
            raise Refused("of a text's methods only format can be used")
        self._advance()
        self._expect("(")
        values = [self._expression()]
        while self._accept(","):
            values.append(self._expression())
        self._expect(")")
        return format_fields(template, values)

    def _advance(self) -> None:
        if next(self._budget, None) is None:
            raise Refused(f"its braces hold more than {_MAX_TOKENS} names, numbers and signs, with those of templates")
        token = _TOKEN.match(self._text, self._at)
        if token is None:
            self._kind, self._next = "end", self._text[self._at :].lstrip()[:1]
        else:
            self._at = token.end()
            self._kind = str(token.lastgroup)
            self._next = token[self._kind]

    def _accept(self, token: str) -> bool:
        found = self._next == token
        if found:
            self._advance()
        return found

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise self._unexpected()

    def _unexpected(self) -> Refused:
        if self._kind == "end" and not self._next:
            return Refused("braces are not closed")
        return Refused(
            f"{_short(self._next)} can't stand where it does: braces may hold names, whole numbers, quoted text, "
            "+ - * // %, round brackets, formats, and calls of templates like f(c='text')"
        )


def _number(digits: str) -> int:
    if len(digits) > 1 and digits[0] == "0":
        raise Refused(f"the number {_short(digits)} begins with 0")
    return bounded(int(digits[:20]))  # that many are too large already


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
