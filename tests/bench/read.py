"""How fast arrays are read, beside LINDI, fsspec and VirtualiZarr, and beside what the machine gives at all.

The embedded archive, in a process of its own, answers each request after 30 ms, under presigned URLs. Each reader runs
in a process and an interpreter of its own; all read the same bytes of the same file, in turns, compared by digest.
`make bench` runs the core cells, `make bench-full` all of them (`--full`), and keeps what it printed
(`--write docs/benchmarks.md`).
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import experiments
from lineup import A_BLOCK_A_CHUNK, VARIANTS, Pythons, by_hand, floor, limit, ours, peers, zarrs
from machine import described
from recordings import Archive, sized
from report import NOTES, cell_targets, print_cell, print_latencies
from rounds import Running, run_cell
from table import Page, show
from talk import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from readers.task import Task, Way
    from recordings import Recording
    from rounds import Cell, Reader
    from table import Target

LATENCY_MS, FAR_MS = 30, 100
LATENCIES_MS = (0, LATENCY_MS, FAR_MS)
THREADS = 4
KIB, MIB = 2**10, 2**20
CHUNKS = (16 * KIB, 64 * KIB, MIB, 16 * MIB)
CORE = {64 * KIB, MIB}  # chunks that are read in all ways
WINDOWS: Final[tuple[tuple[Way, int, int], ...]] = (
    ("windows", 64, 2_000),  # how many, and their rows: 0.07 s and 1 s at 30 kHz
    ("windows", 16, 30_000),
    ("at once", 64, 2_000),
)
FEW_RUNS = 3  # where the main table has the cell in another form
ALONE = "alone"


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure."""

    full: bool
    runs: int
    mib: int
    """logical size of the arrays"""
    only: frozenset[str]
    """chunk sizes, and `alone`: what is measured of lindi_dask alone"""


