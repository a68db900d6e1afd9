"""`lindi-dask cache`."""

from __future__ import annotations

import json
import os

import click

from lindi_dask.config import configured

__all__ = ["cache"]


@click.command()
@click.option("--clear", is_flag=True, help="Remove its files; what has them open goes on.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: folder, files, nbytes.")
def cache(*, clear: bool, as_json: bool) -> None:
    """Say where the index cache is and how large, or clear it.

    The cache holds reference files that were parsed before, so that opening them again takes no time. Its folder is
    the configuration lindi-dask.index-cache.

    \b
    Example:
      lindi-dask cache --clear
    """
    from lindi_dask.index_cache import IndexCache, configured_folder  # noqa: PLC0415 - only this command needs it

    folder = configured_folder(configured("index-cache"), os.environ)
    if folder is None:
        off = {"folder": None, "files": 0, "nbytes": 0}
        click.echo(json.dumps(off) if as_json else "The index cache is off (lindi-dask.index-cache).")
        return
    index_cache = IndexCache(folder)
    usage = index_cache.clear() if clear else index_cache.usage()
    if as_json:
        click.echo(json.dumps({"folder": str(usage.folder), "files": usage.files, "nbytes": usage.nbytes}))
    else:
        what = f"{usage.files} files, {usage.nbytes / 1e6:.1f} MB"
        click.echo(f"Removed {what} from {usage.folder}" if clear else f"{usage.folder}: {what}")
    if clear and index_cache.usage().files:
        raise click.ClickException(f"some files in {folder} can't be removed: see its permissions.")
