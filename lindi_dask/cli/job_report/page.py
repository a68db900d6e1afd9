"""A job's history as a page."""

from __future__ import annotations

import hashlib
import statistics
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from lindi_dask.cli.conversion_words import duration_text
from lindi_dask.cli.job_report.charts import legend, parts_bar, time_chart
from lindi_dask.cli.job_report.elements import document, element
from lindi_dask.cli.job_report.style import STYLE
from lindi_dask.cli.terminal import Look
from lindi_dask.cli.wording import counted, shape_text, size_text
from lindi_dask.conversion.history import spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from xml.etree.ElementTree import Element

    from lindi_dask.cli.job_report.elements import Child
    from lindi_dask.cli.job_report.thumbnails import Thumbnail
    from lindi_dask.conversion import Plan, Status
    from lindi_dask.conversion.history import History, Making
    from lindi_dask.conversion.plan import ArrayPlan

__all__ = ["report_page"]

_BINS: Final = 90  # of a chart's time
_SLOWEST: Final = 10
_FAILURES: Final = 200
_SHOWN: Final = 12  # rows of a table, without asking
_STEPS: Final = {"read": "waiting for the source", "encode": "encoding", "write": "writing", "check": "reading back"}
_LOOK: Final = Look()


def report_page(status: Status, plan: Plan, history: History, thumbnails: Mapping[str, Thumbnail | str]) -> str:
    """Return a job's report as HTML.

    Parameters
    ----------
    status, plan
        Of the job.
    history
        What its ledger tells.
    thumbnails
        Pictures of arrays by their paths, or why there is none.
    """
    sections = [
        *_head(status, plan, history),
        *_pictures(thumbnails),
        *_arrays(plan, history),
        *_throughput(history),
        *_network(history),
        *_slowest(plan, history),
        *_memory(plan, history),
        *_failures(plan, history),
        *_runs(history),
        *_digests(plan, history),
    ]
    return document(f"Conversion to {_name(status)}", STYLE, *sections)


def _name(status: Status) -> str:
    return status.job.out.rstrip("/").rpartition("/")[2]


def _head(status: Status, plan: Plan, history: History) -> Iterator[Element]:
    made = history.makings
    stored = sum(one.nbytes or 0 for one in made)
    raw = sum(one.raw_nbytes for one in made)
    counts = history.counts
    if status.holder is not None:
        state, style = f"being converted by process {status.holder.pid} on {status.holder.host}", "faint"
    elif status.is_published:
        state, style = "done", "good"
    else:
        state, style = "not done, and nobody works on it: convert it with --resume", "bad"
    yield element("h1", _name(status))
    yield element("p", element("span", state, class_=style), f" · {status.job.out}", class_="faint")
    busy = history.seconds
    tiles = [
        (f"{len(made):,} of {plan.tasks:,}", "objects made"),
        (size_text(raw), "of values, in memory"),
        (size_text(stored), f"stored{_ratio(raw, stored, ' (', ')')}"),
        (_took(busy), f"of work, {counted(len(history.runs), 'run')}"),
        (f"{size_text(round(raw / busy))}/s" if busy else "0 B/s", "throughput of values"),
        (size_text(counts.bytes_fetched), f"fetched in {counts.requests:,} requests"),
        (f"{counts.renewals:,}", f"renewals; {counts.refusals:,} refusals"),
        (f"{counts.retries:,}", f"retried requests; {counts.hedges:,} hedged"),
        (f"{len(history.failures):,}", f"failed attempts; {len(history.set_aside):,} set aside"),
        (size_text(max((one.memory for one in made), default=0)), "most memory of a process"),
    ]
    yield element("div", *(element("div", element("b", b), element("span", text)) for b, text in tiles), class_="tiles")