class Bench:
    """What is running, and what came of it.

    Parameters
    ----------
    archive, folder
        Where the files are, and where they are made.
    pythons
        Of the peers.
    options
        What to measure.
    """

    def __init__(self, archive: Archive, folder: Path, pythons: Pythons, options: Options) -> None:
        self.page = Page()
        self.agrees = True
        self.targets: list[Target] = []
        self._archive, self._folder, self._pythons, self._options = archive, folder, pythons, options
        self._running: dict[str, Running] = {}
        self._main = [floor(), limit(), ours(archive.environ)]
        self._variants = [ours(archive.environ, way) for way in VARIANTS if options.full or way != A_BLOCK_A_CHUNK]
        self._peers = peers(pythons, full=options.full)

    def run(self) -> None:
        try:
            for chunk_nbytes in CHUNKS:
                if sized(chunk_nbytes) in self._options.only:
                    self._chunks(chunk_nbytes)
            if ALONE in self._options.only:
                self._alone()
            self._zarrs()
        finally:
            for running in self._running.values():
                running.close()

    def versions(self) -> list[str]:
        """Return what each interpreter has, once."""
        found = {
            ", ".join(f"{name} {version}" for name, version in sorted(running.versions.items())): None
            for running in self._running.values()
            if running.versions
        }
        return list(found)

    def _chunks(self, chunk_nbytes: int) -> None:
        """Measure all cells of one size of chunks."""
        full, label = self._options.full, sized(chunk_nbytes)
        show(f"writing chunks of {label}")
        recording = self._archive.record(label.replace(" ", ""), self._options.mib * MIB, chunk_nbytes)
        self._archive.set_latency(LATENCY_MS)
        whole = recording.task("whole", threads=THREADS)
        readers = [*self._main, *self._peers] if full or chunk_nbytes != CHUNKS[0] else self._main
        more = [*(self._variants if chunk_nbytes in CORE else []), *([by_hand()] if full else [])]
        self._cell(f"{label}, whole array", recording, whole, [*readers, *more])
        readers = readers[1:]  # the floor knows whole arrays only
        if full:
            self._cell(f"{label}, one channel", recording, recording.task("channel", threads=THREADS), readers)
        if full or chunk_nbytes in CORE:
            for way, count, rows in WINDOWS:
                task = recording.task(way, threads=THREADS, windows=count, window_rows=rows)
                said = " at once" if way == "at once" else ""
                self._cell(f"{label}, {count} windows of {rows:,} rows{said}", recording, task, readers)
        if full and chunk_nbytes in CORE:
            self._processes(label, recording, readers)
            self._latencies(label, recording, readers)
        if chunk_nbytes == MIB and ALONE in self._options.only:
            self._adaptive(f"{label}, gzip, {LATENCY_MS} ms", recording)
            self._memory(recording)

    def _cell(self, title: str, recording: Recording, task: Task, readers: Iterable[Reader]) -> None:
        running = [self._opened(reader, recording) for reader in readers]
        self._take(run_cell(title, recording, task, running, self._archive, self._options.runs))

    def _opened(self, reader: Reader, recording: Recording) -> Running:
        if reader.key not in self._running:
            self._running[reader.key] = Running(reader)
        running = self._running[reader.key]
        running.open(recording)
        return running

    def _take(self, cell: Cell) -> None:
        self.agrees &= cell.agrees
        self.targets += cell_targets(cell)
        print_cell(self.page, cell)

    def _processes(self, label: str, recording: Recording, readers: Sequence[Reader]) -> None:
        """Read by two processes that have two threads each."""
        running = [Running(reader, 2) for reader in readers]
        for one in running:
            one.open(recording)
        task = recording.task("whole", threads=THREADS // 2)
        title = f"{label}, whole array, 2 processes of {THREADS // 2} threads"
        self._take(run_cell(title, recording, task, running, self._archive, FEW_RUNS))
        for one in running:
            one.close()

    def _latencies(self, label: str, recording: Recording, readers: Sequence[Reader]) -> None:
        task, cells = recording.task("whole", threads=THREADS), {}
        running = [self._opened(reader, recording) for reader in readers]
        for latency in LATENCIES_MS:
            self._archive.set_latency(latency)
            title = f"{label}, whole array, {latency} ms"
            cells[latency] = run_cell(title, recording, task, running, self._archive, FEW_RUNS)
            self.agrees &= cells[latency].agrees
        self._archive.set_latency(LATENCY_MS)
        print_latencies(self.page, f"{label}, whole array, by latency", cells)

    def _alone(self) -> None:
        show("writing a file without compression")
        recording = self._archive.record("plain", 2 * self._options.mib * MIB, MIB, compressed=False)
        self._archive.set_latency(FAR_MS)
        title = f"{sized(recording.nbytes)} in chunks of {sized(MIB)}, not compressed, {FAR_MS} ms"
        cell, target = experiments.scaling(self.page, title, recording, self._archive, FEW_RUNS)
        self.agrees &= cell.agrees
        self.targets.append(target)
        self._adaptive(f"not compressed, {FAR_MS} ms", recording)

    def _adaptive(self, title: str, recording: Recording) -> None:
        cell, target = experiments.adaptive(self.page, title, recording, self._archive, FEW_RUNS)
        self.agrees &= cell.agrees
        self.targets.append(target)

    def _memory(self, recording: Recording) -> None:
        self._archive.set_latency(0)
        agrees, targets = experiments.memory(self.page, recording, self._archive, self._folder, full=self._options.full)
        self.agrees &= agrees
        self.targets += targets

    def _zarrs(self) -> None:
        """Ask zarrs for its reason."""
        if self._pythons.has_newest:
            recording = self._archive.record("small", MIB, 64 * KIB)
            self._opened(zarrs(self._pythons), recording)

    def failures(self) -> list[str]:
        """Return who could not read, and why."""
        return [
            f"{running.failure.title}: {running.failure.reason}"
            for running in self._running.values()
            if running.failure is not None
        ]


def main() -> None:
    command = shlex.join(["python", *sys.argv])
    options, pythons, path = parsed()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, Archive(Path(name)) as archive:
        bench = Bench(archive, Path(name), pythons, options)
        page = bench.page
        page.say("# Benchmarks")
        page.say(f"{datetime.now(UTC):%Y-%m-%d}, by `{os.environ.get('BENCH_COMMAND', command)}`. {described()}")
        page.say(
            f"Arrays of {options.mib} MiB: int16, {LATENCY_MS} ms before each answer, {THREADS} threads, "
            f"dask blocks of 16 MiB, unless it says otherwise. Medians of {options.runs} alternating runs, fewer "
            "of slow readers."
        )
        bench.run()
    page.targets(bench.targets)
    page.say("### Notes")
    page.say(NOTES)
    page.say("\n".join(f"- Could not read: {failure}" for failure in bench.failures()))
    page.say("### Versions")
    page.say("\n".join(f"- {versions}" for versions in bench.versions()))
    page.say(f"Took {(time.monotonic() - started) / 60:.1f} minutes.")
    if path is not None:
        page.write(path)
    if not bench.agrees:
        sys.exit("The readers do not agree: see the digests.")


def parsed() -> tuple[Options, Pythons, Path | None]:
    parser = argparse.ArgumentParser(description="Arrays, read by who can.")
    for name in ("lindi", "peers", "newest-peers"):
        default = os.environ.get(
            f"BENCH_{name.upper().replace('-', '_')}_PYTHON", str(ROOT / f".venv-{name}" / "bin" / "python")
        )
        parser.add_argument(f"--{name}", default=default, help=f"interpreter with peers/{name}.txt (%(default)s)")
    parser.add_argument("--full", action="store_true", help="all cells")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep what was printed, as Markdown")
    parser.add_argument("--runs", type=int, default=7, help="of each reader in a cell, at most (%(default)s)")
    parser.add_argument("--mib", type=int, default=128, help="logical size of the arrays (%(default)s)")
    everything = [*map(sized, CHUNKS), ALONE]
    parser.add_argument("--only", nargs="+", choices=everything, default=everything, help="a part, to try it")
    options = parser.parse_args()
    for python in (options.lindi, options.peers):
        if not Path(python).exists():
            sys.exit(f"There is no {python}: `make bench` makes it, or say which by an option.")
    return (
        Options(options.full, options.runs, options.mib, frozenset(options.only)),
        Pythons(options.lindi, options.peers, options.newest_peers),
        options.write,
    )


if __name__ == "__main__":
    main()
