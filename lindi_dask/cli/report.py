"""`lindi-dask report`."""

from __future__ import annotations

import click

from lindi_dask.cli.conversion_options import job_option

__all__ = ["report"]


@click.command()
@click.argument("out", metavar="OUT")
@click.argument("file", metavar="[REPORT.html]", required=False)
@job_option
def report(*, out: str, file: str | None, job: str | None) -> None:
    """Write a report of the conversion to OUT, done or not: one HTML file that needs nothing but itself.

    It has the plan and the compression of each array, a picture of some of what was converted, bytes a second,
    requests, renewals and retries, the slowest objects, memory, failed attempts, and digests. Without REPORT.html it is
    OUT.report.html beside OUT (of s3://bucket/prefix, in the current folder). One that is there is replaced.

    \b
    Example:
      lindi-dask report session.nwb.zarr
    """
    from lindi_dask.cli.job_report import write_report  # noqa: PLC0415 - only this command needs it

    click.echo(f"The report is {write_report(out, job, file)}")
