"""`lindi-dask plan`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from lindi_dask.cli.conversion_options import connected, layout_of, layout_options, worker_options
from lindi_dask.cli.conversion_words import plan_as_json, plan_lines
from lindi_dask.cli.options import access_options
from lindi_dask.cli.terminal import draw, this_look

if TYPE_CHECKING:
    from lindi_dask.conversion import Plan

__all__ = ["draw_plan", "plan"]


@click.command()
@click.argument("refs", metavar="IN")
@layout_options
@worker_options
@access_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with all arrays.")
def plan(
    *,
    refs: str,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    chunks: tuple[str, ...],
    shards: tuple[str, ...],
    codecs: tuple[str, ...],
    threads: int | None,
    workers: int | None,
    scheduler: str | None,
    as_json: bool,
    **access: Any,  # noqa: ANN401 - what access_options adds
) -> None:
    """Show what `convert` would write, and what that takes. Writes nothing, and reads no data.

    A line an array that is not small: its shape, chunks and shards, how many objects that makes, bytes in memory and to
    fetch (and how often each chunk of the source is read, if more than once), memory of a task.

    \b
    Examples:
      lindi-dask plan session.lindi.json
      lindi-dask plan session.lindi.json --include 'acquisition/*' --chunks acquisition/*/data=20000,-1
    """
    from lindi_dask.conversion import plan as make  # noqa: PLC0415 - only this command needs it

    layout = layout_of(chunks, shards, codecs)
    with connected(threads, workers, scheduler) as (client, own):
        found = make(refs, include=include, exclude=exclude, layout=layout, client=client, threads=own, **access)
    draw_plan(found, as_json=as_json)


def draw_plan(found: Plan, *, as_json: bool) -> None:
    """Print a plan."""
    if as_json:
        click.echo(json.dumps(plan_as_json(found)))
    else:
        look = this_look()
        draw(plan_lines(found, look), look)
