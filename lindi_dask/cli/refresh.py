"""`lindi-dask refresh`."""

from __future__ import annotations

from pathlib import Path

import click

from lindi_dask.cli.documents import refuse, write_document
from lindi_dask.cli.options import access_options
from lindi_dask.errors import ConfigurationError

__all__ = ["refresh"]


@click.command()
@click.argument("refs", metavar="IN")
@click.argument("out", metavar="[OUT]", required=False, type=click.Path(path_type=Path))
@click.option("--address", metavar="ADDRESS", help="Of the asset, dandi://..., where IN doesn't say.")
@access_options
@click.option("--force", is_flag=True, help="Replace OUT, if it is a file.")
def refresh(
    refs: str,
    out: Path | None,
    *,
    address: str | None,
    instances: dict[str, str] | None,
    allow: tuple[str, ...] | None,
    force: bool,
) -> None:
    """Find the assets that references name again, after they were replaced.

    Any edit of an asset's metadata gives it another id, and the old id of an embargoed one is then refused (403). The
    asset is looked for by its dandiset and path. If its size and ETag are still the same, its new URL is written; if
    not, the file is indexed anew. Without OUT, IN itself is replaced.

    \b
    Example:
      lindi-dask refresh session.lindi.json
    """
    from lindi_dask.refreshing import refresh as find  # noqa: PLC0415 - only this command needs it

    if out is None and ("://" in refs or refs.endswith((".gz", ".zst", ".tar"))):
        raise ConfigurationError(
            f"{refs.partition('?')[0]} can't be replaced in its place: name OUT, where to write to."
        )
    target = Path(refs if out is None else out).absolute()
    if out is not None:
        refuse(target, force=force)
    found = find(refs, address=address, instances=instances, allow=allow)
    names = ", ".join(str(info.address) for info in found.assets)
    if found.result is None:
        click.echo(f"Nothing to do: {names} is still the asset that {refs} names.")
        return
    if isinstance(found.result, dict):
        write_document(found.result, refs, target, is_relative=found.is_relative)
    else:
        form = found.json_form if target.name.endswith(".json") else None
        found.result.save(target, form=form, base=found.base, overwrite=True, skip_unreadable=True)
    what = "its bytes have changed: indexed anew" if found.state == "changed" else "the same bytes by another URL"
    click.echo(f"Refreshed {target.name}: {names}, {what}.")
