"""How cells are printed, and what of them is a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lineup import A_BLOCK_A_CHUNK, FLOOR, VARIANTS
from table import Target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rounds import Cell, Result
    from table import Page, Ratio

__all__ = ["NOTES", "cell_targets", "print_cell", "print_latencies"]

COLUMNS = (
    "reader", "settings", "MB/s", "of the limit", "lindi_dask is", "CPU s/GB", "peak MB", "requests", "chunks each",
    "fetched", "runs", "digest",
)  # fmt: skip
WORDS = {"reader", "settings", "digest"}
LEAST_OF_FLOOR = 0.8

NOTES = """\
- MB/s, CPU s/GB: logical bytes, that is decoded ones; of one channel those of the whole array, all of which has to be
  decoded for it. CPU: of all threads of the reader's processes, without those of the archive, which shares the machine.
- of the limit, lindi_dask is (so many times as fast): medians of the ratios within each round, lowest and highest in
  brackets. A round runs each reader once; the first one warms up and is not counted, but of readers that take too long
  to be run again.
- Right before each run, memory of four times the array's size is given back, which was held meanwhile: a reader gets
  that. Virtual machines hand idle memory back to their host, and get it anew far more slowly.
- peak MB: most resident memory above idle while it reads, the result included.
- requests, fetched: as the storage host counted them; fetched, in stored bytes of the chunks asked for.
- limit: merged ranges of 4 MiB, all requested at once by obstore, inflated by libdeflate in as many threads, without
  zarr and dask. from memory: the same bytes inflated from memory, without requests.
- lindi_dask exchanges the archive's URL for presigned ones as it does with DANDI. The others get a presigned URL that
  outlives the run, which favours them: LINDI exchanges at DANDI's own address only, and the rest not at all. The URL is
  in the references of LINDI and fsspec; VirtualiZarr has it as the HTTPStore that it reads from.
