"""`lindi-dask status`."""

from __future__ import annotations

import json

import click

from lindi_dask.cli.conversion_options import job_option
from lindi_dask.errors import ConfigurationError

__all__ = ["status"]


@click.command()
@click.argument("out", metavar="OUT")
@job_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(*, out: str, job: str | None, as_json: bool) -> None:
    """Show how far the conversion to OUT is, what failed, and who runs it.

    \b
    Example:
      lindi-dask status session.nwb.zarr
    """
    from lindi_dask.conversion import Status, job_of  # noqa: PLC0415 - only this command needs it

    found = Status(job_of(out, job))
    if found.plan is None:
        raise ConfigurationError(f"There is no job for {out}: {found.job.folder} has none.")
    told = {
        "out": found.job.out,
        "job": str(found.job.folder),
        "done": found.done,
        "total": found.plan.tasks,
        "set_aside": found.set_aside,
        "published": found.is_published,
        "running": None if found.holder is None else {"host": found.holder.host, "pid": found.holder.pid},
    }
    if as_json:
        click.echo(json.dumps(told))
        return
    if found.holder is not None:
        state = f"being converted by process {found.holder.pid} on {found.holder.host}"
    elif found.is_published:
        state = "done"
    else:
        state = "not done, and nobody works on it: convert it with --resume"
    click.echo(f"{found.job.out}: {found.done:,} of {found.plan.tasks:,} objects; {state}.")
    for key, reason in found.set_aside.items():
        click.echo(f"  {key}: {reason}")
