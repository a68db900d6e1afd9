"""`lindi-dask combine`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from lindi_dask.cli.options import access_options

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["combine"]

_NAMED: Final = re.compile(r"([\w.-]+)=(.+)", re.DOTALL)


@click.command()
@click.argument("parts", metavar="IN...", nargs=-1, required=True)
@click.argument("out", metavar="OUT", type=click.Path())
@click.option("--along", metavar="NAME", default="time", show_default=True, help="The dimension.")
@click.option("--drop", multiple=True, metavar="PATH", help="What to leave out of the parts; may be repeated.")
@click.option("--form", type=click.Choice(["lindi", "kerchunk"]), help="Of a .json; lindi if not given.")
@access_options
@click.option("--strict", is_flag=True, help="Write nothing if there is anything that can't be written.")
@click.option("--force", is_flag=True, help="Replace OUT, even if it was not written by lindi_dask.")
def combine(
    parts: Sequence[str],
    out: str,
    *,
    along: str,
    drop: tuple[str, ...],
    form: str | None,
    instances: dict[str, str] | None,
    allow: tuple[str, ...] | None,
    strict: bool,
    force: bool,
) -> None:
    """Combine reference files into one.

    Each IN is a path or URL of references, or of an HDF5 (NWB) file. They are parts of one recording, in the order of
    time, and are concatenated; or, as NAME=IN, sessions of which each becomes the group NAME. What disagrees is named,
    and nothing is written. OUT is as of `lindi-dask index`.

    \b
    Examples:
      lindi-dask combine part1.lindi.json part2.lindi.json recording.lindi.json
      lindi-dask combine day1=a.lindi.json day2=b.lindi.json days.lindi.json
    """
    from lindi_dask.combining import combine as together  # noqa: PLC0415 - only this command needs it

    references = together(_given(parts), along=along, drop=drop, instances=instances, allow=allow)
    references.save(out, form=form, overwrite=force, skip_unreadable=not strict)
    chunks = sum(len(manifest.present()) for manifest in references.manifests.values())
    click.echo(f"Combined {len(parts):,} into {len(references.manifests):,} arrays, {chunks:,} chunks, to {out}")
    if references.unreadable:
        click.echo(f"{len(references.unreadable):,} can't be read, for the reasons above.", err=True)


def _given(parts: Sequence[str]) -> list[str] | dict[str, str]:
    """Return a list, or what has names by them."""
    named = [None if Path(part).exists() else _NAMED.fullmatch(part) for part in parts]
    names = [match[1] for match in named if match is not None]
    if not names:
        return list(parts)
    if len(names) < len(parts):
        raise click.UsageError("Some of IN have a name (NAME=IN) and some have none: give all of them one, or none.")
    if len(set(names)) < len(names):
        raise click.UsageError("Two of IN have the same name.")
    return {match[1]: match[2] for match in named if match is not None}
