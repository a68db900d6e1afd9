"""`lindi-dask cache`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lindi_dask.config import configured

if TYPE_CHECKING:
    from lindi_dask.types import CacheUsage

__all__ = ["cache"]

_OFF = {"folder": None, "files": 0, "nbytes": 0}


@click.command()
@click.option("--clear", is_flag=True, help="Remove the files of both; what has them open goes on.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object: folder, files, nbytes; ranges: the same and limit."
)
def cache(*, clear: bool, as_json: bool) -> None:
    """Say where the caches are and how large, or clear them.

    The index cache holds reference files that were parsed before, so that opening them again takes no time. Its folder
    is the configuration lindi-dask.index-cache. The range cache holds bytes that were fetched, if there is one: its
    folder is the configuration lindi-dask.cache.

    \b
    Example:
      lindi-dask cache --clear
    """
    from lindi_dask.index_cache import IndexCache, configured_folder  # noqa: PLC0415 - only this command needs them
    from lindi_dask.transport import CacheFolder, cache_of  # noqa: PLC0415

    folder = configured_folder(configured("index-cache"), os.environ)
    disk = cache_of(configured("cache"), configured("cache-limit"))
    index = None if folder is None else IndexCache(folder)
    ranges = None if disk is None else CacheFolder(Path(disk.folder), disk.limit)
    of_index = None if index is None else index.clear() if clear else index.usage()
    failure = None
    try:
        of_ranges = None if ranges is None else ranges.clear() if clear else ranges.usage()
    except OSError as error:
        of_ranges, failure = None, f"{error.filename} can't be looked into: {error.strerror}."
    if as_json:
        limit = {} if disk is None else {"limit": disk.limit}
        click.echo(json.dumps({**_described(of_index), "ranges": {**_described(of_ranges), **limit}}))
    else:
        click.echo("The index cache is off (lindi-dask.index-cache)." if of_index is None else _told(of_index, clear))
        if of_ranges is not None and disk is not None:
            most = "" if clear else f" of at most {disk.limit / 1e6:.1f} MB"
            click.echo(f"{_told(of_ranges, clear)}{most} (ranges)")
    if failure is not None:
        raise click.ClickException(failure)
    for left in (index, ranges) if clear else ():
        if left is not None and left.usage().files:
            raise click.ClickException(f"some files in {left.usage().folder} can't be removed: see its permissions.")


def _described(usage: CacheUsage | None) -> dict[str, str | int | None]:
    if usage is None:
        return {**_OFF}
    return {"folder": str(usage.folder), "files": usage.files, "nbytes": usage.nbytes}


def _told(usage: CacheUsage, clear: bool) -> str:
    what = f"{usage.files} files, {usage.nbytes / 1e6:.1f} MB"
    return f"Removed {what} from {usage.folder}" if clear else f"{usage.folder}: {what}"
