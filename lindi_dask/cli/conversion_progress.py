"""How a job that runs is shown: bars on a terminal, else a line now and then, or JSON."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from lindi_dask.cli.conversion_words import progress_as_json, progress_line, progress_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lindi_dask.conversion import Progress

    Show = Callable[[Progress], None]

__all__ = ["shown"]

_EVERY_S: Final = 30.0  # seconds between two lines, where there is no terminal


@contextmanager
def shown(*, as_json: bool) -> Iterator[Show]:
    """Give a function that shows how far a job is."""
    if as_json:
        yield _lines(lambda progress: click.echo(json.dumps(progress_as_json(progress))), every_s=1.0)
    elif sys.stderr.isatty():
        with _bars() as show:
            yield show
    else:
        yield _lines(lambda progress: click.echo(progress_line(progress), err=True), every_s=_EVERY_S)


def _lines(say: Show, *, every_s: float) -> Show:
    said = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal said
        now = time.monotonic()
        if progress.is_ended or now - said >= every_s:
            said = now
            say(progress)

    return show


@contextmanager
def _bars() -> Iterator[Show]:
    try:
        from rich import progress as rich  # noqa: PLC0415
        from rich.console import Console  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:  # without bars: lines
        yield _lines(lambda progress: click.echo(progress_line(progress), err=True), every_s=_EVERY_S)
        return
    columns = rich.TextColumn("{task.description}"), rich.BarColumn(20), rich.TextColumn("{task.fields[told]}")
    bars = rich.Progress(*columns, console=Console(stderr=True), transient=True)
    with bars:
        nbytes, objects = (bars.add_task(name, total=None, told="") for name in ("bytes", "objects"))

        def show(progress: Progress) -> None:
            done, of_bytes, events = progress_parts(progress)
            bars.update(nbytes, total=progress.total_nbytes, completed=progress.nbytes, told=of_bytes)
            told = f"{done}, {events}" if events else done
            bars.update(objects, total=progress.total, completed=progress.done, told=told)

        yield show