def _took(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else duration_text(seconds)


def _ratio(raw: int, stored: int, before: str = "", after: str = "") -> str:
    return f"{before}{raw / stored:.2f}{_LOOK.times}{after}" if stored else ""


def _section(title: str, *children: Child) -> Iterator[Element]:
    yield element("section", element("h2", title), *children)


def _table(headings: Sequence[str], rows: Sequence[Sequence[Child]], classes: Sequence[str]) -> Element:
    head = element("tr", *(element("th", text, class_=kind) for text, kind in zip(headings, classes, strict=True)))
    body = [
        element("tr", *(element("td", cell, class_=kind) for cell, kind in zip(row, classes, strict=True)))
        for row in rows
    ]
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="scroll")


def _path(path: str) -> Element:
    """Return a path that may be broken behind slashes."""
    first, *others = path.split("/")
    parts: list[Child] = [first]
    for other in others:
        parts += ["/", element("wbr"), other]
    return element("code", *parts)


def _pictures(thumbnails: Mapping[str, Thumbnail | str]) -> Iterator[Element]:
    if not thumbnails:
        return
    figures = []
    for path, found in thumbnails.items():
        words = _path(f"/{path}")
        if isinstance(found, str):
            figures.append(element("figure", element("figcaption", words, element("br"), found)))
        else:
            caption = element("figcaption", words, element("br"), found.caption)
            figures.append(element("figure", found.picture, caption))
    yield from _section("What was converted", element("div", *figures, class_="pictures"))


def _arrays(plan: Plan, history: History) -> Iterator[Element]:
    sums: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in history.makings:
        of = sums[one.shard[0]]
        of[0], of[1], of[2] = of[0] + 1, of[1] + one.raw_nbytes, of[2] + (one.nbytes or 0)
    order = sorted(range(len(plan.arrays)), key=lambda number: (-plan.arrays[number].nbytes, number))
    rows = [_array_row(plan.arrays[number], *sums[number]) for number in order]
    headings = ("array", "shape", "chunks", "shards", "codecs", "objects", "size", "stored", "ratio", "source")
    classes = ("path", *[""] * 4, *["number"] * 5)
    lead = (
        f"{counted(plan.tasks, 'object')} of {counted(len(plan.arrays), 'array')}, {size_text(plan.nbytes)}; "
        f"{size_text(plan.fetched_nbytes)} to fetch; up to {size_text(plan.task_nbytes)} of memory a task. "
        "Ratio: bytes in memory to bytes stored, of the objects that are made; source: the same of the source."
    )
    left_out = [element("p", f"/{path} is left out: {reason}", class_="bad") for path, reason in plan.left_out.items()]
    yield from _section("Plan", element("p", lead), *_folded(headings, rows, classes), *left_out)


def _array_row(array: ArrayPlan, made: int, raw: int, stored: int) -> tuple[Child, ...]:
    codecs = "+".join(codec["name"].removeprefix("numcodecs.") for codec in array.codecs if codec["name"] != "bytes")
    return (
        _path(f"/{array.path}"),
        shape_text(array.shape, _LOOK),
        shape_text(array.chunks, _LOOK),
        shape_text(array.unit, _LOOK) if array.is_sharded else "none",
        f"{codecs}{' (copied)' if array.way == 'copy' else ''}",
        f"{made:,}" if made == array.tasks else f"{made:,} of {array.tasks:,}",
        size_text(array.nbytes),
        size_text(stored),
        _ratio(raw, stored),
        _ratio(array.nbytes, array.source_nbytes or 0),
    )


def _throughput(history: History) -> Iterator[Element]:
    if not history.makings:
        return
    values = [(one.ended_s - one.total_s, one.ended_s, float(one.raw_nbytes)) for one in history.makings]
    stored = [(one.ended_s - one.total_s, one.ended_s, float(one.nbytes or 0)) for one in history.makings]
    fetched = []
    for run in history.runs:
        before, bytes_before = run.begin_s, 0
        for at, counts in run.samples:
            fetched.append((before, at, float(counts.bytes_fetched - bytes_before)))
            before, bytes_before = at, counts.bytes_fetched
    lines = {"values, in memory": values, "fetched": fetched, "stored": stored}
    lead = "Bytes a second; an object's are spread over the time that it took. Dashed lines: where the job was resumed."
    chart = _chart({name: _rates(one, history.seconds) for name, one in lines.items()}, history, unit="/s")
    yield from _section("Throughput", element("p", lead, class_="faint"), chart)


