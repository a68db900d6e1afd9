"""What is measured of lindi_dask alone: memory of a worker, scaling to two processes, how it adapts."""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
from lineup import ours
from recordings import ROW_NBYTES, sized
from rounds import Running, run_cell
from table import Target, show
from talk import Talker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recordings import Archive, Recording
    from rounds import Cell, Result
    from table import Page

__all__ = ["adaptive", "memory", "scaling"]

THREADS = 4
FIXED = 2  # requests at a time, where processes are compared: the archive must not be what holds them up
WINDOWS = (1, 2, 4, 8, 16, 32, 64)
LARGE_BLOCKS, FEW, FEW_TIMES, MANY = 16, 100, 10, 10_000

COLUMNS = ("reader", "settings", "MB/s", "CPU s/GB", "requests", "runs")
WORDS = {"reader", "settings", "digest"}


def scaling(page: Page, title: str, recording: Recording, archive: Archive, rounds: int) -> tuple[Cell, Target]:
    """Read by one process and by two, each with the same few requests at a time."""
    readers = []
    for count in (1, 2):
        reader = ours(archive.environ, window=FIXED, said=f"{FIXED} requests at a time, {count} x {THREADS} threads")
        readers.append(Running(replace(reader, key=f"{count} processes"), count))
    cell = _measured(title, recording, readers, archive, rounds)
    one, two = cell.results
    page.table(
        f"1 and 2 processes: {title}",
        (*COLUMNS, "of one process", "digest"),
        [(*_row(cell, result), f"{result.times_as_fast(one)} x", result.digest) for result in cell.results],
        words=WORDS,
    )
    return cell, Target.at_least_ratio(f"1 -> 2 processes, {title}", two.times_as_fast(one), 1.8)


def adaptive(page: Page, title: str, recording: Recording, archive: Archive, rounds: int) -> tuple[Cell, Target]:
    """Read with fixed numbers of requests at a time, and with the number that adapts."""
    readers = [ours(archive.environ, said="adapts (default)")]
    readers += [ours(archive.environ, window=window, said=f"{window} at a time") for window in WINDOWS]
    cell = _measured(title, recording, [Running(reader) for reader in readers], archive, rounds)
    adapts, *fixed = cell.results
    page.table(
        f"Requests at a time: {title}",
        (*COLUMNS, "first run, s", "the adaptive one is", "digest"),
        [
            (
                *_row(cell, result),
                f"{result.by_round[0].wall_s:.2f}",
                f"{adapts.times_as_fast(result)} x",
                result.digest,
            )
            for result in cell.results
        ],
        words=WORDS,
    )
    best = min(fixed, key=lambda result: result.wall_s)
    name = f"adaptive, {title}: of the best fixed ({best.reader.said})"
    return cell, Target.at_least_ratio(name, adapts.times_as_fast(best), 0.9)


def _measured(title: str, recording: Recording, readers: Sequence[Running], archive: Archive, rounds: int) -> Cell:
    for reader in readers:
        reader.open(recording)
    cell = run_cell(title, recording, recording.task("whole", threads=THREADS), readers, archive, rounds)
    for reader in readers:
        reader.close()
    return cell


def _row(cell: Cell, result: Result) -> tuple[str, ...]:
    return (
        result.title,
        result.reader.said,
        f"{cell.nbytes / result.wall_s / 1e6:,.0f}",
        f"{result.median(lambda run: run.cpu_s) / cell.nbytes * 1e9:.2f}",
        f"{result.median(lambda run: run.requests):,.0f}",
        str(len(result.runs)),
    )


@dataclass(frozen=True, slots=True)
class Blocks:
    """An array that is read block by block."""

    count: int
    nbytes: int
    by: Literal["worker", "threads", "dask"]
    """see `worker_memory`"""
    times: int = 1


BY = {"worker": "a dask worker", "threads": "threads alone", "dask": "a dask worker, blocks not read"}


