"""Options that `plan`, `convert`, `status` and `verify` share."""

from __future__ import annotations

import importlib.util
import json
import logging
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lindi_dask.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from distributed import Client

__all__ = ["connected", "job_option", "layout_of", "layout_options", "profiled", "worker_options"]

Command = TypeVar("Command", bound="Callable[..., Any]")


def layout_options(command: Command) -> Command:
    """Add what to convert, and into which chunks."""
    for option in (
        click.option("--codecs", multiple=True, metavar="PATH=CODECS", help="Zarr v3 codecs as JSON, or 'source'."),
        click.option("--shards", multiple=True, metavar="PATH=ROWS,COLS", help="Elements of a shard, or 'none'."),
        click.option("--chunks", multiple=True, metavar="PATH=ROWS,COLS", help="Elements of a chunk; -1: all."),
        click.option("--exclude", multiple=True, metavar="PATH", help="What to leave out; likewise."),
        click.option("--include", multiple=True, metavar="PATH", help="What to convert; '*' stands for slashes, too."),
    ):
        command = option(command)
    return command


def layout_of(chunks: tuple[str, ...], shards: tuple[str, ...], codecs: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return the `layout` that options ask for."""
    layout: dict[str, dict[str, Any]] = {}
    for name, texts in (("chunks", chunks), ("shards", shards), ("codecs", codecs)):
        for text in texts:
            path, _, value = text.partition("=")
            if not (path and value):
                raise click.BadParameter(f"{text!r} is not PATH=VALUE.", param_hint=f"--{name}")
            layout.setdefault(path, {})[name] = _value(name, value)
    return layout


def _value(name: str, text: str) -> Any:  # noqa: ANN401 - what the option takes
    if (name, text) == ("shards", "none"):
        return False
    if (name, text) == ("codecs", "source"):
        return text
    try:
        return json.loads(text) if name == "codecs" else [int(part) for part in text.split(",")]
    except ValueError:
        pass
    raise click.BadParameter(f"{text!r} can't be read.", param_hint=f"--{name}")


def job_option(command: Command) -> Command:
    """Add where the job's folder is."""
    return click.option("--job", metavar="FOLDER", help="Of the job, if not .OUT.lindi-job beside OUT.")(command)


def worker_options(command: Command) -> Command:
    """Add who does the work."""
    for option in (
        click.option("--scheduler", metavar="ADDRESS", help="Of a dask cluster that does the work."),
        click.option("--workers", type=click.IntRange(1), help="Processes on this machine that do the work."),
        click.option("--threads", type=click.IntRange(1), help="Of this process, or of each of --workers."),
    ):
        command = option(command)
    return command


@contextmanager
def connected(
    threads: int | None, workers: int | None, scheduler: str | None
) -> Iterator[tuple[Client | None, int | None]]:
    """Give the arguments `client` and `threads` that options ask for."""
    if scheduler is None and workers is None:
        yield None, threads
        return
    if scheduler is not None and (workers is not None or threads is not None):
        raise click.UsageError("--scheduler has workers of its own: leave out --workers and --threads.")
    from distributed import Client, LocalCluster  # noqa: PLC0415 - takes a while

    from lindi_dask.cluster import distribute  # noqa: PLC0415

    if scheduler is not None:
        with Client(scheduler) as client:
            yield client, None
        return
    with (
        # What goes wrong in a task comes with its result; of the end of workers nothing is to be said
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads or 2,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
        distribute(client),
    ):
        yield client, None


def profiled(client: Client | None, file: str | None) -> AbstractContextManager[object]:
    """Return what writes dask's own report of a cluster at its end, if a file is named for it."""
    if file is None:
        return nullcontext()
    if client is None:
        raise click.UsageError("--performance-report is of a dask cluster: add --workers or --scheduler.")
    if importlib.util.find_spec("bokeh") is None:
        raise ConfigurationError("--performance-report needs bokeh: pip install 'bokeh>=3.4'")
    from distributed import performance_report  # noqa: PLC0415 - takes a while

    report: AbstractContextManager[object] = performance_report(filename=file, mode="inline")
    return report