def _rates(amounts: Sequence[tuple[float, float, float]], seconds: float) -> list[tuple[float, float]]:
    width = seconds / _BINS
    if not width:
        return []
    return [((number + 0.5) * width, rate) for number, rate in enumerate(spread(amounts, seconds, _BINS))]


def _chart(lines: Mapping[str, Sequence[tuple[float, float]]], history: History, unit: str = "") -> Element:
    marks = [run.begin_s for run in history.runs[1:]]
    return time_chart(lines, history.seconds, lambda value: f"{size_text(round(value))}{unit}", marks)


def _network(history: History) -> Iterator[Element]:
    names = ("renewals", "refusals", "retries", "hedges")
    lines: dict[str, list[tuple[float, float]]] = {name: [(0.0, 0.0)] for name in names}
    before = dict.fromkeys(names, 0)
    for run in history.runs:
        for at, counts in run.samples:
            for name in names:
                lines[name] += [(at, lines[name][-1][1]), (at, before[name] + getattr(counts, name))]
        before = {name: int(line[-1][1]) for name, line in lines.items()}
    counts = history.counts
    lead = (
        f"{counts.requests:,} requests for {counts.chunks:,} chunks; {size_text(counts.bytes_fetched)} came for "
        f"{size_text(counts.bytes_wanted)} that were wanted. Exchanges of download URLs for presigned ones: "
        f"{counts.exchanges:,}, of which renewals: {counts.renewals:,}. Requests repeated as their URL was refused: "
        f"{counts.refusals:,}; for another reason: {counts.retries:,}; sent beside a slow one: {counts.hedges:,}."
    )
    shown = {name: points for name, points in lines.items() if points[-1][1]}
    chart = time_chart(shown, history.seconds, lambda value: f"{value:,g}", is_whole=True) if shown else ""
    yield from _section("Requests", element("p", lead), chart)


def _slowest(plan: Plan, history: History) -> Iterator[Element]:
    if not history.makings:
        return
    sums = {step: sum(one.seconds[step] for one in history.makings) for step in _STEPS}
    whole = sum(sums.values())
    told = ", ".join(f"{words} {100 * sums[step] / whole if whole else 0:.0f} %" for step, words in _STEPS.items())
    slowest = sorted(history.makings, key=lambda one: -one.total_s)[:_SLOWEST]
    longest = slowest[0].total_s
    median = statistics.median(one.total_s for one in history.makings)
    rows = [_slow_row(plan, one, longest) for one in slowest]
    headings = ("object", "seconds", "", "stored", "requests", "retries", "renewals", "memory", "process")
    classes = ("path", "number", "wide", *["number"] * 5, "")
    lead = f"All objects, seconds of tasks: {told}. Half of the objects took less than {median:.3g} s."
    note = "Requests, retries and renewals are those of the object's process meanwhile, for its other tasks, too."
    yield from _section(
        "Slowest objects",
        element("p", lead),
        parts_bar(list(sums.values()), whole),
        legend(list(_STEPS.values())),
        _table(headings, rows, classes),
        element("p", note, class_="faint"),
    )


def _slow_row(plan: Plan, one: Making, longest: float) -> tuple[Child, ...]:
    counts = one.counts
    return (
        _path(plan.arrays[one.shard[0]].place_key(one.shard[1])),
        f"{one.total_s:.2f}",
        parts_bar([one.seconds[step] for step in _STEPS], longest),
        "all fill value" if one.nbytes is None else size_text(one.nbytes),
        f"{counts.requests:,}",
        f"{counts.retries:,}",
        f"{counts.renewals + counts.refusals:,}",
        size_text(one.memory),
        one.process,
    )