def memory(
    page: Page, recording: Recording, archive: Archive, folder: Path, *, full: bool
) -> tuple[bool, list[Target]]:
    """Let a worker read arrays far larger than the file: their references list its chunks again and again.

    Returns whether every block was read as it is, and the targets.
    """
    large = Blocks(LARGE_BLOCKS, recording.nbytes, "worker")
    # How many requests meet in memory differs from run to run: the peak of many blocks is one of many draws
    few = Blocks(FEW, recording.chunk_nbytes, "threads", times=FEW_TIMES)
    many = Blocks(MANY, recording.chunk_nbytes, "threads")
    cases = [large, few, many]
    if full:
        cases += [replace(many, by="worker"), replace(many, by="dask")]
    found = {case: _by_worker(case, recording, archive, folder) for case in cases}
    agrees, rows = True, []
    for case, measured in found.items():
        digest = measured["digest"] if case.by != "dask" else ""
        wanted = crcs(recording, case) if case.by != "dask" else ""
        agrees &= digest == wanted
        row = (
            f"{measured['blocks']:,}" + (f", {case.times} times" if case.times > 1 else ""),
            sized(case.nbytes),
            BY[case.by],
            f"{measured['peak'] / 1e6:,.0f}",
            f"{measured['peak'] / case.nbytes / THREADS:.2f}",
            f"{measured['seconds']:.1f}",
        )
        rows.append((*row, digest[:8] if digest == wanted else f"{digest[:8]}, not {wanted[:8]}"))
    columns = ("blocks", "of", "by", "peak, MB", "x block x threads", "s", "CRCs")
    page.table(f"Memory of {THREADS} threads, above idle", columns, rows, words={"by", "CRCs"})
    relative = found[large]["peak"] / large.nbytes / THREADS
    return agrees, [
        Target(f"peak of a worker, blocks of {sized(large.nbytes)}", relative, 2.5, "x block x threads"),
        Target(f"peak with {MANY:,} blocks, of that with {FEW}", found[many]["peak"] / found[few]["peak"], 1.1, "x"),
    ]


def _by_worker(case: Blocks, recording: Recording, archive: Archive, folder: Path) -> dict[str, Any]:
    show(f"memory for {case.count:,} blocks, {BY[case.by]}")
    refs = repeated(recording, case.nbytes * case.count, folder / "repeated.lindi.json")
    job = {
        "refs": str(refs),
        "block_rows": case.nbytes // ROW_NBYTES,
        "threads": THREADS,
        "by": case.by,
        "times": case.times,
    }
    command = [sys.executable, "-m", "worker_memory", json.dumps(job | {"api_url": recording.given.api_url})]
    talker = Talker(command, {**archive.environ, "DASK_LINDI_DASK__INDEX_CACHE": "false"})
    measured = talker.receive()
    talker.close()
    show("")
    return measured


def repeated(recording: Recording, nbytes: int, path: Path) -> Path:
    """Write references to an array of so many logical bytes that is the recording over and over."""
    references = json.loads(Path(recording.given.lindi).read_text())
    refs = references["refs"]
    count = len(recording.stored)
    chunks = [refs.pop(f"data/{i}.0") for i in range(count)]
    refs["data/.zarray"]["shape"][0] = nbytes // ROW_NBYTES
    refs |= {f"data/{i}.0": chunks[i % count] for i in range(nbytes // recording.chunk_nbytes)}
    path.write_text(json.dumps(references))
    return path


def crcs(recording: Recording, case: Blocks) -> str:
    """Return the digest of the CRCs of the blocks of such an array, as h5py reads them."""
    with h5py.File(recording.given.file) as file:
        data = file["data"][...]
    rows = case.nbytes // ROW_NBYTES
    own = [zlib.crc32(data[at : at + rows].tobytes()) for at in range(0, len(data), rows)]
    every = np.resize(np.array(own, np.uint32), case.count)
    return hashlib.sha256(every.tobytes()).hexdigest()
