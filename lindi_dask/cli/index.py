"""`lindi-dask index`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lindi_dask.cli.options import access_options

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["index"]


@click.command()
@click.argument("source", metavar="IN")
@click.argument("out", metavar="OUT", type=click.Path())
@click.option("--url", metavar="URL", help="Where readers will find the same bytes, if that is not IN.")
@click.option("--form", type=click.Choice(["lindi", "kerchunk"]), help="Of a .json; lindi if not given.")
@access_options
@click.option("--strict", is_flag=True, help="Write nothing if there is anything that can't be translated.")
@click.option("--force", is_flag=True, help="Replace OUT, even if it was not written by lindi_dask.")
def index(
    source: str,
    out: Path,
    *,
    url: str | None,
    form: str | None,
    instances: dict[str, str] | None,
    allow: tuple[str, ...] | None,
    strict: bool,
    force: bool,
) -> None:
    """Write references to all chunks of an HDF5 (NWB) file.

    IN is a path, an https URL, the URL of a DANDI asset or its address; only its metadata are read. OUT ends in
    .lindi.json or .json (a file), .parquet (kerchunk's folder) or .lindi.d. What can't be translated is named and left
    out. Needs the extra: pip install 'lindi-dask[index]'

    \b
    Examples:
      lindi-dask index dandi://dandi/000123@draft/sub-1/sub-1.nwb session.lindi.json
      lindi-dask index session.nwb session.lindi.json --url https://api.dandiarchive.org/api/assets/.../download/
    """
    from lindi_dask.indexing import index as make  # noqa: PLC0415 - only this command needs it

    references = make(source, url=url, instances=instances, allow=allow)
    references.save(out, form=form, overwrite=force, skip_unreadable=not strict)
    chunks = sum(len(manifest.present()) for manifest in references.manifests.values())
    click.echo(f"Indexed {len(references.manifests):,} arrays, {chunks:,} chunks, to {out}")
    if references.unreadable:
        click.echo(f"{len(references.unreadable):,} can't be read, for the reasons above.", err=True)