def _memory(plan: Plan, history: History) -> Iterator[Element]:
    if not history.makings:
        return
    width = (history.seconds or 1.0) / _BINS
    bins: dict[int, dict[str, int]] = defaultdict(dict)
    for one in history.makings:
        held = bins[min(int(one.ended_s / width), _BINS - 1)]
        held[one.process] = max(held.get(one.process, 0), one.memory)
    highest, median = [], []
    for number, held in sorted(bins.items()):
        at = (number + 0.5) * width
        highest.append((at, float(max(held.values()))))
        median.append((at, float(statistics.median(held.values()))))
    processes = {one.process for one in history.makings}
    lines = {"the process with the most": highest}
    if len(processes) > 1:
        lines["the median process"] = median
    lead = (
        f"Of {counted(len(processes), 'process').replace('processs', 'processes')}, all that they hold, while objects "
        f"were made; a task was planned to take up to {size_text(plan.task_nbytes)} of it."
    )
    yield from _section("Memory", element("p", lead, class_="faint"), _chart(lines, history))


def _failures(plan: Plan, history: History) -> Iterator[Element]:
    if not history.failures:
        return
    aside = {id(one) for one in history.set_aside}
    order = sorted(history.failures, key=lambda one: id(one) not in aside)  # those that are still open come first
    rows = [
        (
            _took(one.at_s),
            _path(plan.arrays[one.shard[0]].place_key(one.shard[1])),
            "set aside" if one.is_last else "tried again",
            f"{one.error}: {one.reason}",
        )
        for one in order[:_FAILURES]
    ]
    headings, classes = ("at", "object", "then", "why"), ("number", "path", "short", "path")
    left = len(history.failures) - len(rows)
    more = [element("p", f"{left:,} more are in the ledger.", class_="faint")] if left else []
    yield from _section("Failed attempts", *_folded(headings, rows, classes), *more)


def _folded(headings: Sequence[str], rows: Sequence[Sequence[Child]], classes: Sequence[str]) -> Iterator[Element]:
    """Yield a table, most of whose rows are shown when asked for, if they are many."""
    yield _table(headings, rows[:_SHOWN], classes)
    if rows[_SHOWN:]:
        rest = _table(headings, rows[_SHOWN:], classes)
        yield element("details", element("summary", f"{len(rows) - _SHOWN:,} more"), rest)


def _runs(history: History) -> Iterator[Element]:
    rows = []
    for run in history.runs:
        end = (run.error or "all was tried") if run.has_ended else "no end in the ledger"
        when = datetime.fromtimestamp(run.started, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        rows.append((when, _took(run.seconds), f"{run.kept:,}", f"{run.threads:,}", f"{run.host}:{run.pid}", end))
    headings = ("started", "took", "objects kept", "threads", "client", "ended")
    yield from _section("Runs", _table(headings, rows, ("", "number", "number", "number", "", "")))


def _digests(plan: Plan, history: History) -> Iterator[Element]:
    by_array: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for one in history.makings:
        by_array[one.shard[0]].append((one.shard[1], one.digest))
    of_array = {
        number: hashlib.sha256("".join(digest for _, digest in sorted(rows)).encode()).hexdigest()
        for number, rows in sorted(by_array.items())
    }
    whole = hashlib.sha256("".join(of_array.values()).encode()).hexdigest()
    rows = [(_path(f"/{plan.arrays[number].path}"), element("code", one)) for number, one in of_array.items()]
    lead = (
        f"Each of the {len(history.makings):,} objects was read back, and compared with what was encoded of the "
        "source. Digest of all: "
    )
    note = (
        "SHA-256: of an array, of its objects' digests (hexadecimal, in C order); of all, of the arrays'. Outputs of "
        "one plan hold the same if it is equal. lindi-dask verify checks the output against them."
    )
    yield from _section(
        "Digests",
        element("p", lead, element("code", whole)),
        element("p", note, class_="faint"),
        element("p", "References: ", element("code", plan.references)),
        element("details", element("summary", "by array"), _table(("array", "SHA-256"), rows, ("path", ""))),
    )