- lindi_dask opens its array within the measured time; the others have opened theirs before.
- LINDI makes a connection for each request. That costs next to nothing on loopback, unlike on a real network.
- fsspec and VirtualiZarr read kerchunk's JSON, written by kerchunk.
- Windows are read one a call by 4 threads, each of which waits for its window: it takes number / 4 x latency at least.
  "at once": by one call, with all their rows as an index. From the zarr array; LINDI: from its dataset."""


def print_cell(page: Page, cell: Cell) -> None:
    page.table(f"{cell.title}", COLUMNS, [_row(cell, result) for result in _ordered(cell)], words=WORDS)
    floor = cell.find(FLOOR)
    if floor is not None and cell.limit is not None:
        of_floor = cell.limit.times_as_fast(floor)
        said = f"The limit reader reaches {of_floor} of inflating from memory"
        if of_floor.median < LEAST_OF_FLOOR:
            said += (
                f", not the {LEAST_OF_FLOOR} that it should: requests, and the archive on the same cores, take the rest"
            )
        page.say(f"{said}.")


def _ordered(cell: Cell) -> list[Result]:
    order = ("floor", "limit", "ours", "variant", "peer", "by hand")
    return sorted(cell.results, key=lambda result: order.index(result.reader.kind))


def _row(cell: Cell, result: Result) -> tuple[str, ...]:
    chunks, stored = cell.recording.touched(cell.task)
    requests = result.median(lambda run: run.requests)
    ours, limit = cell.ours, cell.limit
    return (
        result.title,
        result.reader.said,
        f"{cell.nbytes / result.wall_s / 1e6:,.0f}",
        "" if limit is None else str(result.times_as_fast(limit)),
        "" if ours is None or result is ours else f"{ours.times_as_fast(result)} x",
        f"{result.median(lambda run: run.cpu_s) / cell.nbytes * 1e9:.2f}",
        f"{result.median(lambda run: run.peak) / 1e6:,.0f}",
        f"{requests:,.0f}",
        f"{chunks / requests:.1f}" if requests else "",
        f"{result.median(lambda run: run.fetched) / stored:.2f}" if requests else "",
        str(len(result.runs)),
        result.digest,
    )


def print_latencies(page: Page, title: str, cells: Mapping[int, Cell]) -> None:
    """Print one cell at several latencies, in ms."""
    first = next(iter(cells.values()))
    columns = [column for latency in cells for column in (f"{latency} ms, MB/s", "lindi_dask is")]
    rows = []
    for result in _ordered(first):
        row = [result.title, result.reader.said]
        for cell in cells.values():
            found, ours = cell.find(result.reader.key), cell.ours
            row.append("" if found is None else f"{cell.nbytes / found.wall_s / 1e6:,.0f}")
            row.append("" if found is None or ours is None or found is ours else f"{ours.times_as_fast(found)} x")
        digests = {found.digest for cell in cells.values() if (found := cell.find(result.reader.key))}
        rows.append((*row, " ".join(sorted(digests))))
    page.table(title, ("reader", "settings", *columns, "digest"), rows, words=WORDS)


# Targets

AT_LEAST = {
    "64 KiB, whole array": (5.0, 4.0),
    "1 MiB, whole array": (2.0, 2.0),
    "16 MiB, whole array": (1.5, 1.5),
    "1 MiB, 64 windows of 2,000 rows": (2.0, 2.0),
    "1 MiB, 16 windows of 30,000 rows": (2.0, 2.0),
    "1 MiB, 64 windows of 2,000 rows at once": (2.0, 2.0),
    "64 KiB, 64 windows of 2,000 rows": (2.0, 2.0),
    "64 KiB, 16 windows of 30,000 rows": (2.0, 2.0),
    "64 KiB, 64 windows of 2,000 rows at once": (2.0, 2.0),
}
"""times as fast as the best peer at its defaults, and as the best tuned one"""
OF_THE_LIMIT = {"64 KiB, whole array": 0.85, "1 MiB, whole array": 0.85}
OF_OPEN_ARRAY = 0.95  # for all ways in which nothing is configured


def cell_targets(cell: Cell) -> list[Target]:
    """Return the targets that a cell has."""
    targets = []
    ours, limit = cell.ours, cell.limit
    if ours is None or cell.title not in AT_LEAST:
        return []
    defaults = [result for result in cell.of_kind("peer") if result.reader.said == "default"]
    tuned = [result for result in cell.of_kind("peer") if result.reader.said != "default"]
    for peers, wanted in zip((defaults, tuned), AT_LEAST[cell.title], strict=True):
        if peers:
            best, ratio = _closest(ours, peers)
            targets.append(Target.at_least_ratio(f"{cell.title}: as {best.title}, {best.reader.said}", ratio, wanted))
    if cell.title in OF_THE_LIMIT and limit is not None:
        ratio = ours.times_as_fast(limit)
        targets.append(Target.at_least_ratio(f"{cell.title}: of the limit", ratio, OF_THE_LIMIT[cell.title]))
    if cell.task.way == "whole":
        targets += _cpu(cell, ours)
    if cell.title in OF_THE_LIMIT:
        targets += _variants(cell, ours)
    if cell.title == "64 KiB, whole array":
        _, stored = cell.recording.touched(cell.task)
        each, fetched = _chunks_each(cell, ours), ours.median(lambda run: run.fetched) / stored
        targets.append(Target(f"{cell.title}: chunks a request", each, 8, "", at_least=True))
        targets.append(Target(f"{cell.title}: fetched, of the bytes wanted", fetched, 1.1, "x"))
    return targets


def _closest(ours: Result, peers: list[Result]) -> tuple[Result, Ratio]:
    """Return the peer that comes closest, and how many times as fast ours is."""
    ratios = [(peer, ours.times_as_fast(peer)) for peer in peers]
    return min(ratios, key=lambda one: one[1].median)


def _chunks_each(cell: Cell, result: Result) -> float:
    return cell.recording.touched(cell.task)[0] / result.median(lambda run: run.requests)


def _cpu(cell: Cell, ours: Result) -> list[Target]:
    ratios = [ours.ratio(peer, lambda one, two: one.cpu_s / two.cpu_s) for peer in cell.of_kind("peer")]
    if not ratios:
        return []
    worst = max(ratios, key=lambda ratio: ratio.median)
    spread = (worst.low, worst.high)
    return [Target(f"{cell.title}: CPU, of the most frugal peer's", worst.median, 0.6, "x", spread=spread)]


def _variants(cell: Cell, ours: Result) -> list[Target]:
    targets = []
    for result in cell.of_kind("variant"):
        name = f"{cell.title}: {VARIANTS[result.reader.key]}"
        if result.reader.key == A_BLOCK_A_CHUNK:
            continue  # other blocks: shown, but nothing to compare
        if result.reader.key != "undispatched":
            ratio = result.times_as_fast(ours)
            targets.append(Target.at_least_ratio(f"{name}, of open_array", ratio, OF_OPEN_ARRAY))
        elif cell.title.startswith("64 KiB"):
            targets.append(Target(f"{name}, chunks a request", _chunks_each(cell, result), 6, "", at_least=True))
        elif cell.limit is not None:
            targets.append(Target.at_least_ratio(f"{name}, of the limit", result.times_as_fast(cell.limit), 0.7))
    return targets
