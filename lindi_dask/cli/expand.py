"""`lindi-dask expand`."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lindi_dask.cli.options import access_options
from lindi_dask.errors import ConfigurationError

if TYPE_CHECKING:
    from lindi_dask.expanding import Expanded

__all__ = ["expand"]

_DOCUMENT = "lindi.json"


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
    _refuse(target, force=force)
    found = expand_document(refs, instances=instances, allow=allow)
    if not found.paths:
        click.echo(f"There is nothing to expand in {refs}: no array is an external link. Nothing was written.")
        return
    failure = None
    try:
        _write(found, refs, target)
    except OSError as error:
        failure = ConfigurationError(f"{out} can't be written ({error.strerror or error}).")
    if failure is not None:
        raise failure
    arrays = "1 array" if len(found.paths) == 1 else f"{len(found.paths):,} arrays"
    click.echo(f"Expanded {arrays}: {found.chunks:,} chunks, by {found.requests:,} requests, to {out}")


def _refuse(target: Path, *, force: bool) -> None:
    if target.is_dir():
        raise ConfigurationError(f"{target} is a folder, and folders are never replaced: remove it, or name another.")
    if os.path.lexists(target) and not force:
        raise ConfigurationError(f"{target} exists: name another file, or replace it with --force.")


def _write(found: Expanded, refs: str, target: Path) -> None:
    """Write all of it or nothing: under another name first."""
    source = Path(refs).absolute()
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        if source.is_dir() and target.name.endswith(".lindi.d"):
            shutil.copytree(source, temporary, symlinks=True)
            (temporary / _DOCUMENT).unlink()
            _dump(found, temporary / _DOCUMENT)
        else:
            _check_place(found, source, target)
            _dump(found, temporary)
        temporary.replace(target)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        raise


def _check_place(found: Expanded, source: Path, target: Path) -> None:
    folder = source if source.is_dir() else source.parent
    if found.is_relative and not (source.exists() and folder.resolve() == target.parent.resolve()):
        remedy = "Name a folder as OUT (ending in .lindi.d)" if source.is_dir() else "Write OUT beside IN"
        raise ConfigurationError(
            f"The references of {source.name} mean files beside them, which would not be found from {target.parent}. "
            f"{remedy}."
        )


def _dump(found: Expanded, path: Path) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(found.document, separators=(",", ":")))
        file.flush()
        os.fsync(file.fileno())
