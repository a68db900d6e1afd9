"""`lindi-dask verify`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal

import click

from lindi_dask.cli.conversion_options import connected, worker_options
from lindi_dask.cli.options import access_options
from lindi_dask.cli.terminal import plain
from lindi_dask.cli.wording import size_text
from lindi_dask.errors import VerificationFailed

__all__ = ["verify"]


@click.command()
@click.argument("out", metavar="OUT")
@click.argument("refs", metavar="[IN]", required=False)
@click.option(
    "--level",
    type=click.Choice(["stored", "full"]),
    default="stored",
    show_default=True,
    help="What OUT is compared with: the digests of what was written, or IN, which is read again.",
)
@click.option("--hdf5", metavar="FILE", help="For full: the HDF5 file of IN, whose numbers h5py then reads.")
@worker_options
@access_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(
    *,
    out: str,
    refs: str | None,
    level: Literal["stored", "full"],
    hdf5: str | None,
    threads: int | None,
    workers: int | None,
    scheduler: str | None,
    as_json: bool,
    **access: Any,  # noqa: ANN401 - what access_options adds
) -> None:
    """Check each object and each document of OUT, which `convert` has made.

    Exit codes: 0 all is well, 4 something is not: its name and what is wrong are printed. `convert --resume` mends it.

    \b
    Examples:
      lindi-dask verify session.nwb.zarr
      lindi-dask verify session.nwb.zarr session.lindi.json --level full
    """
    from lindi_dask.conversion import verify as check  # noqa: PLC0415 - only this command needs it

    try:
        with connected(threads, workers, scheduler) as (client, own):
            found = check(out, refs, level=level, hdf5=hdf5, client=client, threads=own, **access)
    except VerificationFailed as error:
        if as_json:
            click.echo(json.dumps({"out": out, "level": level, "problems": error.problems}))
        else:
            for key, reason in error.problems.items():
                click.echo(f"{plain(key)}: {plain(reason)}")
        raise
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(found), "problems": {}}))
        return
    click.echo(
        f"{found.out}: all is as it should be: {found.objects:,} objects ({size_text(found.nbytes)}) and "
        f"{found.documents:,} documents, in {found.seconds:.1f} s."
    )
