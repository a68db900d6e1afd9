"""`lindi-dask ls`."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from lindi_dask.listing import ArrayRow, GroupRow, LinkRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lindi_dask.listing import Row
    from lindi_dask.refs import ChunkManifest

__all__ = ["ls"]

_MIN_COLUMNS: Final = 24  # of a continued line, however narrow the terminal and deep the tree
_UNITS: Final = ("kB", "MB", "GB", "TB", "PB", "EB")
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
class _Look:
    """How the tree is drawn."""

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


_ASCII: Final = _Look(branch="|- ", last="`- ", through="|  ", times="x", dots="...")


# \b keeps click from filling the lines up
_EXAMPLES = """\b
Examples:
  lindi-dask ls session.lindi.json
  lindi-dask ls session.lindi.json acquisition/ElectricalSeries
  lindi-dask ls session.lindi.json --json | jq '.nodes[] | select(.kind == "array") | .path'
"""


@click.command(epilog=_EXAMPLES)
@click.argument("refs")
@click.argument("path", default="")
@click.option("--depth", type=click.IntRange(min=0), metavar="N", help="Levels below PATH to show.")
@click.option(
    "--sizes/--no-sizes",
    default=None,
    help="Count the chunks, or don't. If not said, all are counted but those in parquet files behind a URL, each of "
    "which would be downloaded.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--instance",
    "instances",
    multiple=True,
    metavar="NAME=URL",
    help="An archive besides the built-in ones, and its API's URL; may be repeated.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="PREFIX",
    help="A URL prefix or folder that may be read besides public https; may be repeated.",
)
def ls(
    *,
    refs: str,
    path: str,
    depth: int | None,
    sizes: bool | None,
    as_json: bool,
    instances: tuple[str, ...],
    allow: tuple[str, ...],
) -> None:
    """Show what REFS holds: groups, arrays, links.

    REFS is a reference file (LINDI's or kerchunk's JSON, Zarr v3 references), a bundle (.lindi.tar, .lindi.d) or a
    folder of kerchunk's parquet files: its path, its https URL, or the URL of its asset on DANDI. PATH is a group or an
    array in it.

    An array's line has its shape, its type and unit; then, if it has more than one chunk, how many of them there are
    and of what shape, what they take up in their files (and how many times as large they are in memory), and
    how they are encoded.
    """
    from lindi_dask import listing  # noqa: PLC0415 - only this command needs it
    from lindi_dask.factory import StoreFactory  # noqa: PLC0415
    from lindi_dask.refs.kerchunk.parquet import RecordManifest  # noqa: PLC0415

    factory = StoreFactory(refs, instances=_named(instances) if instances else None, allow=allow or None)
    is_url = refs.startswith(("https://", "http://"))

    def measured(manifest: ChunkManifest) -> bool:
        return sizes is True or (sizes is None and not (is_url and isinstance(manifest, RecordManifest)))

    rows = listing.list_rows(factory().references, path, measured=measured)
    top = rows[0].path
    deepest = None if depth is None else _level(top) + depth
    shown = [row for row in rows if deepest is None or _level(row.path) <= deepest]
    if as_json:
        document = {
            "refs": factory.name,
            "fingerprint": factory.fingerprint,
            "path": f"/{top}",
            "nodes": [listing.as_json(row) for row in shown],
        }
        click.echo(json.dumps(document))
        return
    encoding = sys.stdout.encoding or "ascii"
    look = _look(os.environ, encoding, is_terminal=sys.stdout.isatty())
    lines = [*_tree(_plain(factory.name), shown, rows, look), [], [(_totals(rows), "dim")]]
    text = "\n".join(map(look.colored, lines))
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), color=look.color)


def _named(instances: Sequence[str]) -> dict[str, str]:
    named = dict[str, str]()
    for option in instances:
        name, _, url = option.partition("=")
        if not (name and url):
            raise click.BadParameter(f"{option!r} is not NAME=URL.", param_hint="--instance")
        named[name] = url
    return named


def _look(environ: Mapping[str, str], encoding: str, *, is_terminal: bool) -> _Look:
    look = _Look()
    try:
        f"{look.branch}{look.last}{look.through}{look.times}{look.dots}".encode(encoding)
    except UnicodeEncodeError:
        look = _ASCII
    if not is_terminal:
        return look
    color = not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"  # https://no-color.org
    return replace(look, color=color, width=shutil.get_terminal_size().columns)


# The tree


def _tree(name: str, shown: Sequence[Row], rows: Sequence[Row], look: _Look) -> Iterator[list[Span]]:
    """Yield the lines of a tree.

    Parameters
    ----------
    name
        Of the references.
    shown
        Of the rows, those of the levels that are wanted.
    rows
        All rows, sorted as a tree; the first is its root.
    """
    top = rows[0]
    children: dict[str, list[Row]] = {}
    for row in shown[1:]:
        children.setdefault(_parent(row.path), []).append(row)
    hidden = Counter(_parent(row.path) for row in rows[1:])
    if isinstance(top, GroupRow):
        where = f"{name}  /{_plain(top.path)}" if top.path else name
        yield [(where, "group"), *_type(top)]
        roots = children.get(top.path, [])
    else:
        yield [(name, "group")]
        roots = [top]
    waiting = _entries(roots, "", look)
    while waiting:
        row, label, columns, stem, mark = waiting.pop()
        inside = stem + (look.through if mark == look.branch else "   ")
        mine = children.get(row.path, []) if row is not top else []
        first, extras, gap = _described(row, label, columns, look)
        if isinstance(row, GroupRow) and not mine and hidden[row.path]:
            first.append((f"  {look.dots} {hidden[row.path]} in it", "dim"))
        yield from _laid_out(first, extras, gap, stem + mark, inside, look)
        waiting += _entries(mine, inside, look)


Entry: TypeAlias = tuple["Row", str, "list[int]", str, str]
"""a row, its label, the widths of its columns, what the lines of its group begin with, and its mark"""


def _entries(rows: Sequence[Row], stem: str, look: _Look) -> list[Entry]:
    """Return the entries of a group, the last one first."""
    labels = [_plain(row.path.rpartition("/")[2]) or "/" for row in rows]
    cells = [(label, *_cells(row, look)) for row, label in zip(rows, labels, strict=True) if isinstance(row, ArrayRow)]
    columns = [max(map(len, column)) for column in zip(*cells, strict=True)]
    marks = [look.branch] * (len(rows) - 1) + [look.last]
    entries = [(row, label, columns, stem, mark) for row, label, mark in zip(rows, labels, marks, strict=len(rows) > 0)]
    return entries[::-1]


def _described(row: Row, label: str, columns: list[int], look: _Look) -> tuple[list[Span], list[str], str]:
    """Return a row's own line, what may stand behind it or below, in pieces, and what goes between these."""
    match row:
        case GroupRow():
            return [(label, "group"), *_type(row)], [], ""
        case LinkRow(target=str(target)):
            return [(label, "link"), (f" -> /{_plain(target)}", "")], [], ""
        case LinkRow():
            return [(label, "link")], _reason(row.unreadable), " "
    cells = (label, *_cells(row, look))
    padded = [f"{cell:{width}}" for cell, width in zip(cells, columns, strict=True)]
    line = [(padded[0], ""), (f"  {padded[1]}", "shape"), *((f"  {cell}", "") for cell in padded[2:])]
    if row.unreadable is not None:
        return line, _reason(row.unreadable), " "
    return line, _details(row, look), "  "


