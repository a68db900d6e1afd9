"""`lindi-dask expand`."""

from __future__ import annotations

from pathlib import Path

import click

from lindi_dask.cli.documents import refuse, write_document
from lindi_dask.cli.options import access_options

__all__ = ["expand"]


@click.command()
@click.argument("refs", metavar="IN")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@access_options
@click.option("--force", is_flag=True, help="Replace OUT, if it is a file.")
def expand(
    refs: str, out: Path, *, instances: dict[str, str] | None, allow: tuple[str, ...] | None, force: bool
) -> None:
    """Write references to all chunks into a LINDI document.

    LINDI leaves out the chunks of arrays that have more than 1,000, and only links to their dataset. IN is a LINDI
    document (a path, a URL) or a folder with one (.lindi.d); OUT is a file, or, of a folder, a new folder. Only the
    index of each dataset is read. Needs the extra: pip install 'lindi-dask[index]'

    \b
    Example:
      lindi-dask expand session.lindi.json session.expanded.lindi.json
    """
    from lindi_dask.expanding import expand_document  # noqa: PLC0415 - only this command needs it

    target = out.absolute()
    refuse(target, force=force)
    found = expand_document(refs, instances=instances, allow=allow)
    if not found.paths:
        click.echo(f"There is nothing to expand in {refs}: no array is an external link. Nothing was written.")
        return
    write_document(found.document, refs, target, is_relative=found.is_relative)
    arrays = "1 array" if len(found.paths) == 1 else f"{len(found.paths):,} arrays"
    click.echo(f"Expanded {arrays}: {found.chunks:,} chunks, by {found.requests:,} requests, to {out}")
