"""Plans and jobs in words, and as JSON."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from lindi_dask.cli.terminal import plain
from lindi_dask.cli.wording import counted, shape_text, size_text
from lindi_dask.conversion.layout import SMALL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lindi_dask.cli.terminal import Look, Span
    from lindi_dask.conversion import ArrayPlan, Plan, Progress

__all__ = ["duration_text", "plan_as_json", "plan_lines", "progress_as_json", "progress_line", "progress_parts"]

_HEADINGS: Final = ("array", "shape", "chunks", "shards", "codecs", "objects", "size", "to fetch", "memory")
_THREADS: Final = 4  # that the time is told for


def plan_lines(plan: Plan, look: Look) -> Iterator[Sequence[Span]]:
    """Yield a plan as lines: a table of its larger arrays, and sums."""
    large = [array for array in plan.arrays if array.nbytes > SMALL or array.tasks > 1]
    rows = [_cells(array, look) for array in large]
    small = [array for array in plan.arrays if array not in large]
    if rows:
        widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
        for number, row in enumerate([_HEADINGS, *rows]):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            yield [("  ".join(cells).rstrip(), "" if number else "dim")]
    if small:
        nbytes = sum(array.nbytes for array in small)
        yield [(f"{counted(len(small), 'small array')}, a chunk each ({size_text(nbytes)})", "")]
    for path, reason in plan.left_out.items():
        yield [(f"/{plain(path)} is left out: {plain(reason)}", "bad")]
    sums = (
        f"{counted(plan.tasks, 'object')} of {counted(len(plan.arrays), 'array')}: {size_text(plan.nbytes)} in memory, "
        f"{size_text(plan.fetched_nbytes)} to fetch; some {duration_text(plan.seconds(_THREADS))} on {_THREADS} "
        f"threads, if the network keeps up; up to {size_text(plan.task_nbytes)} of memory a task"
    )
    yield [(sums, "")]


def _cells(array: ArrayPlan, look: Look) -> tuple[str, ...]:
    codecs = "+".join(codec["name"].removeprefix("numcodecs.") for codec in array.codecs if codec["name"] != "bytes")
    fetched = size_text(array.fetched_nbytes)
    if array.amplification > 1.05:
        fetched = f"{fetched} ({array.amplification:.1f}{look.times})"
    return (
        f"/{plain(array.path)}",
        shape_text(array.shape, look),
        shape_text(array.chunks, look),
        shape_text(array.unit, look) if array.is_sharded else "none",
        f"{codecs}{' (copied)' if array.way == 'copy' else ''}",
        f"{array.tasks:,}",
        size_text(array.nbytes),
        fetched,
        size_text(array.task_nbytes),
    )


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """Return a plan for programs."""
    return {
        "fingerprint": plan.fingerprint,
        "references": plan.references,
        "objects": plan.tasks,
        "nbytes": plan.nbytes,
        "fetched_nbytes": plan.fetched_nbytes,
        "task_nbytes": plan.task_nbytes,
        "left_out": dict(plan.left_out),
        "arrays": [
            {
                "path": f"/{array.path}",
                "shape": array.shape,
                "chunks": array.chunks,
                "shards": array.unit if array.is_sharded else None,
                "codecs": array.codecs,
                "way": array.way,
                "objects": array.tasks,
                "nbytes": array.nbytes,
                "fetched_nbytes": array.fetched_nbytes,
                "amplification": round(array.amplification, 3),
                "task_nbytes": array.task_nbytes,
            }
            for array in plan.arrays
        ],
    }


def progress_line(progress: Progress) -> str:
    """Return how far a job is, in one line."""
    objects, nbytes, events = progress_parts(progress)
    return ", ".join(filter(None, (f"{objects} objects", nbytes, events)))


def progress_parts(progress: Progress) -> tuple[str, str, str]:
    """Return how many objects are done, how many bytes (with their rate, and the time left), and what went wrong."""
    nbytes = f"{size_text(progress.nbytes)} of {size_text(progress.total_nbytes)}, {size_text(round(progress.rate))}/s"
    if progress.seconds_left is not None and not progress.is_ended:
        nbytes += f", {duration_text(progress.seconds_left)} left"
    counts = progress.counts
    events = (
        counted(counts.renewals, "renewal"),
        counted(counts.retries, "retry").replace("retrys", "retries"),
        counted(progress.failures, "failed attempt"),
        f"{progress.set_aside:,} set aside" if progress.set_aside else "",
    )
    return f"{progress.done:,} of {progress.total:,}", nbytes, ", ".join(filter(None, events))


def progress_as_json(progress: Progress) -> dict[str, Any]:
    """Return how far a job is, for programs."""
    told = dataclasses.asdict(progress)
    return {"event": "progress", **told, "rate": progress.rate, "seconds_left": progress.seconds_left}


def duration_text(seconds: float) -> str:
    """Return seconds in words."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
