"""`lindi-dask ls`."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from lindi_dask.archive.addresses import is_address
from lindi_dask.cli.assets import show_assets
from lindi_dask.cli.options import access_options
from lindi_dask.cli.terminal import columns_of, draw, filled, plain, this_look
from lindi_dask.cli.wording import cells_of, counted, details_of, size_text
from lindi_dask.listing import ArrayRow, GroupRow, LinkRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lindi_dask.cli.terminal import Look, Span
    from lindi_dask.listing import Row
    from lindi_dask.refs import ChunkManifest

__all__ = ["ls"]

_MIN_COLUMNS: Final = 24  # of a continued line, however narrow the terminal and deep the tree

# \b keeps click from filling the lines up
_EXAMPLES = """\b
Examples:
  lindi-dask ls session.lindi.json
  lindi-dask ls session.lindi.json acquisition/ElectricalSeries
  lindi-dask ls session.lindi.json --json | jq '.nodes[] | select(.kind == "array") | .path'
  lindi-dask ls 'dandi://dandi/000123@draft/sub-*/**/*.nwb'
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
@access_options
def ls(
    *,
    refs: str,
    path: str,
    depth: int | None,
    sizes: bool | None,
    as_json: bool,
    instances: dict[str, str] | None,
    allow: tuple[str, ...] | None,
) -> None:
    """Show what REFS holds: groups, arrays, links; or what a dandiset holds: assets.

    REFS is a reference file (LINDI's or kerchunk's JSON, Zarr v3 references), a bundle (.lindi.tar, .lindi.d) or a
    folder of kerchunk's parquet files: its path, its https URL, or the URL of its asset on DANDI. PATH is a group or an
    array in it.

    An array's line has its shape, its type and unit; then, if it has more than one chunk, how many of them there are
    and of what shape, what they take up in their files (and how many times as large they are in memory), and
    how they are encoded.

    If REFS is an address, dandi://INSTANCE/000123[@VERSION][/PATH], or the URL of a dandiset's page, its assets are
    listed: path, size, time of the last change, id. The path may be a folder (with a slash at its end) or a pattern: *,
    ?, [ab], [!ab], and **/ for any number of folders.
    """
    if is_address(refs):
        if path or depth is not None or sizes is not None:
            raise click.UsageError(
                "PATH, --depth and --sizes are for references. The path of assets is in the address."
            )
        show_assets(refs, as_json=as_json, instances=instances)
        return
    from lindi_dask import listing  # noqa: PLC0415 - only this command needs it
    from lindi_dask.factory import StoreFactory  # noqa: PLC0415
    from lindi_dask.refs.kerchunk.parquet import RecordManifest  # noqa: PLC0415

    factory = StoreFactory(refs, instances=instances, allow=allow)

    def measured(manifest: ChunkManifest) -> bool:
        return sizes is True or (sizes is None and not (factory.is_remote and isinstance(manifest, RecordManifest)))

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
    look = this_look()
    draw([*_tree(plain(factory.name), shown, rows, look), [], [(_totals(rows), "dim")]], look)


# The tree


def _tree(name: str, shown: Sequence[Row], rows: Sequence[Row], look: Look) -> Iterator[list[Span]]:
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
        where = f"{name}  /{plain(top.path)}" if top.path else name
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


def _entries(rows: Sequence[Row], stem: str, look: Look) -> list[Entry]:
    """Return the entries of a group, the last one first."""
    labels = [plain(row.path.rpartition("/")[2]) or "/" for row in rows]
    cells = [
        (label, *cells_of(row, look)) for row, label in zip(rows, labels, strict=True) if isinstance(row, ArrayRow)
    ]
    columns = [max(map(len, column)) for column in zip(*cells, strict=True)]
    marks = [look.branch] * (len(rows) - 1) + [look.last]
    entries = [(row, label, columns, stem, mark) for row, label, mark in zip(rows, labels, marks, strict=len(rows) > 0)]
    return entries[::-1]


def _described(row: Row, label: str, columns: list[int], look: Look) -> tuple[list[Span], list[str], str]:
    """Return a row's own line, what may stand behind it or below, in pieces, and what goes between these."""
    match row:
        case GroupRow():
            return [(label, "group"), *_type(row)], [], ""
        case LinkRow(target=str(target)):
            return [(label, "link"), (f" -> /{plain(target)}", "")], [], ""
        case LinkRow():
            return [(label, "link")], _reason(row.unreadable), " "
    cells = (label, *cells_of(row, look))
    padded = [f"{cell:{width}}" for cell, width in zip(cells, columns, strict=True)]
    line = [(padded[0], ""), (f"  {padded[1]}", "shape"), *((f"  {cell}", "") for cell in padded[2:])]
    if row.unreadable is not None:
        return line, _reason(row.unreadable), " "
    return line, details_of(row, look), "  "


def _type(row: GroupRow) -> list[Span]:
    return [(f"  {plain(row.neurodata_type)}", "type")] if row.neurodata_type else []


def _reason(unreadable: str | None) -> list[str]:
    return f"can't be read: {plain(unreadable or '')}".split(" ")


def _laid_out(
    first: list[Span], extras: list[str], gap: str, stem: str, under: str, look: Look
) -> Iterator[list[Span]]:
    """Yield the line of a row with all that belongs to it; on a terminal that is too narrow, with that below."""
    style = "bad" if gap == " " else "dim"
    line = [(stem, "dim"), *first]
    ended = [*line[:-1], (line[-1][0].rstrip(), line[-1][1])]
    behind = (f"  {gap.join(extras)}", style)
    if not extras:
        yield ended
    elif look.width is None or columns_of([*line, behind]) <= look.width:
        yield [*line, behind]
    elif columns_of([*ended, behind]) <= look.width:
        yield [*ended, behind]
    else:
        yield ended
        room = max(look.width - len(under) - 2, _MIN_COLUMNS)
        for text in filled(extras, gap, room):
            yield [(f"{under}  ", "dim"), (text, style)]


def _totals(rows: Sequence[Row]) -> str:
    arrays = [row for row in rows if isinstance(row, ArrayRow)]
    unreadable = sum(not isinstance(row, GroupRow) and row.unreadable is not None for row in rows)
    stored = [row.stored for row in arrays if row.stored is not None]
    parts = [
        counted(sum(isinstance(row, GroupRow) for row in rows), "group"),
        counted(len(arrays), "array"),
        counted(sum(isinstance(row, LinkRow) for row in rows), "soft link"),
        f"{unreadable} can't be read" if unreadable else "",
        counted(sum(one.chunks for one in stored), "chunk"),
        size_text(sum(one.nbytes or 0 for one in stored)) if stored else "",
    ]
    return ", ".join(part for part in parts if part)


def _level(path: str) -> int:
    return path.count("/") + 1 if path else 0


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
