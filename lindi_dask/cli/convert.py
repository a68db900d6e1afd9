"""`lindi-dask convert`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import click

from lindi_dask.cli.conversion_options import (
    connected,
    job_option,
    layout_of,
    layout_options,
    profiled,
    worker_options,
)
from lindi_dask.cli.conversion_progress import shown
from lindi_dask.cli.options import access_options
from lindi_dask.cli.plan import draw_plan
from lindi_dask.cli.wording import counted, size_text
from lindi_dask.errors import LindiError

__all__ = ["convert"]


@click.command()
@click.argument("refs", metavar="IN")
@click.argument("out", metavar="OUT")
@layout_options
@worker_options
@job_option
@access_options
@click.option("--resume", is_flag=True, help="Go on with a job that was begun, or check and mend an output.")
@click.option("--report", metavar="FILE.html", help="Write what `report` does there at the end, done or not.")
@click.option(
    "--performance-report",
    metavar="FILE.html",
    help="Write dask's own report of its cluster there; its icon comes from the web.",
)
@click.option("--dry-run", is_flag=True, help="Only show the plan, as `plan` does.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line: progress, and what was done.")
def convert(
    *,
    refs: str,
    out: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    chunks: tuple[str, ...],
    shards: tuple[str, ...],
    codecs: tuple[str, ...],
    threads: int | None,
    workers: int | None,
    scheduler: str | None,
    job: str | None,
    resume: bool,
    report: str | None,
    performance_report: str | None,
    dry_run: bool,
    as_json: bool,
    **access: Any,  # noqa: ANN401 - what access_options adds
) -> None:
    """Write references as Zarr v3: numbers in shards, and all that makes an NWB file of them.

    OUT is a folder that is not there yet, or s3://bucket/prefix (address and credentials from the environment:
    AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...), or icechunk:FOLDER, an Icechunk repository that gets one commit. It
    comes into being when all of it is done. What is done is kept in a folder beside it until then: after whatever ends
    the job, the same command with --resume goes on.

    Exit codes: 0 done, 3 not all could be made (resume it), 130 interrupted (likewise).

    \b
    Examples:
      lindi-dask convert session.lindi.json session.nwb.zarr
      lindi-dask convert session.lindi.json lfp.zarr --include processing/ecephys --workers 4
      lindi-dask convert session.lindi.json session.nwb.zarr --resume
    """
    from lindi_dask.conversion import convert as run  # noqa: PLC0415 - only this command needs it
    from lindi_dask.conversion import plan as make_plan  # noqa: PLC0415

    asked: dict[str, Any] = {"include": include, "exclude": exclude, "layout": layout_of(chunks, shards, codecs)}
    with connected(threads, workers, scheduler) as (client, own):
        asked |= {"client": client, "threads": own, **access}
        if dry_run:
            draw_plan(make_plan(refs, **asked), as_json=as_json)
            return
        try:
            with profiled(client, performance_report), shown(as_json=as_json) as progress:
                done = run(refs, out, resume=resume, job=job, progress=progress, **asked)
        except KeyboardInterrupt:
            click.echo("What is done is kept: the same command with --resume goes on.", err=True)
            raise
        finally:
            if report is not None:
                _write_report(out, job, report)
    if as_json:
        told = {one.name: getattr(done, one.name) for one in dataclasses.fields(done) if one.name != "plan"}
        click.echo(json.dumps({"event": "converted", **told}))
        return
    kept = f", {done.kept:,} were there" if done.kept else ""
    click.echo(
        f"Converted {counted(len(done.plan.arrays), 'array')}: {done.made:,} objects made{kept}, "
        f"{size_text(done.nbytes)} in {done.out}, each read back and compared, in {done.seconds:.1f} s."
    )


def _write_report(out: str, job: str | None, file: str) -> None:
    """Write the report; that it can't be is said, and changes nothing of how the job ended."""
    from lindi_dask.cli.job_report import write_report  # noqa: PLC0415 - only where it is asked for

    try:
        path = write_report(out, job, file)
    except LindiError as error:
        click.echo(f"There is no report: {error}", err=True)
    else:
        click.echo(f"The report is {path}", err=True)