def _type(row: GroupRow) -> list[Span]:
    return [(f"  {_plain(row.neurodata_type)}", "type")] if row.neurodata_type else []


def _reason(unreadable: str | None) -> list[str]:
    return f"can't be read: {_plain(unreadable or '')}".split(" ")


def _laid_out(
    first: list[Span], extras: list[str], gap: str, stem: str, under: str, look: _Look
) -> Iterator[list[Span]]:
    """Yield the line of a row with all that belongs to it; on a terminal that is too narrow, with that below."""
    style = "bad" if gap == " " else "dim"
    line = [(stem, "dim"), *first]
    ended = [*line[:-1], (line[-1][0].rstrip(), line[-1][1])]
    behind = (f"  {gap.join(extras)}", style)
    if not extras:
        yield ended
    elif look.width is None or _columns([*line, behind]) <= look.width:
        yield [*line, behind]
    elif _columns([*ended, behind]) <= look.width:
        yield [*ended, behind]
    else:
        yield ended
        room = max(look.width - len(under) - 2, _MIN_COLUMNS)
        for text in _filled(extras, gap, room):
            yield [(f"{under}  ", "dim"), (text, style)]


def _columns(line: Sequence[Span]) -> int:
    return sum(len(text) for text, _ in line)


def _filled(pieces: Sequence[str], gap: str, room: int) -> Iterator[str]:
    """Yield lines of pieces, as many in each as it has room for."""
    line = ""
    for piece in pieces:
        if line and len(line) + len(gap) + len(piece) > room:
            yield line
            line = piece
        else:
            line = f"{line}{gap}{piece}" if line else piece
    yield line


