"""How commands draw: colors, widths and signs that the terminal, the pipe or the file can take."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["ASCII", "Look", "Span", "columns_of", "draw", "filled", "look_of", "plain", "this_look"]

_STYLES: Final[dict[str, dict[str, Any]]] = {
    "dim": {"dim": True},
    "group": {"fg": "blue", "bold": True},
    "type": {"fg": "green"},
    "link": {"fg": "cyan"},
    "shape": {"fg": "yellow"},
    "bad": {"fg": "red"},
}

Span: TypeAlias = tuple[str, str]
"""text, and its style: a key of `_STYLES`, or nothing"""


@dataclass(frozen=True, slots=True)
class Look:
    """What may be drawn."""

    branch: str = "├─ "
    last: str = "└─ "
    through: str = "│  "
    times: str = "\N{MULTIPLICATION SIGN}"
    dots: str = "…"
    color: bool = False
    width: int | None = None
    """columns; None: lines are as long as they are"""

    def colored(self, line: Sequence[Span]) -> str:
        """Return a line of spans as text."""
        if not self.color:
            return "".join(text for text, _ in line).rstrip()
        return "".join(click.style(text, **_STYLES[style]) if style and text else text for text, style in line)


ASCII: Final = Look(branch="|- ", last="`- ", through="|  ", times="x", dots="...")


def look_of(environ: Mapping[str, str], encoding: str, *, is_terminal: bool) -> Look:
    """Return how to draw on an output of some encoding."""
    look = Look()
    try:
        f"{look.branch}{look.last}{look.through}{look.times}{look.dots}".encode(encoding)
    except UnicodeEncodeError:
        look = ASCII
    if not is_terminal:
        return look
    color = not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"  # https://no-color.org
    return replace(look, color=color, width=shutil.get_terminal_size().columns)


def this_look() -> Look:
    """Return how to draw on this process's standard output."""
    return look_of(os.environ, sys.stdout.encoding or "ascii", is_terminal=sys.stdout.isatty())


def draw(lines: Iterable[Sequence[Span]], look: Look) -> None:
    """Print lines; what the output can't hold, as escapes."""
    encoding = sys.stdout.encoding or "ascii"
    text = "\n".join(map(look.colored, lines))
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), color=look.color)


def columns_of(line: Sequence[Span]) -> int:
    """Return how wide a line is."""
    return sum(len(text) for text, _ in line)


def filled(pieces: Sequence[str], gap: str, room: int) -> Iterator[str]:
    """Yield lines of pieces, as many in each as it has room for."""
    line = ""
    for piece in pieces:
        if line and len(line) + len(gap) + len(piece) > room:
            yield line
            line = piece
        else:
            line = f"{line}{gap}{piece}" if line else piece
    yield line


def plain(text: str) -> str:
    """Return text from a file with nothing in it that could steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