# One array


def _cells(row: ArrayRow, look: _Look) -> tuple[str, str, str]:
    """Return shape, type and unit."""
    dtype = f"{{{', '.join(_plain(name) for name, _ in row.fields)}}}" if row.fields else row.dtype or "?"
    unit = _plain(row.unit or "")
    if unit and row.conversion != 1:
        unit = f"{row.conversion:g} {unit}"
    if row.rate is not None:
        unit = f"{unit} at {row.rate:g} Hz".strip()
    return _shape(row.shape, look), dtype, unit


def _details(row: ArrayRow, look: _Look) -> list[str]:
    """Return how the array is stored."""
    total = math.prod(row.grid)
    details = []
    stored = row.stored
    if stored is not None and stored.chunks < total:
        details.append(f"{stored.chunks:,} of {total:,} chunks")
    elif total > 1:
        details.append(f"{total:,} chunks")
    if total > 1:
        details[-1] += f" of {_shape(row.chunk_shape, look)}"
    if stored is not None and stored.nbytes:
        size = _size(stored.nbytes)
        ratio = stored.ratio or 1.0
        # Of a few numbers in a frame of their own the ratio says nothing
        shows = total > 1 and not 0.95 < ratio < 1.05
        details.append(f"{size} ({ratio:.3g}{look.times})" if shows else size)
    if row.codecs and row.codecs != ("blosc",):
        details.append("+".join(map(_plain, row.codecs)))
    return details


def _shape(shape: tuple[int, ...], look: _Look) -> str:
    return f" {look.times} ".join(f"{extent:,}" for extent in shape) or "scalar"


def _size(nbytes: int) -> str:
    if nbytes < 1000:
        return f"{nbytes} B"
    power = min(len(f"{nbytes + nbytes // 2000}") - 1, 3 * len(_UNITS)) // 3  # 999,950 is 1 MB, and not 1,000 kB
    return f"{nbytes / 1000**power:.3g} {_UNITS[power - 1]}"


def _totals(rows: Sequence[Row]) -> str:
    arrays = [row for row in rows if isinstance(row, ArrayRow)]
    unreadable = sum(not isinstance(row, GroupRow) and row.unreadable is not None for row in rows)
    stored = [row.stored for row in arrays if row.stored is not None]
    parts = [
        _counted(sum(isinstance(row, GroupRow) for row in rows), "group"),
        _counted(len(arrays), "array"),
        _counted(sum(isinstance(row, LinkRow) for row in rows), "soft link"),
        f"{unreadable} can't be read" if unreadable else "",
        _counted(sum(one.chunks for one in stored), "chunk"),
        _size(sum(one.nbytes or 0 for one in stored)) if stored else "",
    ]
    return ", ".join(part for part in parts if part)


def _counted(number: int, thing: str) -> str:
    """Return a number of things in words; nothing for none."""
    return f"{number:,} {thing}{'s' * (number != 1)}" if number else ""


def _level(path: str) -> int:
    return path.count("/") + 1 if path else 0


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _plain(text: str) -> str:
    """Return text from a file with nothing in it that could steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
